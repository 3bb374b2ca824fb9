"""One segment of a partition: Kafka's .log, .index, .timeindex and .txnindex.

Batches are appended in memory and reach the .log later, without an fsync: the journal has them
durably. They are written when enough of them wait, or when somebody reads them. The three index
files follow from the batches; their entries are held in memory and written when a checkpoint needs
them on the disk. After a crash all four files are cut back to what the last checkpoint recorded,
and the replay of the journal appends the rest again.

Formats (Apache Kafka, storage module): .index entries are relative last offset i32 and position
i32 of a batch, .timeindex entries are timestamp i64 and relative offset i32, both big-endian.
An index may miss batches, so a lookup goes on by walking batch headers from the entry it finds.

A segment that compaction has written stands in a directory of its own inside the partition's, named
for its generation, and has gaps between its batches: `log/compaction.py`.
"""

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from crc32c import crc32c

from ottla.log.transactions_index import ABORTED_ENTRY, AbortedTransaction, decode_aborted
from ottla.ports.disk import Buffer, Disk, File
from ottla.ports.errors import DataDamaged, ProtocolError
from ottla.wire.records import HEADER_BYTES, MAGIC, BatchHeader, check_crc, read_batch_header

LEADER_EPOCH = 0  # one node leads every partition for good
INDEX_INTERVAL_BYTES = 4_096  # log.index.interval.bytes
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_SCAN_BYTES = 16_384
SUFFIXES = ("log", "index", "timeindex", "txnindex")


_GENERATION = re.compile(r"compacted-[0-9]+")
_SEGMENT_FILE = re.compile(rf"({_GENERATION.pattern}/)?[0-9]{{20}}\.({'|'.join(SUFFIXES)})")


def generation_name(generation: int) -> str:
    """The directory of the segments that one compaction has written, in the partition's."""
    return f"compacted-{generation}"


def is_generation_name(name: str) -> bool:
    return _GENERATION.fullmatch(name) is not None


def is_segment_name(name: str) -> bool:
    """Whether a name, as seen from the partition's directory, is that of a segment's file."""
    return _SEGMENT_FILE.fullmatch(name) is not None


class IndexState(msgspec.Struct, frozen=True, array_like=True):
    """An index file at a checkpoint: how many entries it has, and the CRC-32C of them all."""

    entries: int = 0
    crc: int = 0


