"""From a description to a pipeline.

    orders:
      from: file:orders*.csv
      dedupe: id
      to: sqlite:shop.db?table=orders

is a whole pipeline; everything else has a default. Data passes in this order, whatever the order
in the file: `from`, `dedupe`, `steps` (which may hold further dedupes), `aggregate`, `to`.
A wrong name, type or combination is refused with file, line, column and the nearest right name.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from ottla.pipeline.errors import ConfigError
from ottla.pipeline.expressions import Aggregation, compile_aggregation, compile_expression
from ottla.pipeline.model import (
    FOREVER,
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
    SinkOptions,
    Step,
)
from ottla.pipeline.nodes import Node, load_yaml, nearest
from ottla.pipeline.urls import KafkaTopic, parse_sink, parse_source

COLUMN_TYPES = ("integer", "real", "text", "boolean", "timestamp", "json")

_SETTINGS = (
    "from",
    "dedupe",
    "steps",
    "timestamp",
    "aggregate",
    "to",
    "partitions",
    "broker",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load(path: str | Path, name: str | None = None) -> PipelineSpec:
    """The pipeline `name` of a YAML file; without a name, the only one in it.

    Raises ConfigError, naming file, line and column.
    """
    file = Path(path)
    pipelines = {key: (place, node) for key, place, node in load_yaml(file).entries()}
    if name is None:
        if len(pipelines) != 1:
            raise ConfigError(
                f"{file}: has {len(pipelines)} pipelines, say which one: {', '.join(pipelines)}"
            )
        name = next(iter(pipelines))
    if name not in pipelines:
        raise ConfigError(f"{file}: has no pipeline {name!r}; {nearest(name, pipelines)}")
    place, node = pipelines[name]
    if not _NAME.fullmatch(name):
        place.fail("a pipeline's name is made of letters, digits, '-' and '_'")
    node.path = name
    return _pipeline(name, node, file.absolute().parent)


def build(name: str, description: Mapping[str, Any], base: Path) -> PipelineSpec:
    """The pipeline of a description given in Python. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: a pipeline's name is made of letters, digits, '-' and '_'")
    return _pipeline(name, Node(description, name), base)


def _pipeline(name: str, node: Node, base: Path) -> PipelineSpec:
    fields = node.fields(_SETTINGS, required=("from", "to"))
    timestamp = fields.get("timestamp")
    steps: list[Step] = []
    if "dedupe" in fields:
        steps.append(_dedupe(fields["dedupe"], timed=timestamp is not None))
    if "steps" in fields:
        steps += [_step(item, base, timestamp is not None) for item in fields["steps"].items()]
    aggregate = _aggregate(fields["aggregate"]) if "aggregate" in fields else None
    url, options = _destination(fields["to"], aggregate)
    spec = PipelineSpec(
        name=name,
        base=base,
        source=parse_source(fields["from"], base),
        steps=tuple(steps),
        timestamp=compile_expression(timestamp) if timestamp else None,
        aggregate=aggregate,
        sink=parse_sink(url, base, default_table=name.replace("-", "_")),
        sink_options=options,
        partitions=fields["partitions"].number() if "partitions" in fields else 1,
        broker=fields["broker"].text() if "broker" in fields else None,
        description=cast(dict[str, object], _plain(node.value)),
    )
    if isinstance(spec.sink, KafkaTopic) and spec.input_topic == spec.output_topic:
        fields["to"].fail("source and destination are the same topic: it would run in a circle")
    return spec


def _step(node: Node, base: Path, timed: bool) -> Step:
    entries = list(node.entries())
    if len(entries) != 1:
        node.fail("each step is one entry, such as - filter: …; write the next one as a new item")
    name, key, value = entries[0]
    if name == "dedupe":
        return _dedupe(value, timed)
    if name == "python":
        return _python(value, base)
    makers: dict[str, Callable[[Node], Step]] = {
        "filter": lambda node: Filter(compile_expression(node)),
        "set": _set_columns,
        "select": lambda node: Select(node.names()),
        "drop": lambda node: Drop(node.names()),
        "rename": _rename,
    }
    if name not in makers:
        key.fail(f"there is no step {name!r}; {nearest(name, [*makers, 'dedupe', 'python'])}")
    return makers[name](value)


def _set_columns(node: Node) -> SetColumns:
    columns = []
    for name, key, value in node.entries():
        _check_column(name, key)
        columns.append((name, compile_expression(value)))
    return SetColumns(tuple(columns))


