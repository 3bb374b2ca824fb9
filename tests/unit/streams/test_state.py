"""Stores on the disk and in memory: what is saved is whole, found again, and refused when it is not
ours.

Method: `Storage` and `Store` directly, and the test driver on a directory that outlives it.
"""

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client import Partition
from ottla.ports.errors import DataDamaged, InvariantBroken, StorageFailed
from ottla.streams import App, Count, Hopping, StateInUse, StateMismatch, Sum, Tumbling
from ottla.streams.codecs import DELETED, SCALAR, USER, decode_value, freeze, thaw
from ottla.streams.serdes import BYTES
from ottla.streams.state import Store
from ottla.streams.storage import SavedState, Storage, StoreChanges, StoreMeta
from ottla.streams.testing import TopologyTestDriver
from ottla.streams.topology import StoreSpec

KEYS = st.binary(max_size=600)
SPEC = StoreSpec("s", BYTES, "test")
CUT = StoreSpec("c", BYTES, "test", retention_ms=10)


@pytest.fixture
def storage(tmp_path: Path):
    opened = Storage(tmp_path / "state", durable=False)
    yield opened
    opened.close()


def save(storage: Storage, *stores: Store) -> None:
    changes = [store.unsaved_changes(store.meta) for store in stores]
    storage.save(changes)
    for store in stores:
        store.saved(store.meta)


def commit(store: Store) -> None:
    store.changes()
    store.commit()


# -- the disk ---------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    pairs=st.dictionaries(KEYS, st.binary(max_size=20), max_size=12),
    start=KEYS,
    end=st.none() | KEYS,
)
def test_keys_of_any_length_are_found_and_scanned_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: dict[bytes, bytes],
    start: bytes,
    end: bytes | None,
):
    storage = Storage(tmp_path_factory.mktemp("keys"), durable=False)
    storage.save([StoreChanges("f", StoreMeta("x"), pairs)])
    assert all(storage.get("f", key) == value for key, value in pairs.items())
    wanted = {key: v for key, v in pairs.items() if key >= start and (end is None or key < end)}
    assert list(storage.scan("f", start, end)) == sorted(wanted.items())
    storage.close()


def test_values_and_meta_are_saved_together_and_found_by_another_process(tmp_path: Path):
    storage = Storage(tmp_path, durable=True)
    meta = StoreMeta("print", 7, 100, 200, 300)
    storage.save([StoreChanges("f", meta, {b"a": b"1", b"b": None})])
    storage.close()
    again = Storage(tmp_path)
    assert again.meta("f") == meta
    assert list(again.scan("f", b"", None)) == [(b"a", b"1")]
    assert again.meta("other") is None
    again.close()


def test_a_prefix_is_dropped_whole_and_nothing_else(storage: Storage):
    pairs = {bytes([p, n]): b"v" for p in range(3) for n in range(4)}
    storage.save([StoreChanges("f", StoreMeta("x"), pairs)])
    storage.save([StoreChanges("f", StoreMeta("x"), dropped=[b"\x01"])])
    assert [key for key, _ in storage.scan("f", b"", None)] == [
        key for key in pairs if key[:1] != b"\x01"
    ]


def test_the_worker_keeps_its_name(tmp_path: Path):
    first = Storage(tmp_path)
    name = first.worker
    first.close()
    second = Storage(tmp_path)
    assert second.worker == name
    assert len(name) == 12
    second.close()


def _try_to_open(directory: str, answers: Any) -> None:
    try:
        Storage(directory).close()
        answers.put("opened")
    except StateInUse as refused:
        answers.put(str(refused))


