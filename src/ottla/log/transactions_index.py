"""Open and aborted transactions of one partition: how far a read_committed consumer may see.

The last stable offset is the first offset of the oldest transaction that is open, or whose marker
is not durable yet; with none it is the high watermark. A transaction whose marker was appended but
not synced must hold the LSO back too, or a power cut could unsay what a consumer has acted on.

Aborted transactions are kept in the order of their markers. A fetch gets those that overlap what
it reads, sorted by first offset, as consumers expect them.
"""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

_FIRST_OFFSET = attrgetter("first_offset")
_LAST_OFFSET = attrgetter("last_offset")
ABORTED_ENTRY = struct.Struct(">hqqqq")  # Kafka's .txnindex entry: version 0 and the four fields


class AbortedTransaction(NamedTuple):
    """An aborted transaction; `last_offset` is its marker's, `last_stable_offset` the LSO after."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int

    def encode(self) -> bytes:
        return ABORTED_ENTRY.pack(0, *self)


def decode_aborted(content: bytes) -> list[AbortedTransaction]:
    """The entries of a .txnindex file."""
    return [AbortedTransaction(*entry[1:]) for entry in ABORTED_ENTRY.iter_unpack(content)]


class TransactionsIndex:
    """Which transactions hold back the last stable offset of a partition."""

    def __init__(self) -> None:
        # Both are in the order in which the transactions began, for offsets only rise.
        self.open: dict[int, int] = {}  # producer id -> first offset
        self._undurable: dict[int, int] = {}  # marker offset -> first offset

    def begin(self, producer_id: int, first_offset: int) -> None:
        """A producer's first batch of a transaction was appended."""
        self.open.setdefault(producer_id, first_offset)

    def end(self, producer_id: int, marker_offset: int) -> None:
        """The producer's marker was appended (and is not durable yet)."""
        first_offset = self.open.pop(producer_id, None)
        if first_offset is not None:
            self._undurable[marker_offset] = first_offset

    def advance(self, high_watermark: int) -> None:
        """All below `high_watermark` is durable."""
        if self._undurable:
            for marker_offset in [m for m in self._undurable if m < high_watermark]:
                del self._undurable[marker_offset]

    def first_unstable_offset(self) -> int | None:
        """The oldest offset whose outcome a consumer cannot rely on yet, or None."""
        first = next(iter(self.open.values()), None)
        for offset in self._undurable.values():
            if first is None or offset < first:
                first = offset
        return first

    def last_stable_offset(self, high_watermark: int) -> int:
        first = self.first_unstable_offset()
        return high_watermark if first is None else min(first, high_watermark)


def overlapping(
    aborted: Sequence[AbortedTransaction], fetch_offset: int, upper_bound: int
) -> list[AbortedTransaction]:
    """Those of `aborted` (in the order of their markers) with something in the range.

    Sorted by first offset. It stops where all that follows begins beyond `upper_bound`, which is
    what the stored last stable offset tells.
    """
    found = []
    for entry in islice(aborted, bisect_left(aborted, fetch_offset, key=_LAST_OFFSET), None):
        if entry.first_offset < upper_bound:
            found.append(entry)
        if entry.last_stable_offset >= upper_bound:
            break
    found.sort(key=_FIRST_OFFSET)
    return found
