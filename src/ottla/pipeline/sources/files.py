"""Files as a source: which ones there are, and how far each has been read.

A file's position is where its next unread line starts, with the line's number and digests of the
file's first bytes and of the last bytes before that place. A file that has grown is continued; one
whose read part is different now is refused, because nobody could say which of its rows are new.
Only whole lines are read while a file may still grow; when it is read to its end and done, a last
line without a line feed counts too.
"""

import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.sources.rows import Parsed, row_format
from ottla.pipeline.urls import FileSource

_DIGESTED_BYTES = 4_096
_ROW_BYTES_MAX = 64 * 1024 * 1024
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(slots=True)
class FilePosition:
    """How far a file has been read."""

    path: str
    offset: int = 0  # in bytes of the content, of a compressed file after decompression
    line: int = 1  # the number of the next line
    head: str = ""
    tail: str = ""
    rows: int = 0  # read so far, without those that became dead letters
    dead: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As the value of a record."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_bytes(cls, value: bytes) -> "FilePosition":
        return cls(**orjson.loads(value))


def find_files(source: FileSource) -> list[str]:
    """The files there are now, by name. Directories and hidden files are none.

    Raises PipelineStopped for a link that a wildcard found and that leads elsewhere: who may write
    to the directory chose it, and not who described the pipeline.
    """
    found = sorted(path for path in glob.glob(source.glob) if os.path.isfile(path))
    if not glob.has_magic(source.glob):
        return found
    fixed = Path(source.glob)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    root = fixed.resolve()
    for path in found:
        if not Path(path).resolve().is_relative_to(root):
            raise PipelineStopped(
                f"{path} is a link to a place outside of {fixed}, found by a wildcard; if it is "
                "wanted, name it without one"
            )
    return found


def shown_path(path: str, base: Path) -> str:
    """How a file is named in positions and dead letters: relative if it is below `base`."""
    below = os.path.relpath(path, base)
    return path if below.startswith("..") else below


class FileReader:
    """Reads one file from its position on. Raises PipelineStopped if the read part has changed."""

    def __init__(self, path: str, source: FileSource, position: FilePosition) -> None:
        self._path = path
        self._source = source
        self.position = position
        self._format = row_format(source.format, position.path, position.state, source.infer_types)
        try:
            opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")  # noqa: SIM115
            self._file = cast(BinaryIO, opened)
            self._check()
        except _UNREADABLE as error:
            raise PipelineStopped(f"{path} cannot be read: {error}") from error

    def close(self) -> None:
        self._file.close()

    def batches(self, finish: bool) -> Iterator[Parsed]:
        """Parse chunk by chunk up to the end as it is now. After each, `position` is behind it.

        With `finish` a last line without a line feed is a line too.
        """
        size = self._source.bytes_per_transaction
        while True:
            chunk, last = self._read_lines(size, finish)
            if not chunk:
                return
            parsed = self._format.parse(chunk, self.position.line, last and finish)
            if parsed.used_bytes == 0:
                if last:
                    return
                self._check_row_size(size)
                size *= 2  # a row longer than the chunk
                continue
            size = self._source.bytes_per_transaction
            self._move(parsed, chunk)
            yield parsed

    def _read_lines(self, size: int, finish: bool) -> tuple[bytes, bool]:
        """Whole lines of about `size` bytes, and whether there is nothing behind them now."""
        try:
            self._file.seek(self.position.offset)
            chunk = self._file.read(size)
            last = len(chunk) < size
            while not last and b"\n" not in chunk:
                self._check_row_size(len(chunk))
                more = self._file.read(size)
                last = len(more) < size
                chunk += more
        except _UNREADABLE as error:
            raise PipelineStopped(f"{self._path} cannot be read: {error}") from error
        if last and finish:
            return chunk, True
        return chunk[: chunk.rfind(b"\n") + 1], last

    def _check_row_size(self, size_bytes: int) -> None:
        """A file that unfolds without an end, or has no lines, must not fill the memory."""
        if size_bytes > _ROW_BYTES_MAX:
            raise PipelineStopped(
                f"{self._path}: line {self.position.line} has more than {_ROW_BYTES_MAX} bytes"
            )

    def _move(self, parsed: Parsed, chunk: bytes) -> None:
        position = self.position
        used = chunk[: parsed.used_bytes]
        if position.offset < _DIGESTED_BYTES:
            position.head = self._digest(0, min(_DIGESTED_BYTES, position.offset + len(used)))
        position.offset += len(used)
        position.line += parsed.used_lines
        position.rows += len(parsed.rows)
        position.dead += len(parsed.dead)
        if len(used) >= _DIGESTED_BYTES:
            position.tail = _digest(used[-_DIGESTED_BYTES:])
        else:
            position.tail = self._digest(max(0, position.offset - _DIGESTED_BYTES), position.offset)

    def _digest(self, start: int, end: int) -> str:
        self._file.seek(start)
        return _digest(self._file.read(end - start))

    def _check(self) -> None:
        """The part that was read must be what it was, and must have ended a line."""
        position = self.position
        if position.offset == 0:
            return
        size = self._file.seek(0, io.SEEK_END)
        start = max(0, position.offset - _DIGESTED_BYTES)
        if size < position.offset:
            self._refuse(f"it was read up to byte {position.offset}, now it has only {size} bytes")
        if self._digest(0, min(_DIGESTED_BYTES, position.offset)) != position.head:
            self._refuse("its beginning is not what it was when it was read")
        if self._digest(start, position.offset) != position.tail:
            self._refuse(f"what is before byte {position.offset} is not what it was when read")
        self._file.seek(position.offset - 1)
        around = self._file.read(2)
        if len(around) == 2 and around[:1] != b"\n":
            if around[1:] != b"\n":
                self._refuse(
                    f"its last line, {position.line - 1}, was taken as complete and has grown since"
                )
            position.offset += 1

    def _refuse(self, reason: str) -> None:
        raise PipelineStopped(
            f"{self._path} was changed, not appended to: {reason}. Which of its rows are new "
            "cannot be told; give the new content a name of its own"
        )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
