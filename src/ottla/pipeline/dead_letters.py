"""Dead letters: rows that could not be read, transformed or stored, kept with the reason.

A dead letter is written in the same transaction that moves the position past its row, so there is
exactly one for each row that failed. Those of the source and of the transformations are records of
the topic `<pipeline>-dead-letters`; those that the database refused are in the database itself, in
`_ottla_dead_letters`, because only there can they share a transaction with the sink's position.
"""

from dataclasses import asdict, dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that failed. `source` is where it came from, as file:line or topic-partition@offset."""

    stage: str  # source, streams or sink
    source: str
    column: str | None
    reason: str
    raw: str

    def to_bytes(self) -> bytes:
        """As the value of a record."""
        return orjson.dumps(asdict(self))

    def __str__(self) -> str:
        column = f" column {self.column}:" if self.column else ""
        return f"{self.source}:{column} {self.reason}"


def from_bytes(value: bytes) -> DeadLetter:
    """The dead letter of a record's value. Raises ValueError if it is none."""
    content: dict[str, Any] = orjson.loads(value)
    try:
        return DeadLetter(**content)
    except TypeError as error:
        raise ValueError(f"not a dead letter: {error}") from error
