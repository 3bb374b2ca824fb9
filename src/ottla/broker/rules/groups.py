"""Rules of the APIs that name groups."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from ottla.broker.authorizer import Operation
from ottla.broker.rules.rule import (
    CLUSTER_DENIED,
    GROUP_DENIED,
    MESSAGES,
    TOPIC_DENIED,
    TRANSACTIONAL_ID_DENIED,
    part,
    refusal,
)
from ottla.broker.rules.topics import name_of
from ottla.ports.errors import ErrorCode
from ottla.wire.message import Message
from ottla.wire.messages import consumer_group_describe as described
from ottla.wire.messages.delete_groups import DeletableGroupResult
from ottla.wire.messages.describe_groups import DescribedGroup
from ottla.wire.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.wire.messages.offset_commit import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.wire.messages.offset_delete import (
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.wire.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_IDS_VERSION = 10  # of OffsetCommit and OffsetFetch
_GROUPS_VERSION = 8  # of OffsetFetch
_KEYS_VERSION = 4  # of FindCoordinator
_NULL_PROTOCOL_VERSION = 7  # of JoinGroup
_GROUP, _TRANSACTION = 0, 1  # key types of FindCoordinator


def member(broker: "Broker", request: "Request[Any]") -> Message | None:
    """READ on the group."""
    if request.access.group(Operation.READ, request.body.group_id):
        return None
    return refusal(request, GROUP_DENIED)


def join_group(broker: "Broker", request: "Request[Any]") -> Message | None:
    """READ on the group."""
    refused: Any = member(broker, request)
    if refused is not None:
        refused.protocol_name = None if request.version >= _NULL_PROTOCOL_VERSION else ""
    return refused  # type: ignore[no-any-return]


def find_coordinator(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on the group or the TransactionalId; CLUSTER_ACTION for what brokers ask."""
    body, access = request.body, request.access

    def refused(key: str) -> ErrorCode | None:
        if body.key_type == _GROUP:
            return None if access.group(Operation.DESCRIBE, key) else GROUP_DENIED
        if body.key_type == _TRANSACTION:
            allowed = access.transactional_id(Operation.DESCRIBE, key)
            return None if allowed else TRANSACTIONAL_ID_DENIED
        return None if access.cluster(Operation.CLUSTER_ACTION) else CLUSTER_DENIED

    if request.version < _KEYS_VERSION:
        code = refused(body.key)
        if code is None:
            return None
        return FindCoordinatorResponse(
            error_code=code, error_message=MESSAGES[code], node_id=-1, host="", port=-1
        )
    denied = [
        Coordinator(key, -1, "", -1, code, "")
        for key in body.coordinator_keys
        if (code := refused(key)) is not None
    ]
    if denied:
        gone = {one.key for one in denied}
        body.coordinator_keys = [key for key in body.coordinator_keys if key not in gone]
        request.amend(lambda response: response.coordinators.extend(denied))
    return None


# -- offsets --------------------------------------------------------------------------------------


def offset_commit(broker: "Broker", request: "Request[Any]") -> Message | None:
    """READ on the group and on each topic."""
    body, access = request.body, request.access
    if not access.group(Operation.READ, body.group_id):
        return OffsetCommitResponse(topics=_uncommitted(body.topics, GROUP_DENIED))
    by_id = request.version >= _IDS_VERSION

    def may_read(topic: Any) -> bool:
        name = name_of(broker, topic.name, topic.topic_id, by_id)
        return name is None or access.topic(Operation.READ, name)

    body.topics, denied = part(body.topics, may_read)
    if denied:
        refused = _uncommitted(denied, TOPIC_DENIED)
        request.amend(lambda response: response.topics.extend(refused))
    return None


def _uncommitted(topics: list[Any], code: ErrorCode) -> list[OffsetCommitResponseTopic]:
    return [
        OffsetCommitResponseTopic(
            topic.name,
            topic.topic_id,
            [OffsetCommitResponsePartition(one.partition_index, code) for one in topic.partitions],
        )
        for topic in topics
    ]


