"""One segment of a partition: Kafka's .log, .index, .timeindex and .txnindex.

Batches are appended in memory and reach the .log at the next group commit, without an fsync: the
journal has them durably. The three index files follow from the batches; their entries are held in
memory and written when a checkpoint needs them on the disk. After a crash all four files are cut
back to what the last checkpoint recorded, and the replay of the journal appends the rest again.

Formats (Apache Kafka, storage module): .index entries are relative last offset i32 and position
i32 of a batch, .timeindex entries are timestamp i64 and relative offset i32, both big-endian.
An index may miss batches, so a lookup goes on by walking batch headers from the entry it finds.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from ottla.log.transactions_index import ABORTED_ENTRY, AbortedTransaction, decode_aborted
from ottla.ports.disk import Buffer, Disk, File
from ottla.ports.errors import DataDamaged, ProtocolError
from ottla.wire.records import HEADER_BYTES, MAGIC, BatchHeader, read_batch_header

INDEX_INTERVAL_BYTES = 4_096  # log.index.interval.bytes
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_SCAN_BYTES = 16_384


class SegmentLengths(msgspec.Struct, frozen=True, array_like=True):
    """How long a segment's files were at a checkpoint, in bytes."""

    base_offset: int
    log_bytes: int
    index_bytes: int
    timeindex_bytes: int
    txnindex_bytes: int
    timestamp_max: int
    timestamp_max_offset: int


@dataclass(frozen=True, slots=True)
class SegmentWrite:
    """Batches on their way to a segment's .log. `run` is for the thread that syncs."""

    segment: "Segment"
    position: int
    end: int
    buffers: list[Buffer]

    def run(self) -> None:
        self.segment.log_file().write(self.position, self.buffers)

    def complete(self) -> None:
        """The bytes are in the file: they can be read."""
        self.segment.readable_bytes = self.end


@dataclass(frozen=True, slots=True)
class SegmentStore:
    """What a checkpoint has to put on the disk of one segment. `run` is for its thread."""

    segment: "Segment"
    tails: list[tuple[str, int, bytes]]  # index file, position, entries that it lacks

    @property
    def directory(self) -> str:
        return self.segment.directory

    def run(self) -> None:
        self.segment.log_file().sync()
        for suffix, position, entries in self.tails:
            self.segment.store_index(suffix, position, entries)


