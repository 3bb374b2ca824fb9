"""CSV columns: finding out their types, and turning texts into JSON a whole column at a time.

A file's types are found in its first chunk and then kept with its position, so they are the same
after every restart. A value that a later row has and the type does not take makes that row a dead
letter. In a column of numbers or truth values the usual words for "nothing" are null; in a column
of text only the empty text is: NA is also Namibia.

Columns repeat themselves, so each distinct text of a chunk is converted once and the rest is a
look-up: half the time of converting every value.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import orjson

NULLS = frozenset(("", "NA", "N/A", "na", "n/a", "NULL", "null", "None", "NaN", "nan", "\\N"))
_TRUTH = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

# No leading zeros: 01234 is a postal code.
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,18})")
_REAL = re.compile(r"[+-]?(?=\.?[0-9])(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")


def infer_types(rows: Sequence[Sequence[str]], count: int) -> list[str]:
    """The types of `count` columns: integer, real, boolean or text."""
    return [_infer(row[place] for row in rows if len(row) == count) for place in range(count)]


def _infer(values: Iterable[str]) -> str:
    found = set(values) - NULLS
    if not found:
        return "text"
    if all(map(_INTEGER.fullmatch, found)):
        return "integer"
    if all(map(_REAL.fullmatch, found)):
        return "real"
    return "boolean" if found <= _TRUTH.keys() else "text"


def column_to_json(kind: str, values: Sequence[str], prefix: str) -> list[str]:
    """The values of a column as JSON, each after `prefix`.

    Raises ValueError if one is not of the type.
    """
    distinct = {value: prefix + value_to_json(kind, value) for value in set(values)}
    return list(map(distinct.__getitem__, values))


def value_to_json(kind: str, value: str) -> str:
    """One value as JSON. Raises ValueError with a text for a person if it is not of the type."""
    if value == "" or (kind != "text" and value in NULLS):
        return "null"
    try:
        return _TO_JSON[kind](value)
    except ValueError:
        raise ValueError(f"{value!r} is not of the column's type, {kind}") from None


def _text(value: str) -> str:
    return orjson.dumps(value).decode()


def _integer(value: str) -> str:
    if _INTEGER.fullmatch(value.strip()) is None:  # int() takes 1_000 and leading zeros
        raise ValueError
    number = int(value)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise ValueError
    return str(number)


def _real(value: str) -> str:
    number = float(value)
    if not math.isfinite(number) or "_" in value:
        raise ValueError
    return repr(number)


def _boolean(value: str) -> str:
    if value not in _TRUTH:
        raise ValueError
    return "true" if _TRUTH[value] else "false"


_TO_JSON: dict[str, Callable[[str], str]] = {
    "text": _text,
    "integer": _integer,
    "real": _real,
    "boolean": _boolean,
}
