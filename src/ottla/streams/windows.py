"""Windows of time: which of them a timestamp falls into, and when they close.

A window is `[start, end)`, aligned to 1970. It closes when the clock of its partition has reached
`end + grace`: by event time that clock is stream time, the largest timestamp the partition has
processed; by processing time it is the machine's clock. Grace is always written out: how long to
wait for late records is a decision about the data that no default can make.
"""

import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from ottla.streams.errors import TopologyError
from ottla.streams.serdes import Serde

K = TypeVar("K")
_start = struct.Struct(">q")


class Windowed(NamedTuple, Generic[K]):
    """A key in a window: `start_ms` belongs to the window, `end_ms` no longer."""

    key: K
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """What tumbling and hopping windows have in common. Make one with `Tumbling` or `Hopping`."""

    size_ms: int
    advance_ms: int
    grace_ms: int

    @property
    def retention_ms(self) -> int:
        """From the start of a window to its close."""
        return self.size_ms + self.grace_ms


def Tumbling(size: timedelta | int, *, grace: timedelta | int) -> Window:  # noqa: N802
    """Windows side by side: every record is in exactly one.

    Args: `size` and `grace` as timedelta or in milliseconds.
    Raises TopologyError when size is not positive or grace is negative.
    """
    return Hopping(size, size, grace=grace)


def Hopping(  # noqa: N802
    size: timedelta | int, advance: timedelta | int, *, grace: timedelta | int
) -> Window:
    """Windows of `size` that start every `advance`: a record is in up to size / advance of them.

    Args: all three as timedelta or in milliseconds; `advance` at most `size`.
    Raises TopologyError when they do not fit together.
    """
    window = Window(milliseconds(size), milliseconds(advance), milliseconds(grace))
    if not 0 < window.advance_ms <= window.size_ms or window.grace_ms < 0:
        raise TopologyError(
            f"a window needs 0 < advance <= size and grace >= 0; it has size {window.size_ms} ms, "
            f"advance {window.advance_ms} ms, grace {window.grace_ms} ms"
        )
    return window


def milliseconds(duration: timedelta | int) -> int:
    """A duration in whole milliseconds."""
    if isinstance(duration, timedelta):
        return round(duration.total_seconds() * 1000)
    return duration


def windowed_serde(inner: Serde, size_ms: int) -> Serde:
    """Keys as Kafka's TimeWindowedSerializer writes them: the key, then the start as int64."""

    def serialize(windowed: Any) -> bytes:
        return inner.serialize(windowed.key) + _start.pack(windowed.start_ms)

    def deserialize(data: bytes) -> Windowed[Any]:
        (start_ms,) = _start.unpack(data[-8:])
        return Windowed(inner.deserialize(data[:-8]), start_ms, start_ms + size_ms)

    return Serde(f"windowed({inner.name},{size_ms})", serialize, deserialize)
