"""ConsumerGroupDescribe: v0-1 (KIP-848).

Behaviour: epochs, assignor and members of groups of the new protocol: what each has, that which it
has been asked to give up among it, and what it is to have. GROUP_ID_NOT_FOUND for any other group.
Versions: v1 which protocol a member speaks: 1, the new one, for all.
Divergences: none.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.authorizer import ResourceType
from ottla.broker.features import GROUP_VERSION
from ottla.broker.registry import api
from ottla.coordinator.consumer_group import ConsumerGroup
from ottla.coordinator.consumer_group_records import TopicIdPartition, by_topic
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_CONSUMER_MEMBER = 1


@api(69, 0, 1)
def handle(broker: "Broker", request: "Request[ConsumerGroupDescribeRequest]") -> None:
    groups = []
    in_use = broker.catalog.features.level(GROUP_VERSION) > 0
    for group_id in request.body.group_ids:
        if not in_use:
            groups.append(
                DescribedGroup(error_code=ErrorCode.UNSUPPORTED_VERSION, group_id=group_id)
            )
            continue
        group = broker.groups.consumer.get(group_id)
        if group is None:
            groups.append(_unknown(broker, group_id))
            continue
        described = _described(broker, group)
        if request.body.include_authorized_operations:
            operations = request.access.operations(ResourceType.GROUP, group_id)
            described.authorized_operations = operations
        groups.append(described)
    request.respond(ConsumerGroupDescribeResponse(groups=groups))


def _unknown(broker: "Broker", group_id: str) -> DescribedGroup:
    if not group_id:
        return DescribedGroup(error_code=ErrorCode.INVALID_GROUP_ID, group_id=group_id)
    is_classic = broker.groups.describe(group_id) is not None
    why = "is not a consumer group" if is_classic else "not found"
    return DescribedGroup(
        error_code=ErrorCode.GROUP_ID_NOT_FOUND,
        error_message=f"Group {group_id} {why}.",
        group_id=group_id,
    )


def _described(broker: "Broker", group: ConsumerGroup) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.group_epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=group.assignor,
        members=[
            Member(
                member_id=member_id,
                instance_id=member.group_instance_id,
                rack_id=member.rack_id,
                member_epoch=group.current(member_id).epoch,
                client_id=member.client_id,
                client_host=member.client_host,
                subscribed_topic_names=member.topics,
                subscribed_topic_regex=member.topic_regex,
                assignment=_assignment(broker, group.current(member_id).held),
                target_assignment=_assignment(broker, group.targets.get(member_id, ())),
                member_type=_CONSUMER_MEMBER,
            )
            for member_id, member in group.members.items()
        ],
    )


def _assignment(broker: "Broker", partitions: Iterable[TopicIdPartition]) -> Assignment:
    """Partitions by topic; those of a topic that is gone have no name to be told by."""
    topics = []
    for topic_id, indexes in by_topic(frozenset(partitions)):
        topic = broker.catalog.topic_by_id(UUID(bytes=topic_id))
        if topic is not None:
            topics.append(TopicPartitions(topic.topic_id, topic.name, indexes))
    return Assignment(topics)