class Segment:
    """The batches from `base_offset` up to the next segment's."""

    def __init__(self, disk: Disk, directory: str, base_offset: int) -> None:
        self.base_offset = base_offset
        self.size_bytes = 0
        self.readable_bytes = 0  # what is in the file and durable in the journal
        self.timestamp_max = -1
        self.timestamp_max_offset = base_offset
        self.aborted: list[AbortedTransaction] = []
        self._disk = disk
        self.directory = directory
        self._file: File | None = None
        self._pending: list[Buffer] = []
        self._pending_position = 0
        self._unindexed_bytes = 0
        self._offsets = array("q")  # last offset of an indexed batch
        self._positions = array("q")  # where that batch begins
        self._times: list[tuple[int, int]] = []  # (largest timestamp so far, its offset)
        self._stored_entries = (0, 0, 0)  # of .index, .timeindex, .txnindex: already in the files

    # -- writing ------------------------------------------------------------------------------

    def append(self, buffers: Sequence[Buffer], header: BatchHeader, base_offset: int) -> None:
        """Take a batch (`buffers` hold it whole, with its offset in it) at the end."""
        size_bytes = header.size_bytes
        last_offset = base_offset + header.last_offset_delta
        if header.max_timestamp > self.timestamp_max:
            self.timestamp_max = header.max_timestamp
            self.timestamp_max_offset = last_offset
        if self._unindexed_bytes > INDEX_INTERVAL_BYTES:
            self._offsets.append(last_offset)
            self._positions.append(self.size_bytes)
            self._index_time()
            self._unindexed_bytes = 0
        self._unindexed_bytes += size_bytes
        self._pending.extend(buffers)
        self.size_bytes += size_bytes

    def _index_time(self) -> None:
        if not self._times or self.timestamp_max > self._times[-1][0]:
            self._times.append((self.timestamp_max, self.timestamp_max_offset))

    def seal(self) -> None:
        """No batch follows: the time index gets its last entry, as Kafka writes it at a roll."""
        self._index_time()

    def take_write(self) -> SegmentWrite | None:
        """The batches since the last call, to be written to the .log."""
        if not self._pending:
            return None
        write = SegmentWrite(self, self._pending_position, self.size_bytes, self._pending)
        self._pending = []
        self._pending_position = self.size_bytes
        return write

    def log_file(self) -> File:
        """The open .log, made on first use."""
        if self._file is None:
            self._disk.make_directory(self.directory)
            self._file = self._disk.open(self._path("log"))
        return self._file

    def take_store(self) -> SegmentStore:
        """What a checkpoint made now has to store; the batches must have been taken before."""
        known_index, known_times, known_aborted = self._stored_entries
        offsets, positions = self._offsets[known_index:], self._positions[known_index:]
        base = self.base_offset
        entries = (
            (
                "index",
                known_index * _OFFSET_ENTRY.size,
                [
                    _OFFSET_ENTRY.pack(offset - base, position)
                    for offset, position in zip(offsets, positions, strict=True)
                ],
            ),
            (
                "timeindex",
                known_times * _TIME_ENTRY.size,
                [
                    _TIME_ENTRY.pack(time, offset - base)
                    for time, offset in self._times[known_times:]
                ],
            ),
            (
                "txnindex",
                known_aborted * ABORTED_ENTRY.size,
                [entry.encode() for entry in self.aborted[known_aborted:]],
            ),
        )
        self._stored_entries = (len(self._offsets), len(self._times), len(self.aborted))
        return SegmentStore(self, [(s, at, b"".join(parts)) for s, at, parts in entries if parts])

    def store_index(self, suffix: str, position: int, entries: bytes) -> None:
        """Write index entries and sync them."""
        file = self._disk.open(self._path(suffix))
        file.write(position, [entries])
        file.sync()
        file.close()

    def lengths(self) -> SegmentLengths:
        """How long the files are once everything up to now is in them."""
        return SegmentLengths(
            self.base_offset,
            self.size_bytes,
            len(self._offsets) * _OFFSET_ENTRY.size,
            len(self._times) * _TIME_ENTRY.size,
            len(self.aborted) * ABORTED_ENTRY.size,
            self.timestamp_max,
            self.timestamp_max_offset,
        )

    # -- opening ------------------------------------------------------------------------------

    def restore(self, lengths: SegmentLengths) -> None:
        """Cut the files back to a checkpoint's lengths and read the indexes.

        Raises DataDamaged when a file is shorter than that, or an index makes no sense.
        """
        log = self._disk.open(self._path("log"))
        self._cut("log", log, lengths.log_bytes)
        log.close()
        self.size_bytes = self.readable_bytes = self._pending_position = lengths.log_bytes
        self.timestamp_max = lengths.timestamp_max
        self.timestamp_max_offset = lengths.timestamp_max_offset
        index = self._restore_index("index", lengths.index_bytes)
        times = self._restore_index("timeindex", lengths.timeindex_bytes)
        self.aborted = decode_aborted(self._restore_index("txnindex", lengths.txnindex_bytes))
        for relative, position in _OFFSET_ENTRY.iter_unpack(index):
            self._offsets.append(self.base_offset + relative)
            self._positions.append(position)
        self._times = [(t, self.base_offset + r) for t, r in _TIME_ENTRY.iter_unpack(times)]
        self._check_order("index", list(self._positions), lengths.log_bytes)
        self._check_order("timeindex", [time for time, _ in self._times], lengths.timestamp_max + 1)
        self._stored_entries = (len(self._offsets), len(self._times), len(self.aborted))
        last = self._positions[-1] if self._positions else 0
        self._unindexed_bytes = lengths.log_bytes - last

    def _restore_index(self, suffix: str, length_bytes: int) -> bytes:
        path = self._path(suffix)
        if length_bytes == 0 and not self._disk.exists(path):
            return b""
        file = self._disk.open(path)
        self._cut(suffix, file, length_bytes)
        content = file.read(0, length_bytes)
        file.close()
        return content

    def _cut(self, suffix: str, file: File, length_bytes: int) -> None:
        size_bytes = file.size()
        if size_bytes < length_bytes:
            raise DataDamaged(
                f"{self._describe(suffix)} has {size_bytes} bytes, and the last checkpoint "
                f"recorded {length_bytes}: the file was cut"
            )
        if size_bytes > length_bytes:
            file.truncate(length_bytes)

    def _check_order(self, suffix: str, values: list[int], bound: int) -> None:
        rising = all(a < b for a, b in pairwise(values))
        if values and (not rising or values[0] < 0 or values[-1] >= bound):
            raise DataDamaged(f"{self._describe(suffix)}: entries out of order or beyond the log")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- reading ------------------------------------------------------------------------------

    def read(self, position: int, length_bytes: int) -> bytes:
        return self.log_file().read(position, length_bytes)

    def find(self, offset: int) -> tuple[int, BatchHeader] | None:
        """Position and header of the batch that holds `offset`, or of the first one after it."""
        for position, header in self.walk(self._indexed_position(offset)):
            if header.last_offset >= offset:
                return position, header
        return None

    def _indexed_position(self, offset: int) -> int:
        """A position at or before the batch that holds `offset`."""
        at = bisect_right(self._offsets, offset) - 1
        return self._positions[at] if at >= 0 else 0

    def walk(self, position: int) -> Iterator[tuple[int, BatchHeader]]:
        """Positions and headers of the batches in the .log from `position` on."""
        end = self.readable_bytes
        chunk, chunk_position = b"", position
        while position < end:
            at = position - chunk_position
            if at + HEADER_BYTES > len(chunk):
                chunk, chunk_position, at = self.read(position, _SCAN_BYTES), position, 0
            if len(chunk) < HEADER_BYTES:
                raise DataDamaged(f"{self._describe('log')}: ends inside a batch at {position}")
            try:
                header = read_batch_header(chunk, at)
            except ProtocolError as error:
                raise DataDamaged(f"{self._describe('log')}: {error} at {position}") from error
            if header.magic != MAGIC or header.base_offset < self.base_offset:
                raise DataDamaged(f"{self._describe('log')}: no record batch at {position}")
            yield position, header
            position += header.size_bytes

    def first_position_at_time(self, timestamp_ms: int) -> int:
        """A position before the first batch with a timestamp of at least `timestamp_ms`."""
        at = bisect_right(self._times, timestamp_ms - 1, key=lambda entry: entry[0]) - 1
        return self._indexed_position(self._times[at][1]) if at >= 0 else 0

    def _path(self, suffix: str) -> str:
        return f"{self.directory}/{self.base_offset:020d}.{suffix}"

    def _describe(self, suffix: str) -> str:
        return self._disk.describe(self._path(suffix))