def txn_offset_commit(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on the TransactionalId, READ on the group and on each topic."""
    body, access = request.body, request.access
    if not access.transactional_id(Operation.WRITE, body.transactional_id):
        return TxnOffsetCommitResponse(topics=_unpended(body.topics, TRANSACTIONAL_ID_DENIED))
    if not access.group(Operation.READ, body.group_id):
        return TxnOffsetCommitResponse(topics=_unpended(body.topics, GROUP_DENIED))
    body.topics, denied = part(body.topics, lambda one: access.topic(Operation.READ, one.name))
    if denied:
        refused = _unpended(denied, TOPIC_DENIED)
        if not body.topics:  # nothing is left to add to the transaction
            return TxnOffsetCommitResponse(topics=refused)
        request.amend(lambda response: response.topics.extend(refused))
    return None


def _unpended(topics: list[Any], code: ErrorCode) -> list[TxnOffsetCommitResponseTopic]:
    return [
        TxnOffsetCommitResponseTopic(
            topic.name,
            [
                TxnOffsetCommitResponsePartition(one.partition_index, code)
                for one in topic.partitions
            ],
        )
        for topic in topics
    ]


def offset_fetch(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each group and each topic; when all topics are asked for, others are not told."""
    if request.version >= _GROUPS_VERSION:
        return _offset_fetch_groups(broker, request)
    body, access = request.body, request.access
    if not access.group(Operation.DESCRIBE, body.group_id):
        if request.version >= 2:
            return OffsetFetchResponse(error_code=GROUP_DENIED)
        topics = [_unfetched_topic(topic, GROUP_DENIED) for topic in body.topics or ()]
        return OffsetFetchResponse(topics=topics)
    if body.topics is None:

        def hide(response: Any) -> None:
            response.topics = [
                topic for topic in response.topics if access.topic(Operation.DESCRIBE, topic.name)
            ]

        request.amend(hide)
        return None
    body.topics, denied = part(body.topics, lambda one: access.topic(Operation.DESCRIBE, one.name))
    if denied:
        refused = [_unfetched_topic(topic, TOPIC_DENIED) for topic in denied]
        request.amend(lambda response: response.topics.extend(refused))
    return None


def _unfetched_topic(topic: Any, code: ErrorCode) -> OffsetFetchResponseTopic:
    return OffsetFetchResponseTopic(
        topic.name,
        [
            OffsetFetchResponsePartition(index, -1, -1, "", code)
            for index in topic.partition_indexes
        ],
    )


def _offset_fetch_groups(broker: "Broker", request: "Request[Any]") -> Message | None:
    body, access = request.body, request.access
    by_id = request.version >= _IDS_VERSION

    def may_describe(name: str | None, topic_id: UUID) -> bool:
        found = name_of(broker, name, topic_id, by_id)
        return found is None or access.topic(Operation.DESCRIBE, found)

    body.groups, denied = part(
        body.groups, lambda group: access.group(Operation.DESCRIBE, group.group_id)
    )
    refused: dict[str, list[OffsetFetchResponseTopics]] = {}
    for group in body.groups:
        if group.topics is not None:
            group.topics, others = part(
                group.topics, lambda topic: may_describe(topic.name, topic.topic_id)
            )
            refused[group.group_id] = [
                OffsetFetchResponseTopics(
                    topic.name,
                    topic.topic_id,
                    [
                        OffsetFetchResponsePartitions(index, -1, -1, "", TOPIC_DENIED)
                        for index in topic.partition_indexes
                    ],
                )
                for topic in others
            ]

    def amend(response: Any) -> None:
        for group in response.groups:
            if group.group_id in refused:
                group.topics += refused[group.group_id]
            else:
                group.topics = [one for one in group.topics if may_describe(one.name, one.topic_id)]
        response.groups += [
            OffsetFetchResponseGroup(group.group_id, topics=[], error_code=GROUP_DENIED)
            for group in denied
        ]

    request.amend(amend)
    return None


def offset_delete(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DELETE on the group, READ on each topic."""
    body, access = request.body, request.access
    if not access.group(Operation.DELETE, body.group_id):
        return refusal(request, GROUP_DENIED)
    body.topics, denied = part(body.topics, lambda one: access.topic(Operation.READ, one.name))
    if denied:
        refused = [
            OffsetDeleteResponseTopic(
                topic.name,
                [
                    OffsetDeleteResponsePartition(one.partition_index, TOPIC_DENIED)
                    for one in topic.partitions
                ],
            )
            for topic in denied
        ]
        request.amend(lambda response: response.topics.extend(refused))
    return None


# -- groups themselves ----------------------------------------------------------------------------


def describe_groups(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each group."""
    body, access = request.body, request.access
    body.groups, denied = part(body.groups, lambda one: access.group(Operation.DESCRIBE, one))
    refused = [DescribedGroup(group_id=one, error_code=GROUP_DENIED) for one in denied]
    request.amend(lambda response: response.groups.extend(refused))
    return None


def list_groups(broker: "Broker", request: "Request[Any]") -> Message | None:
    """Who may DESCRIBE the cluster sees all groups; others those that they may DESCRIBE."""
    access = request.access
    if access.cluster(Operation.DESCRIBE):
        return None

    def hide(response: Any) -> None:
        response.groups = [
            group for group in response.groups if access.group(Operation.DESCRIBE, group.group_id)
        ]

    request.amend(hide)
    return None


def delete_groups(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DELETE on each group."""
    body, access = request.body, request.access
    body.groups_names, denied = part(
        body.groups_names, lambda one: access.group(Operation.DELETE, one)
    )
    refused = [DeletableGroupResult(one, GROUP_DENIED) for one in denied]
    request.amend(lambda response: response.results.extend(refused))
    return None


def consumer_group_heartbeat(broker: "Broker", request: "Request[Any]") -> Message | None:
    """READ on the group, DESCRIBE on every topic that is subscribed to by name."""
    body, access = request.body, request.access
    if not access.group(Operation.READ, body.group_id):
        return refusal(request, GROUP_DENIED)
    names = body.subscribed_topic_names or ()
    if not all(access.topic(Operation.DESCRIBE, name) for name in names):
        return refusal(request, TOPIC_DENIED)
    return None


def consumer_group_describe(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each group, and on every topic that its members know of."""
    body, access = request.body, request.access
    body.group_ids, denied = part(body.group_ids, lambda one: access.group(Operation.DESCRIBE, one))

    def amend(response: Any) -> None:
        for group in response.groups:
            if not all(access.topic(Operation.DESCRIBE, name) for name in _topics_of(group)):
                group.error_code = TOPIC_DENIED
                group.error_message = _UNSEEN_TOPICS
                group.members = []
        response.groups += [
            described.DescribedGroup(
                error_code=GROUP_DENIED, error_message=MESSAGES[GROUP_DENIED], group_id=one
            )
            for one in denied
        ]

    request.amend(amend)
    return None


_UNSEEN_TOPICS = "The group has described topic(s) that the client is not authorized to describe."


def _topics_of(group: described.DescribedGroup) -> set[str]:
    names: set[str] = set()
    for one in group.members:
        names.update(one.subscribed_topic_names)
        for assignment in (one.assignment, one.target_assignment):
            names.update(topic.topic_name for topic in assignment.topic_partitions)
    return names
