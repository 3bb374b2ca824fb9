"""Open files within a limit: more files than descriptors, and no caller that knows.

A partition keeps its files open as objects; the descriptor behind one may be closed when others are
used more, and is opened again at the next use. A descriptor that some thread uses at the moment is
never closed. What was written before is not lost with it: it is in the page cache, and a sync
through a new descriptor covers it, as it tells of an error that nobody has been told of (Linux's
errseq_t). The one case that escapes is an inode that the kernel has forgotten in between.
"""

import errno
import os
import resource
import threading
from collections import OrderedDict

_SHARE = 2  # one descriptor in so many is for files, the others for connections
_FILES_MIN = 16
_FILES_MAX = 4_096


def files_max() -> int:
    """How many descriptors files may take of those that the process may have."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return _FILES_MAX
    return max(_FILES_MIN, min(_FILES_MAX, allowed // _SHARE))


class OpenFile:
    """A file by its path, with a descriptor or without one."""

    __slots__ = ("closed", "descriptor", "path", "users")

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.users = 0
        self.closed = False


class OpenFiles:
    """The descriptors of one disk's files. Any thread may call anything."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_use: OrderedDict[int, OpenFile] = OrderedDict()  # by id; the last used last

    def __len__(self) -> int:
        return len(self._by_use)

    def open(self, path: str) -> OpenFile:
        """Open a file, made if it is not there. Raises OSError."""
        file = OpenFile(path)
        with self._lock:
            self._give_descriptor(file, os.O_CREAT)
        return file

    def take(self, file: OpenFile) -> int:
        """The file's descriptor, which stays open until it is given back. Raises OSError."""
        with self._lock:
            if file.closed:
                raise ValueError(f"{file.path} was closed")
            if file.descriptor < 0:
                self._give_descriptor(file, 0)  # never made anew: it was there
            else:
                self._by_use.move_to_end(id(file))
            file.users += 1
            return file.descriptor

    def give_back(self, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            if file.closed and not file.users:
                self._drop_descriptor(file)

    def close(self, file: OpenFile) -> None:
        """Close the file, or let it be closed when the last use of it ends."""
        with self._lock:
            file.closed = True
            if not file.users:
                self._drop_descriptor(file)

    def _give_descriptor(self, file: OpenFile, flags: int) -> None:
        flags |= os.O_RDWR | os.O_CLOEXEC
        while len(self._by_use) >= self._limit and self._drop_oldest():
            pass
        while True:
            try:
                file.descriptor = os.open(file.path, flags, 0o644)
                break
            except OSError as error:
                short = error.errno in (errno.EMFILE, errno.ENFILE)
                if not short or not self._drop_oldest():
                    raise
        self._by_use[id(file)] = file

    def _drop_oldest(self) -> bool:
        for file in self._by_use.values():
            if not file.users:
                self._drop_descriptor(file)
                return True
        return False

    def _drop_descriptor(self, file: OpenFile) -> None:
        if file.descriptor >= 0:
            os.close(file.descriptor)
            file.descriptor = -1
            del self._by_use[id(file)]
