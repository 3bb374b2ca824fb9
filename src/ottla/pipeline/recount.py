"""Counting again, in the simplest way: one loop over the committed input, dicts for state.

This is what an audit compares a pipeline with. It shares the meaning of single steps with the
streams worker, and none of its state, windows, transactions or recovery.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ottla.client import Message
from ottla.pipeline.dead_letters import SOURCE_COLUMN
from ottla.pipeline.functions import Row, iso_time, millis
from ottla.pipeline.model import Aggregate, Dedupe, Filter, PipelineSpec, PythonStep
from ottla.pipeline.steps import dedupe_key, python_function, row_function

Results = dict[tuple[Any, ...], dict[str, Any]]


@dataclass(slots=True)
class Recount:
    """What became of the rows of the input topic."""

    read: int = 0
    deduplicated: int = 0
    unsure: int = 0
    filtered: int = 0
    made: int = 0
    failed: int = 0
    out: int = 0
    results: Results = field(default_factory=dict)  # of an aggregate, by its key columns


def recount(spec: PipelineSpec, messages: Iterable[Message], late: frozenset[str]) -> Recount:
    """Do a pipeline's transformations again. `late` are the sources of rows that came too late."""
    return _Recounter(spec, late).run(messages)


class _Failed(Exception):  # noqa: N818 - says what happened
    """A row that a step could not work on."""


class _Recounter:
    def __init__(self, spec: PipelineSpec, late: frozenset[str]) -> None:
        self._spec = spec
        self._late = late
        self._count = Recount()
        self._clocks: Counter[int] = Counter()
        self._seen: list[dict[Any, int]] = [{} for _ in spec.steps]
        self._marked: list[tuple[int, Any, int | None]] = []  # what a row that fails takes back
        self._functions = [
            dedupe_key(step)
            if isinstance(step, Dedupe)
            else step.condition
            if isinstance(step, Filter)
            else python_function(step)
            if isinstance(step, PythonStep)
            else row_function(step)
            for step in spec.steps
        ]

    def run(self, messages: Iterable[Message]) -> Recount:
        for message in messages:
            self._count.read += 1
            try:
                rows = self._transform(message)
            except _Failed:
                self._count.failed += 1
                continue
            self._count.out += len(rows)
        return self._count

    def _transform(self, message: Message) -> list[Row]:
        """The rows that come of a record; counted only if none of its steps fails."""
        before = (self._count.deduplicated, self._count.unsure)
        before_rest = (self._count.filtered, self._count.made)
        self._marked.clear()
        try:
            row = orjson.loads(message.value() or b"null")
            at_ms = self._time_of(row, message)
            clock = max(self._clocks[message.partition()], at_ms)
            rows = [row]
            for place, step in enumerate(self._spec.steps):
                rows = [out for each in rows for out in self._step(place, step, each, clock)]
            self._clocks[message.partition()] = clock
            if self._spec.aggregate is not None:
                rows = [each for each in rows if self._add(self._spec.aggregate, each, at_ms)]
        except Exception as error:
            self._count.deduplicated, self._count.unsure = before
            self._count.filtered, self._count.made = before_rest
            for place, key, first in reversed(self._marked):
                if first is None:
                    del self._seen[place][key]
                else:
                    self._seen[place][key] = first
            raise _Failed from error
        return rows

    def _time_of(self, row: Row, message: Message) -> int:
        if self._spec.timestamp is None:
            return message.timestamp()[1]
        return millis(self._spec.timestamp(row))

    def _step(self, place: int, step: object, row: Row, clock: int) -> list[Row]:
        answer: Any = self._functions[place](row)
        if isinstance(step, Dedupe):
            return [row] if self._is_new(place, step, answer, clock) else []
        if isinstance(step, Filter):
            self._count.filtered += not answer
            return [row] if answer else []
        if isinstance(step, PythonStep):
            rows = list(answer)
            self._count.filtered += not rows
            self._count.made += max(0, len(rows) - 1)
            return rows
        return [answer]

    def _is_new(self, place: int, step: Dedupe, key: Any, clock: int) -> bool:
        seen = self._seen[place]
        digest = key if isinstance(key, bytes) else orjson.dumps(key)
        window_ms = step.window.total_seconds() * 1000
        first = seen.get(digest)
        if first is None or clock - first >= 1.5 * window_ms:
            self._marked.append((place, digest, first))
            seen[digest] = clock
            return True
        if clock - first < window_ms:
            self._count.deduplicated += 1
            return False
        self._count.unsure += 1
        return False

    def _add(self, step: Aggregate, row: Row, at_ms: int) -> bool:
        """Add a row to the results of an aggregate; False if it came too late for them."""
        if row.get(SOURCE_COLUMN) in self._late:
            return False
        key = tuple(row[name] for name in step.by)
        if step.window is not None:
            size_ms = round(step.window.total_seconds() * 1000)
            key += (iso_time(at_ms - at_ms % size_ms),)
        arguments = {name: v.argument(row) if v.argument else 1 for name, v in step.values}
        result = self._count.results.setdefault(key, dict.fromkeys(arguments))
        for name, value in step.values:
            result[name] = _combined(value.function, result[name], arguments[name])
        return True


def _combined(function: str, so_far: Any, value: Any) -> Any:
    """One more value. A mean is kept as its sum and count."""
    if function == "count":
        return (so_far or 0) + (value is not None)
    if value is None:
        return so_far
    if function == "avg":
        total, count = so_far or (0, 0)
        return total + value, count + 1
    if so_far is None:
        return value
    if function == "sum":
        return so_far + value
    return min(so_far, value) if function == "min" else max(so_far, value)


def result_rows(results: Results) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The results by key, each as the values of its row; a mean is divided out."""
    return {
        key: tuple(v[0] / v[1] if isinstance(v, tuple) else v for v in values.values())
        for key, values in results.items()
    }
