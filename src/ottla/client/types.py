"""Names shared by the client: a partition, and a message as it is consumed."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes | None]]


class Message(Protocol):
    """A consumed record."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]:
        """The type (1: set by the producer, 2: by the broker), and milliseconds since 1970."""
        ...

    def headers(self) -> list[tuple[str, bytes]] | None: ...
    def error(self) -> Any: ...


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Position(NamedTuple):
    """A committed offset, -1 if there is none, and the metadata stored with it."""

    offset: int
    metadata: str = ""
