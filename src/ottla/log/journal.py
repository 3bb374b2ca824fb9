"""The journal: everything that must survive, in one order, with one fsync for all that waits.

A frame is what one operation changed: all of its entries survive a crash, or none. Frames are
appended in memory; `take` hands everything appended so far to a thread that writes and syncs it,
and `complete` moves `durable_position`. Positions count bytes of frames since the directory was
made and never start again, so they also name the point up to which a reply has to wait. A write
may leave the sync to a later one: then only `stored_position` moves, which a kill of the process
does not take back, and a power cut does.

On the disk, `journal/<position of the first frame>.log`: a file header, then frames of

    magic u32 | body length u32 | position u64 | durable position u64 | CRC-32C u32 | body

The CRC covers everything before it, and the body. Each frame says how far the journal was durable
when it was made. That tells a torn tail from damage: after a bad frame at P, a good one further on
that says "durable beyond P" means that P had been acknowledged. The first is cut, the second is
refused (DataDamaged). A file begins only where everything before it is durable.

What follows the last frame is room for the next ones: a sync is quicker where the file need not
grow and its blocks were written before, by half if it is large. A new file is therefore filled with
zeros ahead; and one that a checkpoint has made needless becomes `journal/spare`, and then the next
file, with the frames of its old use behind the new ones. These have lower positions than any frame
that belongs there, and a write ends with as many zeros as a frame has header, so nothing old can be
taken for new.
"""

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from crc32c import crc32c

from ottla.ports.disk import Buffer, Disk, File
from ottla.ports.errors import DataDamaged, StorageFailed
from ottla.ports.failpoints import failpoint
from ottla.ports.invariants import invariant

DIRECTORY = "journal"
_FILE_HEADER = struct.Struct(">8sIQ")  # magic, version, position of the first frame
_FILE_MAGIC = b"OTTLAJNL"
_VERSION = 1
FILE_HEADER_BYTES = _FILE_HEADER.size + 4
_FRAME_HEADER = struct.Struct(">IIQQ")
_FRAME_MAGIC = 0x4F54464D
_FRAME_MAGIC_BYTES = _FRAME_MAGIC.to_bytes(4, "big")
_CRC = struct.Struct(">I")
FRAME_OVERHEAD_BYTES = _FRAME_HEADER.size + _CRC.size
_END = bytes(FRAME_OVERHEAD_BYTES)
SPARE = "spare"
SPARE_PATH = f"{DIRECTORY}/{SPARE}"
_SPARE_BYTES_MAX = 268_435_456  # one that grew larger, while a checkpoint was slow, is removed
_ZEROS = bytes(1_048_576)


def file_name(position: int) -> str:
    return f"{DIRECTORY}/{position:020d}.log"


@dataclass(slots=True)
class JournalWrite:
    """Frames on their way to the disk. `run` is for the thread that syncs."""

    file: File
    file_position: int
    buffers: list[Buffer]
    end_position: int
    sync: bool
    makes_durable: bool  # with durability "os" the write alone does
    allocate_to: int = 0  # the length to give the file first, or 0
    next_file: "JournalFile | None" = None

    def run(self) -> None:
        """Write, sync, and begin the next file if one is due. Raises StorageFailed."""
        if self.allocate_to:
            self.file.allocate(self.allocate_to)
        if self.buffers:
            self.file.write(self.file_position, self.buffers)
            failpoint("journal.written")
        if self.sync:
            self.file.sync()
            failpoint("journal.synced")
        if self.next_file is not None:
            self.next_file.create()


