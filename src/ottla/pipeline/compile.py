"""From a pipeline's steps to a streams application.

With one partition everything a key needs is in one place already, so no row is moved through an
extra topic: a dedupe or an aggregate costs its state and nothing else. With more partitions rows
travel to the partition of their key first.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from ottla.pipeline.expressions import Aggregation
from ottla.pipeline.functions import Row, iso_time, millis
from ottla.pipeline.model import (
    WINDOW_COLUMN,
    Aggregate,
    Dedupe,
    Filter,
    PipelineSpec,
    PythonStep,
    Step,
)
from ottla.pipeline.steps import (
    dedupe_key,
    json_key,
    python_function,
    row_function,
    without_source,
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
        stream = stream.select_key(json_key(spec.sink_options.key))
    if isinstance(spec.sink, KafkaTopic):
        stream = stream.map_values(without_source)
    stream.to(spec.output_topic)
    return app


def _add(stream: Stream[Any, Any], step: Step, name: str, spread: bool) -> Stream[Any, Any]:
    if isinstance(step, Dedupe):
        return _dedupe(stream, step, name, spread)
    if isinstance(step, Filter):
        return stream.filter(lambda row: step.condition(row))
    if isinstance(step, PythonStep):
        return stream.flat_map_values(python_function(step))
    return stream.map_values(row_function(step))


def _dedupe(stream: Stream[Any, Any], step: Dedupe, name: str, spread: bool) -> Stream[Any, Any]:
    key = dedupe_key(step)
    if spread:
        text_key = stream.select_key(lambda row: orjson.dumps(key(row)).decode())
        stream = text_key.repartition(f"{name}-by-key")
    return stream.dedupe(name, key=key, window=step.window, by=step.by)


def _aggregate(
    stream: Stream[Any, Any], step: Aggregate, dead_letters: str, spread: bool
) -> Stream[Any, Any]:
    """Results as rows, with the columns they are grouped by in front."""
    key = json_key(step.by)
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

    @lru_cache(maxsize=65_536)
    def key_columns(key: str, start_ms: int) -> Row:
        return {
            **dict(zip(step.by, _key_values(key), strict=True)),
            WINDOW_COLUMN: iso_time(start_ms),
        }

    return results.map_values(lambda key, value: {**key_columns(key.key, key.start_ms), **value})


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
