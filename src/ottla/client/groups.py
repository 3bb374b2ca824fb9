"""Consumer groups as an administrator sees them: members, offsets, lag; delete and reset."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from ottla.client.cluster import Cluster
from ottla.client.errors import ClientError, kafka_error, refused
from ottla.client.topics import end_offsets
from ottla.client.types import Partition
from ottla.ports.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class GroupListing:
    """A group. `kind` is "classic" or "consumer" (KIP-848)."""

    group_id: str
    state: str
    kind: str


@dataclass(frozen=True, slots=True)
class MemberInformation:
    """A member of a group with what is assigned to it."""

    member_id: str
    client_id: str
    host: str
    group_instance_id: str | None
    partitions: list[Partition]


@dataclass(frozen=True, slots=True)
class GroupInformation:
    """A group with its members."""

    group_id: str
    state: str
    kind: str
    assignor: str
    coordinator: int
    members: list[MemberInformation]


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """A committed offset and where the partition ends. -1 stands for none, or not known."""

    partition: Partition
    offset: int
    end_offset: int
    metadata: str

    @property
    def lag(self) -> int:
        known = self.offset >= 0 and self.end_offset >= 0
        return max(0, self.end_offset - self.offset) if known else -1


def list_groups(cluster: Cluster) -> list[GroupListing]:
    """All consumer groups, by name. Raises Refused, TimedOut."""
    asked = cluster.admin.list_consumer_groups(request_timeout=cluster.timeout_s)
    answer = cluster.call("list groups", asked.result)
    for error in answer.errors:
        raise refused("list groups", kafka_error(error).code(), kafka_error(error).str())
    return sorted(
        (
            GroupListing(each.group_id, _words(each.state), _words(each.type))
            for each in answer.valid
        ),
        key=lambda each: each.group_id,
    )


def _words(value: object) -> str:
    """librdkafka's name of an enumeration's value as Kafka writes it: PREPARING_REBALANCE."""
    return "".join(part.capitalize() for part in str(getattr(value, "name", value)).split("_"))


def describe_group(cluster: Cluster, group_id: str) -> GroupInformation:
    """One group. Raises Refused when there is none of this name.

    Kafka describes a classic group that does not exist as dead, and without members.
    """
    told = cluster.patiently(
        f"describe group {group_id}",
        lambda: cluster.admin.describe_consumer_groups(
            [group_id], request_timeout=cluster.timeout_s
        )[group_id],
    )
    if _words(told.state) == "Dead" and not told.members:
        raise refused(f"describe group {group_id}", ErrorCode.GROUP_ID_NOT_FOUND)
    return GroupInformation(
        group_id,
        _words(told.state),
        _words(told.type),
        told.partition_assignor or "",
        -1 if told.coordinator is None else told.coordinator.id,
        [
            MemberInformation(
                each.member_id,
                each.client_id,
                each.host,
                each.group_instance_id,
                sorted(
                    Partition(place.topic, place.partition)
                    for place in each.assignment.topic_partitions
                ),
            )
            for each in told.members
        ],
    )


def group_offsets(cluster: Cluster, group_id: str) -> list[GroupOffset]:
    """What the group has committed, with the ends of the partitions. Raises Refused, TimedOut."""
    doing = f"list offsets of group {group_id}"
    told = cluster.patiently(
        doing,
        lambda: cluster.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group_id)], request_timeout=cluster.timeout_s
        )[group_id],
    )
    committed = {}
    for each in told.topic_partitions:
        cluster.check(doing, each.error)
        committed[Partition(each.topic, each.partition)] = each
    ends = _ends(cluster, list(committed))
    return [
        GroupOffset(place, each.offset, ends.get(place, -1), each.metadata or "")
        for place, each in sorted(committed.items())
    ]


def _ends(cluster: Cluster, partitions: list[Partition]) -> dict[Partition, int]:
    """Where they end; a topic that was deleted since is left out."""
    ends: dict[Partition, int] = {}
    for topic in sorted({each.topic for each in partitions}):
        try:
            ends |= end_offsets(cluster, [each for each in partitions if each.topic == topic])
        except ClientError as error:
            if error.code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                raise
    return ends


def delete_groups(cluster: Cluster, group_ids: list[str]) -> None:
    """Delete groups with their offsets. Raises Refused while one has members."""
    for group_id in group_ids:
        cluster.patiently(
            f"delete group {group_id}",
            lambda group_id=group_id: cluster.admin.delete_consumer_groups(  # type: ignore[misc]
                [group_id], request_timeout=cluster.timeout_s
            )[group_id],
        )


def set_offsets(cluster: Cluster, group_id: str, offsets: Mapping[Partition, int]) -> None:
    """Commit offsets in the place of a group without members. Raises Refused."""
    wanted = ConsumerGroupTopicPartitions(
        group_id, [TopicPartition(*each, offset) for each, offset in offsets.items()]
    )
    asked = cluster.admin.alter_consumer_group_offsets([wanted], request_timeout=cluster.timeout_s)
    doing = f"reset offsets of group {group_id}"
    for each in cluster.call(doing, asked[group_id].result).topic_partitions:
        cluster.check(doing, each.error)