def test_two_processes_on_one_state_directory_are_refused(tmp_path: Path):
    """Conformance 7: a clear error at once, no waiting for each other."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    holder = Storage(tmp_path)
    other = context.Process(target=_try_to_open, args=(str(tmp_path), answers))
    other.start()
    assert "in use by another process" in answers.get(timeout=30)
    other.join()
    holder.close()
    Storage(tmp_path).close()


def test_a_full_disk_is_storage_failed_and_the_state_before_stays(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
):
    storage.save([StoreChanges("f", StoreMeta("x"), {b"a": b"1"})])

    class Full:
        def __getattr__(self, name: str) -> Any:
            raise lmdb.MapFullError("mdb_put: MDB_MAP_FULL")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_env", Full())
        with pytest.raises(StorageFailed, match="free some space"):
            storage.save([StoreChanges("f", StoreMeta("x"), {b"a": b"2"})])
    assert storage.get("f", b"a") == b"1"


# -- layers -----------------------------------------------------------------------------------


def test_writes_are_state_with_the_commit_and_gone_with_a_rollback(storage: Storage):
    store = Store(SPEC, 0, SCALAR, storage)
    segment = store.segment(0)
    segment.dirty[b"k"] = 1
    store.rollback()
    assert segment.items() == []
    segment.dirty[b"k"] = 2
    commit(store)
    segment.dirty[b"k"] = 3
    assert segment.items() == [(b"k", 3)]
    assert [store.decode(data) for _, data in store.committed(b"", None)] == [2]


def test_a_commit_needs_what_went_to_the_changelog(storage: Storage):
    store = Store(SPEC, 0, SCALAR, storage)
    store.segment(0).dirty[b"k"] = 1
    with pytest.raises(InvariantBroken, match="without changes"):
        store.commit()


def test_a_segment_is_back_when_its_drop_is_rolled_back(storage: Storage):
    store = Store(CUT, 0, SCALAR, storage)
    store.segment(20).dirty[b"k"] = 1
    commit(store)
    assert store.over(30) == [20]
    store.drop(20)
    assert store.over(30) == []
    store.rollback()
    assert store.over(30) == [20]
    assert store.segment(20).items() == [(b"k", 1)]


def test_a_dropped_segment_stays_gone_on_the_disk(storage: Storage):
    store = Store(CUT, 0, SCALAR, storage)
    store.segment(20).dirty[b"k"] = 1
    store.segment(40).dirty[b"k"] = 2
    commit(store)
    save(storage, store)
    again = Store(CUT, 0, SCALAR, storage)
    assert sorted(again.segments) == [20, 40]
    again.drop(20)
    assert [value for _, value in again.changes()] == [None]
    again.commit()
    save(storage, again)
    assert sorted(Store(CUT, 0, SCALAR, storage).segments) == [40]


def test_the_cache_forgets_only_what_is_on_the_disk(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ottla.streams.state.KNOWN_KEYS_MAX", 2)
    store = Store(SPEC, 0, SCALAR, storage)
    segment = store.segment(0)
    for number in range(5):
        segment.dirty[b"%d" % number] = number
    commit(store)
    assert len(segment.known) == 5
    save(storage, store)
    assert segment.known == {}
    assert [segment.load(b"%d" % number) for number in range(6)] == [0, 1, 2, 3, 4, None]


def test_a_deleted_key_hides_the_one_on_the_disk(storage: Storage):
    store = Store(SPEC, 0, USER, storage)
    segment = store.segment(0)
    segment.dirty[b"k"] = 1
    commit(store)
    save(storage, store)
    segment.dirty[b"k"] = DELETED
    assert segment.items() == []
    assert store.changes() == [(b"k", None)]
    store.commit()
    assert store.committed(b"", None) == []
    save(storage, store)
    assert list(storage.scan("s/0", b"", None)) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_live_forms_give_back_what_they_were_made_of(value: object):
    live = freeze(value)
    assert repr(thaw(live)) == repr(value)
    assert repr(thaw(decode_value(USER, USER.encode(live), "s"))) == repr(value)


def test_a_value_of_an_unknown_format_is_refused(storage: Storage):
    storage.save([StoreChanges("s/0", StoreMeta(SPEC.fingerprint), {b"k": b"\x09?"})])
    with pytest.raises(DataDamaged, match="format 09"):
        Store(SPEC, 0, SCALAR, storage).segment(0).load(b"k")


# -- identity ---------------------------------------------------------------------------------


def app_with(aggregate: Any) -> App:
    app = App("test")
    aggregate(app.stream("in").group_by_key()).current(every_update=True).to("out")
    return app


WINDOW = {"window of 10": lambda g: g.windowed(Tumbling(10, grace=0)).count("t")}
OTHERS = {
    "size": lambda g: g.windowed(Tumbling(20, grace=0)).count("t"),
    "advance": lambda g: g.windowed(Hopping(10, 5, grace=0)).count("t"),
    "no window": lambda g: g.count("t"),
    "time": lambda g: g.windowed(Tumbling(10, grace=0), by="processing_time").count("t"),
    "aggregation": lambda g: g.windowed(Tumbling(10, grace=0)).agg("t", n=Sum("x")),
    "fields": lambda g: g.windowed(Tumbling(10, grace=0)).agg("t", n=Count(), m=Count("x")),
}


@pytest.mark.parametrize("change", OTHERS)
def test_state_of_another_definition_is_refused(change: str, tmp_path: Path):
    """Conformance 18: a window that changed its size, and everything like it."""
    with TopologyTestDriver(app_with(WINDOW["window of 10"]), state_dir=tmp_path) as driver:
        driver.pipe("in", "k", {"x": 1}, timestamp_ms=5)
        driver.run()
        driver.engine.save()
    with pytest.raises(StateMismatch, match=r"'t' holds the state of another definition"):
        TopologyTestDriver(app_with(OTHERS[change]), state_dir=tmp_path)
    Storage(tmp_path).close()  # the refusal let go of the directory


def test_state_of_another_definition_is_refused_on_another_machine_too():
    """Conformance 18, without local state: the committed offsets carry the fingerprints."""
    with TopologyTestDriver(app_with(WINDOW["window of 10"])) as driver:
        driver.pipe("in", "k", {"x": 1}, timestamp_ms=5)
        driver.run()
    with pytest.raises(StateMismatch, match="another name, or an application reset"):
        TopologyTestDriver(app_with(OTHERS["size"]), cluster=driver.cluster)


def test_a_longer_grace_and_new_steps_keep_the_state(tmp_path: Path):
    def longer(grouped: Any) -> Any:
        return grouped.windowed(Tumbling(10, grace=50)).count("t")

    with TopologyTestDriver(app_with(WINDOW["window of 10"]), state_dir=tmp_path) as driver:
        driver.pipe("in", "k", {"x": 1}, timestamp_ms=5)
        driver.run()
        driver.engine.save()
    app = App("test")
    app.stream("other").to("elsewhere")
    longer(app.stream("in").group_by_key()).current(every_update=True).to("out")
    with TopologyTestDriver(app, state_dir=tmp_path, cluster=driver.cluster) as upgraded:
        assert [value for _, value in upgraded.query("t").all()] == [1]


# -- restoring --------------------------------------------------------------------------------


def counting(driver: TopologyTestDriver, *keys: str) -> None:
    for key in keys:
        driver.pipe("in", key, 1)
    driver.run()


@pytest.mark.parametrize("ending", ["markers", "an aborted transaction"])
def test_a_changelog_that_ends_in_what_nobody_can_read_is_restored(ending: str):
    """Conformance 5."""
    app = App("test")
    app.stream("in").group_by_key().count("t").current().to("out")
    with TopologyTestDriver(app) as driver:
        counting(driver, "a", "b", "a")
        if ending == "an aborted transaction":
            driver.pipe("in", "a", 1)
            driver.step()
            changed = [(b"a", b"\x01\x63")]
            partition = Partition("test-t-changelog", 0)
            driver._output.send_changelog(partition, changed, lambda offset: None)
            driver.abort()
        driver.lose_disk()
        assert dict(driver.query("t").all()) == {"a": 2, "b": 1}
        driver.run()
        expected = 3 if ending == "an aborted transaction" else 2
        assert driver.query("t").get("a") == expected


def test_only_the_tail_of_the_changelog_is_read_after_a_crash():
    """Conformance 1: no wipe; what was saved is not read again."""
    app = App("test")
    app.stream("in").group_by_key().count("t").current().to("out")
    with TopologyTestDriver(app) as driver:
        counting(driver, *(f"k{number}" for number in range(50)))
        driver.engine.save()
        counting(driver, "k1", "k2")
        driver.crash()
        assert driver.restorer.restored == 2
        assert driver.query("t").get("k1") == 2
        assert driver.query("t").get("k30") == 1


def test_state_ahead_of_its_changelog_is_refused(tmp_path: Path):
    app = App("test")
    app.stream("in").group_by_key().count("t").current().to("out")
    with TopologyTestDriver(app, state_dir=tmp_path) as driver:
        counting(driver, "a", "b")
        driver.engine.save()
    with pytest.raises(StateMismatch, match="made anew, or this is another cluster"):
        TopologyTestDriver(app, state_dir=tmp_path)


def test_state_older_than_its_tombstones_is_built_anew(caplog: pytest.LogCaptureFixture):
    app = App("test")
    app.stream("in").group_by_key().latest("t").current().to("out")
    with TopologyTestDriver(app) as driver:
        counting(driver, "a", "b")
        driver.engine.save()
        driver.clock.advance(8 * 24 * 3600 * 1000)
        with caplog.at_level(logging.WARNING):
            driver.crash()
        assert "older than its tombstones" in caplog.text
        assert dict(driver.query("t").all()) == {"a": 1, "b": 1}
        driver.engine.save()
        driver.crash()
        assert driver.restorer.restored == 0


# -- reading from outside ---------------------------------------------------------------------


def _read_saved(directory: str, answers: Any) -> None:
    saved = SavedState(directory)
    answers.put((saved.files(), saved.scan("f/0", b"", None), saved.scan("none/0", b"", None)))
    saved.close()


def test_what_is_saved_can_be_read_while_the_owner_works(tmp_path: Path):
    owner = Storage(tmp_path, durable=False)
    owner.save([StoreChanges("f/0", StoreMeta("x"), {b"a": b"1"})])
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    reader = context.Process(target=_read_saved, args=(str(tmp_path), answers))
    reader.start()
    assert answers.get(timeout=30) == (["f/0"], [(b"a", b"1")], [])
    reader.join()
    owner.close()


def test_meta_of_a_later_version_with_more_fields_can_be_read():
    data = msgspec.msgpack.encode({"fingerprint": "x", "changelog_offset": 3, "new": True})
    assert msgspec.msgpack.decode(data, type=StoreMeta).changelog_offset == 3
