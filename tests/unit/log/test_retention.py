"""Where a log begins: retention by time and size, DeleteRecords, and what a restart makes of it.

Method: a broker in this process on a simulated disk, with a clock that the test moves.
"""

import pytest

from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.log.config import LogConfig, log_config
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.records import Record, build_batch
from tests.unit.log.old_data import Desk


def filled(desk: Desk, count: int = 6) -> None:
    """One batch a segment, one second apart."""
    for number in range(count):
        desk.roll()
        desk.write((f"k{number}", "v" * 50))
        desk.clock.advance(1_000)
    desk.unroll()


class TestRetention:
    """retention.ms and retention.bytes."""

    def test_segments_go_whose_newest_record_is_too_old(self) -> None:
        desk = Desk()
        desk.create(retention_ms="3600000", file_delete_delay_ms="0")
        filled(desk)
        desk.broker.advance(3_600_000 - 3_000)
        assert desk.partition.log_start_offset == 3
        assert [offset for offset, _, _ in desk.records()] == [3, 4, 5]
        assert desk.log_files() == [f"{base:020d}.log" for base in (3, 4, 5)]

    def test_the_active_segment_goes_too_and_offsets_go_on(self) -> None:
        desk = Desk()
        desk.create(retention_ms="5000")
        filled(desk)
        desk.broker.advance(60_000)
        assert (desk.partition.log_start_offset, desk.partition.segments) == (6, [])
        assert desk.log_files() == []
        assert desk.write(("k", "new")) == 6
        again = desk.power_cut()
        assert again.records() == [(6, "k", "new")]

    def test_what_is_beyond_the_size_goes_oldest_first(self) -> None:
        desk = Desk()
        desk.create(retention_ms="-1", retention_bytes="400")
        filled(desk)
        size_bytes = desk.partition.segments[0].size_bytes
        desk.broker.advance(31_000)
        left = 6 - (6 * size_bytes - 400) // size_bytes
        assert len(desk.partition.segments) == left
        assert sum(one.size_bytes for one in desk.partition.segments) >= 400

    def test_without_limits_and_without_delete_everything_stays(self) -> None:
        for configs in (
            {"retention_ms": "-1"},
            {"cleanup_policy": "compact", "retention_ms": "1", "min_compaction_lag_ms": "99999999"},
        ):
            desk = Desk()
            desk.create(**configs)
            filled(desk)
            desk.broker.advance(100_000)
            assert len(desk.records()) == 6

    def test_records_without_a_time_are_as_old_as_their_append(self) -> None:
        desk = Desk()
        desk.create(retention_ms="100000")
        desk.send(build_batch([Record(0, -1, b"k", b"v")]))
        desk.broker.advance(90_000)
        assert len(desk.records()) == 1
        desk.broker.advance(120_000)
        assert desk.records() == []

    def test_a_segment_is_sealed_when_its_time_is_over(self) -> None:
        desk = Desk()
        desk.create(segment_ms="5000")
        for _ in range(4):
            desk.write(("k", "v"))
            desk.clock.advance(3_000)
        assert [one.base_offset for one in desk.partition.segments] == [0, 2]


def test_many_partitions_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.broker.housekeeping._AT_ONCE", 2)
    desk = Desk()
    desk.create(retention_ms="5000", partitions=7)
    for number in range(7):
        desk.write(("k", "v"), partition=number)
    desk.clock.advance(60_000)
    desk.broker.core.on_timer()
    starts = [one.log_start_offset for one in desk.partitions]
    assert starts == [1, 1, 0, 0, 0, 0, 0]
    assert desk.broker.core.next_deadline_ms() <= desk.clock.monotonic_ms()
    for _ in range(3):
        desk.broker.core.on_timer()
    assert [one.log_start_offset for one in desk.partitions] == [1] * 7
    assert desk.broker.core.next_deadline_ms() > desk.clock.monotonic_ms()


class TestDeleteRecords:
    """DeleteRecords, as Kafka answers it."""

    def test_the_log_begins_there_and_a_power_cut_does_not_bring_anything_back(self) -> None:
        desk = Desk()
        desk.create()
        filled(desk)
        assert desk.delete_records(4) == (0, 4)
        again = desk.power_cut()
        for one in (desk, again):
            assert [offset for offset, _, _ in one.records()] == [4, 5]
            with pytest.raises(KafkaError) as caught:
                one.partition.read(3, 1_000, False, whole_batch=True)
            assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert f"{0:020d}.log" not in again.log_files()

    def test_minus_one_is_the_high_watermark(self) -> None:
        desk = Desk()
        desk.create()
        filled(desk)
        assert desk.delete_records(-1) == (0, 6)
        assert desk.records() == []
        assert desk.write(("k", "v")) == 6
        assert desk.power_cut().records() == [(6, "k", "v")]

    def test_inside_a_batch_the_records_before_are_not_counted(self) -> None:
        desk = Desk()
        desk.create()
        desk.write(("a", "1"), ("b", "2"), ("c", "3"))
        assert desk.delete_records(2) == (0, 2)
        assert desk.power_cut().records() == [(2, "c", "3")]

    def test_backwards_changes_nothing(self) -> None:
        desk = Desk()
        desk.create()
        filled(desk)
        assert desk.delete_records(4) == (0, 4)
        assert desk.delete_records(2) == (0, 4)

    def test_what_is_refused(self) -> None:
        desk = Desk()
        desk.create()
        filled(desk)
        assert desk.delete_records(7) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert desk.delete_records(-2) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert desk.delete_records(1, partition=1) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
        assert desk.partition.log_start_offset == 0

    def test_a_compacted_topic_refuses_and_a_mixed_one_does_not(self) -> None:
        for policy, code in (("compact", ErrorCode.POLICY_VIOLATION), ("compact,delete", 0)):
            desk = Desk()
            desk.create(cleanup_policy=policy)
            desk.write(("a", "1"), ("b", "2"))
            assert desk.delete_records(1)[0] == code

    def test_an_open_transaction_that_lost_its_start_holds_back_what_is_left(self) -> None:
        desk = Desk()
        desk.create()
        desk.write(("a", "1"), producer_id=7, producer_epoch=0, base_sequence=0)
        partition = desk.partition
        partition.transactions.begin(7, 0)
        desk.write(("b", "2"))
        assert desk.delete_records(1) == (0, 1)
        assert partition.last_stable_offset == 1
        assert desk.records(committed=True) == []


def test_what_a_topic_does_not_set_has_the_broker_s_default() -> None:
    defaults = {name: one.default for name, one in TOPIC_CONFIGS.items() if one.default is not None}
    assert log_config({}) == LogConfig() == log_config(defaults)
