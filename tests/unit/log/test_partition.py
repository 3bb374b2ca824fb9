"""P2, P6: offsets, producer state, what each isolation level sees, segments and their indexes.

Method: one partition on a simulated disk, batches made as a client makes them. `sync` does what a
group commit does, so that the difference between appended and durable is visible.
"""

from uuid import UUID

import pytest

from ottla.log.checkpoint import restore_partition, state_of
from ottla.log.partition import Appended, Partition, PartitionName, Read
from ottla.ports.errors import DataDamaged, ErrorCode, KafkaError
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.records import (
    Record,
    build_batch,
    iterate_batches,
    read_batch_header,
    read_records,
)

NAME = PartitionName("orders", UUID(int=1), 0)
NOW_MS = 1_700_000_000_000


def new_partition(disk: SimulatedDisk | None = None, segment_bytes: int = 1 << 30) -> Partition:
    disk = disk or SimulatedDisk()
    disk.make_directory("topics")
    partition = Partition(disk, NAME)
    partition.segment_bytes = segment_bytes
    return partition


def batch_of(
    *values: str,
    pid: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    timestamp: int = NOW_MS,
) -> bytes:
    records = [Record(i, timestamp + i, None, v.encode(), []) for i, v in enumerate(values)]
    return build_batch(
        records,
        producer_id=pid,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
    )


def append(partition: Partition, batch: bytes, *, must_start_at_zero: bool = False) -> Appended:
    view = memoryview(batch)
    return partition.append(
        view, read_batch_header(view), NOW_MS, must_start_at_zero=must_start_at_zero
    )


def sync(partition: Partition) -> None:
    for write in partition.take_writes():
        write.run()
    partition.written()
    partition.advance(partition.end())


def values(read: Read) -> list[str]:
    return [
        (record.value or b"").decode()
        for header, batch in iterate_batches(memoryview(read.records))
        if not header.is_control
        for record in read_records(batch)
    ]


def read(partition: Partition, offset: int = 0, *, committed: bool = False) -> Read:
    return partition.read(offset, 1 << 20, committed, whole_batch=True)


def code_of(partition: Partition, batch: bytes, *, must_start_at_zero: bool = False) -> ErrorCode:
    with pytest.raises(KafkaError) as caught:
        append(partition, batch, must_start_at_zero=must_start_at_zero)
    return caught.value.code


def test_offsets_follow_one_another_and_only_durable_records_are_seen() -> None:
    partition = new_partition()
    assert append(partition, batch_of("a", "b")).base_offset == 0
    assert append(partition, batch_of("c")).base_offset == 2
    assert values(read(partition)) == []
    sync(partition)
    assert values(read(partition)) == ["a", "b", "c"]
    assert append(partition, batch_of("d")).base_offset == 3
    assert values(read(partition)) == ["a", "b", "c"]
    assert (partition.high_watermark, partition.next_offset) == (3, 4)


def test_a_read_begins_with_the_batch_that_holds_the_offset() -> None:
    partition = new_partition()
    append(partition, batch_of("a", "b", "c"))
    append(partition, batch_of("d"))
    sync(partition)
    assert values(read(partition, 1)) == ["a", "b", "c", "d"]
    assert values(read(partition, 3)) == ["d"]
    assert read(partition, 4).records == b""


def test_offsets_beyond_the_log_are_refused() -> None:
    partition = new_partition()
    append(partition, batch_of("a"))
    for offset in (-1, 1, 2):
        with pytest.raises(KafkaError) as caught:
            read(partition, offset)
        assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_the_first_batch_is_whole_whatever_the_limit() -> None:
    partition = new_partition()
    append(partition, batch_of("a" * 500))
    append(partition, batch_of("b"))
    sync(partition)
    assert values(partition.read(0, 10, False, whole_batch=True)) == ["a" * 500]
    assert partition.read(0, 10, False, whole_batch=False).records == b""


