"""From a pipeline's steps to a streams application.

With one partition everything a key needs is in one place already, so no row is moved through an
extra topic: a dedupe or an aggregate costs its state and nothing else. With more partitions rows
travel to the partition of their key first.
"""

import importlib.util
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from ottla.pipeline.dead_letters import SOURCE_COLUMN
from ottla.pipeline.errors import ConfigError
from ottla.pipeline.expressions import Aggregation, Expression, MissingColumn
from ottla.pipeline.functions import Row, iso_time, millis
from ottla.pipeline.model import (
    WINDOW_COLUMN,
    Aggregate,
    Dedupe,
    Drop,
    Filter,
    PipelineSpec,
    PythonStep,
    Rename,
    Select,
    SetColumns,
    Step,
)
from ottla.pipeline.urls import KafkaTopic
from ottla.streams import App, Count, Max, Mean, Min, Sum, Tumbling
from ottla.streams.dsl import Stream

_AGGREGATIONS = {"count": Count, "sum": Sum, "min": Min, "max": Max, "avg": Mean}
_COMMIT_INTERVAL_MS = 100


def build_app(spec: PipelineSpec, bootstrap_servers: str, state_dir: Path, partitions: int) -> App:
    """The application between the input and the output topic.

    `partitions` is how many the input topic has. Raises ConfigError if a Python step's file cannot
    be loaded.
    """
    app = App(
        spec.name,
        bootstrap_servers,
        state_dir=state_dir,
        commit_interval_ms=_COMMIT_INTERVAL_MS,
        worker="streams",
    )
    app.dead_letters(spec.dead_letters_topic)
    time = spec.timestamp
    stream = app.stream(
        spec.input_topic,
        key_serde="bytes",
        timestamp=None if time is None else lambda row: millis(time(row)),
    )
    for number, step in enumerate(spec.steps, 1):
        stream = _add(stream, step, f"dedupe-{number}", partitions > 1)
    if spec.aggregate is not None:
        stream = _aggregate(stream, spec.aggregate, spec.dead_letters_topic, partitions > 1)
    elif spec.sink_options.key and partitions > 1:
        stream = stream.select_key(_json_key(spec.sink_options.key))
    if isinstance(spec.sink, KafkaTopic):
        stream = stream.map_values(_without_source)
    stream.to(spec.output_topic)
    return app


def _add(stream: Stream[Any, Any], step: Step, name: str, spread: bool) -> Stream[Any, Any]:
    if isinstance(step, Dedupe):
        return _dedupe(stream, step, name, spread)
    if isinstance(step, Filter):
        return stream.filter(lambda row: step.condition(row))
    if isinstance(step, PythonStep):
        return stream.flat_map_values(_python(step))
    return stream.map_values(_row_function(step))


def _row_function(step: SetColumns | Select | Drop | Rename) -> Callable[[Row], Row]:
    """A row is this pipeline's own, fresh from its bytes: it is changed in place."""
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


def _python(step: PythonStep) -> Callable[[Row], Iterable[Row]]:
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


def _dedupe(stream: Stream[Any, Any], step: Dedupe, name: str, spread: bool) -> Stream[Any, Any]:
    key = _dedupe_key(step)
    if spread:
        text_key = stream.select_key(lambda row: orjson.dumps(key(row)).decode())
        stream = text_key.repartition(f"{name}-by-key")
    return stream.dedupe(name, key=key, window=step.window, by=step.by)


def _dedupe_key(step: Dedupe) -> Callable[[Row], Any]:
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
            raise ValueError(f"the key of the dedupe, {expression.text}, has no value")
        return found

    return key


def _content(row: Row) -> bytes:
    """All of a row but where it came from."""
    return orjson.dumps(_without_source(dict(row)), option=orjson.OPT_SORT_KEYS)


def _without_source(row: Row) -> Row:
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


def _json_key(names: tuple[str, ...]) -> Callable[[Row], str]:
    """The values of columns as the text of a JSON list."""

    def key(row: Row) -> str:
        try:
            return orjson.dumps([row[name] for name in names]).decode()
        except KeyError as error:
            raise MissingColumn(error.args[0], row) from None

    return key


def _aggregate(
    stream: Stream[Any, Any], step: Aggregate, dead_letters: str, spread: bool
) -> Stream[Any, Any]:
    """Results as rows, with the columns they are grouped by in front."""
    key = _json_key(step.by)
    if spread:
        grouped = stream.group_by(key, "aggregate-by")
    else:
        grouped = stream.select_key(key).group_by_key()
    if step.window is not None:
        grouped = grouped.windowed(Tumbling(step.window, grace=step.grace))
    values = {name: _aggregation(value) for name, value in step.values}
    table = grouped.agg("aggregate", **values)
    if step.window is None:
        return table.current().map_values(
            lambda key, value: {**dict(zip(step.by, _key_values(key), strict=True)), **value}
        )
    table.late().to(dead_letters)
    results = table.current() if step.emit == "current" else table.final()

    def row(key: Any, value: Row) -> Row:
        columns = dict(zip(step.by, _key_values(key.key), strict=True))
        return {**columns, WINDOW_COLUMN: iso_time(key.start_ms), **value}

    return results.map_values(row)


def _aggregation(value: Aggregation) -> Any:
    kind, argument = _AGGREGATIONS[value.function], value.argument
    if argument is None:
        return kind()
    if argument.columns == {argument.text}:
        return kind(argument.text)
    return kind(lambda row: argument(row))


@lru_cache(maxsize=65_536)
def _key_values(key: str) -> list[Any]:
    values: list[Any] = orjson.loads(key)
    return values
