"""What the new consumer groups (KIP-848) write: small records, each of one member or one epoch.

A group of ten thousand members changes in small steps, so that a step writes what it changed and
not the group. Partitions are grouped by topic, and topics are named by id: one that is made anew
with the same name is another one.
"""

from collections.abc import Mapping

import msgspec

TopicIdPartition = tuple[bytes, int]
PartitionsByTopic = list[tuple[bytes, list[int]]]
EpochsByTopic = list[tuple[bytes, list[tuple[int, int]]]]


class ConsumerGroupRecord(msgspec.Struct, tag="cgroup", frozen=True, array_like=True):
    """The group's epochs, and the digest of the topics that they rest on. Makes the group."""

    group_id: str
    group_epoch: int
    target_epoch: int
    topics_digest: bytes


class ConsumerMemberRecord(msgspec.Struct, tag="cmember", frozen=True, array_like=True):
    """Who a member is and what it subscribes to; `topic_regex` is empty if it has none.

    `principal` is who its client has proved to be: a pattern finds what that one may know of.
    """

    group_id: str
    member_id: str
    group_instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topics: list[str] = []
    topic_regex: str = ""
    assignor: str | None = None
    principal: str = ""


class ConsumerTargetRecord(msgspec.Struct, tag="ctarget", frozen=True, array_like=True):
    """What the assignor has given a member."""

    group_id: str
    member_id: str
    partitions: PartitionsByTopic


class ConsumerCurrentRecord(msgspec.Struct, tag="ccurrent", frozen=True, array_like=True):
    """What a member may hold now: (partition, epoch of its assignment) by topic.

    `state` is a MemberState's number. `revoking` are those that it has been asked to give up.
    """

    group_id: str
    member_id: str
    member_epoch: int
    previous_epoch: int
    state: int
    assigned: EpochsByTopic
    revoking: EpochsByTopic


class ConsumerMemberGone(msgspec.Struct, tag="cmember-gone", frozen=True, array_like=True):
    """The member, its target and what it held are forgotten."""

    group_id: str
    member_id: str


class ConsumerGroupGone(msgspec.Struct, tag="cgroup-gone", frozen=True, array_like=True):
    """The group, which has no members, becomes a classic one; its offsets stay."""

    group_id: str


ConsumerGroupsRecord = (
    ConsumerGroupRecord
    | ConsumerMemberRecord
    | ConsumerTargetRecord
    | ConsumerCurrentRecord
    | ConsumerMemberGone
    | ConsumerGroupGone
)


def by_topic(partitions: frozenset[TopicIdPartition]) -> PartitionsByTopic:
    """Partitions as a record keeps them."""
    found: dict[bytes, list[int]] = {}
    for topic_id, partition in sorted(partitions):
        found.setdefault(topic_id, []).append(partition)
    return list(found.items())


def flat(partitions: PartitionsByTopic) -> frozenset[TopicIdPartition]:
    """The opposite of `by_topic`."""
    return frozenset(
        (topic_id, partition) for topic_id, indexes in partitions for partition in indexes
    )


def epochs_by_topic(partitions: Mapping[TopicIdPartition, int]) -> EpochsByTopic:
    """Partitions and the epochs of their assignment as a record keeps them."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for (topic_id, partition), epoch in sorted(partitions.items()):
        found.setdefault(topic_id, []).append((partition, epoch))
    return list(found.items())


def flat_epochs(partitions: EpochsByTopic) -> dict[TopicIdPartition, int]:
    """The opposite of `epochs_by_topic`."""
    return {
        (topic_id, partition): epoch for topic_id, pairs in partitions for partition, epoch in pairs
    }
