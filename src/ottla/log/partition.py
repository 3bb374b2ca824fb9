"""A partition: batches in, offsets out; what is durable is visible, and nothing else.

`append` decides (producer state), assigns the offset and hands back the bytes that the journal and
the segment share. `high_watermark` is the end of what is durable and moves only in `advance`, when
the journal was synced. A read never goes beyond it, or beyond the last stable offset when the
consumer is read_committed: what a power cut could still unsay is not shown to anyone.

The same `replay` that recovery uses for journalled batches is the second half of `append`, so the
state after a crash cannot differ from the state before it.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from ottla.log.config import LogConfig, log_config
from ottla.log.producers import ProducerState
from ottla.log.segment import (
    LEADER_EPOCH,
    Segment,
    SegmentState,
    SegmentStore,
    SegmentWrite,
    is_generation_name,
    is_segment_name,
)
from ottla.log.transactions_index import (
    AbortedTransaction,
    TransactionsIndex,
    overlapping,
)
from ottla.ports.disk import Buffer, Disk
from ottla.ports.errors import DataDamaged, ErrorCode, KafkaError
from ottla.ports.invariants import invariant
from ottla.wire.records import (
    BatchHeader,
    build_marker,
    read_batch_header,
    read_marker,
    read_records,
)

_PREFIX = struct.Struct(">qii")  # base offset, batch length, partition leader epoch
_JOINED_BYTES_MAX = 16_384


class Appended(NamedTuple):
    """What became of a batch. `buffers` is empty for a duplicate: nothing was stored."""

    base_offset: int
    log_append_time_ms: int
    log_start_offset: int
    buffers: Sequence[Buffer]


class Read(NamedTuple):
    """What a fetch gets from one partition."""

    records: bytes
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: list[AbortedTransaction]


class PartitionEnd(NamedTuple):
    """Where a partition ends at some moment: its next offset, and how long its segments are."""

    next_offset: int
    segment_bytes: list[tuple[Segment, int]]


class TimestampOffset(NamedTuple):
    """The first record at or after a time."""

    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class PartitionName:
    """Which partition: `directory` is the only form in which a name reaches the disk."""

    topic: str
    topic_id: UUID
    index: int

    @property
    def directory(self) -> str:
        return f"topics/{self.topic}-{self.index}.{self.topic_id.hex}"

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"


class Partition:
    """The log of one partition with its producer state."""

    def __init__(self, disk: Disk, name: PartitionName, segment_bytes: int | None = None) -> None:
        """`segment_bytes`: the broker's default, where it is not Kafka's."""
        self.name = name
        self.topic_id_bytes = name.topic_id.bytes
        self.log_start_offset = 0
        self.next_offset = 0
        self.high_watermark = 0
        self.producers = ProducerState()
        self.transactions = TransactionsIndex()
        self.segments: list[Segment] = []
        self._unstored: dict[int, Segment] = {}  # changed since the last checkpoint
        self._unsynced: dict[int, Segment] = {}  # appended to since the last `end`
        self.first_dirty_offset = 0  # all below it has been through a compaction
        self.compacting = False  # files that are no longer wanted wait for its end
        self.compaction_given_up = False  # its files cannot be read, or written: until a restart
        self.generation = 0  # of the last compaction
        self._found: set[str] | None = None  # the files that were there at the start
        self._doomed: list[Segment] = []  # to be removed once no checkpoint knows them
        self._disk = disk
        self._segment_bytes_default = segment_bytes
        self.config: LogConfig
        self.segment_bytes: int
        self.configure({})

    def configure(self, configs: Mapping[str, str]) -> None:
        """The topic has these configs from here on; what they leave out has its default."""
        self.use(log_config(configs, self._segment_bytes_default))

    def use(self, config: LogConfig) -> None:
        """The same, with configs that were parsed for all of a topic's partitions."""
        self.config = config
        self.segment_bytes = config.segment_bytes

    # -- writing ------------------------------------------------------------------------------

    def append(
        self, batch: memoryview, header: BatchHeader, now_ms: int, *, must_start_at_zero: bool
    ) -> Appended:
        """Append a client's batch whose bytes have been checked.

        Raises KafkaError when the producer state refuses it.
        """
        if header.producer_id >= 0:
            original = self.producers.check(header, must_start_at_zero=must_start_at_zero)
            if original is not None:
                return Appended(
                    original.first_offset, original.timestamp_ms, self.log_start_offset, ()
                )
        base_offset = self.next_offset
        buffers = _with_offset(batch, header, base_offset)
        self.replay(buffers, header, base_offset, now_ms)
        append_time_ms = header.max_timestamp if header.is_log_append_time else -1
        return Appended(base_offset, append_time_ms, self.log_start_offset, buffers)

    def append_marker(
        self,
        producer_id: int,
        epoch: int,
        commit: bool,
        now_ms: int,
        *,
        coordinator_epoch: int = 0,
    ) -> Sequence[Buffer]:
        """Append a COMMIT or ABORT marker: the producer's transaction ends here."""
        base_offset = self.next_offset
        batch = build_marker(
            commit, producer_id, epoch, now_ms, coordinator_epoch, base_offset=base_offset
        )
        header = read_batch_header(batch)
        self._add([batch], header, base_offset, now_ms)
        self._end_transaction(header, commit, coordinator_epoch, now_ms)
        return [batch]

    def replay(
        self, buffers: Sequence[Buffer], header: BatchHeader, base_offset: int, now_ms: int
    ) -> None:
        """Add a batch that is decided: it is in the journal, or about to be."""
        self._add(buffers, header, base_offset, now_ms)
        if header.is_control:
            marker = read_marker(b"".join(buffers))
            self._end_transaction(header, marker.commit, marker.coordinator_epoch, now_ms)
        elif header.producer_id >= 0:
            self.producers.append(header, base_offset, now_ms)
            if header.is_transactional:
                self.transactions.begin(header.producer_id, base_offset)

    def _add(
        self, buffers: Sequence[Buffer], header: BatchHeader, base_offset: int, now_ms: int
    ) -> None:
        if base_offset != self.next_offset:
            invariant(
                False,
                "batches follow one another",
                partition=self.name,
                base_offset=base_offset,
                next_offset=self.next_offset,
            )
        segment = self._segment_for(header, base_offset)
        segment.append(buffers, header, base_offset, now_ms)
        self.next_offset = base_offset + header.last_offset_delta + 1

    def _end_transaction(
        self, header: BatchHeader, commit: bool, coordinator_epoch: int, now_ms: int
    ) -> None:
        """The marker with this header is the last batch: what it ends is over."""
        producer_id, offset = header.producer_id, header.base_offset
        first_offset = self.producers.end_transaction(
            producer_id, header.producer_epoch, coordinator_epoch, now_ms
        )
        self.transactions.end(producer_id, offset)
        if first_offset is not None and not commit:
            unstable = next(iter(self.transactions.open.values()), offset + 1)
            self.segments[-1].aborted.append(
                AbortedTransaction(producer_id, first_offset, offset, unstable)
            )

    def _segment_for(self, header: BatchHeader, base_offset: int) -> Segment:
        active = self.segments[-1] if self.segments else None
        if active is None or self._is_full(active, header):
            if active is not None:
                active.seal()
                self._unstored[active.base_offset] = active
            active = Segment(self._disk, self.name.directory, base_offset)
            self.segments.append(active)
        self._unstored[active.base_offset] = self._unsynced[active.base_offset] = active
        return active

    def _is_full(self, active: Segment, header: BatchHeader) -> bool:
        """Kafka's rule, by size and by the time that batches tell: a replay must decide alike."""
        if active.size_bytes + header.size_bytes > self.segment_bytes:
            return active.size_bytes > 0
        first = active.first_timestamp
        return first >= 0 and header.max_timestamp - first > self.config.roll_ms

    # -- what goes ----------------------------------------------------------------------------

    def raise_log_start(self, offset: int) -> None:
        """The records below `offset` are gone for everyone, and so are segments without others."""
        if offset <= self.log_start_offset:
            return
        invariant(
            offset <= self.next_offset,
            "the log does not start beyond its end",
            partition=self.name,
            log_start_offset=offset,
        )
        self.log_start_offset = offset
        self._drop_segments()

    def _drop_segments(self) -> None:
        """Doom the segments that lie below the log's start, the active one with them."""
        ends = [segment.base_offset for segment in self.segments[1:]] + [self.next_offset]
        count = sum(end <= self.log_start_offset for end in ends)
        self.doom(self.segments[:count])
        del self.segments[:count]

    def doom(self, segments: Sequence[Segment]) -> None:
        """Let the files of these segments go once no checkpoint knows them."""
        for segment in segments:
            for waiting in (self._unstored, self._unsynced):
                if waiting.get(segment.base_offset) is segment:
                    del waiting[segment.base_offset]
        self._doomed.extend(segments)

    def replace_segments(self, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        """Let what a compaction has made of the oldest segments stand for them.

        False if they are no longer the oldest: retention was quicker, and it was for nothing.
        """
        at_hand = self.segments[: len(old)]
        if len(at_hand) != len(old) or any(a is not b for a, b in zip(at_hand, old, strict=True)):
            return False
        self.doom(old)
        self.segments[: len(old)] = new
        self._drop_segments()
        return True

    @property
    def has_doomed(self) -> bool:
        """There are files that the next checkpoint lets go."""
        return bool(self._doomed) and not self.compacting

    def take_doomed(self) -> list[Segment]:
        """The segments whose files may go after the checkpoint that is made now."""
        if self.compacting:
            return []  # a compaction may be reading them
        doomed, self._doomed = self._doomed, []
        return doomed

    def end(self) -> PartitionEnd:
        """What becomes durable with the next sync: given to `advance` then."""
        segments, self._unsynced = self._unsynced, {}
        return PartitionEnd(
            self.next_offset, [(segment, segment.size_bytes) for segment in segments.values()]
        )

    def take_writes(self) -> list[SegmentWrite]:
        """What the segments have in memory only; `written` is called when all have run."""
        writes = [segment.take_write() for segment in self._unstored.values()]
        return [write for write in writes if write is not None]

    def written(self) -> None:
        """The writes that were taken have run."""
        for segment in self.segments:
            segment.written()

    def take_stores(self) -> list[SegmentStore]:
        """What a checkpoint made now has to store; `take_writes` was called just before."""
        stores = [segment.take_store() for segment in self._unstored.values()]
        self._unstored = {}
        return stores

    def advance(self, end: PartitionEnd) -> None:
        """All below `end` is durable."""
        invariant(
            self.high_watermark <= end.next_offset <= self.next_offset,
            "the high watermark rises, and not beyond the end",
            partition=self.name,
            high_watermark=end.next_offset,
        )
        self.high_watermark = end.next_offset
        for segment, size_bytes in end.segment_bytes:
            segment.durable_bytes = size_bytes
        self.transactions.advance(end.next_offset)

    # -- reading ------------------------------------------------------------------------------

    @property
    def last_stable_offset(self) -> int:
        stable = self.transactions.last_stable_offset(self.high_watermark)
        return max(stable, self.log_start_offset)  # an open transaction may have lost its start

    def end_offset(self, read_committed: bool) -> int:
        """Where a consumer's view ends."""
        return self.last_stable_offset if read_committed else self.high_watermark

    def check_offset(self, offset: int) -> None:
        """Raise KafkaError(OFFSET_OUT_OF_RANGE) for an offset that a fetch may not start from."""
        if not self.log_start_offset <= offset <= self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{self.name} holds offsets {self.log_start_offset} to {self.high_watermark}, "
                f"not {offset}",
            )

    def read(self, offset: int, bytes_max: int, read_committed: bool, *, whole_batch: bool) -> Read:
        """Batches from the one that holds `offset`; as in Kafka the last may be cut off.

        `whole_batch`: give the first batch whole, whatever its size (KIP-74).
        Raises KafkaError: OFFSET_OUT_OF_RANGE, or KAFKA_STORAGE_ERROR where the log is damaged.
        """
        self.check_offset(offset)
        end_offset = self.end_offset(read_committed)
        records, aborted = b"", list[AbortedTransaction]()
        if offset < end_offset:
            try:
                records = self._read_bytes(offset, end_offset, bytes_max, whole_batch)
            except DataDamaged as error:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
            aborted = self._aborted(offset, end_offset) if read_committed and records else []
        return Read(
            records,
            self.high_watermark,
            self.last_stable_offset,
            self.log_start_offset,
            aborted,
        )

    def _read_bytes(self, offset: int, end_offset: int, bytes_max: int, whole_batch: bool) -> bytes:
        """Bytes of one segment from the batch that holds `offset`, below `end_offset`."""
        for segment in self.segments[self._segment_index(offset) :]:
            found = segment.find(offset)
            if found is None:
                continue  # the segment ends before it
            start, header = found
            if header.base_offset >= end_offset:
                return b""  # all in between was compacted away
            size_bytes = min(self._end_position(segment, end_offset) - start, bytes_max)
            if size_bytes < header.size_bytes:
                size_bytes = header.size_bytes if whole_batch else 0
            return segment.read_batches(start, size_bytes) if size_bytes else b""
        place = self._disk.describe(self.name.directory)
        raise DataDamaged(f"{place}: offset {offset} is in no segment")

    def _end_position(self, segment: Segment, end_offset: int) -> int:
        """Where in the segment the batches below `end_offset` end."""
        if end_offset >= self.high_watermark:
            return segment.durable_bytes
        found = segment.find(end_offset)
        return segment.durable_bytes if found is None else found[0]

    def _aborted(self, offset: int, upper_bound: int) -> list[AbortedTransaction]:
        """Aborted transactions with records in [offset, upper_bound), from all segments after."""
        found: list[AbortedTransaction] = []
        for segment in self.segments[self._segment_index(offset) :]:
            found.extend(segment.aborted)
        return overlapping(found, offset, upper_bound)

    def _segment_index(self, offset: int) -> int:
        """Which segment holds `offset`."""
        at = len(self.segments) - 1
        while at > 0 and self.segments[at].base_offset > offset:
            at -= 1
        return at

    def offset_for_time(self, timestamp_ms: int, read_committed: bool) -> TimestampOffset | None:
        """The first visible record with at least this timestamp, or None (KIP-79).

        Raises DataDamaged.
        """
        end_offset = self.end_offset(read_committed)
        for segment in self.segments:
            if segment.timestamp_max < timestamp_ms:
                continue
            for position, header in segment.walk(segment.first_position_at_time(timestamp_ms)):
                if header.base_offset >= end_offset:
                    return None
                if header.max_timestamp < timestamp_ms or header.is_control:
                    continue
                batch = memoryview(segment.read_batches(position, header.size_bytes))
                for record in read_records(batch):
                    if record.timestamp >= timestamp_ms and record.offset >= self.log_start_offset:
                        return TimestampOffset(record.offset, record.timestamp)
        return None

    def offset_of_max_time(self) -> TimestampOffset | None:
        """The record with the largest timestamp (ListOffsets -3, KIP-734)."""
        if not self.segments or not self.high_watermark:
            return None
        latest = max(self.segments, key=lambda segment: segment.timestamp_max)
        return self.offset_for_time(latest.timestamp_max, read_committed=False)

    # -- checkpoints --------------------------------------------------------------------------

    def segment_states(self) -> list[SegmentState]:
        """The segments as a checkpoint records them, after `take_stores`."""
        return [segment.state() for segment in self.segments]

    def restore(self, states: Sequence[SegmentState]) -> None:
        """Open the segments as they were at a checkpoint. Raises DataDamaged."""
        present = self.list_files()
        for state in states:
            segment = Segment(self._disk, self.name.directory, state.base_offset, state.generation)
            segment.restore(state, present)
            self.generation = max(self.generation, state.generation)
            self.segments.append(segment)

    def list_files(self) -> set[str]:
        """The names in the partition's directory, and those in its directories of compactions."""
        if self._found is None:
            directory = self.name.directory
            names = self._disk.list(directory)
            self._found = set(names)
            for name in names:
                if is_generation_name(name):
                    inside = self._disk.list(f"{directory}/{name}")
                    self._found.update(f"{name}/{one}" for one in inside)
        return self._found

    def remove_leftovers(self) -> None:
        """Remove what was found of segments that are not there any more.

        They were dropped, are of a compaction that was torn, or of a time that was torn away.
        """
        found, self._found = self.list_files(), None
        known = {name for segment in self.segments for name in segment.file_names()}
        known |= {name.partition("/")[0] for name in known}
        for name in sorted(found - known, reverse=True):  # files before their directory
            path = f"{self.name.directory}/{name}"
            ours = is_segment_name(name) or is_generation_name(name)
            if ours and self._disk.exists(path):  # else the checkpoint has removed it
                self._disk.remove(path)

    def close(self) -> None:
        for segment in self.segments:
            segment.close()


def _with_offset(batch: memoryview, header: BatchHeader, base_offset: int) -> list[Buffer]:
    """The batch with its offset and our leader epoch; the CRC covers neither."""
    prefix = _PREFIX.pack(base_offset, header.batch_length, LEADER_EPOCH)
    if header.size_bytes <= _JOINED_BYTES_MAX:
        return [b"".join((prefix, batch[16:]))]
    return [prefix, batch[16:]]
