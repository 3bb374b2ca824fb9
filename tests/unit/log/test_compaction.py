"""Compaction: what stays of a log, what consumers see of it, and that no crash can tear it.

Method: a broker in this process on a simulated disk, with a clock that the test moves; small
segments, so that a few records are several of them.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from ottla.log.cleaner import Cleaner, OffsetMap
from ottla.log.compaction import compaction_of, due
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.records import Record, build_batch, check_crc, read_batch_header, read_records
from ottla.wire.rewrite import read_raw_records
from tests.unit.log.old_data import Desk, Pair

HOUR_MS = 3_600_000
EAGER = {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.01"}


def desk_of(partitions: int = 1, **configs: str) -> Desk:
    desk = Desk()
    desk.create(partitions, **(EAGER | configs))
    return desk


def close_segment(desk: Desk) -> None:
    """All that is there may be compacted: one more record begins the active segment."""
    desk.roll()
    desk.write(("active", "x"))


def compact(desk: Desk) -> None:
    close_segment(desk)
    desk.unroll()
    desk.broker.advance(2_000)


class TestKeys:
    """The last record of each key stays."""

    def test_the_last_of_each_key_stays_at_its_offset(self) -> None:
        desk = desk_of()
        for number in range(12):
            desk.write((f"k{number % 3}", f"v{number}"))
        compact(desk)
        assert desk.records() == [
            (9, "k0", "v9"),
            (10, "k1", "v10"),
            (11, "k2", "v11"),
            (12, "active", "x"),
        ]
        assert (desk.partition.log_start_offset, desk.partition.high_watermark) == (0, 13)
        assert desk.power_cut().records() == desk.records()

    def test_a_fetch_from_a_gap_goes_on_behind_it(self) -> None:
        desk = desk_of()
        for number in range(12):
            desk.write(("k", f"v{number}"))
        compact(desk)
        for one in (desk, desk.power_cut()):
            read = one.partition.read(4, 1 << 20, False, whole_batch=True)
            assert read_batch_header(read.records).base_offset == 11

    def test_records_without_a_key_go(self) -> None:
        desk = desk_of(cleanup_policy="delete")
        desk.write((None, "a"), ("k", "b"))
        desk.partition.configure({"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"})
        compact(desk)
        assert desk.records() == [(1, "k", "b"), (2, "active", "x")]

    def test_a_batch_keeps_its_offsets_and_its_codec(self) -> None:
        for codec in range(5):
            desk = desk_of()
            desk.write(("a", "1"), ("b", "1"), ("c", "1"), compression=codec)
            desk.write(("b", "2"))
            compact(desk)
            first = desk.batches()[0]
            assert (first.base_offset, first.last_offset, first.record_count) == (0, 2, 2)
            assert first.compression == codec
            assert desk.records()[:3] == [(0, "a", "1"), (2, "c", "1"), (3, "b", "2")]

    def test_old_segments_are_merged_and_their_files_go(self) -> None:
        desk = desk_of()
        for number in range(40):
            desk.write(("k", f"v{number}"))
        assert len(desk.partition.segments) > 5
        compact(desk)
        assert len(desk.log_files()) == 2
        assert desk.partition.segments[0].generation == 1

    def test_long_keys_are_told_apart(self) -> None:
        desk = desk_of()
        desk.write(("k" * 60 + "1", "a"), ("k" * 60 + "2", "b"), ("k" * 60 + "1", "c"))
        compact(desk)
        assert [value for _, _, value in desk.records()] == ["b", "c", "x"]

    def test_more_keys_than_memory_takes_are_compacted_in_turns(self) -> None:
        records = [Record(0, 5, f"k{n % 4}".encode(), b"v") for n in range(8)]
        batches = [build_batch([one], base_offset=at) for at, one in enumerate(records)]
        offsets = OffsetMap(0, [], keys_max=3)
        for one in batches:
            if not offsets.is_full:
                offsets.add(read_batch_header(one), memoryview(one))
        assert offsets.end_offset == 3
        cleaner = Cleaner(offsets, [], {}, 100, 100)
        kept = [cleaner.clean(read_batch_header(one), memoryview(one)) for one in batches]
        assert None not in kept


class TestTombstones:
    """A tombstone stays until its delete horizon (KIP-534)."""

    def test_it_stays_for_a_while_and_then_goes(self) -> None:
        desk = desk_of(delete_retention_ms=str(HOUR_MS))
        desk.write(("a", "1"), ("b", "1"))
        written_ms = desk.clock.now_ms()
        desk.write(("a", None))
        compact(desk)
        assert desk.records()[:2] == [(1, "b", "1"), (2, "a", None)]
        horizon_ms = desk.batches()[1].delete_horizon_ms
        assert horizon_ms is not None
        assert 0 <= desk.clock.now_ms() + HOUR_MS - horizon_ms <= 2_000
        times = [record.timestamp for record in read_records(_bytes_at(desk, 2))]
        assert times == [written_ms]
        compact(desk)
        assert (2, "a", None) in desk.records()
        desk.clock.advance(HOUR_MS)
        compact(desk)
        assert [one for one in desk.records() if one[1] == "a"] == []

    def test_the_times_of_the_records_do_not_change_with_the_horizon(self) -> None:
        desk = desk_of()
        desk.write(("a", None), ("b", None))
        before = [one.timestamp for one in read_records(_bytes_at(desk, 0))]
        compact(desk)
        assert [one.timestamp for one in read_records(_bytes_at(desk, 0))] == before
        assert desk.batches()[0].delete_horizon_ms is not None


def _bytes_at(desk: Desk, offset: int) -> bytes:
    content = desk.partition.read(offset, 1 << 20, False, whole_batch=True).records
    assert check_crc(content)
    return content


class TestTransactions:
    """Markers and what was aborted."""

    def test_aborted_records_go_and_committed_ones_stay(self) -> None:
        desk = desk_of()
        writer = Writer(desk)
        writer.transaction([("a", "1"), ("b", "1")], commit=True)
        writer.transaction([("a", "2"), ("c", "2")], commit=False)
        desk.write(("d", "3"))
        before = desk.records(committed=True)
        compact(desk)
        assert desk.records(committed=True)[:-1] == before
        values = [value for _, _, value in desk.records()]
        assert values == ["1", "1", "3", "x"]

    def test_a_marker_stays_while_it_has_data_and_then_until_its_horizon(self) -> None:
        desk = desk_of(delete_retention_ms=str(HOUR_MS))
        writer = Writer(desk)
        writer.transaction([("a", "1")], commit=True)
        writer.transaction([("b", "1")], commit=False)
        other = Writer(desk, "other")
        other.transaction([("z", "1")], commit=True)
        desk.write(("a", "2"))
        compact(desk)  # the data of the first two goes
        assert _markers(desk) == 3
        compact(desk)  # without data: their horizons are set
        desk.clock.advance(2 * HOUR_MS)
        assert _markers(desk) == 3
        compact(desk)
        assert _markers(desk) == 1
        committed = [value for _, key, value in desk.records(committed=True) if key != "active"]
        assert committed == ["1", "2"]

    def test_nothing_from_an_open_transaction_on_is_touched(self) -> None:
        desk = desk_of()
        writer = Writer(desk)
        for number in range(3):
            desk.write(("k", f"{number}"))
        close_segment(desk)
        writer.write([("k", "open")])
        desk.unroll()
        for number in range(5):
            desk.write(("k", f"later {number}"))
        compact(desk)
        values = [value for _, _, value in desk.records()]
        assert values == ["2", "x", "open", *(f"later {number}" for number in range(5)), "x"]

    def test_an_aborted_transaction_stays_hidden_where_only_its_start_is_compacted(self) -> None:
        desk = desk_of(delete_retention_ms="0")
        writer = Writer(desk)
        writer.transaction([("a", "1")], commit=False)
        writer.transaction([("a", "2")], commit=True)
        for _ in range(3):
            compact(desk)
            assert desk.records(committed=True)[0][1:] == ("a", "2")
            desk.clock.advance(HOUR_MS)
            again = desk.power_cut()
            assert again.records(committed=True)[0][1:] == ("a", "2")


def _markers(desk: Desk) -> int:
    return sum(one.is_control and one.record_count > 0 for one in desk.batches())


class Writer:
    """A transactional producer."""

    def __init__(self, desk: Desk, name: str = "writer") -> None:
        self._desk, self._name = desk, name
        request = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000)
        answer: Any = desk.client.request(request, 4)
        self._producer_id, self._epoch = answer.producer_id, answer.producer_epoch
        self._sequence = 0

    def write(self, pairs: Sequence[Pair]) -> None:
        now_ms = self._desk.clock.now_ms()
        records = [
            Record(0, now_ms, (key or "").encode(), None if value is None else value.encode())
            for key, value in pairs
        ]
        batch = build_batch(
            records,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            base_sequence=self._sequence,
            transactional=True,
        )
        assert self._desk.send(batch, self._name).error_code == 0
        self._sequence += len(pairs)

    def transaction(self, pairs: Sequence[Pair], *, commit: bool) -> None:
        self.write(pairs)
        self.end(commit=commit)

    def end(self, *, commit: bool) -> None:
        request = EndTxnRequest(
            transactional_id=self._name,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            committed=commit,
        )
        answer: Any = self._desk.client.request(request, 5)
        assert answer.error_code == 0
        self._producer_id, self._epoch = answer.producer_id, answer.producer_epoch
        self._sequence = 0


class TestProducers:
    """The last batch of a producer stays, if only as an empty one."""

    def test_sequences_survive(self) -> None:
        desk = desk_of()
        known = {"producer_id": 9, "producer_epoch": 0}
        desk.write(("a", "1"), base_sequence=0, **known)
        desk.write(("a", "2"), base_sequence=1, **known)
        desk.write(("a", "3"))
        compact(desk)
        empty = desk.batches()[0]
        assert (empty.base_offset, empty.record_count, empty.base_sequence) == (1, 0, 1)
        again = desk.power_cut()
        again.write(("b", "1"), base_sequence=2, **known)
        assert again.records()[-1][1:] == ("b", "1")

    def test_the_end_of_what_was_compacted_stays_known(self) -> None:
        desk = desk_of(delete_retention_ms="0")
        desk.write(("a", None))
        compact(desk)
        desk.clock.advance(HOUR_MS)
        compact(desk)
        assert desk.batches()[-2].last_offset + 1 == desk.batches()[-1].base_offset


class TestWhenItIsDue:
    """min.cleanable.dirty.ratio and the two lags."""

    def test_a_partition_waits_until_enough_of_it_is_dirty(self) -> None:
        desk = desk_of(min_cleanable_dirty_ratio="0.5")
        for number in range(20):
            desk.write((f"k{number}", "v" * 20))
        compact(desk)
        assert desk.partition.generation == 1
        for number in range(8):
            desk.write((f"k{number}", "w" * 20))
        compact(desk)
        assert desk.partition.generation == 1
        for number in range(20):
            desk.write((f"k{number}", "w" * 20))
        compact(desk)
        assert desk.partition.generation == 2

    def test_young_records_wait(self) -> None:
        desk = desk_of(min_compaction_lag_ms=str(HOUR_MS))
        for number in range(9):
            desk.write(("k", f"v{number}"))
        compact(desk)
        assert len(desk.records()) == 10
        desk.broker.advance(HOUR_MS + 2_000)
        assert len(desk.records()) == 2

    def test_old_records_do_not_wait_for_the_ratio(self) -> None:
        desk = desk_of(min_cleanable_dirty_ratio="1", max_compaction_lag_ms=str(HOUR_MS))
        for number in range(9):
            desk.write(("k", f"v{number}"))
        compact(desk)
        assert len(desk.records()) == 10
        desk.broker.advance(HOUR_MS + 2_000)
        assert len(desk.records()) == 2

    def test_compact_and_delete_do_both(self) -> None:
        desk = desk_of(cleanup_policy="compact,delete", retention_ms=str(HOUR_MS))
        for number in range(9):
            desk.write(("k", f"v{number}"))
        compact(desk)
        assert len(desk.records()) == 2
        desk.broker.advance(HOUR_MS + 2_000)
        assert desk.records() == []


class TestInTheThread:
    """What happens while a compaction runs."""

    def begun(self) -> tuple[Desk, Any]:
        desk = desk_of(cleanup_policy="compact,delete", min_cleanable_dirty_ratio="1")
        for number in range(12):
            desk.write(("k", f"v{number}"))
        close_segment(desk)
        desk.unroll()
        found = due(desk.partition, desk.clock.now_ms())
        assert found is not None
        return desk, compaction_of(found, desk.disk, desk.clock.now_ms())

    def test_what_is_written_meanwhile_is_there_afterwards(self) -> None:
        desk, ticket = self.begun()
        ticket.run()
        desk.write(("later", "1"))
        assert ticket.finish()
        assert [value for _, _, value in desk.records()] == ["v11", "x", "1"]

    def test_when_records_are_deleted_meanwhile_the_work_is_thrown_away(self) -> None:
        desk, ticket = self.begun()
        assert desk.delete_records(8) == (0, 8)
        desk.broker.core.store.request_checkpoint()
        desk.broker.sync()
        ticket.run()  # the files that it reads are still there
        assert ticket.refusal == ""
        assert not ticket.finish()
        assert [offset for offset, _, _ in desk.records()] == [8, 9, 10, 11, 12]
        desk.broker.core.store.request_checkpoint()
        desk.broker.sync()
        assert not any("compacted" in name for name in desk.files())

    def test_when_the_topic_is_deleted_meanwhile_its_files_wait_for_the_end(self) -> None:
        desk, ticket = self.begun()
        desk.broker.core.store.drop_partitions(desk.partition.name.topic_id)
        partition = ticket.partition
        desk.broker.core.store.request_checkpoint()
        desk.broker.sync()
        ticket.run()
        assert ticket.refusal == ""
        ticket.finish()
        desk.broker.core.store.request_checkpoint()
        desk.broker.sync()
        assert not desk.disk.exists(partition.name.directory)

    def test_a_cancelled_one_changes_nothing(self) -> None:
        desk, ticket = self.begun()
        ticket.cancelled = True
        ticket.run()
        assert not ticket.finish()
        assert len(desk.records()) == 13

    @pytest.mark.parametrize("failing", ["write", "sync"])
    def test_a_disk_that_refuses_leaves_everything_as_it_was(self, failing: Any) -> None:
        desk, ticket = self.begun()
        desk.disk.fail(failing)
        ticket.run()
        assert ticket.refusal
        assert not ticket.finish()
        assert len(desk.records()) == 13

    def test_a_log_that_rotted_is_left_alone(self) -> None:
        desk, ticket = self.begun()
        file = desk.disk.open(ticket.segments[1].log_path)
        file.write(70, [b"\xff"])
        ticket.run()
        assert "no whole record batch" in ticket.refusal
        assert not ticket.finish()


def test_one_checkpoint_lets_the_files_of_several_compactions_go() -> None:
    desk = desk_of(3)
    for number in range(12):
        for index in range(3):
            desk.write(("k", f"v{number}"), partition=index)
    before = len(desk.disk.operations)
    desk.broker.advance(2_000)
    assert [one.generation for one in desk.partitions] == [1, 1, 1]
    renames = [
        one
        for one in desk.disk.operations[before:]
        if one.kind == "rename" and one.path.endswith(" -> checkpoint")
    ]
    assert len(renames) == 1
    assert not any(one.has_doomed for one in desk.partitions)


def test_a_partition_that_cannot_be_compacted_is_left_alone_until_a_restart() -> None:
    desk = desk_of()
    for number in range(12):
        desk.write(("k", f"v{number}"))
    close_segment(desk)
    desk.partition.segments[0].write_now()
    file = desk.disk.open(desk.partition.segments[0].log_path)
    good = file.read(70, 1)
    file.write(70, [b"\xff"])
    desk.unroll()
    desk.broker.advance(5_000)
    assert desk.partition.compaction_given_up
    assert desk.partition.generation == 1
    file.write(70, [good])
    desk.broker.core.close()
    again = Desk(desk.disk, desk.clock)
    again.broker.advance(5_000)
    assert again.records() == [(11, "k", "v11"), (12, "active", "x")]


def test_raw_records_are_the_records() -> None:
    records = [
        Record(0, 10 + n, key, value, (("h", b"1"), ("i", None)))
        for n, (key, value) in enumerate([(b"a", b"1"), (None, b"2"), (b"c", None), (b"", b"")])
    ]
    batch = build_batch(records, base_offset=50)
    raw = [*read_raw_records(batch, read_batch_header(batch))]
    seen = [(one.offset, one.timestamp, one.key, one.has_value) for one in raw]
    assert seen == [
        (one.offset, one.timestamp, one.key, one.value is not None) for one in read_records(batch)
    ]
