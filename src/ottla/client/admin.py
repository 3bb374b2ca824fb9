"""Topics and offsets: make, describe, list. Making what is there already is no error."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Unpack

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from ottla.client.errors import (
    ClientError,
    Fatal,
    TimedOut,
    kafka_error,
    not_let_in,
    translate,
)
from ottla.client.settings import Refusals, Security, connection
from ottla.client.types import Partition

_RETRY_S = 0.05
# A topic that was just made is known before its leader serves it.
_NOT_YET = frozenset(
    (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError._TIMED_OUT,
    )
)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to make. `config` as in Kafka: {"cleanup.policy": "compact"}."""

    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = -1  # -1: the broker's default


class Deletion:
    """Records that are being deleted; nobody has to wait for it."""

    def __init__(self, futures: Mapping[TopicPartition, "Future[Any]"]) -> None:
        self._futures = futures

    def done(self) -> bool:
        """Whether all of it was answered."""
        return all(future.done() for future in self._futures.values())

    def refusals(self) -> list[ClientError]:
        """What was refused, of a deletion that is done."""
        errors = [(each.topic, future.exception()) for each, future in self._futures.items()]
        return [
            translate(kafka_error(error), f"delete records of {topic}")
            for topic, error in errors
            if isinstance(error, KafkaException)
        ]


class Admin:
    """Administration of a cluster.

    Args: `timeout_ms` for every call; `security` is how to be let in, see
    `ottla.client.settings.Security`. Raises Fatal when the settings are refused; every call may
    raise NotLetIn.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        timeout_ms: int = 30_000,
        config: Mapping[str, Any] | None = None,
        **security: Unpack[Security],
    ) -> None:
        self._timeout_s = timeout_ms / 1000
        self._refusals = Refusals()
        settings = connection(bootstrap_servers, security, self._refusals) | {"log_level": 2}
        try:
            self._admin = AdminClient(settings | dict(config or {}))
        except KafkaException as error:
            raise translate(kafka_error(error), "make an admin client") from error

    def create_topics(self, topics: Iterable[TopicSpec]) -> list[str]:
        """Make the topics that are not there; the names of those that were made.

        Returns when they can be written to. Raises Fatal or TimedOut.
        """
        wanted = [
            NewTopic(
                each.name,
                num_partitions=each.partitions,
                replication_factor=each.replication_factor,
                config=dict(each.config),
            )
            for each in topics
        ]
        if not wanted:
            return []
        made = []
        for name, future in self._admin.create_topics(
            wanted, request_timeout=self._timeout_s
        ).items():
            try:
                future.result()
                made.append(name)
            except KafkaException as error:
                if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._translated(error, f"create topic {name}") from error
        self._await_topics([each.topic for each in wanted])
        return made

    def _await_topics(self, names: list[str]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while missing := set(names).difference(self.partition_counts(names)):
            if time.monotonic() > deadline:
                raise TimedOut(f"topics {sorted(missing)} did not appear in {self._timeout_s} s")
            time.sleep(_RETRY_S)

    def partition_counts(self, topics: Iterable[str] | None = None) -> dict[str, int]:
        """How many partitions topics have; those that do not exist are left out."""
        try:
            metadata = self._admin.list_topics(timeout=self._timeout_s)
        except KafkaException as error:
            raise self._translated(error, "list topics") from error
        wanted = None if topics is None else set(topics)
        return {
            name: len(topic.partitions)
            for name, topic in metadata.topics.items()
            if topic.error is None and (wanted is None or name in wanted)
        }

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The ids of topics, as text; a topic made anew has another one. Raises Fatal, TimedOut."""
        found = {}
        for name, future in self._admin.describe_topics(
            TopicCollection(list(topics)), request_timeout=self._timeout_s
        ).items():
            try:
                found[name] = str(future.result().topic_id)
            except KafkaException as error:
                raise self._translated(error, f"describe topic {name}") from error
        return found

    def delete_topics(self, topics: Iterable[str]) -> None:
        """Delete topics; those that do not exist are fine. Raises Fatal or TimedOut."""
        for name, future in self._admin.delete_topics(
            list(topics), request_timeout=self._timeout_s
        ).items():
            try:
                future.result()
            except KafkaException as error:
                if kafka_error(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise self._translated(error, f"delete topic {name}") from error

    def delete_records(self, offsets: Mapping[Partition, int]) -> Deletion:
        """Ask for the deletion of all records below these offsets; the answer comes later."""
        asked = [TopicPartition(*each, offset) for each, offset in offsets.items()]
        return Deletion(self._admin.delete_records(asked, request_timeout=self._timeout_s))

    def end_offsets(
        self, partitions: Iterable[Partition], *, isolation: str = "read_committed"
    ) -> dict[Partition, int]:
        """Where partitions end: by read_committed, before the first open transaction."""
        return self._offsets(partitions, OffsetSpec.latest(), isolation)  # type: ignore[no-untyped-call]

    def start_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offsets there are."""
        return self._offsets(partitions, OffsetSpec.earliest(), "read_uncommitted")  # type: ignore[no-untyped-call]

    def _offsets(
        self, partitions: Iterable[Partition], spec: OffsetSpec, isolation: str
    ) -> dict[Partition, int]:
        level = (
            IsolationLevel.READ_COMMITTED
            if isolation == "read_committed"
            else IsolationLevel.READ_UNCOMMITTED
        )
        found: dict[Partition, int] = {}
        left = dict.fromkeys(partitions)
        deadline = time.monotonic() + self._timeout_s
        while left:
            asked = {TopicPartition(*each): spec for each in left}
            answers = self._admin.list_offsets(
                asked, isolation_level=level, request_timeout=self._timeout_s
            )
            for each, future in answers.items():
                partition = Partition(each.topic, each.partition)
                try:
                    found[partition] = future.result().offset
                    del left[partition]
                except KafkaException as error:
                    again = kafka_error(error).code() in _NOT_YET and time.monotonic() < deadline
                    if not again:
                        raise self._translated(error, f"list offsets of {partition}") from error
            if left:
                time.sleep(_RETRY_S)
        return found

    def _translated(self, error: KafkaException, doing: str) -> ClientError:
        """The error as one of ours; if we are not let in, that."""
        ours = translate(kafka_error(error), doing)
        if isinstance(ours, TimedOut):
            self._admin.poll(0)  # lets librdkafka say it
            if self._refusals.reason:
                return not_let_in(doing, self._refusals.reason)
        return ours


__all__ = ["Admin", "ClientError", "Deletion", "Fatal", "TopicSpec"]
