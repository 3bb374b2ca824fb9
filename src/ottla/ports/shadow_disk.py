"""A data directory that is looked at: read from the disk, written to memory only.

What runs on it cannot tell it from a disk, and leaves no trace: the files are opened for reading,
and whatever is written, cut, made or removed is so for this object alone. So one can rehearse a
start on a directory that one does not want to touch. It takes as much memory as is written.

While it is open no broker can start on the directory, and it cannot be opened while one runs: the
lock is shared with others that look, and with nobody who writes.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from ottla.ports.disk import Buffer
from ottla.ports.errors import DirectoryInUse, StorageFailed


class ShadowFile:
    """A file: its beginning as it is on the disk, and the rest in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fd = -1
        self._kept_bytes = 0  # so much of the file on the disk still counts
        self._rest = bytearray()
        if path is not None:
            self._kept_bytes = os.fstat(self._open()).st_size

    def _open(self) -> int:
        if self._fd < 0 and self._path is not None:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise StorageFailed(f"cannot read {self._path}: {error.strerror}") from error
        return self._fd

    def write(self, position: int, buffers: Sequence[Buffer]) -> int:
        content = b"".join(buffers)
        if not content:
            return 0
        if position < self._kept_bytes:
            self._rest[:0] = os.pread(self._open(), self._kept_bytes - position, position)
            self._kept_bytes = position
        at = position - self._kept_bytes
        self._rest.extend(bytes(max(0, at - len(self._rest))))
        self._rest[at : at + len(content)] = content
        return len(content)

    def read(self, position: int, length: int) -> bytes:
        from_disk = b""
        if position < self._kept_bytes:
            from_disk = os.pread(self._open(), min(length, self._kept_bytes - position), position)
        at = position + len(from_disk) - self._kept_bytes
        return from_disk + bytes(self._rest[at : at + length - len(from_disk)])

    def size(self) -> int:
        return self._kept_bytes + len(self._rest)

    def truncate(self, length: int) -> None:
        if length < self._kept_bytes:
            self._kept_bytes = length
        keep = length - self._kept_bytes
        del self._rest[keep:]
        self._rest.extend(bytes(keep - len(self._rest)))

    def allocate(self, length: int) -> None:
        """Room that is allocated ahead takes no memory here: it is a favour anyway."""

    def sync(self) -> None:
        """There is no power to lose."""

    def close(self) -> None:
        """What was written is still there when it is opened again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ShadowDisk:
    """A directory as it is, for reading.

    Raises StorageFailed when there is no such directory, DirectoryInUse while a broker runs on it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = Path(directory).absolute()
        self._files: dict[str, ShadowFile] = {}
        self._removed: set[str] = set()
        self._lock = -1
        if not self._root.is_dir():
            raise StorageFailed(f"{self._root} is no directory")
        try:
            self._lock = os.open(self._root / "lock", os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass  # a copy, or what is left of a directory: nobody runs on it
        except BlockingIOError as error:
            self.close()
            raise DirectoryInUse(f"a broker runs on {self._root}") from error
        except OSError as error:
            self.close()
            raise StorageFailed(f"cannot read {self._root}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the directory."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def open(self, path: str) -> ShadowFile:
        if path not in self._files:
            real = self._root / path
            there = path not in self._removed and real.exists()
            self._files[path] = ShadowFile(real if there else None)
        return self._files[path]

    def exists(self, path: str) -> bool:
        below = f"{path}/"
        if path in self._files or any(each.startswith(below) for each in self._files):
            return True
        return path not in self._removed and (self._root / path).exists()

    def list(self, path: str) -> list[str]:
        prefix = f"{path}/" if path else ""
        names = {
            each.removeprefix(prefix).partition("/")[0]
            for each in self._files
            if each.startswith(prefix)
        }
        if path not in self._removed and (self._root / path).is_dir():
            on_disk = os.listdir(self._root / path)
            names.update(name for name in on_disk if prefix + name not in self._removed)
        return sorted(names)

    def make_directory(self, path: str) -> None:
        """Directories need no making: files are found by their paths."""

    def sync_directory(self, path: str) -> None:
        """There is no power to lose."""

    def rename(self, source: str, target: str) -> None:
        self.open(source)
        replaced = self._files.pop(target, None)
        if replaced is not None:
            replaced.close()
        self._files[target] = self._files.pop(source)
        self._removed.add(source)

    def remove(self, path: str) -> None:
        for name in self.list(path):
            self.remove(f"{path}/{name}")
        file = self._files.pop(path, None)
        if file is not None:
            file.close()
        self._removed.add(path)

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory of this name on the disk."""
        return (self._root / path).is_dir()

    def free_bytes(self) -> int:
        return self.total_bytes()  # memory has no room that a broker would look at

    def total_bytes(self) -> int:
        volume = os.statvfs(self._root)
        return volume.f_blocks * volume.f_frsize

    def describe(self, path: str) -> str:
        return str(self._root / path)