class TestIdempotence:
    """The producer's window: one more in order, the last five again, nothing else."""

    def test_a_retry_is_answered_with_the_original_and_not_stored(self) -> None:
        partition = new_partition()
        first = append(partition, batch_of("a", "b", pid=7, epoch=0, sequence=0))
        append(partition, batch_of("c", pid=7, epoch=0, sequence=2))
        again = append(partition, batch_of("a", "b", pid=7, epoch=0, sequence=0))
        assert (again.base_offset, again.buffers) == (first.base_offset, ())
        assert partition.next_offset == 3

    def test_each_of_the_last_five_batches_is_recognised_and_the_sixth_is_not(self) -> None:
        partition = new_partition()
        batches = [batch_of(str(n), pid=7, epoch=0, sequence=n) for n in range(6)]
        for batch in batches:
            append(partition, batch)
        for offset, batch in enumerate(batches[1:], 1):
            assert append(partition, batch).base_offset == offset
        assert code_of(partition, batches[0]) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    def test_a_gap_is_out_of_order(self) -> None:
        partition = new_partition()
        append(partition, batch_of("a", pid=7, epoch=0, sequence=0))
        late = batch_of("c", pid=7, epoch=0, sequence=2)
        assert code_of(partition, late) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert partition.next_offset == 1

    def test_part_of_a_batch_is_no_duplicate(self) -> None:
        partition = new_partition()
        append(partition, batch_of("a", "b", pid=7, epoch=0, sequence=0))
        part = batch_of("b", pid=7, epoch=0, sequence=1)
        assert code_of(partition, part) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    def test_sequences_wrap_between_batches_and_inside_one(self) -> None:
        partition = new_partition()
        top = 2**31 - 1
        append(partition, batch_of("a", pid=7, epoch=0, sequence=top - 2))
        append(partition, batch_of("b", "c", "d", pid=7, epoch=0, sequence=top - 1))
        assert append(partition, batch_of("e", pid=7, epoch=0, sequence=1)).base_offset == 4

    def test_an_older_epoch_is_fenced_and_a_newer_begins_at_zero(self) -> None:
        partition = new_partition()
        append(partition, batch_of("a", pid=7, epoch=3, sequence=0))
        old = batch_of("b", pid=7, epoch=2, sequence=1)
        assert code_of(partition, old) == ErrorCode.INVALID_PRODUCER_EPOCH
        later = batch_of("b", pid=7, epoch=4, sequence=1)
        assert code_of(partition, later) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert append(partition, batch_of("b", pid=7, epoch=4, sequence=0)).base_offset == 1

    def test_an_unknown_producer_begins_where_it_says_unless_version_2(self) -> None:
        partition = new_partition()
        batch = batch_of("a", pid=7, epoch=0, sequence=9)
        code = code_of(partition, batch, must_start_at_zero=True)
        assert code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert append(partition, batch).base_offset == 0

    def test_all_five_batches_survive_a_restart(self) -> None:
        disk = SimulatedDisk()
        partition = new_partition(disk)
        batches = [batch_of(str(n), pid=7, epoch=0, sequence=n) for n in range(5)]
        for batch in batches:
            append(partition, batch)
        again = restarted(disk, partition)
        for offset, batch in enumerate(batches):
            assert append(again, batch).base_offset == offset

    def test_expiry_spares_the_producer_with_an_open_transaction(self) -> None:
        partition = new_partition()
        append(partition, batch_of("a", pid=7, epoch=0, sequence=0))
        append(partition, batch_of("b", pid=8, epoch=0, sequence=0, transactional=True))
        assert partition.producers.expire(NOW_MS + 86_399_999) == 0
        assert partition.producers.expire(NOW_MS + 86_400_000) == 1
        assert set(partition.producers.entries) == {8}


class TestTransactions:
    """The last stable offset, aborted transactions, markers."""

    def test_a_transaction_is_seen_when_its_marker_is_durable(self) -> None:
        partition = new_partition()
        append(partition, batch_of("a"))
        append(partition, batch_of("t", pid=7, epoch=0, sequence=0, transactional=True))
        append(partition, batch_of("b"))
        sync(partition)
        assert partition.last_stable_offset == 1
        assert values(read(partition, committed=True)) == ["a"]
        assert values(read(partition)) == ["a", "t", "b"]
        partition.append_marker(7, 0, True, NOW_MS)
        assert partition.last_stable_offset == 1, "the marker could still be lost"
        sync(partition)
        assert partition.last_stable_offset == 4
        assert values(read(partition, committed=True)) == ["a", "t", "b"]
        assert read(partition, committed=True).aborted == []

    def test_an_aborted_transaction_is_told_with_its_first_offset(self) -> None:
        partition = new_partition()
        append(partition, batch_of("t", pid=7, epoch=0, sequence=0, transactional=True))
        append(partition, batch_of("u", pid=8, epoch=0, sequence=0, transactional=True))
        partition.append_marker(8, 0, False, NOW_MS)
        append(partition, batch_of("v", pid=8, epoch=0, sequence=1, transactional=True))
        partition.append_marker(7, 0, False, NOW_MS)
        sync(partition)
        assert partition.last_stable_offset == 3
        aborted = [
            (one.producer_id, one.first_offset) for one in read(partition, committed=True)[4]
        ]
        assert aborted == [(7, 0), (8, 1)]
        later = read(partition, 3, committed=True)
        assert later.aborted == []

    def test_the_oldest_open_transaction_holds_the_last_stable_offset(self) -> None:
        partition = new_partition()
        for pid in (7, 8, 9):
            append(partition, batch_of("x", pid=pid, epoch=0, sequence=0, transactional=True))
        sync(partition)
        for pid, expected in ((8, 0), (7, 2), (9, 6)):
            partition.append_marker(pid, 0, True, NOW_MS)
            sync(partition)
            assert partition.last_stable_offset == expected

    def test_a_plain_batch_inside_an_open_transaction_is_refused(self) -> None:
        partition = new_partition()
        append(partition, batch_of("t", pid=7, epoch=0, sequence=0, transactional=True))
        plain = batch_of("u", pid=7, epoch=0, sequence=1)
        assert code_of(partition, plain) == ErrorCode.INVALID_TXN_STATE

    def test_open_and_aborted_transactions_survive_a_restart(self) -> None:
        disk = SimulatedDisk()
        partition = new_partition(disk)
        append(partition, batch_of("t", pid=7, epoch=0, sequence=0, transactional=True))
        partition.append_marker(7, 0, False, NOW_MS)
        append(partition, batch_of("u", pid=8, epoch=0, sequence=0, transactional=True))
        again = restarted(disk, partition)
        assert again.last_stable_offset == 2
        assert [one.producer_id for one in read(again, committed=True).aborted] == [7]


