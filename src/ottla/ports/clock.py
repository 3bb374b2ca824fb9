"""The clock as a port: the core asks it, and the simulator turns it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time in milliseconds since 1970 (UTC), and a monotonic count of time."""

    def now_ms(self) -> int: ...

    def monotonic_ms(self) -> int: ...

    def monotonic_ns(self) -> int: ...


class RealClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class SimulatedClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def monotonic_ns(self) -> int:
        return self._monotonic_ms * 1_000_000

    def advance(self, delta_ms: int) -> None:
        """Move both clocks on by `delta_ms` milliseconds."""
        self._now_ms += delta_ms
        self._monotonic_ms += delta_ms
