"""Column types, and which values each of them takes.

There are six types for every database, and `any` for a column without one. Whole columns are
checked at once, by the set of the Python types in them; only a column with something else in it is
looked at value by value. A text column takes anything as its JSON text; a text is never quietly
made a number.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

NoneType = type(None)

_STORED_AS_IS: dict[str, frozenset[type]] = {
    "integer": frozenset((NoneType, int)),
    "real": frozenset((NoneType, int, float)),
    "text": frozenset((NoneType, str)),
    "boolean": frozenset((NoneType, bool)),
    "timestamp": frozenset((NoneType, str)),
    "json": frozenset((NoneType,)),
    "any": frozenset((NoneType, bool, int, float, str)),
}
_CALLED = {
    bool: "a truth value",
    dict: "an object",
    float: "a number with a fraction",
    int: "a whole number",
    list: "a list",
    str: "text",
}


def infer_type(value: object) -> str:
    """The type of a column whose first value is `value`."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "real"
    return "json" if isinstance(value, dict | list) else "text"


def stored_as_is(kind: str, values: Iterable[object]) -> bool:
    """Whether a column of this type takes all the values just as they are."""
    return _STORED_AS_IS[kind].issuperset(map(type, values))


def to_stored(kind: str, value: Any) -> Any:
    """The value as a column of this type stores it. Raises ValueError if it does not take it."""
    if type(value) in _STORED_AS_IS[kind]:
        return value
    if kind == "integer" and isinstance(value, bool | float) and value == int(value):
        return int(value)
    if kind in ("text", "json", "any"):
        return orjson.dumps(value).decode()
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise ValueError(f"{shown} is {_CALLED.get(type(value), 'no value')}, the column is {kind}")


def first_value(rows: Sequence[dict[str, Any]], column: str) -> object:
    """The first value of a column that is not null, or None."""
    for row in rows:
        value = row.get(column)
        if value is not None:
            return value
    return None
