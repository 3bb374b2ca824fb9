"""Topics as an administrator sees them: list, describe, make, delete, grow, purge."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from confluent_kafka import IsolationLevel, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from ottla.client.cluster import Cluster
from ottla.client.types import Partition
from ottla.ports.errors import ErrorCode

_KNOWN_LIMIT_S = 5.0
_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class TopicListing:
    """A topic, as metadata tells of it."""

    name: str
    partitions: int
    replicas: int
    is_internal: bool
    topic_id: str


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """A partition. `last_stable_offset` is how far read_committed consumers may see."""

    partition: int
    leader: int
    replicas: list[int]
    in_sync: list[int]
    start_offset: int
    last_stable_offset: int
    high_watermark: int


@dataclass(frozen=True, slots=True)
class TopicInformation:
    """A topic with its partitions."""

    name: str
    topic_id: str
    is_internal: bool
    partitions: list[PartitionDescription]


def uuid_text(topic_id: UUID) -> str:
    """A topic's id as Kafka writes it: base 64 for URLs, without padding."""
    return urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


def list_topics(cluster: Cluster) -> list[TopicListing]:
    """All topics, by name. Raises TimedOut."""
    found = []
    for topic in cluster.brokers.metadata(None).topics:
        replicas = max((len(each.replica_nodes) for each in topic.partitions), default=0)
        found.append(
            TopicListing(
                topic.name,
                len(topic.partitions),
                replicas,
                topic.is_internal,
                uuid_text(topic.topic_id),
            )
        )
    return sorted(found, key=lambda each: each.name)


def describe_topic(cluster: Cluster, name: str) -> TopicInformation:
    """One topic. Raises Refused when there is none of this name."""
    asked = cluster.admin.describe_topics(
        TopicCollection([name]), request_timeout=cluster.timeout_s
    )
    ((_, told),) = cluster.wait(lambda name: f"describe topic {name}", asked)
    partitions = [Partition(name, each.id) for each in told.partitions]
    starts = offsets(cluster, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    stable = offsets(cluster, partitions, latest, IsolationLevel.READ_COMMITTED)
    ends = offsets(cluster, partitions, latest)
    return TopicInformation(
        name,
        str(told.topic_id).replace("+", "-").replace("/", "_"),
        told.is_internal,
        [
            PartitionDescription(
                each.id,
                -1 if each.leader is None else each.leader.id,
                [node.id for node in each.replicas],
                [node.id for node in each.isr],
                starts[Partition(name, each.id)],
                stable[Partition(name, each.id)],
                ends[Partition(name, each.id)],
            )
            for each in told.partitions
        ],
    )


def offsets(
    cluster: Cluster,
    partitions: Iterable[Partition],
    spec: OffsetSpec,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Partition, int]:
    """What ListOffsets tells of the partitions; -1 where no record is as late as that."""
    asked = {TopicPartition(*each): spec for each in partitions}
    if not asked:
        return {}
    answers = cluster.admin.list_offsets(
        asked, isolation_level=isolation, request_timeout=cluster.timeout_s
    )
    return {
        Partition(each.topic, each.partition): result.offset
        for each, result in cluster.wait(lambda each: f"list offsets of {each.topic}", answers)
    }


def start_offsets(cluster: Cluster, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The first offsets there are. Raises Refused, TimedOut."""
    return offsets(cluster, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]


def end_offsets(
    cluster: Cluster, partitions: Iterable[Partition], *, read_committed: bool = False
) -> dict[Partition, int]:
    """Where partitions end. Raises Refused, TimedOut."""
    level = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
    return offsets(cluster, partitions, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]


def time_offsets(
    cluster: Cluster, partitions: Iterable[Partition], timestamp_ms: int
) -> dict[Partition, int]:
    """The first records at or after a time, or the ends where there are none."""
    asked = list(partitions)
    found = offsets(cluster, asked, OffsetSpec.for_timestamp(timestamp_ms))
    late = [each for each, offset in found.items() if offset < 0]
    return found | end_offsets(cluster, late)


def partitions_of(cluster: Cluster, topics: Iterable[str]) -> list[Partition]:
    """All partitions of topics, in order. Raises Refused when one does not exist."""
    found = []
    for led in cluster.brokers.leaders(list(topics)).values():
        found += [Partition(topic, number) for topic, numbers in led.items() for number in numbers]
    return sorted(found)


def create_topic(
    cluster: Cluster, name: str, partitions: int, replicas: int, config: Mapping[str, str]
) -> None:
    """Make a topic; -1 partitions or replicas are what the broker's default is.

    Raises Refused, also when it is there already.
    """
    wanted = NewTopic(
        name, num_partitions=partitions, replication_factor=replicas, config=dict(config)
    )
    _each(cluster, "create topic {}", cluster.admin.create_topics, [wanted], operation_timeout=10)
    _await_partitions(cluster, name, max(partitions, 1))


def delete_topics(cluster: Cluster, names: list[str]) -> None:
    """Delete topics with all that is in them. Raises Refused, also when one is not there."""
    _each(cluster, "delete topic {}", cluster.admin.delete_topics, names, operation_timeout=10)
    for name in names:
        _await_partitions(cluster, name, 0)


def add_partitions(cluster: Cluster, name: str, total: int) -> None:
    """Give a topic more partitions, `total` in all. Raises Refused."""
    wanted = [NewPartitions(name, total)]
    _each(cluster, "add partitions to topic {}", cluster.admin.create_partitions, wanted)
    _await_partitions(cluster, name, total)


def _await_partitions(cluster: Cluster, name: str, count: int) -> None:
    """Wait until the brokers know of what the controller has done, but not for ever."""
    deadline = time.monotonic() + _KNOWN_LIMIT_S
    while time.monotonic() < deadline:
        (topic,) = cluster.brokers.metadata([name]).topics
        if count == 0 and topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return
        led = [each for each in topic.partitions if each.leader_id >= 0]
        if count and topic.error_code == ErrorCode.NONE and len(led) >= count:
            return
        time.sleep(_RETRY_S)


def delete_records(cluster: Cluster, before: Mapping[Partition, int]) -> dict[Partition, int]:
    """Delete the records before these offsets; where each log begins now. Raises Refused."""
    asked = [TopicPartition(*each, offset) for each, offset in before.items()]
    answers = cluster.admin.delete_records(asked, request_timeout=cluster.timeout_s)
    return {
        Partition(each.topic, each.partition): result.low_watermark
        for each, result in cluster.wait(
            lambda each: f"delete records of {each.topic}-{each.partition}", answers
        )
    }


def _each(cluster: Cluster, doing: str, call: Any, asked: list[Any], **options: Any) -> None:
    answers = call(asked, request_timeout=cluster.timeout_s, **options)
    for _ in cluster.wait(doing.format, answers):
        pass
