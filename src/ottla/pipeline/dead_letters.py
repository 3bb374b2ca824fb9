"""Dead letters: rows that could not be read, transformed or stored, kept with the reason.

A dead letter is written in the same transaction that moves the position past its row, so there is
exactly one for each row that failed. Those of the source and of the transformations are records of
the topic `<pipeline>-dead-letters`: the value is what was read, the headers say what was wrong with
it. Those that the database refused are in the database itself, in `_ottla_dead_letters`, because
only there can they share a transaction with the sink's position.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from ottla.client import Headers, Message

SOURCE_COLUMN = "_source"  # of every row: the file and line it was read from
_LATE = "it came after its window of time had closed; a longer grace waits longer"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that failed. `source` is where it came from, as file:line or topic-partition@offset."""

    step: str  # source, the step of the transformations, or sink
    source: str
    column: str | None
    reason: str
    raw: str

    def headers(self) -> Headers:
        """The headers of its record; the value is `raw`."""
        told = {"source": self.source, "step": self.step, "reason": self.reason}
        if self.column is not None:
            told["column"] = self.column
        return [(f"ottla.{name}", text.encode()) for name, text in told.items()]

    def __str__(self) -> str:
        column = f" column {self.column}:" if self.column else ""
        return f"{self.source}:{column} {self.reason}"


def dead_letter_of(message: Message) -> DeadLetter:
    """The dead letter that a record of the topic is."""
    told = dict(_ours(message))
    value = bytes(message.value() or b"")
    reason = told.get("reason", _LATE)
    if "error" in told and told["error"] not in ("MissingColumn", "ValueError"):
        reason = f"{told['error']}: {reason}"
    return DeadLetter(
        step=told.get("step", "aggregate"),
        source=told.get("source") or _source_of(value) or _place_of(message, told),
        column=told.get("column"),
        reason=reason,
        raw=value.decode("utf-8", "backslashreplace"),
    )


def _ours(message: Message) -> Iterator[tuple[str, str]]:
    for name, value in list(message.headers() or ()):
        if name.startswith("ottla.") and isinstance(value, bytes):
            yield name.removeprefix("ottla."), value.decode("utf-8", "backslashreplace")


def _source_of(value: bytes) -> str | None:
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    source = row.get(SOURCE_COLUMN) if isinstance(row, dict) else None
    return source if isinstance(source, str) else None


def _place_of(message: Message, told: dict[str, str]) -> str:
    topic = told.get("topic", message.topic())
    partition, offset = told.get("partition", message.partition()), told.get("offset")
    return f"{topic}-{partition}@{message.offset() if offset is None else offset}"
