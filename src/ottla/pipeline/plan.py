"""What each hop of a pipeline does to keep exactly-once, and what would break it; said beforehand.

A plan is made without starting anything. What is known by then is checked: that the columns which
expressions name are in the files, that Python functions load. A hop that could not keep the
guarantee would be refused here, not run with less.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ottla.client.settings import shown
from ottla.pipeline.dead_letters import SOURCE_COLUMN
from ottla.pipeline.errors import ConfigError
from ottla.pipeline.expressions import Expression
from ottla.pipeline.model import (
    FOREVER,
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
from ottla.pipeline.nodes import nearest
from ottla.pipeline.sources.files import find_files
from ottla.pipeline.steps import load_function
from ottla.pipeline.urls import DatabaseSink, FileSource, KafkaTopic

_HEADER_BYTES = 1 << 20
_EXACTLY_ONCE = "exactly once"


_OWN_BROKER = "a broker of its own (embedded; fsync before every answer)"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop: what it does, by which mechanism, and what a person should know about it."""

    name: str
    what: str
    mechanism: str
    guarantee: str = _EXACTLY_ONCE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The hops of a pipeline in order."""

    pipeline: str
    hops: tuple[Hop, ...]
    broker: str
    files: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """For a person."""
        lines = [f"{self.pipeline}  on {self.broker}"]
        for hop in self.hops:
            lines += [
                "",
                f"  {hop.name:<10}{hop.what}",
                f"  {'':<10}{hop.guarantee}: {hop.mechanism}",
                *(f"  {'':<10}note: {note}" for note in hop.notes),
            ]
        return "\n".join(lines)


def make_plan(spec: PipelineSpec, bootstrap_servers: str | None = None) -> Plan:
    """The plan of a pipeline. Raises ConfigError if it cannot work as it is described."""
    files = find_files(spec.source) if isinstance(spec.source, FileSource) else []
    _check_columns(spec, files)
    given = bootstrap_servers or spec.broker
    return Plan(
        pipeline=spec.name,
        hops=tuple(_hops(spec, files)),
        broker=shown(given) if given else _OWN_BROKER,
        files=tuple(files),
    )


def _hops(spec: PipelineSpec, files: list[str]) -> Iterator[Hop]:
    yield _source_hop(spec, files)
    for step in spec.steps:
        yield _step_hop(step)
    if spec.aggregate is not None:
        yield _aggregate_hop(spec.aggregate)
    yield _sink_hop(spec)
    yield Hop(
        "errors",
        f"dead letters → topic {spec.dead_letters_topic}"
        + (" and table _ottla_dead_letters" if spec.has_sink else ""),
        "each is written in the transaction that moves the position past its row",
    )


def _source_hop(spec: PipelineSpec, files: list[str]) -> Hop:
    if isinstance(spec.source, KafkaTopic):
        return Hop(
            "from",
            f"topic {spec.input_topic}",
            "offsets are committed in the transaction of the results; read_committed",
            notes=("what its producers send twice arrives twice: a dedupe tells them apart",),
        )
    notes = [f"{len(files)} files now" if files else "no file matches yet"]
    if any(path.endswith(".gz") for path in files):
        notes.append("a compressed file is read from its beginning again after a restart")
    return Hop(
        "from",
        f"{spec.source.shown} → topic {spec.input_topic}",
        "rows, dead letters and file position in one transaction; the fence before the position "
        "is read (KIP-618). A file that was changed, not appended to, is refused",
        notes=tuple(notes),
    )


def _step_hop(step: Step) -> Hop:
    if isinstance(step, Dedupe):
        key = ", ".join(each.shown for each in step.key) or "the whole content"
        window = "forever" if step.window == FOREVER else f"for {_span(step.window)}"
        notes = []
        if step.by == "processing_time":
            notes.append("the time of arrival decides: after a longer stop more is let through")
        return Hop(
            "dedupe",
            f"by {key}, remembered {window}",
            "seen keys, output and input position in one transaction",
            notes=tuple(notes),
        )
    if isinstance(step, PythonStep):
        return Hop(
            "python",
            f"{Path(step.path).name}:{step.function}",
            "its results are in the transaction of the row",
            notes=("after a crash it is called again for the same row: keep it free of effects",),
        )
    names = {Filter: "filter", SetColumns: "set", Select: "select", Drop: "drop", Rename: "rename"}
    return Hop(names[type(step)], _told(step), "a pure function of the row")


def _told(step: Step) -> str:
    if isinstance(step, Filter):
        return step.condition.shown
    if isinstance(step, SetColumns):
        return ", ".join(f"{name} = {expression.shown}" for name, expression in step.columns)
    if isinstance(step, Rename):
        return ", ".join(f"{old} → {new}" for old, new in step.names)
    return ", ".join(step.names) if isinstance(step, Select | Drop) else ""


def _aggregate_hop(step: Aggregate) -> Hop:
    values = ", ".join(f"{name} = {value.shown}" for name, value in step.values)
    window = f" per {_span(step.window)}" if step.window is not None else ""
    notes = []
    if step.window is not None:
        notes.append(f"rows later than {_span(step.grace)} after their window are dead letters")
    if step.emit == "final":
        notes.append("a window's result appears once a later row has closed it: the last ones wait")
    return Hop(
        "aggregate",
        f"{values} by {', '.join(step.by)}{window}",
        "results, state and input position in one transaction",
        notes=tuple(notes),
    )


def _sink_hop(spec: PipelineSpec) -> Hop:
    if isinstance(spec.sink, KafkaTopic):
        return Hop("to", f"topic {spec.output_topic}", "in the transaction of the results")
    key = spec.sink_options.key
    how = f"replacing by {', '.join(key)}" if key else "appending"
    return Hop(
        "to",
        f"{spec.sink.shown} table {spec.sink.table}, {how}",
        "rows and next offset in one transaction of the database; epoch and offset are compared "
        "and set, so of two workers one is fenced",
    )


def _check_columns(spec: PipelineSpec, files: list[str]) -> None:
    """Hold what expressions name against the columns of the first file."""
    columns = _file_columns(spec.source, files) if isinstance(spec.source, FileSource) else None
    if spec.timestamp is not None:
        _check(spec, "timestamp", [spec.timestamp], columns)
    for step in spec.steps:
        columns = _check_step(spec, step, columns)
    if spec.aggregate is not None:
        _check_names(spec, "aggregate.by", spec.aggregate.by, columns)
        arguments = [value.argument for _, value in spec.aggregate.values]
        _check(spec, "aggregate.values", [each for each in arguments if each], columns)
    elif isinstance(spec.sink, DatabaseSink):
        _check_names(spec, "to.key", spec.sink_options.key, columns)


def _check_step(spec: PipelineSpec, step: Step, columns: set[str] | None) -> set[str] | None:
    """Check a step; the columns behind it, None if nobody knows."""
    if isinstance(step, PythonStep):
        load_function(step)
        return None
    if isinstance(step, Filter):
        _check(spec, "filter", [step.condition], columns)
    elif isinstance(step, Dedupe):
        _check(spec, "dedupe", step.key, columns)
    elif isinstance(step, SetColumns):
        for name, expression in step.columns:
            _check(spec, f"set.{name}", [expression], columns)
            columns = None if columns is None else columns | {name}
    elif isinstance(step, Select):
        _check_names(spec, "select", step.names, columns)
        return set(step.names)
    elif isinstance(step, Drop):
        _check_names(spec, "drop", step.names, columns)
        return None if columns is None else columns - set(step.names)
    else:
        _check_names(spec, "rename", [old for old, _ in step.names], columns)
        new_names = dict(step.names)
        return None if columns is None else {new_names.get(name, name) for name in columns}
    return columns


def _check(
    spec: PipelineSpec, place: str, expressions: Iterable[Expression], columns: set[str] | None
) -> None:
    for expression in expressions:
        _check_names(spec, f"{place}: {expression.shown}", sorted(expression.columns), columns)


def _check_names(
    spec: PipelineSpec, place: str, names: Iterable[str], columns: set[str] | None
) -> None:
    for name in names:
        if columns is not None and name not in columns and name != SOURCE_COLUMN:
            raise ConfigError(
                f"{spec.name}: {place}: there is no column {name!r} here; {nearest(name, columns)}"
            )


def _file_columns(source: FileSource, files: list[str]) -> set[str] | None:
    """The columns of the first file, None if they are not known beforehand."""
    if source.format == "jsonl" or not files:
        return None
    try:
        with gzip.open(files[0]) if files[0].endswith(".gz") else open(files[0], "rb") as file:
            text = file.read(_HEADER_BYTES).decode("utf-8-sig", "replace")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{files[0]} cannot be read: {error}") from error
    delimiter = "\t" if source.format == "tsv" else ","
    names = next(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter), [])
    return {name.strip() for name in names} or None


def _span(length: timedelta) -> str:
    """A length of time as it is written in a description."""
    milliseconds = round(length.total_seconds() * 1000)
    for name, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds % size == 0 and milliseconds:
            return f"{milliseconds // size}{name}"
    return f"{milliseconds}ms"
