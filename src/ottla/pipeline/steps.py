"""What single steps do to a row: plain functions, the same for the streams worker and the audit.

A row is its pipeline's own, fresh from its bytes, so it is changed in place.
"""

import importlib.util
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from ottla.pipeline.dead_letters import SOURCE_COLUMN
from ottla.pipeline.errors import ConfigError
from ottla.pipeline.expressions import Expression, MissingColumn
from ottla.pipeline.functions import Row
from ottla.pipeline.model import Dedupe, Drop, PythonStep, Rename, Select, SetColumns


def row_function(step: SetColumns | Select | Drop | Rename) -> Callable[[Row], Row]:
    """What the step makes of a row."""
    if isinstance(step, SetColumns):
        columns = step.columns

        def set_columns(row: Row) -> Row:
            for name, expression in columns:
                row[name] = expression(row)
            return row

        return set_columns
    if isinstance(step, Select):
        keep = frozenset((*step.names, SOURCE_COLUMN))
        return lambda row: {name: value for name, value in row.items() if name in keep}
    if isinstance(step, Drop):
        drop = frozenset(step.names)
        return lambda row: {name: value for name, value in row.items() if name not in drop}
    new_names = dict(step.names)
    return lambda row: {new_names.get(name, name): value for name, value in row.items()}


def python_function(step: PythonStep) -> Callable[[Row], Iterable[Row]]:
    """The function of a file, its answer as a list: a row, several or none."""
    function = load_function(step)

    def call(row: Row) -> Iterable[Row]:
        source = row.get(SOURCE_COLUMN)
        answer = function(row)
        if answer is None:
            return ()
        rows = [answer] if isinstance(answer, dict) else list(answer)
        for each in rows:
            if not isinstance(each, dict):
                raise TypeError(f"{step.function} gave {type(each).__name__}, not a row (a dict)")
            if source is not None:
                each.setdefault(SOURCE_COLUMN, source)
        return rows

    return call


def load_function(step: PythonStep) -> Callable[[Row], Any]:
    """The function a Python step names. Raises ConfigError if it cannot be loaded."""
    module_spec = importlib.util.spec_from_file_location(Path(step.path).stem, step.path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{step.path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{step.path} cannot be loaded: {error!r}") from error
    function = getattr(module, step.function, None)
    if not callable(function):
        raise ConfigError(f"{step.path} has no function {step.function!r}")
    return function  # type: ignore[no-any-return]


def dedupe_key(step: Dedupe) -> Callable[[Row], Any]:
    """What is compared. Raises ValueError for a row whose key has no value, or MissingColumn."""
    if not step.key:
        return _content
    if len(step.key) == 1:
        return _one_key(step.key[0])
    values = _columns([each.text for each in step.key]) if _are_columns(step.key) else None
    expressions = step.key

    def key(row: Row) -> tuple[Any, ...]:
        found = values(row) if values is not None else tuple(each(row) for each in expressions)
        if found.count(None) == len(found):
            raise ValueError("no column of the dedupe's key has a value")
        return found

    return key


def _one_key(expression: Expression) -> Callable[[Row], Any]:
    def key(row: Row) -> Any:
        found = expression(row)
        if found is None:
            # Two rows without a key are not the same row; dropping the second would lose it.
            raise ValueError(f"the key of the dedupe, {expression.shown}, has no value")
        return found

    return key


def _content(row: Row) -> bytes:
    """All of a row but where it came from."""
    return orjson.dumps(without_source(dict(row)), option=orjson.OPT_SORT_KEYS)


def without_source(row: Row) -> Row:
    """The row without the column that says where it came from."""
    row.pop(SOURCE_COLUMN, None)
    return row


def _are_columns(expressions: Iterable[Expression]) -> bool:
    return all(each.columns == {each.text} for each in expressions)


def _columns(names: Iterable[str]) -> Callable[[Row], tuple[Any, ...]]:
    """The values of two or more columns. Raises MissingColumn."""
    get = itemgetter(*names)

    def values(row: Row) -> tuple[Any, ...]:
        try:
            return get(row)  # type: ignore[no-any-return]
        except KeyError as error:
            raise MissingColumn(error.args[0], row) from None

    return values


def json_key(names: tuple[str, ...]) -> Callable[[Row], str]:
    """The values of columns as the text of a JSON list."""

    def key(row: Row) -> str:
        try:
            return orjson.dumps([row[name] for name in names]).decode()
        except KeyError as error:
            raise MissingColumn(error.args[0], row) from None

    return key
