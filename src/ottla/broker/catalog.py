"""The catalog: which topics there are, rebuilt by replaying its records like a coordinator.

Creating, altering and deleting are operations that look and answer with a record; `apply` changes
the catalog, has the store make or drop the partitions, and tells them the configs in force. The
configs of brokers and groups and the finalised features are records of the catalog too.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from ottla.broker.configs import ResourceType
from ottla.broker.dynamic_configs import ConfigsRecord, DynamicConfigs
from ottla.broker.features import Features, FeaturesRecord
from ottla.broker.topic_configs import check_topic_configs
from ottla.log.partition import Partition
from ottla.log.store import Store
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import (
    MESSAGE_BYTES_MAX,
    PARTITIONS_PER_TOPIC_MAX,
    TOPIC_NAME_LENGTH_MAX,
)
from ottla.ports.rng import Rng

INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state", "__share_group_state")
_METADATA_TOPIC = "__cluster_metadata"
_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


class ClusterRecord(msgspec.Struct, tag="cluster", frozen=True, array_like=True):
    """The cluster's id, made once."""

    cluster_id: str


class RunRecord(msgspec.Struct, tag="run", frozen=True, array_like=True):
    """A broker runs on the machine as it was started with this boot id; None: it was closed."""

    boot_id: str | None


class TopicRecord(msgspec.Struct, tag="topic", frozen=True, array_like=True):
    """A topic as it is from here on."""

    name: str
    topic_id: bytes
    partition_count: int
    configs: dict[str, str]


class TopicDeleted(msgspec.Struct, tag="topic-deleted", frozen=True, array_like=True):
    """The topic is gone, with all its records."""

    topic_id: bytes


CatalogRecord = (
    ClusterRecord | RunRecord | TopicRecord | TopicDeleted | ConfigsRecord | FeaturesRecord
)


@dataclass(slots=True)
class Topic:
    """A topic and its partitions.

    `configs` is what was set on the topic; `configs_in_force` also what was set on the broker for
    topics that do not say, each value in its plain form. What neither has is at its default.
    """

    name: str
    topic_id: UUID
    configs: dict[str, str]
    partitions: list[Partition]
    configs_in_force: Mapping[str, str] = field(default_factory=dict)
    message_bytes_max: int = MESSAGE_BYTES_MAX