@dataclass(slots=True)
class JournalFile:
    """One file of the journal."""

    disk: Disk
    start_position: int
    fill_bytes: int = 0  # of zeros, in a file that is new
    allocated_bytes: int = 0
    _file: File | None = field(default=None)

    @property
    def path(self) -> str:
        return file_name(self.start_position)

    def file(self) -> File:
        if self._file is None:
            self._file = self.disk.open(self.path)
        return self._file

    def create(self) -> None:
        """Make the file, and make it durable before any frame goes into it.

        One that is there has held no frame that counts, and loses all of them; a good header of it
        is left alone, for a power cut must not find a long file with half a header.
        """
        if self._is_there():
            self.file().truncate(FILE_HEADER_BYTES)
            self._fill()
        elif self.disk.exists(SPARE_PATH):
            self._reuse_spare()
        else:
            self.file().truncate(0)
            self._write_header(self.file())
            self._fill()
        self.file().sync()
        self.disk.sync_directory(DIRECTORY)
        self.allocated_bytes = self.file().size()

    def _is_there(self) -> bool:
        if not self.disk.exists(self.path):
            return False
        header = memoryview(self.file().read(0, FILE_HEADER_BYTES))
        return _header_is_good(header, self.start_position)

    def _reuse_spare(self) -> None:
        """The spare file gets our header, and, once that is durable, our name."""
        self.close()
        spare = self.disk.open(SPARE_PATH)
        self._write_header(spare)
        spare.write(FILE_HEADER_BYTES, [_END])
        spare.sync()
        spare.close()
        failpoint("journal.spare_ready")
        self.disk.rename(SPARE_PATH, self.path)

    def _write_header(self, file: File) -> None:
        header = _FILE_HEADER.pack(_FILE_MAGIC, _VERSION, self.start_position)
        file.write(0, [header + _CRC.pack(crc32c(header))])

    def _fill(self) -> None:
        if self.fill_bytes:
            self.file().sync()  # the header is durable before the file is long
        with contextlib.suppress(StorageFailed):  # a disk that is nearly full: room is a favour
            for at in range(0, self.fill_bytes, len(_ZEROS)):
                self.file().write(FILE_HEADER_BYTES + at, [_ZEROS])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Journal:
    """The end of the journal, where frames are appended."""

    def __init__(self, disk: Disk, position: int, *, sync: bool, allocate_bytes: int = 0) -> None:
        """Begin a new file at `position`, where everything before is durable.

        `sync=False` (durability "os") answers after the write, before any fsync. `allocate_bytes`:
        a file has so much room when it is new, and is made longer in steps of this size, ahead of
        what is written. 0 lets it grow with each write.
        """
        self.written_position = position  # appended, in memory
        self.stored_position = position  # in the file: survives the process
        self.durable_position = position  # synced: survives a power cut
        self._synced_position = position  # differs when durability is "os"
        self._disk = disk
        self._sync = sync
        self._allocate_bytes = allocate_bytes
        self._pending: list[Buffer] = []
        self._taken_position = position
        self._file = JournalFile(disk, position, allocate_bytes)
        self._file.create()

    def append(self, entries: Sequence[Buffer]) -> None:
        """Append one frame with these bytes as its body."""
        body_bytes = sum(map(len, entries))
        header = _FRAME_HEADER.pack(
            _FRAME_MAGIC, body_bytes, self.written_position, self._synced_position
        )
        crc = crc32c(header)
        for entry in entries:
            crc = crc32c(entry, crc)
        self._pending.append(header + _CRC.pack(crc))
        self._pending.extend(entries)
        self.written_position += FRAME_OVERHEAD_BYTES + body_bytes

    @property
    def has_pending(self) -> bool:
        return self._taken_position != self.written_position

    @property
    def file_bytes(self) -> int:
        """How much the current file holds, with what is pending."""
        return self.written_position - self._file.start_position

    def take(self, *, roll: bool, sync: bool = True) -> JournalWrite:
        """All frames since the last call, to be written, and synced with all before them.

        `roll`: begin a new file behind them. `sync=False` leaves the sync to a later call. At most
        one write is under way at a time.
        """
        invariant(self._taken_position == self.stored_position, "one journal write at a time")
        roll = roll and self.file_bytes > 0  # a file without a frame is as good as the next one
        write = JournalWrite(
            self._file.file(),
            FILE_HEADER_BYTES + self._taken_position - self._file.start_position,
            [*self._pending, _END] if self._pending else [],
            self.written_position,
            roll or (sync and self._sync),
            sync,
            self._allocate(FILE_HEADER_BYTES + self.file_bytes + len(_END)),
            self._next_file() if roll else None,
        )
        self._pending = []
        self._taken_position = self.written_position
        return write

    def _next_file(self) -> JournalFile:
        return JournalFile(self._disk, self.written_position, self._allocate_bytes)

    def _allocate(self, needed_bytes: int) -> int:
        """The length to give the file before it holds `needed_bytes`, or 0 if it is long enough."""
        if not self._allocate_bytes or needed_bytes <= self._file.allocated_bytes:
            return 0
        self._file.allocated_bytes = needed_bytes + self._allocate_bytes
        return self._file.allocated_bytes

    def complete(self, write: JournalWrite) -> None:
        """What `write` held is in the file, and durable if it was to be synced."""
        self.stored_position = write.end_position
        if write.makes_durable:
            self.durable_position = write.end_position
        if write.sync:
            self._synced_position = write.end_position
        if write.next_file is not None:
            self._file.close()
            self._file = write.next_file

    def close(self) -> None:
        self._file.close()


def remove_files_before(disk: Disk, position: int) -> None:
    """Remove the files that a checkpoint at `position` has made needless; one is kept as spare."""
    for start in file_positions(disk):
        if start < position:
            if disk.exists(SPARE_PATH) or _is_large(disk, file_name(start)):
                disk.remove(file_name(start))
            else:
                disk.rename(file_name(start), SPARE_PATH)
    disk.sync_directory(DIRECTORY)


def _is_large(disk: Disk, path: str) -> bool:
    file = disk.open(path)
    try:
        return file.size() > _SPARE_BYTES_MAX
    finally:
        file.close()


def file_positions(disk: Disk) -> list[int]:
    """Where the files begin, in order. Raises DataDamaged on a name that is not ours."""
    names = [name for name in disk.list(DIRECTORY) if name != SPARE]
    for name in names:
        if len(name) != 24 or not name.endswith(".log") or not name[:20].isdecimal():
            raise DataDamaged(f"{disk.describe(f'{DIRECTORY}/{name}')} is no journal file of ours")
    return [int(name[:20]) for name in names]


