"""One face for all Kafka clients, so that each scenario is written once and run with each of them.

A driver makes producers, consumers and an admin out of one client library. What a client raises is
turned into one of three errors here, and keeps the client's own name for it in `native`: a scenario
asserts both that it was fenced and that the client's own API says so.

Everything blocks. Values are bytes. Times are milliseconds since 1970, waits are seconds.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

TopicPartition = tuple[str, int]
Headers = Sequence[tuple[str, bytes | None]]
WAIT_S = 30.0


class ClientError(Exception):
    """What a client raised; `native` is its own name for the error."""

    def __init__(self, native: str, text: str) -> None:
        super().__init__(f"{native}: {text}")
        self.native = native


class Fenced(ClientError):  # noqa: N818
    """The producer was fenced: another one with its transactional id came after it."""


class Abortable(ClientError):  # noqa: N818
    """The transaction must be aborted; the producer can go on after that."""


class Record(NamedTuple):
    """A record as a consumer saw it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


class Producer(AbstractContextManager["Producer"], ABC):
    """An idempotent producer; a transactional one if it was made with a transactional id."""

    @abstractmethod
    def init_transactions(self) -> None: ...

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand a record to the client; whether it arrived, `flush` says."""

    @abstractmethod
    def flush(self) -> list[int]:
        """Wait for all that was sent since the last flush; return the offsets in order of sending.

        Raises the first error that a record met.
        """

    @abstractmethod
    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: object) -> None:
        """Make these positions part of the transaction; `group` is a consumer's `group`."""

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def abort(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Consumer(AbstractContextManager["Consumer"], ABC):
    """A consumer that starts at the earliest record and commits only when it is told to."""

    @abstractmethod
    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions from their beginning, whatever the group has committed."""

    @abstractmethod
    def subscribe(self, topic: str) -> None:
        """Share the topic with the group's other members, from where the group has committed."""

    @abstractmethod
    def assignment(self) -> set[TopicPartition]: ...

    @abstractmethod
    def group(self) -> object:
        """Group, member and generation as they are now (KIP-447), for `send_offsets`."""

    @abstractmethod
    def poll(self, wait_s: float = 1.0) -> list[Record]: ...

    @abstractmethod
    def seek(self, partition: TopicPartition, offset: int) -> None: ...

    @abstractmethod
    def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    @abstractmethod
    def committed(self, partition: TopicPartition) -> int | None: ...

    @abstractmethod
    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        """The first offset at or after this time, or None."""

    @abstractmethod
    def end_offset(self, partition: TopicPartition) -> int:
        """High watermark, or last stable offset if the consumer reads committed records only."""

    @abstractmethod
    def close(self) -> None: ...

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Admin(AbstractContextManager["Admin"], ABC):
    """Topics, made and unmade."""

    @abstractmethod
    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None: ...

    @abstractmethod
    def delete_topic(self, name: str) -> None: ...

    @abstractmethod
    def partitions(self, topic: str) -> int | None:
        """How many partitions the topic has; None if there is no such topic."""

    @abstractmethod
    def topic_config(self, topic: str) -> dict[str, str]: ...

    @abstractmethod
    def close(self) -> None: ...

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Driver(ABC):
    """A client library.

    `limits` names what it cannot do: "group-metadata" (KIP-447), "null-header" (a header without a
    value), and codecs it has no code for.
    """

    name: str
    limits: frozenset[str] = frozenset()

    @abstractmethod
    def producer(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        compression: str = "none",
    ) -> Producer: ...

    @abstractmethod
    def consumer(
        self, bootstrap_servers: str, *, group_id: str | None = None, committed_only: bool = True
    ) -> Consumer: ...

    @abstractmethod
    def admin(self, bootstrap_servers: str) -> Admin: ...

    def close(self) -> None:  # noqa: B027 - most drivers hold nothing
        """Let go of what the driver holds for all its clients (a thread, a process)."""
