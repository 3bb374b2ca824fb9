"""Looking at a data directory without opening it: what is in each file, and where it is damaged.

For people, and for a directory that a broker refuses. Each file is judged by itself, as far as it
can be read, against what the checkpoint says of it. Nothing is written. Whether a broker would
start is another question, which only a rehearsal answers: `recovery.py` on a `ShadowDisk`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from crc32c import crc32c

from ottla.log.checkpoint import PATH, Checkpoint, PartitionState, read_checkpoint
from ottla.log.journal import (
    DIRECTORY,
    FRAME_OVERHEAD_BYTES,
    SPARE_PATH,
    Scan,
    file_name,
    file_positions,
    read_frames,
)
from ottla.log.segment import LEADER_EPOCH, IndexState, Segment, SegmentState
from ottla.log.store import BATCH, BATCH_ENTRY, ENTRY
from ottla.ports.disk import Disk, File
from ottla.ports.errors import DataDamaged, ProtocolError
from ottla.wire.records import HEADER_BYTES, MAGIC, BatchHeader, check_crc, read_batch_header

_READ_BYTES = 1_048_576
_INDEX_ENTRY_BYTES = {"index": 8, "timeindex": 12, "txnindex": 34}


@dataclass(frozen=True, slots=True)
class FileReport:
    """A file, or the directory of a partition: what is in it, and its first damage if it has any.

    `damage` names the file and the place in it.
    """

    path: str
    size_bytes: int
    facts: str
    damage: str = ""


class JournalEntry(NamedTuple):
    """What one entry of a frame says; `frame` is the frame's position. A batch, or a record."""

    frame: int
    topic_id: UUID | None
    partition: int
    content: memoryview


def inspect(disk: Disk) -> Iterator[FileReport]:
    """All files that a broker would look at, in the order in which it would."""
    checkpoint = None
    damage = ""
    if disk.exists(PATH):
        try:
            checkpoint = read_checkpoint(disk)
        except DataDamaged as error:
            damage = str(error)
        yield FileReport(PATH, _size(disk, PATH), _checkpoint_facts(checkpoint), damage)
    yield from _journal_reports(disk, checkpoint)
    known = set()
    for state in checkpoint.partitions if checkpoint is not None else ():
        directory = partition_directory(disk, state)
        known.add(directory)
        yield from _partition_reports(disk, directory, state)
    for name in disk.list("topics"):
        directory = f"topics/{name}"
        if directory not in known:
            facts = "not in the checkpoint: newer, and then the journal has it all; or deleted"
            yield FileReport(directory, 0, facts)


