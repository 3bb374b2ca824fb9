"""What a pipeline is: frozen objects, the same whether they came from YAML or from Python."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from ottla.pipeline.expressions import Aggregation, Expression
from ottla.pipeline.urls import DatabaseSink, KafkaTopic, Sink, Source

FOREVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep the rows for which the expression is true."""

    condition: Expression


@dataclass(frozen=True, slots=True)
class SetColumns:
    """Give columns new values; each expression sees the columns set before it."""

    columns: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Select:
    """Keep only these columns."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop these columns."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    """Give columns other names: pairs of old and new."""

    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PythonStep:
    """A function of a Python file: takes a row, gives a row, a list of rows, or None for none."""

    path: str
    function: str


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Drop a row whose key was seen within the window. No key: the whole content is the key."""

    key: tuple[Expression, ...]
    window: timedelta
    by: Literal["event_time", "processing_time"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Group rows by columns, and by a window of time if there is one; compute values."""

    by: tuple[str, ...]
    window: timedelta | None
    grace: timedelta
    values: tuple[tuple[str, Aggregation], ...]
    emit: Literal["current", "final"]

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that tell the results apart."""
        return self.by if self.window is None else (*self.by, WINDOW_COLUMN)


Step = Filter | SetColumns | Select | Drop | Rename | PythonStep | Dedupe

WINDOW_COLUMN = "window_start"


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How rows go into a table.

    `key` empty means append; otherwise the row with the same key is replaced. `columns` gives
    types by name; what is not named is inferred from the first value. `schema`: `evolve` adds
    columns as they appear, `freeze` makes a row with an unknown column a dead letter.
    """

    key: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    schema: Literal["evolve", "freeze"] = "evolve"


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A whole pipeline."""

    name: str
    base: Path
    source: Source
    steps: tuple[Step, ...]
    timestamp: Expression | None
    aggregate: Aggregate | None
    sink: Sink
    sink_options: SinkOptions
    partitions: int = 1
    broker: str | None = None
    description: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_topic(self) -> str:
        """Where the source's rows land."""
        if isinstance(self.source, KafkaTopic):
            return self.source.topic
        return f"{self.name}-input"

    @property
    def output_topic(self) -> str:
        """Where the rows for the destination are."""
        if isinstance(self.sink, KafkaTopic):
            return self.sink.topic
        return f"{self.name}-output" if self.has_streams else self.input_topic

    @property
    def positions_topic(self) -> str:
        """Compacted: how far each file has been read."""
        return f"{self.name}-positions"

    @property
    def dead_letters_topic(self) -> str:
        """Rows that could not be read or transformed."""
        return f"{self.name}-dead-letters"

    @property
    def has_source(self) -> bool:
        """Whether a source worker is needed."""
        return not isinstance(self.source, KafkaTopic)

    @property
    def has_streams(self) -> bool:
        """Whether a streams worker is needed between source and sink."""
        return bool(self.steps) or self.aggregate is not None or isinstance(self.sink, KafkaTopic)

    @property
    def has_sink(self) -> bool:
        """Whether a sink worker is needed."""
        return isinstance(self.sink, DatabaseSink)

    @property
    def roles(self) -> tuple[str, ...]:
        """The workers of this pipeline, in the order data passes them."""
        wanted = (
            ("source", self.has_source),
            ("streams", self.has_streams),
            ("sink", self.has_sink),
        )
        return tuple(role for role, needed in wanted if needed)
