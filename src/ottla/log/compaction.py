"""Compaction of one partition: what is due, the work in a thread, and the swap of segments.

`compaction_of` looks, on the loop, and takes a ticket: the sealed segments that hold nothing which
is open, undurable or too young. `run` reads them, in a thread, and writes what `log/cleaner.py`
keeps into segments of a new generation: files in a directory of their own, synced, and known to
nobody. `finish` puts them in the place of the old ones, on the loop, in memory.

No step of this is a change that a crash could tear. The checkpoint names the segments, with their
generation, and is replaced whole: until the next one a recovery begins with the old files, which
are still there, and reaches the same records; from then on it begins with the new ones, and the old
ones are removed after it. What no checkpoint names a recovery removes.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ottla.log.cleaner import Cleaner, LastOfProducer, OffsetMap
from ottla.log.config import LONG_MAX, LogConfig
from ottla.log.partition import Partition
from ottla.log.segment import LEADER_EPOCH, Segment
from ottla.log.transactions_index import AbortedTransaction
from ottla.ports.disk import Disk, File
from ottla.ports.errors import DataDamaged, ProtocolError, StorageFailed
from ottla.wire.records import (
    HEADER_BYTES,
    MAGIC,
    BatchHeader,
    check_crc,
    iterate_batches,
    read_batch_header,
)

_READ_BYTES = 1_048_576
_WRITE_BYTES = 1_048_576
_RELATIVE_OFFSET_MAX = 2_147_483_647  # what an index entry can hold


@dataclass(frozen=True, slots=True)
class Due:
    """How much a partition needs compaction; `must`: max.compaction.lag.ms is over."""

    partition: Partition
    segments: list[Segment]
    dirty_ratio: float
    must: bool


def due(partition: Partition, now_ms: int) -> Due | None:
    """What could be compacted now, if there is anything."""
    config = partition.config
    sealed = partition.segments[:-1]
    if not config.compacts or not sealed or partition.compacting or partition.compaction_given_up:
        return None
    stable = partition.last_stable_offset
    youngest_ms = now_ms - config.compaction_lag_min_ms
    count, dirty_bytes, oldest_ms = 0, 0, LONG_MAX
    for at, segment in enumerate(sealed):
        end_offset = partition.segments[at + 1].base_offset
        if end_offset > stable:
            break
        if end_offset > partition.first_dirty_offset:
            if config.compaction_lag_min_ms and segment.latest_ms > youngest_ms:
                break
            dirty_bytes += segment.size_bytes
            if segment.first_timestamp > 0:
                oldest_ms = min(oldest_ms, segment.first_timestamp)
        count = at + 1
    if not dirty_bytes:
        return None
    segments = sealed[:count]
    total_bytes = sum(segment.size_bytes for segment in segments)
    must = config.compaction_lag_max_ms < LONG_MAX and (
        now_ms - oldest_ms > config.compaction_lag_max_ms
    )
    return Due(partition, segments, dirty_bytes / total_bytes, must)


def filthiest(partitions: Iterable[Partition], now_ms: int) -> Due | None:
    """The partition that needs it most, of those that need it at all (as Kafka picks)."""
    found = [one for one in (due(partition, now_ms) for partition in partitions) if one is not None]
    wanting = [
        one for one in found if one.must or one.dirty_ratio > one.partition.config.dirty_ratio_min
    ]
    return max(wanting, key=lambda one: (one.must, one.dirty_ratio), default=None)


def compaction_of(one: Due, disk: Disk, now_ms: int) -> "CompactionTicket":
    """Begin: the partition's files stay where they are until `finish`."""
    partition = one.partition
    for segment in one.segments:
        segment.write_now()
    partition.compacting = True
    partition.generation += 1
    entries = partition.producers.entries.values()
    return CompactionTicket(
        disk,
        partition,
        partition.config,
        one.segments,
        [segment.size_bytes for segment in one.segments],
        partition.segments[len(one.segments)].base_offset,
        partition.first_dirty_offset,
        [aborted for segment in partition.segments for aborted in segment.aborted],
        {
            entry.producer_id: (
                entry.batches[-1].last_offset if entry.batches else None,
                entry.epoch,
            )
            for entry in entries
        },
        partition.generation,
        now_ms,
    )


