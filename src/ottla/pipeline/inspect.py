"""What an audit and the list of dead letters need to know of a pipeline, gathered in one go."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ottla.client import Consumer, Message, Partition
from ottla.pipeline.dead_letters import DeadLetter, dead_letter_of
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.model import WINDOW_COLUMN, PipelineSpec
from ottla.pipeline.recount import Recount, recount, result_rows
from ottla.pipeline.sinks.open import open_for
from ottla.pipeline.sinks.sink import Sink, Totals
from ottla.pipeline.sources.files import FilePosition
from ottla.pipeline.topics import read_topic


@dataclass(frozen=True, slots=True)
class Inspection:
    """A pipeline as its logs and its destination show it."""

    positions: tuple[FilePosition, ...]  # of its files
    recount: Recount  # of the input that the transformations have committed
    input_open: int  # records of the input behind that
    output: int  # records in the output topic
    output_open: int  # of them, not in the destination yet
    dead_letters: tuple[DeadLetter, ...]  # of the topic
    delivered: Totals
    results_expected: int = 0  # rows of an aggregate
    results_equal: int = 0  # of them, the same in the destination


def inspect(spec: PipelineSpec, bootstrap_servers: str) -> Inspection:
    """Look into everything. Raises PipelineStopped, SinkAway, ClientError."""
    dead = tuple(topic_dead_letters(spec, bootstrap_servers))
    late = frozenset(letter.source for letter in dead if letter.step == "aggregate")
    committed = _committed(spec, bootstrap_servers)
    done, input_open = [], 0
    for message in read_topic(bootstrap_servers, spec.input_topic):
        if committed is None or message.offset() < committed.get(message.partition(), 0):
            done.append(message)
        else:
            input_open += 1
    if input_open and spec.partitions > 1:
        raise PipelineStopped(
            "the pipeline is at work, and over several partitions what is between its steps "
            "cannot be counted: audit it when everything is delivered"
        )
    counted = recount(spec, done, late)
    found = Inspection(
        positions=tuple(_positions(spec, bootstrap_servers)),
        recount=counted,
        input_open=input_open,
        output=_count(read_topic(bootstrap_servers, spec.output_topic)),
        output_open=0,
        dead_letters=dead,
        delivered=Totals(0, 0),
    )
    return _with_destination(spec, bootstrap_servers, found) if spec.has_sink else found


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a pipeline is."""

    positions: tuple[FilePosition, ...]
    input_open: int  # records that the transformations have not committed
    output_open: int  # records that are not in the destination
    delivered: Totals


def look(spec: PipelineSpec, bootstrap_servers: str) -> Standing:
    """A quick look, without counting anything anew. Raises as `inspect` does."""
    committed = _committed(spec, bootstrap_servers)
    input_open = 0
    if committed is not None:
        input_open = _count(read_topic(bootstrap_servers, spec.input_topic, committed))
    output_open, delivered = 0, Totals(0, 0)
    if spec.has_sink:
        sink = open_for(spec, topic_id="", owner="inspect")
        sink.connect()
        try:
            behind = {number: each.next_offset for number, each in sink.recorded().items()}
            output_open = _count(read_topic(bootstrap_servers, spec.output_topic, behind))
            delivered = sink.totals()
        finally:
            sink.close()
    positions = tuple(_positions(spec, bootstrap_servers))
    return Standing(positions, input_open, output_open, delivered)


def _count(messages: Iterator[Message]) -> int:
    return sum(1 for _ in messages)


def topic_dead_letters(spec: PipelineSpec, bootstrap_servers: str) -> Iterator[DeadLetter]:
    """Dead letters of the source and the transformations."""
    return map(dead_letter_of, read_topic(bootstrap_servers, spec.dead_letters_topic))


def sink_dead_letters(spec: PipelineSpec) -> list[DeadLetter]:
    """Dead letters of the destination."""
    sink = open_for(spec, topic_id="", owner="inspect")
    sink.connect()
    try:
        return [
            DeadLetter(
                "sink",
                row.source or f"{spec.output_topic}-{row.partition}@{row.offset}",
                row.column,
                row.reason,
                row.raw,
            )
            for row in sink.dead_letters()
        ]
    finally:
        sink.close()


def destination_rows(spec: PipelineSpec, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns of the destination's table and up to `count` of its rows."""
    if not spec.has_sink:
        return [], []
    sink = open_for(spec, topic_id="", owner="inspect")
    sink.connect()
    try:
        return sink.sample(count)
    finally:
        sink.close()


def _positions(spec: PipelineSpec, bootstrap_servers: str) -> Iterator[FilePosition]:
    if not spec.has_source:
        return
    latest: dict[str, FilePosition] = {}
    for message in read_topic(bootstrap_servers, spec.positions_topic):
        position = FilePosition.from_bytes(message.value() or b"")
        latest[position.path] = position
    yield from latest.values()


def _committed(spec: PipelineSpec, bootstrap_servers: str) -> dict[int, int] | None:
    """How far the transformations have come in the input; None if there are none."""
    if not spec.has_streams:
        return None
    partitions = [Partition(spec.input_topic, number) for number in range(spec.partitions)]
    with Consumer(bootstrap_servers, group_id=spec.name) as consumer:
        found = consumer.committed(partitions)
    return {each.partition: max(0, position.offset) for each, position in found.items()}


def _with_destination(spec: PipelineSpec, bootstrap_servers: str, found: Inspection) -> Inspection:
    sink = open_for(spec, topic_id="", owner="inspect")
    sink.connect()
    try:
        next_offsets = {number: p.next_offset for number, p in sink.recorded().items()}
        behind: Iterator[Message] = read_topic(bootstrap_servers, spec.output_topic, next_offsets)
        expected, equal = _compare_results(spec, sink, found.recount)
        return Inspection(
            positions=found.positions,
            recount=found.recount,
            input_open=found.input_open,
            output=found.output,
            output_open=_count(behind),
            dead_letters=found.dead_letters,
            delivered=sink.totals(),
            results_expected=expected,
            results_equal=equal,
        )
    finally:
        sink.close()


def _compare_results(spec: PipelineSpec, sink: Sink, counted: Recount) -> tuple[int, int]:
    """How many rows an aggregate must have, and how many of the table are just these."""
    step = spec.aggregate
    if step is None:
        return 0, 0
    key = (*step.by, WINDOW_COLUMN) if step.window is not None else step.by
    columns = (*key, *(name for name, _ in step.values))
    expected = result_rows(counted.results)
    rows = {row[: len(key)]: row[len(key) :] for row in sink.fetch(columns)}
    equal = sum(expected.get(key) == values for key, values in rows.items())
    if step.emit == "final":  # windows that no later row has closed are not there yet
        return len(rows), equal
    return max(len(expected), len(rows)), equal
