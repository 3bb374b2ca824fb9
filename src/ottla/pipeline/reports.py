"""What workers tell their supervisor: one JSON object a line on standard output.

A report says all that is known, not what has changed, so that one that is lost is made good by the
next. Counts are since the worker's start, except those named `..._total`, which survive it.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

_INTERVAL_S = 0.2


class Reporter:
    """Sends reports, not more often than is useful to a person."""

    def __init__(self, role: str, write: Callable[[bytes], object] | None = None) -> None:
        self._role = role
        self._write = write or _write_line
        self._next = 0.0

    def progress(self, *, now: bool = False, **facts: Any) -> None:
        """How far the work is. Without `now`, left out if there was a report a moment ago."""
        at = time.monotonic()
        if now or at >= self._next:
            self._next = at + _INTERVAL_S
            self._send({"state": "running", **facts})

    def waiting(self, reason: str, **facts: Any) -> None:
        """The work stands still until something outside changes."""
        self._next = 0.0
        self._send({"state": "waiting", "reason": reason, **facts})

    def done(self, **facts: Any) -> None:
        """There is no more to do."""
        self._send({"state": "done", **facts})

    def _send(self, facts: dict[str, Any]) -> None:
        self._write(orjson.dumps({"role": self._role, **facts}) + b"\n")


def _write_line(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