def _checkpoint_facts(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "not read"
    return (
        f"state at journal position {checkpoint.journal_position}: {len(checkpoint.records)} "
        f"records, {len(checkpoint.partitions)} partitions"
    )


def _size(disk: Disk, path: str) -> int:
    file = disk.open(path)
    try:
        return file.size()
    finally:
        file.close()


# -- the journal ------------------------------------------------------------------------------


def journal_entries(disk: Disk, position: int, scan: Scan) -> Iterator[JournalEntry]:
    """The entries of all frames from `position` on. Raises DataDamaged where they end too early."""
    for body in read_frames(disk, position, scan):
        frame = scan.end_position - len(body) - FRAME_OVERHEAD_BYTES
        at = 0
        while at < len(body):
            kind, length = ENTRY.unpack_from(body, at)
            end = at + ENTRY.size + length
            if kind == BATCH:
                _, _, topic_id, index, _ = BATCH_ENTRY.unpack_from(body, at)
                content = body[at + BATCH_ENTRY.size : end]
                yield JournalEntry(frame, UUID(bytes=topic_id), index, content)
            else:
                yield JournalEntry(frame, None, -1, body[at + ENTRY.size : end])
            at = end


def _journal_reports(disk: Disk, checkpoint: Checkpoint | None) -> Iterator[FileReport]:
    """A report for each file; the frames are read as one row through all of them."""
    try:
        starts = file_positions(disk)
    except DataDamaged as error:
        yield FileReport(DIRECTORY, 0, "not read", str(error))
        return
    first = starts[0] if starts else 0
    position = first if checkpoint is None else checkpoint.journal_position
    needed = [start for start in starts if start >= position]
    for start in starts:
        if start < position:
            yield FileReport(file_name(start), _size(disk, file_name(start)), "no longer needed")
    if disk.exists(SPARE_PATH):
        yield FileReport(SPARE_PATH, _size(disk, SPARE_PATH), "a used file, kept to be used again")
    if not needed and checkpoint is None:
        return
    counts = {start: Counter[str]() for start in needed}
    scan, damage, last = Scan(position), "", -1
    try:
        for entry in journal_entries(disk, position, scan):
            start = max(each for each in needed if each <= entry.frame)
            counts[start]["frames"] += entry.frame != last
            counts[start]["batches" if entry.topic_id is not None else "records"] += 1
            last = entry.frame
    except DataDamaged as error:
        damage = str(error)
    for start in needed:
        path = file_name(start)
        parts = [f"{counts[start][what]:,} {what}" for what in ("frames", "batches", "records")]
        if scan.torn_bytes and start == needed[-1]:
            parts.append(f"{scan.torn_bytes:,} torn bytes at the end, never acknowledged")
        found = damage if disk.describe(path) in damage else ""
        yield FileReport(path, _size(disk, path), ", ".join(parts), found)
    if damage and not any(disk.describe(file_name(start)) in damage for start in needed):
        yield FileReport(DIRECTORY, 0, "not read to its end", damage)


# -- segments ---------------------------------------------------------------------------------


def partition_directory(disk: Disk, state: PartitionState) -> str:
    """Where a partition's files are: the name of its topic is in the directory's name alone."""
    end = f"-{state.index}.{state.topic_id.hex()}"
    return next((f"topics/{name}" for name in disk.list("topics") if name.endswith(end)), "")


def _partition_reports(disk: Disk, directory: str, state: PartitionState) -> Iterator[FileReport]:
    transactions = sum(each.transaction_first_offset is not None for each in state.producers)
    facts = (
        f"offsets {state.log_start_offset} to {state.next_offset}, {len(state.segments)} segments, "
        f"{len(state.producers)} producers, {transactions} open transactions"
    )
    if not directory:
        missing = f"topics/*-{state.index}.{state.topic_id.hex()}"
        if state.segments:
            yield FileReport(missing, 0, facts, f"{disk.describe(missing)} is missing")
        else:
            yield FileReport(missing, 0, "no file: nothing was written to it yet, or all is gone")
        return
    yield FileReport(directory, 0, facts)
    ends = [segment.base_offset for segment in state.segments[1:]] + [state.next_offset]
    for segment, end in zip(state.segments, ends, strict=True):
        path = Segment(disk, directory, segment.base_offset, segment.generation).log_path
        yield _log_report(disk, path, segment, end)
        stem = path.removesuffix("log")
        for suffix, stored in (
            ("index", segment.index),
            ("timeindex", segment.timeindex),
            ("txnindex", segment.txnindex),
        ):
            if stored.entries or disk.exists(stem + suffix):
                yield _index_report(disk, stem + suffix, stored, _INDEX_ENTRY_BYTES[suffix])


def _log_report(disk: Disk, path: str, state: SegmentState, end_offset: int) -> FileReport:
    """The batches up to where the checkpoint knows them; what follows, the journal has too."""
    place = disk.describe(path)
    if not disk.exists(path):
        return FileReport(path, 0, "", f"{place} is missing")
    size_bytes = _size(disk, path)
    count = records = 0
    next_offset = state.base_offset
    damage = ""
    try:
        for _, header, _ in batches(disk, path, state.log_bytes, compacted=state.generation > 0):
            count += 1
            records += header.record_count
            next_offset = header.last_offset + 1
    except DataDamaged as error:
        damage = str(error)
    facts = f"{count:,} batches, {records:,} records, offsets {state.base_offset} to {next_offset}"
    if size_bytes > state.log_bytes:
        facts += f", and {size_bytes - state.log_bytes:,} bytes that the journal has too"
    wrong_end = next_offset > end_offset if state.generation else next_offset != end_offset
    if not damage and wrong_end:
        damage = (
            f"{place}: it ends before offset {next_offset} at byte {state.log_bytes}, and the "
            f"checkpoint says {end_offset}"
        )
    return FileReport(path, size_bytes, facts, damage)


def _index_report(disk: Disk, path: str, stored: IndexState, entry_bytes: int) -> FileReport:
    facts = f"{stored.entries:,} entries"
    place = disk.describe(path)
    if not disk.exists(path):
        return FileReport(path, 0, facts, f"{place} is missing")
    file = disk.open(path)
    try:
        size_bytes = file.size()
        content = file.read(0, stored.entries * entry_bytes)
    finally:
        file.close()
    damage = ""
    if len(content) < stored.entries * entry_bytes:
        damage = f"{place}: it ends at byte {size_bytes}, inside what the checkpoint recorded"
    elif crc32c(content) != stored.crc:
        damage = f"{place}: bytes 0 to {len(content)} are not what the last checkpoint stored"
    return FileReport(path, size_bytes, facts, damage)


def batches(
    disk: Disk, path: str, end: int | None = None, *, compacted: bool = False
) -> Iterator[tuple[int, BatchHeader, bytes]]:
    """The batches of a .log up to byte `end`: where each begins, its header, all its bytes.

    Raises DataDamaged at the first that is not whole, or does not follow the one before it.
    """
    file = disk.open(path)
    try:
        end = file.size() if end is None else end
        position, next_offset = 0, -1
        chunk, chunk_position = b"", 0
        while position < end:
            at = position - chunk_position
            header = _header(chunk, at)
            if header is None or at + header.size_bytes > len(chunk):
                chunk, chunk_position, at = _whole(file, position, end), position, 0
                header = _header(chunk, 0)
            reason = _refusal(chunk, at, header, next_offset, compacted=compacted)
            if reason or header is None:
                raise DataDamaged(f"{disk.describe(path)}: {reason} at byte {position}")
            yield position, header, chunk[at : at + header.size_bytes]
            position += header.size_bytes
            next_offset = header.last_offset + 1
    finally:
        file.close()


def _header(chunk: bytes, at: int) -> BatchHeader | None:
    try:
        return read_batch_header(chunk, at) if len(chunk) - at >= HEADER_BYTES else None
    except ProtocolError:
        return None


def _whole(file: File, position: int, end: int) -> bytes:
    """Bytes from the start of a batch on, with all of it if it is there."""
    chunk = file.read(position, min(_READ_BYTES, end - position))
    header = _header(chunk, 0)
    if header is not None and len(chunk) < header.size_bytes <= end - position:
        chunk = file.read(position, header.size_bytes)
    return chunk


def _refusal(
    chunk: bytes, at: int, header: BatchHeader | None, next_offset: int, *, compacted: bool
) -> str:
    """Why the batch at `at` is none to go on with, or nothing."""
    if header is None or (header.magic, header.partition_leader_epoch) != (MAGIC, LEADER_EPOCH):
        return "no record batch of ours"
    if at + header.size_bytes > len(chunk):
        return f"a batch of {header.size_bytes} bytes is cut short"
    if not check_crc(chunk, at):
        return "the checksum of a record batch does not match"
    gap = header.base_offset - next_offset
    if next_offset >= 0 and (gap < 0 or (gap and not compacted)):
        return f"a batch of offset {header.base_offset} follows offset {next_offset - 1}"
    return ""
