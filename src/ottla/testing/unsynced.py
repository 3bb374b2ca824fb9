"""What a power cut leaves of a file: content as programs see it, and as the disk has it.

Each 512-byte sector of a file, and its length, is after a power cut as it was at some moment since
the last sync. `Fate` says how these moments are drawn.
"""

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

SECTOR_BYTES = 512


class Fate(Enum):
    """What a power cut does to unsynced changes."""

    DROPPED = "all are lost"
    KEPT = "all survive"
    TORN = "the first survive, the next ones in parts, the others are lost"
    SCATTERED = "each sector, and each directory, at a moment of its own"


class Write(NamedTuple):
    position: int
    content: bytes

    def length_after(self, length: int) -> int:
        return max(length, self.position + len(self.content)) if self.content else length


class Truncate(NamedTuple):
    length: int

    def length_after(self, length: int) -> int:
        return self.length


def _put(content: bytearray, position: int, piece: bytes) -> None:
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    content[position : position + len(piece)] = piece


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


@dataclass(eq=False, slots=True)
class Inode:
    """A file, whatever it is called: content as programs see it, and as the disk has it."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Truncate] = field(default_factory=list)

    @classmethod
    def stored(cls, content: bytearray) -> "Inode":
        """A file whose content is all on the disk."""
        return cls(content, bytearray(content))

    def change(self, one: Write | Truncate) -> None:
        self._apply(self.content, one)
        self.unsynced.append(one)

    def sync(self) -> None:
        for one in self.unsynced:
            self._apply(self.durable, one)
        self.unsynced.clear()

    def lose(self) -> None:
        """A failed sync: the kernel takes the pages for written, and they are not."""
        self.unsynced.clear()

    @staticmethod
    def _apply(content: bytearray, one: Write | Truncate) -> None:
        if isinstance(one, Truncate):
            _resize(content, one.length)
        elif one.content:
            _put(content, one.position, one.content)

    def surviving(self, fate: Fate, rng: random.Random) -> bytearray:
        """The content after a power cut: each sector, and the length, at a moment of its own."""
        content = bytearray(self.durable)
        if fate is Fate.DROPPED:
            return content
        if fate is Fate.KEPT:
            for one in self.unsynced:
                self._apply(content, one)
            return content
        moments = _Moments(fate, len(self.unsynced), rng)
        length = len(content)
        length_moment = moments.of("length")
        for at, one in enumerate(self.unsynced):
            if at < length_moment:
                length = one.length_after(length)
            if isinstance(one, Truncate):
                one = Write(one.length, bytes(max(0, len(content) - one.length)))
            _put_sectors(content, one, moments, at)
        _resize(content, length)
        return content


class _Moments:
    """Draws for each sector how many of the unsynced changes it has seen."""

    def __init__(self, fate: Fate, count: int, rng: random.Random) -> None:
        self._drawn: dict[int | str, int] = {}
        self._rng = rng
        self._first, self._last = 0, count
        if fate is Fate.TORN:
            self._first = rng.randint(0, count)
            self._last = min(count, self._first + rng.randint(1, 3))

    def of(self, sector: int | str) -> int:
        if sector not in self._drawn:
            self._drawn[sector] = self._rng.randint(self._first, self._last)
        return self._drawn[sector]


def _put_sectors(content: bytearray, write: Write, moments: _Moments, at: int) -> None:
    """Write those sectors that have seen the change with the number `at`."""
    done = 0
    while done < len(write.content):
        position = write.position + done
        sector = position // SECTOR_BYTES
        piece = write.content[done : done + (sector + 1) * SECTOR_BYTES - position]
        if at < moments.of(sector):
            _put(content, position, piece)
        done += len(piece)