@dataclass(slots=True)
class Scan:
    """The frames found after a checkpoint; `end_position` is where the good ones end."""

    end_position: int
    torn_bytes: int = 0
    frames: int = 0


def read_frames(disk: Disk, position: int, scan: Scan) -> Iterator[memoryview]:
    """The bodies of all whole frames from `position` on; `scan` tells the end when it is over.

    Raises DataDamaged where something that was durable cannot be read.
    """
    starts = [start for start in file_positions(disk) if start >= position]
    if position not in starts:
        raise DataDamaged(f"{disk.describe(file_name(position))} is missing, and it is needed")
    for at, start in enumerate(starts):
        content = _read_file(disk, start)
        last = at + 1 == len(starts)
        if not _header_is_good(memoryview(content), start):
            if last and len(content) <= FILE_HEADER_BYTES:
                scan.torn_bytes += len(content)
                return  # the power went while the file was made: it has never held a frame
            raise DataDamaged(f"{disk.describe(file_name(start))}: its header is damaged")
        if start != scan.end_position:
            raise DataDamaged(
                f"{disk.describe(file_name(start))}: the journal ends at {scan.end_position} "
                f"before it; a file is missing or was cut"
            )
        yield from _frames_of(memoryview(content), start, scan)
        scan.torn_bytes += _torn_bytes(disk, content, start, scan.end_position)


def _read_file(disk: Disk, start: int) -> bytes:
    file = disk.open(file_name(start))
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _header_is_good(content: memoryview, start: int) -> bool:
    if len(content) < FILE_HEADER_BYTES:
        return False
    magic, version, position = _FILE_HEADER.unpack_from(content)
    (crc,) = _CRC.unpack_from(content, _FILE_HEADER.size)
    if crc32c(content[: _FILE_HEADER.size]) != crc or magic != _FILE_MAGIC or position != start:
        return False
    if version != _VERSION:
        raise DataDamaged(
            f"the journal has format version {version}, and this Ottla reads {_VERSION}: "
            "use the version of Ottla that wrote it"
        )
    return True


def _frames_of(content: memoryview, start: int, scan: Scan) -> Iterator[memoryview]:
    while True:
        at = FILE_HEADER_BYTES + scan.end_position - start
        body = _frame_at(content, at, scan.end_position)
        if body is None:
            return
        scan.end_position += FRAME_OVERHEAD_BYTES + len(body)
        scan.frames += 1
        yield body


def _frame_at(content: memoryview, at: int, position: int) -> memoryview | None:
    """The body of the frame that is whole at `at`, or None."""
    if at + FRAME_OVERHEAD_BYTES > len(content):
        return None
    magic, body_bytes, told_position, _ = _FRAME_HEADER.unpack_from(content, at)
    body_at = at + FRAME_OVERHEAD_BYTES
    if magic != _FRAME_MAGIC or told_position != position or body_at + body_bytes > len(content):
        return None
    (crc,) = _CRC.unpack_from(content, at + _FRAME_HEADER.size)
    body = content[body_at : body_at + body_bytes]
    if crc32c(body, crc32c(content[at : at + _FRAME_HEADER.size])) != crc:
        return None
    return body


def _torn_bytes(disk: Disk, content: bytes, start: int, position: int) -> int:
    """How much was begun behind the good frames, which end at `position`, and is not whole.

    Raises DataDamaged if a later frame tells that the bad one at `position` was durable. Frames of
    the file's old use tell nothing.
    """
    torn_at = end = FILE_HEADER_BYTES + position - start
    old_at = len(content)
    found = content.find(_FRAME_MAGIC_BYTES, torn_at)
    while 0 <= found <= len(content) - FRAME_OVERHEAD_BYTES:
        _, body_bytes, told_position, durable_position = _FRAME_HEADER.unpack_from(content, found)
        if told_position == start + found - FILE_HEADER_BYTES:
            end = found + FRAME_OVERHEAD_BYTES + body_bytes
            if found > torn_at and durable_position > position:
                _refuse_damage(disk, content, start, position, found)
        elif told_position < start:
            old_at = min(old_at, found)
        found = content.find(_FRAME_MAGIC_BYTES, found + 1)
    if end == torn_at and any(content[torn_at : torn_at + FRAME_OVERHEAD_BYTES]):
        end = old_at  # a part of a frame's header, and no whole one after it
    return len(content[torn_at:end].rstrip(b"\0"))


def _refuse_damage(disk: Disk, content: bytes, start: int, position: int, later_at: int) -> None:
    """Raise DataDamaged if the frame at `later_at` is a good one."""
    later_position = start + later_at - FILE_HEADER_BYTES
    if _frame_at(memoryview(content), later_at, later_position) is not None:
        raise DataDamaged(
            f"{disk.describe(file_name(start))}: the frame at byte "
            f"{FILE_HEADER_BYTES + position - start} is damaged, and it had been acknowledged: "
            f"the frame at byte {later_at} was written after it was durable. "
            "Restore the directory from a copy"
        )