def _rename(node: Node) -> Rename:
    pairs = []
    for old, _, new in node.entries():
        _check_column(new.text(), new)
        pairs.append((old, new.text()))
    return Rename(tuple(pairs))


def _python(node: Node, base: Path) -> PythonStep:
    path, colon, function = node.text().rpartition(":")
    if not colon or not _IDENTIFIER.fullmatch(function):
        node.fail("write the file and the function in it: transforms.py:enrich")
    file = base / path
    if not file.is_file():
        node.fail(f"there is no file {file}")
    return PythonStep(str(file), function)


def _dedupe(node: Node, timed: bool) -> Dedupe:
    by: Literal["event_time", "processing_time"] = "event_time" if timed else "processing_time"
    if not isinstance(node.value, Mapping):
        return Dedupe(_dedupe_key(node), FOREVER, by)
    fields = node.fields(("key", "window", "by"), required=("key",))
    window = FOREVER
    if "window" in fields and fields["window"].value != "forever":
        window = fields["window"].duration()
        if window <= timedelta(0):
            fields["window"].fail("a window longer than nothing is needed here")
    if "by" in fields:
        choice = fields["by"].choice(("event_time", "processing_time"))
        by = cast(Literal["event_time", "processing_time"], choice)
        if by == "event_time" and not timed:
            fields["by"].fail("event_time needs to know the time of a row: add timestamp: <column>")
    return Dedupe(_dedupe_key(fields["key"]), window, by)


def _dedupe_key(node: Node) -> tuple[Any, ...]:
    if node.value == "content":
        return ()
    return tuple(compile_expression(item) for item in node.items())


def _aggregate(node: Node) -> Aggregate:
    fields = node.fields(("by", "window", "grace", "values", "emit"), required=("by", "values"))
    by = fields["by"].names()
    for item in fields["by"].items():
        _check_column(item.text(), item)
    window = fields["window"].duration() if "window" in fields else None
    if window is None:
        for name in ("grace", "emit"):
            if name in fields:
                fields[name].fail(f"{name} is about windows of time; add window: 1d or the like")
    elif window < timedelta(milliseconds=1):
        fields["window"].fail("a window longer than nothing is needed here")
    values: list[tuple[str, Aggregation]] = []
    for name, key, value in fields["values"].entries():
        _check_column(name, key)
        if name in by or name == WINDOW_COLUMN:
            key.fail(f"{name!r} is the name of a column it is grouped by; choose another")
        values.append((name, compile_aggregation(value)))
    if not values:
        fields["values"].fail("name at least one value, such as rows: count()")
    emit = fields["emit"].choice(("current", "final")) if "emit" in fields else "current"
    return Aggregate(
        by=by,
        window=window,
        grace=fields["grace"].duration() if "grace" in fields else timedelta(0),
        values=tuple(values),
        emit=cast(Literal["current", "final"], emit),
    )


def _destination(node: Node, aggregate: Aggregate | None) -> tuple[Node, SinkOptions]:
    columns: list[tuple[str, str]] = []
    if aggregate is not None and aggregate.window is not None:
        columns.append((WINDOW_COLUMN, "timestamp"))
    if not isinstance(node.value, Mapping):
        return node, SinkOptions(aggregate.key_columns if aggregate else (), tuple(columns))
    fields = node.fields(("url", "key", "columns", "schema"), required=("url",))
    key = fields["key"].names() if "key" in fields else ()
    if aggregate is not None:
        if key and set(key) != set(aggregate.key_columns):
            fields["key"].fail(
                "an aggregate has one row for each "
                f"{', '.join(aggregate.key_columns)}: leave key out, or name just these"
            )
        key = aggregate.key_columns
    for name, place, kind in fields["columns"].entries() if "columns" in fields else ():
        _check_column(name, place)
        columns.append((name, kind.choice(COLUMN_TYPES)))
    schema = fields["schema"].choice(("evolve", "freeze")) if "schema" in fields else "evolve"
    options = SinkOptions(key, tuple(columns), cast(Literal["evolve", "freeze"], schema))
    return fields["url"], options


def _check_column(name: str, node: Node) -> None:
    if not _IDENTIFIER.fullmatch(name) or name.startswith("_"):
        node.fail(f"{name!r} is no name for a column: a letter, then letters, digits and '_'")


def _plain(value: Any) -> Any:
    """Plain dicts and lists, without what the YAML reader hangs on them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)
