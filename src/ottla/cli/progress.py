"""How far a long command is, on one line of standard error that is written over."""

import sys
import time
from typing import IO

_INTERVAL_S = 0.5


class Progress:
    """Counts records. Shows them only where a person watches, and nothing else is printed there."""

    def __init__(self, verb: str, *, shown: bool, stream: IO[str] | None = None) -> None:
        self.records = 0
        self.bytes = 0
        self._verb = verb
        self._stream = stream or sys.stderr
        self._shown = shown and self._stream.isatty()
        self._start = self._last = time.monotonic()

    def add(self, records: int, size_bytes: int) -> None:
        """So many more."""
        self.records += records
        self.bytes += size_bytes
        if self._shown and time.monotonic() - self._last >= _INTERVAL_S:
            self._last = time.monotonic()
            self._write("\r", "")

    def close(self) -> None:
        """The last word."""
        if self._shown:
            self._write("\r", "\n")

    def _write(self, before: str, after: str) -> None:
        rate = self.records / max(time.monotonic() - self._start, 0.001)
        text = f"{self._verb} {self.records:,} records, {self.bytes / 1e6:,.1f} MB, {rate:,.0f}/s"
        self._stream.write(f"{before}{text}\x1b[K{after}")
        self._stream.flush()