class SegmentState(msgspec.Struct, frozen=True, array_like=True):
    """A segment's files at a checkpoint."""

    base_offset: int
    log_bytes: int
    index: IndexState
    timeindex: IndexState
    txnindex: IndexState
    timestamp_max: int
    timestamp_max_offset: int
    first_timestamp: int = -1
    last_append_ms: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class SegmentWrite:
    """Batches on their way to a segment's .log. `run` is for the thread that syncs.

    It may run twice, also at the same time: a read that cannot wait does so, with the same bytes.
    """

    file: File
    position: int
    buffers: list[Buffer]

    def run(self) -> None:
        self.file.write(self.position, self.buffers)


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

    def __init__(
        self, disk: Disk, partition_directory: str, base_offset: int, generation: int = 0
    ) -> None:
        """`generation` numbers the compaction that writes the segment; 0: what clients sent."""
        self.base_offset = base_offset
        self.generation = generation
        self.size_bytes = 0
        self.durable_bytes = 0  # what the journal has durably: so much may be read
        self._restored_bytes = 0  # what an earlier process wrote: checked when it is read
        self.timestamp_max = -1
        self.timestamp_max_offset = base_offset
        self.first_timestamp = -1  # the largest of the first batch: Kafka rolls by it
        self.last_append_ms = 0
        self.aborted: list[AbortedTransaction] = []
        self._disk = disk
        self.directory = (
            f"{partition_directory}/{generation_name(generation)}"
            if generation
            else partition_directory
        )
        self._file: File | None = None
        self._pending: list[Buffer] = []
        self._pending_position = 0
        self._writing: SegmentWrite | None = None
        self._unindexed_bytes = 0
        self._offsets = array("q")  # last offset of an indexed batch
        self._positions = array("q")  # where that batch begins
        self._times: list[tuple[int, int]] = []  # (largest timestamp so far, its offset)
        self._stored = [IndexState()] * 3  # .index, .timeindex, .txnindex: what is in the files

    # -- writing ------------------------------------------------------------------------------

    def append(
        self, buffers: Sequence[Buffer], header: BatchHeader, base_offset: int, now_ms: int
    ) -> None:
        """Take a batch (`buffers` hold it whole, with its offset in it) at the end."""
        size_bytes = header.size_bytes
        last_offset = base_offset + header.last_offset_delta
        if not self.size_bytes:
            self.first_timestamp = header.max_timestamp
        self.last_append_ms = now_ms
        if header.record_count and header.max_timestamp > self.timestamp_max:
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

    @property
    def latest_ms(self) -> int:
        """How new its newest record is: by the records' word, else by the time of the append."""
        return self.timestamp_max if self.timestamp_max >= 0 else self.last_append_ms

    def seal(self) -> None:
        """No batch follows: the time index gets its last entry, as Kafka writes it at a roll."""
        self._index_time()

    def take_write(self) -> SegmentWrite | None:
        """The batches since the last call, to be written to the .log."""
        if not self._pending:
            return None
        self._writing = SegmentWrite(self.log_file(), self._pending_position, self._pending)
        self._pending = []
        self._pending_position = self.size_bytes
        return self._writing

    def written(self) -> None:
        """The last write that was taken has run."""
        self._writing = None

    def write_now(self) -> None:
        """Somebody reads: let everything be in the .log."""
        if self._writing is not None:
            self._writing.run()  # the thread may be at it, or not have begun
            self._writing = None
        if self._pending:
            SegmentWrite(self.log_file(), self._pending_position, self._pending).run()
            self._pending = []
            self._pending_position = self.size_bytes

    def log_file(self) -> File:
        """The open .log, made on first use."""
        if self._file is None:
            self._disk.make_directory(self.directory)
            self._file = self._disk.open(self._path("log"))
        return self._file

    def take_store(self) -> SegmentStore:
        """What a checkpoint made now has to store; the batches must have been taken before."""
        tails = []
        for at, (suffix, size, encode) in enumerate(self._indexes()):
            known = self._stored[at]
            entries = encode(known.entries)
            if entries:
                tails.append((suffix, known.entries * size, entries))
                count = known.entries + len(entries) // size
                self._stored[at] = IndexState(count, crc32c(entries, known.crc))
        return SegmentStore(self, tails)

    def _indexes(self) -> tuple[tuple[str, int, Callable[[int], bytes]], ...]:
        """Suffix, size of an entry, and what encodes the entries from some number on."""
        return (
            ("index", _OFFSET_ENTRY.size, self._encode_offsets),
            ("timeindex", _TIME_ENTRY.size, self._encode_times),
            ("txnindex", ABORTED_ENTRY.size, self._encode_aborted),
        )

    def _encode_offsets(self, start: int) -> bytes:
        base, pack = self.base_offset, _OFFSET_ENTRY.pack
        pairs = zip(self._offsets[start:], self._positions[start:], strict=True)
        return b"".join([pack(offset - base, position) for offset, position in pairs])

    def _encode_times(self, start: int) -> bytes:
        base, pack = self.base_offset, _TIME_ENTRY.pack
        return b"".join([pack(time, offset - base) for time, offset in self._times[start:]])

    def _encode_aborted(self, start: int) -> bytes:
        return b"".join([entry.encode() for entry in self.aborted[start:]])

    def finish(self) -> None:
        """Write and sync all there is: a compaction has made it, and nothing is added any more."""
        self.write_now()
        self.seal()
        self.take_store().run()
        self.durable_bytes = self.size_bytes

    def store_index(self, suffix: str, position: int, entries: bytes) -> None:
        """Write index entries and sync them."""
        file = self._disk.open(self._path(suffix))
        file.write(position, [entries])
        file.sync()
        file.close()

    def state(self) -> SegmentState:
        """The files as they are once the last `take_write` and `take_store` have run."""
        return SegmentState(
            self.base_offset,
            self.size_bytes,
            self._stored[0],
            self._stored[1],
            self._stored[2],
            self.timestamp_max,
            self.timestamp_max_offset,
            self.first_timestamp,
            self.last_append_ms,
            self.generation,
        )

    # -- opening ------------------------------------------------------------------------------

    def restore(self, state: SegmentState, present: Collection[str]) -> None:
        """Cut the files back to what they were at a checkpoint, and read the indexes.

        `present` are the names of the files that are there, as `file_names` gives them.

        Raises DataDamaged when a file is shorter than that, or an index is not what it was.
        """
        names = dict(zip(SUFFIXES, self.file_names(), strict=True))
        if names["log"] not in present:
            raise DataDamaged(f"{self._describe('log')} is missing")
        log = self._disk.open(self._path("log"))
        self._cut("log", log, state.log_bytes)
        log.close()
        self.size_bytes = self.durable_bytes = self._pending_position = state.log_bytes
        self._restored_bytes = state.log_bytes
        self.timestamp_max = state.timestamp_max
        self.timestamp_max_offset = state.timestamp_max_offset
        self.first_timestamp = state.first_timestamp
        self.last_append_ms = state.last_append_ms
        self._stored = [state.index, state.timeindex, state.txnindex]
        contents = [
            self._restore_index(suffix, size, stored, names[suffix] in present)
            for (suffix, size, _), stored in zip(self._indexes(), self._stored, strict=True)
        ]
        for relative, position in _OFFSET_ENTRY.iter_unpack(contents[0]):
            self._offsets.append(self.base_offset + relative)
            self._positions.append(position)
        self._times = [(t, self.base_offset + r) for t, r in _TIME_ENTRY.iter_unpack(contents[1])]
        self.aborted = decode_aborted(contents[2])
        last = self._positions[-1] if self._positions else 0
        self._unindexed_bytes = state.log_bytes - last

    def _restore_index(
        self, suffix: str, entry_bytes: int, stored: IndexState, is_there: bool
    ) -> bytes:
        if stored.entries == 0 and not is_there:
            return b""
        file = self._disk.open(self._path(suffix))
        self._cut(suffix, file, stored.entries * entry_bytes)
        content = file.read(0, stored.entries * entry_bytes)
        file.close()
        if crc32c(content) != stored.crc:
            raise DataDamaged(f"{self._describe(suffix)} is not what the last checkpoint stored")
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

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the files: no checkpoint knows them any more."""
        self.close()
        for suffix in SUFFIXES:
            if self._disk.exists(self._path(suffix)):
                self._disk.remove(self._path(suffix))
        left = self.generation and self._disk.exists(self.directory)
        if left and not self._disk.list(self.directory):
            self._disk.remove(self.directory)

    def file_names(self) -> list[str]:
        """What its files may be called, as seen from the partition's directory."""
        prefix = f"{generation_name(self.generation)}/" if self.generation else ""
        return [f"{prefix}{self.base_offset:020d}.{suffix}" for suffix in SUFFIXES]

    # -- reading ------------------------------------------------------------------------------

    def read_batches(self, position: int, length_bytes: int) -> bytes:
        """Bytes from the start of a batch on. Raises DataDamaged for a batch that rotted.

        What this process wrote goes out as it is; what was there before has its checksums looked
        at, for neither the file system nor every client does.
        """
        content = self.read(position, length_bytes)
        if position < self._restored_bytes:
            self._check(content, position)
        return content

    def _check(self, content: bytes, position: int) -> None:
        at, next_offset = 0, -1
        try:
            while len(content) - at >= HEADER_BYTES:
                header = read_batch_header(content, at)
                gap = header.base_offset - next_offset
                if next_offset >= 0 and (gap < 0 if self.generation else gap):
                    raise ProtocolError(
                        f"a batch of {header.base_offset} follows {next_offset - 1}"
                    )
                if (header.magic, header.partition_leader_epoch) != (MAGIC, LEADER_EPOCH):
                    raise ProtocolError("no record batch of ours")
                if position + at + header.size_bytes > self.durable_bytes:
                    raise ProtocolError(f"a batch of {header.size_bytes} bytes has no room")
                whole = at + header.size_bytes <= len(content)
                if whole and not check_crc(content, at):
                    raise ProtocolError("the checksum of a record batch does not match")
                at += header.size_bytes
                next_offset = header.last_offset + 1
        except ProtocolError as error:
            raise DataDamaged(
                f"{self._describe('log')}: {error} at byte {position + at}"
            ) from error

    def read(self, position: int, length_bytes: int) -> bytes:
        """Bytes as they are in the .log."""
        return self.log_file().read(position, length_bytes)

    def find(self, offset: int) -> tuple[int, BatchHeader] | None:
        """Position and header of the batch that holds `offset`; None if all end before it.

        Where compaction has left a gap it is the next one.
        """
        for position, header in self.walk(self._indexed_position(offset)):
            if header.last_offset < offset:
                continue
            if header.base_offset > offset >= self.base_offset and not self.generation:
                raise DataDamaged(
                    f"{self._describe('log')}: offset {offset} should be in the batch at byte "
                    f"{position}, which begins at {header.base_offset}"
                )
            return position, header
        return None

    def _indexed_position(self, offset: int) -> int:
        """A position at or before the batch that holds `offset`."""
        at = bisect_right(self._offsets, offset) - 1
        return self._positions[at] if at >= 0 else 0

    def walk(self, position: int) -> Iterator[tuple[int, BatchHeader]]:
        """Positions and headers of the batches in the .log from `position` on."""
        end = self.durable_bytes
        if self._pending or self._writing is not None:
            self.write_now()
        chunk, chunk_position = b"", position
        while position < end:
            at = position - chunk_position
            if at + HEADER_BYTES > len(chunk):
                chunk, chunk_position, at = self.read(position, _SCAN_BYTES), position, 0
            if len(chunk) < HEADER_BYTES:
                raise DataDamaged(
                    f"{self._describe('log')}: ends inside a batch at byte {position}"
                )
            try:
                header = read_batch_header(chunk, at)
            except ProtocolError as error:
                raise DataDamaged(f"{self._describe('log')} at {position}: {error}") from error
            ends_inside = position + header.size_bytes <= end
            if header.magic != MAGIC or header.base_offset < self.base_offset or not ends_inside:
                raise DataDamaged(f"{self._describe('log')} at {position}: no record batch")
            yield position, header
            position += header.size_bytes

    def first_position_at_time(self, timestamp_ms: int) -> int:
        """A position before the first batch with a timestamp of at least `timestamp_ms`."""
        at = bisect_right(self._times, timestamp_ms - 1, key=lambda entry: entry[0]) - 1
        return self._indexed_position(self._times[at][1]) if at >= 0 else 0

    @property
    def log_path(self) -> str:
        return self._path("log")

    def _path(self, suffix: str) -> str:
        return f"{self.directory}/{self.base_offset:020d}.{suffix}"

    def _describe(self, suffix: str) -> str:
        return self._disk.describe(self._path(suffix))
