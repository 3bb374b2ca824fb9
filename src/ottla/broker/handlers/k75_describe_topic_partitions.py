"""DescribeTopicPartitions: v0 (KIP-966).

Behaviour: the topics that are named, or all, in the order of their names, from the cursor on and
with at most so many partitions as the request allows; the answer's cursor is where to go on.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.authorizer import ResourceType
from ottla.broker.catalog import INTERNAL_TOPICS, check_topic_name
from ottla.broker.registry import api
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.catalog import Topic
    from ottla.broker.request import Request

_PARTITIONS_MAX = 2_000  # max.request.partition.size.limit
_NO_ID = UUID(int=0)
_Described = DescribeTopicPartitionsResponseTopic


@api(75, 0, 0)
def handle(broker: "Broker", request: "Request[DescribeTopicPartitionsRequest]") -> None:
    body, cursor = request.body, request.body.cursor
    named = sorted({topic.name for topic in body.topics})
    first = cursor.topic_name if cursor is not None else ""
    if cursor is not None and ((named and first not in named) or cursor.partition_index < 0):
        request.respond_now(
            DescribeTopicPartitionsResponse(
                topics=[_failed(name, ErrorCode.INVALID_REQUEST) for name in named]
            )
        )
        return
    names = named or [topic.name for topic in broker.catalog.topics()]
    room = max(min(body.response_partition_limit, _PARTITIONS_MAX), 1)
    described: list[_Described] = []
    following: Cursor | None = None
    for name in names:
        if name < first:
            continue
        start = cursor.partition_index if cursor is not None and name == first else 0
        topic = broker.catalog.topic(name)
        count = 0 if topic is None else max(len(topic.partitions) - start, 0)
        if count and not room:
            following = Cursor(name, start)
            break
        described.append(
            _describe(broker, request, name, topic, range(start, start + min(count, room)))
        )
        if count > room:
            following = Cursor(name, start + room)
            break
        room -= count
    request.respond_now(DescribeTopicPartitionsResponse(topics=described, next_cursor=following))


def _describe(
    broker: "Broker",
    request: "Request[DescribeTopicPartitionsRequest]",
    name: str,
    topic: "Topic | None",
    indexes: range,
) -> _Described:
    if topic is None:
        described = _failed(name, _why_absent(name))
    else:
        described = _Described(
            error_code=ErrorCode.NONE,
            name=name,
            topic_id=topic.topic_id,
            partitions=[_partition(broker.node_id, index) for index in indexes],
        )
    described.is_internal = name in INTERNAL_TOPICS
    described.topic_authorized_operations = request.access.operations(ResourceType.TOPIC, name)
    return described


def _why_absent(name: str) -> ErrorCode:
    try:
        check_topic_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _failed(name: str, code: ErrorCode) -> _Described:
    return _Described(error_code=code, name=name, topic_id=_NO_ID, partitions=[])


def _partition(node_id: int, index: int) -> DescribeTopicPartitionsResponsePartition:
    return DescribeTopicPartitionsResponsePartition(
        error_code=ErrorCode.NONE,
        partition_index=index,
        leader_id=node_id,
        leader_epoch=LEADER_EPOCH,
        replica_nodes=[node_id],
        isr_nodes=[node_id],
        eligible_leader_replicas=[],
        last_known_elr=[],
        offline_replicas=[],
    )
