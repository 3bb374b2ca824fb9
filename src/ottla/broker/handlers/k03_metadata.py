"""Metadata: v0-13.

Behaviour: this node is the only broker, the controller, and leads every partition. A topic that is
asked for and not there is made when the request and the broker's settings allow it; the answer
then waits until it is durable, so that a client never sees LEADER_NOT_AVAILABLE.
With an authorizer, topics that the principal may not describe are TOPIC_AUTHORIZATION_FAILED when
they are asked for and left out when all are, and to make one takes CREATE (KIP-277).
Divergences: a name that only its collision with another forbids is INVALID_TOPIC_EXCEPTION at once;
Kafka says UNKNOWN_TOPIC_OR_PARTITION.
Versions: v0 empty list means all, from v1 null does; v4 may refuse auto-creation; v8 authorized
operations (KIP-430), the cluster's until v10; v10 topic ids in
the answer, in the request usable from v12; v13 top-level error.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.access import NOT_ASKED_FOR
from ottla.broker.authorizer import Operation, ResourceType
from ottla.broker.catalog import INTERNAL_TOPICS, check_topic_name
from ottla.broker.registry import api
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.catalog import Topic
    from ottla.broker.request import Request

_NO_ID = UUID(int=0)
_BY_ID_VERSION = 12
_NEVER = 32_767  # a version: no client of Metadata knows THROTTLING_QUOTA_EXCEEDED


@api(3, 0, 13)
def handle(broker: "Broker", request: "Request[MetadataRequest]") -> None:
    body = request.body
    if body.topics is None or (request.version == 0 and not body.topics):
        topics = [
            _describe(broker, request, topic)
            for topic in broker.catalog.topics()
            if request.access.topic(Operation.DESCRIBE, topic.name)
        ]
    else:
        may_create = broker.config.auto_create_topics and (
            request.version < 4 or body.allow_auto_topic_creation
        )
        once = {(wanted.name, wanted.topic_id): wanted for wanted in body.topics}
        topics = [
            _find(broker, request, wanted, may_create)
            if request.version >= _BY_ID_VERSION or _is_by_name(wanted)
            else _failed(wanted.name or "", _NO_ID, ErrorCode.INVALID_REQUEST)
            for wanted in once.values()
        ]
    host, port = request.advertised
    request.respond(
        MetadataResponse(
            brokers=[MetadataResponseBroker(node_id=broker.node_id, host=host, port=port)],
            cluster_id=broker.catalog.cluster_id,
            controller_id=broker.node_id,
            topics=topics,
            cluster_authorized_operations=(
                request.access.cluster_operations()
                if body.include_cluster_authorized_operations
                else NOT_ASKED_FOR
            ),
        )
    )


def _is_by_name(wanted: MetadataRequestTopic) -> bool:
    return wanted.name is not None and wanted.topic_id == _NO_ID


def _find(
    broker: "Broker",
    request: "Request[MetadataRequest]",
    wanted: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic:
    """The topic; to whom may not describe it, the answer is the same whether it exists or not."""
    access = request.access
    if wanted.topic_id is not None and wanted.topic_id != _NO_ID:
        topic = broker.catalog.topic_by_id(wanted.topic_id)
        if topic is None:
            return _failed(None, wanted.topic_id, ErrorCode.UNKNOWN_TOPIC_ID)
        if not access.topic(Operation.DESCRIBE, topic.name):
            return _failed(None, wanted.topic_id, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        return _describe(broker, request, topic)
    name = wanted.name or ""
    if not access.topic(Operation.DESCRIBE, name):
        return _failed(name, _NO_ID, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    topic = broker.catalog.topic(name)
    if topic is None and may_create:
        if not (access.cluster(Operation.CREATE) or access.topic(Operation.CREATE, name)):
            return _failed(name, _NO_ID, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        try:
            broker.check_disk_space()
            record = broker.catalog.create(name, broker.config.num_partitions)
            request.charge_mutations(record.partition_count, strict_from=_NEVER)
            broker.commit([record])
        except KafkaError as error:
            return _absent(request, name, error.code)
        topic = broker.catalog.topic(name)
    if topic is None:
        return _absent(request, name, _why_absent(name))
    return _describe(broker, request, topic)


def _why_absent(name: str) -> ErrorCode:
    try:
        check_topic_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _absent(
    request: "Request[MetadataRequest]", name: str, code: ErrorCode
) -> MetadataResponseTopic:
    """A topic that is not there; what the principal may do to it is told all the same."""
    described = _failed(name, _NO_ID, code)
    described.is_internal = name in INTERNAL_TOPICS
    described.topic_authorized_operations = _operations(request, name)
    return described


def _operations(request: "Request[MetadataRequest]", name: str) -> int:
    if not request.body.include_topic_authorized_operations:
        return NOT_ASKED_FOR
    return request.access.operations(ResourceType.TOPIC, name)


def _failed(name: str | None, topic_id: UUID, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=name, topic_id=topic_id, partitions=[])


def _describe(
    broker: "Broker", request: "Request[MetadataRequest]", topic: "Topic"
) -> MetadataResponseTopic:
    node_id = broker.node_id
    return MetadataResponseTopic(
        error_code=ErrorCode.NONE,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[
            MetadataResponsePartition(
                error_code=ErrorCode.NONE,
                partition_index=index,
                leader_id=node_id,
                leader_epoch=LEADER_EPOCH,
                replica_nodes=[node_id],
                isr_nodes=[node_id],
                offline_replicas=[],
            )
            for index in range(len(topic.partitions))
        ],
        topic_authorized_operations=_operations(request, topic.name),
    )
