"""The catalog: which topics there are, rebuilt by replaying its records like a coordinator.

Creating and deleting are operations that look and answer with a record; `apply` changes the
catalog and has the store make or drop the partitions.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from ottla.broker.configs import check_topic_configs
from ottla.log.partition import Partition
from ottla.log.store import Store
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import (
    MESSAGE_BYTES_MAX,
    PARTITIONS_PER_TOPIC_MAX,
    TOPIC_NAME_LENGTH_MAX,
)
from ottla.ports.rng import Rng

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


class ClusterRecord(msgspec.Struct, tag="cluster", frozen=True, array_like=True):
    """The cluster's id, made once."""

    cluster_id: str


class TopicRecord(msgspec.Struct, tag="topic", frozen=True, array_like=True):
    """A topic as it is from here on."""

    name: str
    topic_id: bytes
    partition_count: int
    configs: dict[str, str]


class TopicDeleted(msgspec.Struct, tag="topic-deleted", frozen=True, array_like=True):
    """The topic is gone, with all its records."""

    topic_id: bytes


CatalogRecord = ClusterRecord | TopicRecord | TopicDeleted


@dataclass(slots=True)
class Topic:
    """A topic and its partitions."""

    name: str
    topic_id: UUID
    configs: dict[str, str]
    partitions: list[Partition]
    message_bytes_max: int


class Catalog:
    """All topics, by name and by id."""

    def __init__(self, store: Store, rng: Rng) -> None:
        self.cluster_id = ""
        self._store = store
        self._rng = rng
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}

    def topic(self, name: str) -> Topic | None:
        return self._by_name.get(name)

    def topic_by_id(self, topic_id: UUID) -> Topic | None:
        return self._by_id.get(topic_id)

    def topics(self) -> Iterable[Topic]:
        """All topics, by name."""
        return sorted(self._by_name.values(), key=lambda topic: topic.name)

    def partition(self, name: str, index: int) -> Partition | None:
        topic = self._by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    def found(self) -> ClusterRecord:
        """The record that a new data directory begins with."""
        return ClusterRecord(self._rng.uuid().hex[:22])

    def create(
        self, name: str, partition_count: int, configs: dict[str, str] | None = None
    ) -> TopicRecord:
        """The record of a new topic. Raises KafkaError as CreateTopics answers."""
        check_topic_name(name)
        if name in self._by_name:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        collision = _collision(name)
        for other in self._by_name:
            if _collision(other) == collision:
                raise KafkaError(
                    ErrorCode.INVALID_TOPIC_EXCEPTION,
                    f"Topic '{name}' collides with existing topic: {other}",
                )
        if not 1 <= partition_count <= PARTITIONS_PER_TOPIC_MAX:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                f"a topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions, not {partition_count}",
            )
        check_topic_configs(configs or {})
        return TopicRecord(name, self._rng.uuid().bytes, partition_count, configs or {})

    def apply(self, record: CatalogRecord) -> None:
        if isinstance(record, ClusterRecord):
            self.cluster_id = record.cluster_id
        elif isinstance(record, TopicRecord):
            self._apply_topic(record)
        else:
            topic = self._by_id.pop(UUID(bytes=record.topic_id))
            del self._by_name[topic.name]
            self._store.drop_partitions(topic.topic_id)

    def _apply_topic(self, record: TopicRecord) -> None:
        topic_id = UUID(bytes=record.topic_id)
        topic = Topic(
            record.name,
            topic_id,
            record.configs,
            self._store.add_partitions(record.name, topic_id, record.partition_count),
            int(record.configs.get("max.message.bytes", MESSAGE_BYTES_MAX)),
        )
        if "segment.bytes" in record.configs:
            for partition in topic.partitions:
                partition.segment_bytes = int(record.configs["segment.bytes"])
        self._by_name[record.name] = self._by_id[topic_id] = topic

    def snapshot(self) -> list[CatalogRecord]:
        """The records that rebuild the catalog."""
        return [
            ClusterRecord(self.cluster_id),
            *(
                TopicRecord(topic.name, topic.topic_id.bytes, len(topic.partitions), topic.configs)
                for topic in self._by_name.values()
            ),
        ]


def check_topic_name(name: str) -> None:
    """Raise KafkaError(INVALID_TOPIC_EXCEPTION) for a name that no topic may have."""
    reason = ""
    if not name:
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = "'.' or '..' is not allowed"
    elif len(name) > TOPIC_NAME_LENGTH_MAX:
        reason = f"the length of '{name}' is longer than the max allowed length 249"
    elif _LEGAL_NAME.fullmatch(name) is None:
        reason = (
            f"'{name}' contains one or more characters other than ASCII alphanumerics, "
            "'.', '_' and '-'"
        )
    if reason:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def _collision(name: str) -> str:
    """Names equal in this form would share a metric's name in Kafka, which refuses the second."""
    return name.replace(".", "_")
