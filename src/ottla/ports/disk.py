"""The disk as a port. Every call is a crash point, and the simulator stops at each of them.

What the port promises, and all that the code above may rely on: bytes written are on the disk once
`sync` has returned; a name made, renamed or removed is on the disk once `sync_directory` of its
directory has returned. Before that a power cut may keep them, drop them or keep a part of them.
A failed `sync` is never tried again (the kernel may have dropped the pages): StorageFailed.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ottla.ports.errors import DirectoryInUse, StorageFailed
from ottla.ports.open_files import OpenFiles, files_max

Buffer = bytes | bytearray | memoryview
_IOV_MAX = 512


class File(Protocol):
    """An open file."""

    def write(self, position: int, buffers: Sequence[Buffer]) -> int:
        """Write the buffers one after the other from `position`; return the bytes written."""
        ...

    def read(self, position: int, length: int) -> bytes: ...

    def size(self) -> int: ...

    def truncate(self, length: int) -> None: ...

    def allocate(self, length: int) -> None:
        """Give the file this length with zeros at its end, if the file system can do so quickly.

        A sync of bytes written there has no new length and no new blocks to store as well. It is
        a favour: where it cannot be had, nothing happens and nothing is raised.
        """
        ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A data directory. All paths are relative to it, with `/` between the parts."""

    def open(self, path: str) -> File:
        """Open for reading and writing, made if it is not there."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        ...

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents; those that are there already are fine."""
        ...

    def sync_directory(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all in it."""
        ...

    def free_bytes(self) -> int:
        """How much more can be written."""
        ...

    def total_bytes(self) -> int:
        """How large the volume is that this directory is on."""
        ...

    def describe(self, path: str) -> str:
        """The path as a person finds it, for messages."""
        ...


def write_small_file(disk: Disk, path: str, content: bytes) -> None:
    """Replace a small file so that a crash leaves the old content or the new, whole."""
    temporary = path + ".tmp"
    if disk.exists(temporary):
        disk.remove(temporary)
    file = disk.open(temporary)
    file.write(0, [content])
    file.sync()
    file.close()
    disk.rename(temporary, path)
    disk.sync_directory(path.rpartition("/")[0])


class RealFile:
    """A file of the operating system, with a descriptor while it is used."""

    def __init__(self, path: str, files: OpenFiles) -> None:
        """Open the file, made if it is not there. Raises OSError."""
        self._path = path
        self._files = files
        self._file = files.open(path)

    def write(self, position: int, buffers: Sequence[Buffer]) -> int:
        descriptor, done = self._take(), 0
        try:
            for start in range(0, len(buffers), _IOV_MAX):
                part = buffers[start : start + _IOV_MAX]
                want = sum(map(len, part))
                wrote = os.pwritev(descriptor, part, position + done)
                done += wrote
                if wrote != want:
                    done += _write_rest(descriptor, position + done, part, wrote)
        except OSError as error:
            raise _failed("write to", self._path, error) from error
        finally:
            self._files.give_back(self._file)
        return done

    def read(self, position: int, length: int) -> bytes:
        descriptor = self._take()
        try:
            return os.pread(descriptor, length, position)
        finally:
            self._files.give_back(self._file)

    def size(self) -> int:
        descriptor = self._take()
        try:
            return os.fstat(descriptor).st_size
        finally:
            self._files.give_back(self._file)

    def truncate(self, length: int) -> None:
        descriptor = self._take()
        try:
            os.ftruncate(descriptor, length)
        except OSError as error:
            raise _failed("truncate", self._path, error) from error
        finally:
            self._files.give_back(self._file)

    def allocate(self, length: int) -> None:
        descriptor = self._take()
        with contextlib.suppress(OSError):
            os.posix_fallocate(descriptor, 0, length)
        self._files.give_back(self._file)

    def sync(self) -> None:
        descriptor = self._take()
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise _failed("sync", self._path, error) from error
        finally:
            self._files.give_back(self._file)

    def close(self) -> None:
        self._files.close(self._file)

    def _take(self) -> int:
        """The descriptor, to be given back. Raises StorageFailed when it cannot be opened again."""
        try:
            return self._files.take(self._file)
        except OSError as error:
            raise _failed("open", self._path, error) from error


def _write_rest(descriptor: int, position: int, buffers: Sequence[Buffer], wrote: int) -> int:
    """What a short write left over."""
    rest = memoryview(b"".join(buffers))[wrote:]
    total = len(rest)
    while rest:
        count = os.pwrite(descriptor, rest, position)
        rest, position = rest[count:], position + count
    return total


class RealDisk:
    """A directory of the operating system, held by a lock while it is open.

    Raises StorageFailed when the directory cannot be used, DirectoryInUse when another process
    holds it.
    """

    def __init__(
        self, directory: str | os.PathLike[str], open_files_max: int | None = None
    ) -> None:
        """`open_files_max`: descriptors for files; None: half of what the process may have."""
        self._root = Path(directory).absolute()
        self._files = OpenFiles(files_max() if open_files_max is None else open_files_max)
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _failed("use", self._root, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DirectoryInUse(f"{self._root} is in use by another Ottla broker") from error

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._lock)

    def open(self, path: str) -> RealFile:
        try:
            return RealFile(f"{self._root}/{path}", self._files)
        except OSError as error:
            raise _failed("open", self._root / path, error) from error

    def exists(self, path: str) -> bool:
        return os.path.exists(f"{self._root}/{path}")

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._root}/{path}"))
        except FileNotFoundError:
            return []

    def make_directory(self, path: str) -> None:
        try:
            (self._root / path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed("make", self._root / path, error) from error

    def sync_directory(self, path: str) -> None:
        try:
            fd = os.open(self._root / path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _failed("sync", self._root / path, error) from error

    def rename(self, source: str, target: str) -> None:
        try:
            os.rename(self._root / source, self._root / target)
        except OSError as error:
            raise _failed("rename", self._root / source, error) from error

    def remove(self, path: str) -> None:
        full = self._root / path
        try:
            if full.is_dir():
                for name in os.listdir(full):
                    self.remove(f"{path}/{name}")
                full.rmdir()
            else:
                full.unlink()
        except OSError as error:
            raise _failed("remove", full, error) from error

    def free_bytes(self) -> int:
        free = os.fstatvfs(self._lock)
        return free.f_bavail * free.f_frsize

    def total_bytes(self) -> int:
        volume = os.fstatvfs(self._lock)
        return volume.f_blocks * volume.f_frsize

    def describe(self, path: str) -> str:
        return str(self._root / path)


def _failed(verb: str, path: str | Path, error: OSError) -> StorageFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        parent = Path(path).parent
        return StorageFailed(f"no space left for {path}: the disk under {parent} is full")
    return StorageFailed(f"cannot {verb} {path}: {error.strerror}")