class TestSegments:
    """Rolling, indexes, look-ups by offset and by time."""

    def filled(self, disk: SimulatedDisk, count: int = 200) -> Partition:
        partition = new_partition(disk, segment_bytes=9_000)
        for n in range(count):
            append(partition, batch_of(f"value {n}" * 20, timestamp=NOW_MS + n * 1_000))
        sync(partition)
        return partition

    def test_every_offset_is_found_over_all_segments(self) -> None:
        partition = self.filled(SimulatedDisk())
        assert len(partition.segments) > 3
        for offset in range(200):
            got = partition.read(offset, 1, False, whole_batch=True)
            assert values(got) == [f"value {offset}" * 20]

    def test_a_log_is_read_from_start_to_end_in_small_steps(self) -> None:
        partition = self.filled(SimulatedDisk())
        offset, seen = 0, []
        while offset < partition.high_watermark:
            got = partition.read(offset, 3_000, False, whole_batch=True)
            batches = list(iterate_batches(memoryview(got.records)))
            seen += values(got)
            offset = batches[-1][0].last_offset + 1
        assert seen == [f"value {n}" * 20 for n in range(200)]

    def test_the_same_after_a_restart(self) -> None:
        disk = SimulatedDisk()
        again = restarted(disk, self.filled(disk), segment_bytes=9_000)
        for offset in (0, 57, 199):
            got = again.read(offset, 1, False, whole_batch=True)
            assert values(got) == [f"value {offset}" * 20]
        assert append(again, batch_of("next")).base_offset == 200

    def test_the_first_record_at_or_after_a_time(self) -> None:
        partition = self.filled(SimulatedDisk())
        for n in (0, 1, 99, 199):
            found = partition.offset_for_time(NOW_MS + n * 1_000, False)
            assert found == (n, NOW_MS + n * 1_000)
            between = partition.offset_for_time(NOW_MS + n * 1_000 - 999, False)
            assert between is not None
            assert between.offset == n
        assert partition.offset_for_time(NOW_MS + 200_000, False) is None
        assert partition.offset_of_max_time() == (199, NOW_MS + 199_000)

    def test_files_are_in_kafkas_format(self) -> None:
        """.index: relative last offset and position of a batch; .timeindex: time and offset."""
        import struct

        disk = SimulatedDisk()
        partition = self.filled(disk, 60)
        store(partition)
        path = f"{NAME.directory}/{0:020d}"
        log = disk.open(path + ".log")
        content = memoryview(log.read(0, log.size()))
        index = disk.open(path + ".index")
        entries = list(struct.iter_unpack(">ii", index.read(0, index.size())))
        assert entries
        for relative, position in entries:
            assert read_batch_header(content, position).last_offset == relative
        times = disk.open(path + ".timeindex")
        for timestamp, relative in struct.iter_unpack(">qi", times.read(0, times.size())):
            assert timestamp == NOW_MS + relative * 1_000

    def test_a_file_shorter_than_the_checkpoint_says_is_refused(self) -> None:
        disk = SimulatedDisk()
        partition = self.filled(disk)
        store(partition)
        state = state_of(partition)
        path = f"{NAME.directory}/{0:020d}.log"
        disk.open(path).truncate(100)
        with pytest.raises(DataDamaged, match=r"00000000000000000000\.log"):
            restore_partition(new_partition(disk), state)

    def test_a_damaged_batch_header_is_an_error_with_its_place(self) -> None:
        disk = SimulatedDisk()
        partition = self.filled(disk, 10)
        disk.open(f"{NAME.directory}/{0:020d}.log").write(16, [b"\x07"])
        with pytest.raises(KafkaError, match=r"00000000000000000000\.log") as caught:
            read(partition, 5)
        assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR


def store(partition: Partition) -> None:
    sync(partition)
    for one in partition.take_stores():
        one.run()


def restarted(disk: SimulatedDisk, partition: Partition, segment_bytes: int = 1 << 30) -> Partition:
    """The partition as it comes back from a checkpoint made now."""
    store(partition)
    again = new_partition(disk, segment_bytes)
    restore_partition(again, state_of(partition))
    return again
