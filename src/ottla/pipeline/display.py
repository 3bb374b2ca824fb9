"""Progress for people, as lines or as JSON. The runner knows only `Display`."""

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import IO, Protocol

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_PLAIN_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a pipeline is. Counts of rows, over all starts of its workers."""

    rows_in: int = 0
    duplicates: int = 0
    late: int = 0
    dead: int = 0
    rows_out: int = 0
    lag: int = 0
    commits: int = 0
    restarts: int = 0
    rows_per_s: int = 0
    states: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The numbers in one line."""
        parts = [
            f"{self.rows_in:,} in",
            f"{self.duplicates:,} deduplicated",
            f"{self.rows_out:,} out",
            f"{self.dead:,} dead",
            f"{self.lag:,} lag",
            f"{self.commits:,} commits",
            f"{self.rows_per_s:,} rows/s",
        ]
        if self.late:
            parts.insert(2, f"{self.late:,} late")
        if self.restarts:
            parts.append(f"{self.restarts} restarts")
        parts += [f"{role}: {reason}" for role, reason in self.reasons.items()]
        return " · ".join(parts)


class Display(Protocol):
    """Where progress goes."""

    def update(self, snapshot: Snapshot) -> None:
        """Called several times a second."""
        ...

    def note(self, text: str) -> None:
        """Something happened that a person wants to know."""
        ...

    def close(self) -> None: ...


class NoDisplay:
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class PlainDisplay:
    """A line now and then, for logs."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._next = 0.0
        self._last = Snapshot()

    def update(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_INTERVAL_S
            print(snapshot.line(), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        print(self._last.line(), file=self._stream, flush=True)


class JsonDisplay:
    """One JSON object a line: {"progress": {...}} or {"note": "..."}."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._next = 0.0
        self._last = Snapshot()

    def update(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_INTERVAL_S
            self._print({"progress": asdict(snapshot)})

    def note(self, text: str) -> None:
        self._print({"note": text})

    def close(self) -> None:
        self._print({"progress": asdict(self._last)})

    def _print(self, content: object) -> None:
        print(orjson.dumps(content).decode(), file=self._stream, flush=True)


class RichDisplay:
    """A table that is redrawn in place, for terminals."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._live = Live(console=console or Console(), refresh_per_second=8, transient=False)
        self._live.start()

    def update(self, snapshot: Snapshot) -> None:
        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False)
        values = {
            "rows in": snapshot.rows_in,
            "deduplicated": snapshot.duplicates,
            "late": snapshot.late,
            "dead": snapshot.dead,
            "rows out": snapshot.rows_out,
            "lag": snapshot.lag,
            "commits": snapshot.commits,
            "rows/s": snapshot.rows_per_s,
        }
        for name in values:
            table.add_column(name, justify="right")
        table.add_row(*(f"{value:,}" for value in values.values()))
        states = "   ".join(f"{role} {state}" for role, state in snapshot.states.items())
        lines = [Text(states, style="dim")]
        lines += [Text(f"{r}: {why}", style="yellow") for r, why in snapshot.reasons.items()]
        self._live.update(Group(table, *lines))

    def note(self, text: str) -> None:
        self._live.console.print(Text(text, style="yellow"))

    def close(self) -> None:
        self._live.stop()


def choose_display(title: str, *, json: bool = False, quiet: bool = False) -> Display:
    """A table on a terminal, lines elsewhere."""
    if quiet:
        return NoDisplay()
    if json:
        return JsonDisplay(sys.stdout)
    if sys.stdout.isatty():
        return RichDisplay(title)
    return PlainDisplay(sys.stdout)