@dataclass(slots=True)
class CompactionTicket:
    """One compaction. `run` is for a thread of its own; the rest belongs to the loop."""

    disk: Disk
    partition: Partition
    config: LogConfig
    segments: list[Segment]
    sizes_bytes: list[int]
    end_offset: int
    dirty_offset: int
    aborted: list[AbortedTransaction]
    last_of_producers: dict[int, LastOfProducer]
    generation: int
    now_ms: int
    written: list[Segment] = field(default_factory=list)
    cleaned_offset: int = -1  # all below it is compacted; -1: it was given up
    refusal: str = ""
    cancelled: bool = False
    _rest: Callable[[], None] = lambda: None

    def run(self, rest: Callable[[], None] = lambda: None) -> None:
        """Read, write, sync. What goes wrong is told in `refusal`: the old segments stay.

        `rest` is called after each batch: a thread that never waits holds up all the others.
        """
        self._rest = rest
        try:
            self._run()
        except (DataDamaged, ProtocolError, StorageFailed) as error:
            self.refusal = str(error)

    def _run(self) -> None:
        first = self._first_dirty()
        start = self.segments[first].base_offset
        aborted = [one for one in self.aborted if one.last_offset >= start]
        offsets = OffsetMap(self.dirty_offset, aborted)
        for at in range(first, len(self.segments)):
            for header, batch in self._batches(at):
                if self.cancelled:
                    return
                if not offsets.is_full:
                    offsets.add(header, batch)
        if not offsets.is_full:
            offsets.end_offset = self.end_offset
        cleaner = Cleaner(
            offsets,
            self.aborted,
            self.last_of_producers,
            self.now_ms,
            self.config.delete_retention_ms,
        )
        for group in self._groups():
            if not self._rewrite(group, cleaner):
                return
        self._sync_directories()
        self.cleaned_offset = offsets.end_offset

    def _first_dirty(self) -> int:
        """Which segment is the first with something that was not compacted before."""
        bases = [segment.base_offset for segment in self.segments]
        return max(bisect_right(bases, self.dirty_offset) - 1, 0)

    def _groups(self) -> Iterator[list[int]]:
        """Neighbours that fit into one segment, in size and in the offsets its index can hold."""
        group: list[int] = []
        group_bytes = 0
        ends = [segment.base_offset for segment in self.segments[1:]] + [self.end_offset]
        for at, size_bytes in enumerate(self.sizes_bytes):
            if group and (
                group_bytes + size_bytes > self.config.segment_bytes
                or ends[at] - self.segments[group[0]].base_offset > _RELATIVE_OFFSET_MAX
            ):
                yield group
                group, group_bytes = [], 0
            group.append(at)
            group_bytes += size_bytes
        yield group

    def _rewrite(self, group: list[int], cleaner: Cleaner) -> bool:
        """Write what stays of these segments into a new one. False: cancelled on the way."""
        base_offset = self.segments[group[0]].base_offset
        segment = Segment(self.disk, self.partition.name.directory, base_offset, self.generation)
        self.written.append(segment)
        unwritten_bytes = 0
        for at in group:
            for header, batch in self._batches(at):
                if self.cancelled:
                    return False
                known = len(cleaner.transactions.kept)
                kept = cleaner.clean(header, batch)
                segment.aborted.extend(cleaner.transactions.kept[known:])
                if kept is not None:
                    segment.append([bytes(kept)], *_placed(kept))
                    unwritten_bytes += len(kept)
                if unwritten_bytes >= _WRITE_BYTES:
                    segment.write_now()
                    unwritten_bytes = 0
        segment.last_append_ms = max(self.segments[at].last_append_ms for at in group)
        segment.finish()
        return True

    def _batches(self, at: int) -> Iterator[tuple[BatchHeader, memoryview]]:
        """The batches of a segment, from a file of our own. Raises DataDamaged."""
        segment = self.segments[at]
        file = self.disk.open(segment.log_path)
        try:
            position, end = 0, self.sizes_bytes[at]
            while position < end:
                taken = 0
                for header, batch in iterate_batches(self._chunk(file, position, end)):
                    if header.partition_leader_epoch != LEADER_EPOCH or not check_crc(batch):
                        break
                    yield header, batch
                    taken += header.size_bytes
                    self._rest()
                if not taken:
                    place = self.disk.describe(segment.log_path)
                    raise DataDamaged(f"{place}: no whole record batch at byte {position}")
                position += taken
        finally:
            file.close()

    @staticmethod
    def _chunk(file: File, position: int, end: int) -> bytes:
        """Bytes from the start of a batch on, with the whole of that batch."""
        chunk = file.read(position, min(_READ_BYTES, end - position))
        if len(chunk) >= HEADER_BYTES:
            header = read_batch_header(chunk)
            if header.magic == MAGIC and len(chunk) < header.size_bytes <= end - position:
                chunk = file.read(position, header.size_bytes)
        return chunk

    def _sync_directories(self) -> None:
        """Let the new files' names be durable, up to the directory of all partitions."""
        directory = self.written[0].directory
        for path in (directory, self.partition.name.directory, "topics"):
            self.disk.sync_directory(path)

    def finish(self) -> bool:
        """Put what was written in the place of the old; False if it was for nothing."""
        partition = self.partition
        partition.compacting = False
        if self.cleaned_offset < 0 or not partition.replace_segments(
            self.segments, self._that_hold_something()
        ):
            partition.doom(self.written)
            return False
        partition.doom([one for one in self.written if not one.size_bytes])
        partition.first_dirty_offset = self.cleaned_offset
        return True

    def bytes_before_and_after(self) -> tuple[int, int]:
        return sum(self.sizes_bytes), sum(segment.size_bytes for segment in self.written)

    def _that_hold_something(self) -> Sequence[Segment]:
        return [segment for segment in self.written if segment.size_bytes]


def _placed(batch: bytes | bytearray | memoryview) -> tuple[BatchHeader, int, int]:
    header = read_batch_header(batch)
    return header, header.base_offset, 0
