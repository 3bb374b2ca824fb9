"""The functions that an expression may call, and how values become times.

All of them are pure: the same row gives the same value today and on a replay next year, which is
why there is no now() and no random().
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Row = dict[str, Any]


def text(value: object) -> str | None:
    return None if value is None else str(value)


def coalesce(*values: object) -> object:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def sha256(value: object) -> str | None:
    """The SHA-256 of the value's text, in hexadecimal: hides a value and keeps it joinable."""
    return None if value is None else hashlib.sha256(str(value).encode()).hexdigest()


def mask(value: object, keep: int = 0) -> str | None:
    """All but the last `keep` characters replaced by asterisks."""
    if value is None:
        return None
    whole = str(value)
    shown = whole[-keep:] if keep else ""
    return "*" * (len(whole) - len(shown)) + shown


def matches(value: str, pattern: str) -> bool:
    """Whether the regular expression is found in the value."""
    return _pattern(pattern).search(value) is not None


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def millis(value: object) -> int:
    """A time as milliseconds since 1970 (UTC).

    A number is taken as milliseconds already; a text is read as ISO 8601, in UTC unless it names a
    zone. Raises ValueError on anything else.
    """
    if isinstance(value, str):
        return _millis_of_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"{value!r} is not a time: ISO 8601 text or milliseconds since 1970 are")


@lru_cache(maxsize=4096)
def _millis_of_text(value: str) -> int:
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{value!r} is not a time in ISO 8601") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)


@lru_cache(maxsize=4096)
def iso_time(timestamp_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 text in UTC, with milliseconds only if there are any."""
    seconds, rest = divmod(timestamp_ms, 1000)
    when = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{when}.{rest:03}Z" if rest else f"{when}Z"


def date(value: object) -> str:
    """The day of a time in UTC, as 2013-01-31."""
    return iso_time(millis(value))[:10]


def seconds(value: float) -> int:
    """Seconds since 1970 as milliseconds since 1970."""
    return int(value * 1000)


def product(left: Any, right: Any) -> Any:
    """left * right of numbers: a text or a list times a number would take any amount of memory."""
    if hasattr(left, "__len__") or hasattr(right, "__len__"):
        raise ValueError(f"* multiplies numbers, not {_kinds(left, right)}")
    return left * right


def remainder(left: Any, right: Any) -> Any:
    """left % right of numbers: a text would be a format, of any width."""
    if hasattr(left, "__len__"):
        raise ValueError(f"% divides numbers, not {_kinds(left, right)}")
    return left % right


def _kinds(left: object, right: object) -> str:
    return f"{type(left).__name__} and {type(right).__name__}"


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "coalesce": coalesce,
    "contains": lambda value, part: part in value,
    "date": date,
    "endswith": lambda value, end: value.endswith(end),
    "float": float,
    "int": int,
    "iso_time": iso_time,
    "len": len,
    "lower": lambda value: value.lower(),
    "mask": mask,
    "matches": matches,
    "max": max,
    "millis": millis,
    "min": min,
    "replace": lambda value, old, new: value.replace(old, new),
    "round": round,
    "seconds": seconds,
    "sha256": sha256,
    "startswith": lambda value, start: value.startswith(start),
    "strip": lambda value: value.strip(),
    "text": text,
    "upper": lambda value: value.upper(),
}
