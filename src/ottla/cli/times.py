"""Times as people write them on the command line."""

import re
from datetime import UTC, datetime

from ottla.cli.cluster import Mistake

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration_ms(text: str) -> int:
    """Milliseconds in "15m", "90s", "2h", "1d", "500ms". Raises Mistake."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if found is None:
        raise Mistake(f"{text!r} is no length of time: write 500ms, 90s, 15m, 2h or 1d")
    return int(found[1]) * _UNITS_MS[found[2]]


def parse_time_ms(text: str, *, now_ms: int) -> int:
    """Milliseconds since 1970: of a number, an ISO 8601 time, or "-2h" from now. Raises Mistake.

    A time without a zone is UTC.
    """
    if text.isdecimal():
        return int(text)
    if text.startswith("-"):
        return now_ms - parse_duration_ms(text[1:])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(
            f"{text!r} is no time: write 2026-01-31T12:00:00Z, milliseconds since 1970, or -2h"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def shown_time(timestamp_ms: int) -> str:
    """A time for a person, in UTC, or a dash."""
    if timestamp_ms < 0:
        return "-"
    try:
        found = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)  # a producer may set any number
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(ms: int) -> str:
    """A length of time for a person: "14m 03s"."""
    seconds = max(0, ms) // 1000
    if seconds < 60:
        return f"{seconds}s" if ms >= 1000 else f"{max(0, ms)}ms"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"