class Catalog:
    """All topics, by name and by id. `version` changes whenever a topic does."""

    def __init__(self, store: Store, rng: Rng, static_configs: Mapping[str, str]) -> None:
        """`static_configs`: how the broker was started, under Kafka's names."""
        self.cluster_id = ""
        self.version = 0
        self.configs = DynamicConfigs(static_configs)
        self.features = Features(self.configs.node)
        self._ran_on: str | None = None  # the boot id of the run that was not closed
        self._store = store
        self._rng = rng
        self._by_name: dict[str, Topic] = {}
        self._by_collision: dict[str, str] = {}  # a topic's name, by what must differ too
        self._by_id: dict[UUID, Topic] = {}

    def topic(self, name: str) -> Topic | None:
        return self._by_name.get(name)

    def topic_by_id(self, topic_id: UUID) -> Topic | None:
        return self._by_id.get(topic_id)

    def topics(self) -> Iterable[Topic]:
        """All topics, by name."""
        return sorted(self._by_name.values(), key=lambda topic: topic.name)

    def names(self) -> Collection[str]:
        """The names of all topics."""
        return self._by_name.keys()

    def placement(self, name: str) -> tuple[bytes, int] | None:
        """A topic's id and its number of partitions, or None when there is no such topic."""
        topic = self._by_name.get(name)
        return None if topic is None else (topic.topic_id.bytes, len(topic.partitions))

    def partition(self, name: str, index: int) -> Partition | None:
        topic = self._by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    def found(self) -> ClusterRecord:
        """The record that a new data directory begins with."""
        return ClusterRecord(self._rng.uuid().hex[:22])

    def power_may_have_gone(self, boot_id: str) -> bool:
        """The last run was not closed, and the machine may have been started anew since.

        If it was not, everything that was written to a file is still there.
        """
        return self._ran_on is not None and (not boot_id or boot_id != self._ran_on)

    def check_new(self, name: str, configs: Mapping[str, str]) -> None:
        """Raise KafkaError as CreateTopics answers unless there can be a topic like this."""
        check_topic_name(name)
        if name in self._by_name:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if name == _METADATA_TOPIC:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Creation of internal topic {name} is prohibited."
            )
        other = self._by_collision.get(_collision(name))
        if other is not None:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"Topic '{name}' collides with existing topic: {other}",
            )
        check_topic_configs(configs)

    def create(
        self, name: str, partition_count: int, configs: dict[str, str] | None = None
    ) -> TopicRecord:
        """The record of a new topic. Raises KafkaError as CreateTopics answers."""
        self.check_new(name, configs or {})
        if partition_count < 1:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                "Number of partitions was set to an invalid non-positive value.",
            )
        check_partition_count(partition_count)
        return TopicRecord(name, self._rng.uuid().bytes, partition_count, configs or {})

    def alter(
        self,
        topic: Topic,
        *,
        partition_count: int | None = None,
        configs: dict[str, str] | None = None,
    ) -> TopicRecord:
        """The record of a topic that is there, with more partitions or other configs."""
        return TopicRecord(
            topic.name,
            topic.topic_id.bytes,
            len(topic.partitions) if partition_count is None else partition_count,
            topic.configs if configs is None else configs,
        )

    def apply(self, record: CatalogRecord) -> None:
        if isinstance(record, ClusterRecord):
            self.cluster_id = record.cluster_id
        elif isinstance(record, RunRecord):
            self._ran_on = record.boot_id
        elif isinstance(record, TopicRecord):
            self._apply_topic(record)
        elif isinstance(record, ConfigsRecord):
            self._apply_configs(record)
        elif isinstance(record, FeaturesRecord):
            self.features.apply(record)
        else:
            self.version += 1
            topic = self._by_id.pop(UUID(bytes=record.topic_id))
            del self._by_name[topic.name]
            del self._by_collision[_collision(topic.name)]
            self._store.drop_partitions(topic.topic_id)

    def _apply_topic(self, record: TopicRecord) -> None:
        self.version += 1
        topic_id = UUID(bytes=record.topic_id)
        partitions = self._store.add_partitions(record.name, topic_id, record.partition_count)
        topic = self._by_id.get(topic_id)
        if topic is None:
            topic = Topic(record.name, topic_id, record.configs, partitions)
            self._by_name[record.name] = self._by_id[topic_id] = topic
            self._by_collision[_collision(record.name)] = record.name
        topic.configs, topic.partitions = record.configs, partitions
        self._configure(topic)

    def _configure(self, topic: Topic) -> None:
        """Tell the topic's partitions which configs are in force."""
        configs = self.configs.in_force(topic.configs)
        topic.configs_in_force = configs
        topic.message_bytes_max = int(configs.get("max.message.bytes", MESSAGE_BYTES_MAX))
        self._store.configure(topic.partitions, configs)

    def _apply_configs(self, record: ConfigsRecord) -> None:
        self.configs.apply(record)
        if record.resource_type == ResourceType.BROKER:
            for topic in self._by_name.values():
                self._configure(topic)

    def snapshot(self) -> list[CatalogRecord]:
        """The records that rebuild the catalog."""
        return [
            ClusterRecord(self.cluster_id),
            RunRecord(self._ran_on),
            *self.features.snapshot(),
            *self.configs.snapshot(),
            *(
                TopicRecord(topic.name, topic.topic_id.bytes, len(topic.partitions), topic.configs)
                for topic in self._by_name.values()
            ),
        ]


def check_partition_count(count: int) -> None:
    """Raise KafkaError(POLICY_VIOLATION) for more partitions than Kafka makes at once."""
    if count > PARTITIONS_PER_TOPIC_MAX:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request."
        )


def check_topic_name(name: str) -> None:
    """Raise KafkaError(INVALID_TOPIC_EXCEPTION) for a name that no topic may have."""
    reason = ""
    if not name:
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = f"'{name}' is not allowed"
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
