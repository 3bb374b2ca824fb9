"""A dedupe lets the first record of a key through and remembers it for its window, exactly.

Method: the test driver; every topology writes what passes to "out".
"""

from typing import Any

import pytest

from ottla.streams import App, TopologyError
from ottla.streams.dedupe import digester
from ottla.streams.testing import TopologyTestDriver


def passed(driver: TopologyTestDriver) -> list[Any]:
    driver.run()
    return [each.value["n"] for each in driver.read("out")]


def dedupe_app(window: int = 100, **options: Any) -> App:
    app = App("test")
    app.stream("in").dedupe("seen", key=lambda v: v["id"], window=window, **options).to("out")
    return app


def pipe(driver: TopologyTestDriver, n: int, identity: Any, at: int) -> None:
    driver.pipe("in", "k", {"n": n, "id": identity}, timestamp_ms=at)


def test_only_the_first_of_a_key_passes():
    with TopologyTestDriver(dedupe_app()) as driver:
        for n, identity in enumerate(["a", "b", "a", "a", "c", "b"]):
            pipe(driver, n, identity, at=n)
        assert passed(driver) == [0, 1, 4]
        assert driver.metrics()["duplicates:seen"] == 3


def test_a_key_is_remembered_for_exactly_its_window():
    with TopologyTestDriver(dedupe_app(100)) as driver:
        pipe(driver, 1, "a", at=30)
        pipe(driver, 2, "a", at=129)
        pipe(driver, 3, "a", at=130)
        pipe(driver, 4, "a", at=229)
        assert passed(driver) == [1, 3]


def test_a_duplicate_does_not_lengthen_the_window():
    with TopologyTestDriver(dedupe_app(100)) as driver:
        for n, at in enumerate([0, 60, 100]):
            pipe(driver, n, "a", at)
        assert passed(driver) == [0, 2]


def test_a_record_out_of_order_is_compared_like_any_other():
    with TopologyTestDriver(dedupe_app(100)) as driver:
        pipe(driver, 1, "a", at=500)
        pipe(driver, 2, "old", at=10)
        pipe(driver, 3, "old", at=510)
        pipe(driver, 4, "a", at=10)
        assert passed(driver) == [1, 2]


def test_what_is_over_leaves_the_state_at_once():
    with TopologyTestDriver(dedupe_app(100)) as driver:
        pipe(driver, 1, "a", at=0)
        driver.run()
        pipe(driver, 2, "b", at=1000)
        driver.run()
        store = next(iter(driver.engine.tasks.values())).stores["seen"]
        assert list(store.segments) == [1000]
        changelog = driver.read("test-seen-changelog", key_serde="bytes", value_serde="bytes")
        assert sum(each.value is None for each in changelog) == 1


@pytest.mark.parametrize("lose_disk", [False, True])
def test_what_was_seen_is_known_after_a_crash(lose_disk: bool):
    with TopologyTestDriver(dedupe_app()) as driver:
        pipe(driver, 1, "a", at=0)
        driver.run()
        driver.lose_disk() if lose_disk else driver.crash()
        pipe(driver, 2, "a", at=1)
        pipe(driver, 3, "b", at=2)
        assert passed(driver) == [1, 3]


def test_what_an_aborted_transaction_saw_was_never_seen():
    with TopologyTestDriver(dedupe_app()) as driver:
        pipe(driver, 1, "a", at=0)
        driver.step()
        driver.abort()
        assert passed(driver) == [1]


def test_by_processing_time_the_clock_forgets():
    with TopologyTestDriver(dedupe_app(1000, by="processing_time")) as driver:
        pipe(driver, 1, "a", at=0)
        pipe(driver, 2, "a", at=10_000_000)
        assert passed(driver) == [1]
        driver.advance(1000)
        pipe(driver, 3, "a", at=0)
        assert passed(driver) == [3]


def test_without_a_key_function_the_key_of_the_record_counts_and_no_key_is_no_duplicate():
    app = App("test")
    app.stream("in").dedupe("seen", window=10).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "a", {"n": 1})
        driver.pipe("in", "a", {"n": 2})
        driver.pipe("in", None, {"n": 3})
        driver.pipe("in", None, {"n": 4})
        assert passed(driver) == [1, 3, 4]


def test_duplicates_can_go_to_a_topic_with_the_place_of_the_first():
    with TopologyTestDriver(dedupe_app(on_duplicate="topic")) as driver:
        pipe(driver, 0, "x", at=0)
        pipe(driver, 1, "a", at=0)
        pipe(driver, 2, "a", at=0)
        assert passed(driver) == [0, 1]
        (duplicate,) = driver.read("test-seen-duplicates")
        assert duplicate.value == {"n": 2, "id": "a"}
        assert dict(duplicate.headers) == {
            "ottla.first.partition": b"0",
            "ottla.first.offset": b"1",
        }


def test_keys_of_different_types_do_not_meet():
    with TopologyTestDriver(dedupe_app()) as driver:
        for n, identity in enumerate([1, "1", True, 0, "None", 1.0, [1], {"b": 1, "a": 2}]):
            pipe(driver, n, identity, at=0)
        pipe(driver, 99, {"a": 2, "b": 1}, at=0)
        assert passed(driver) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_digests_are_128_bits_and_differ_by_application_and_store():
    digests = {digester("a", "s")("x"), digester("a", "t")("x"), digester("b", "s")("x")}
    assert len(digests) == 3
    assert {len(digest) for digest in digests} == {16}


def test_a_window_of_nothing_is_refused():
    with pytest.raises(TopologyError, match="longer than nothing"):
        dedupe_app(0)


def test_another_kind_of_time_is_refused():
    with pytest.raises(TopologyError, match="event_time"):
        dedupe_app(by="moon_time")
