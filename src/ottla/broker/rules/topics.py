"""Rules of the APIs that name topics."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ottla.broker.authorizer import Operation
from ottla.broker.rules.rule import (
    MESSAGES,
    TOPIC_DENIED,
    TRANSACTIONAL_ID_DENIED,
    part,
)
from ottla.log.validate import has_transactional_batch
from ottla.ports.errors import ErrorCode, KafkaError, ProtocolError
from ottla.wire.message import ZERO_UUID, Message
from ottla.wire.messages.create_partitions import CreatePartitionsTopicResult
from ottla.wire.messages.create_topics import CreatableTopicResult
from ottla.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsTopicResult,
)
from ottla.wire.messages.delete_topics import DeletableTopicResult
from ottla.wire.messages.describe_producers import PartitionResponse, TopicResponse
from ottla.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseTopic,
)
from ottla.wire.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsTopicResponse,
)
from ottla.wire.messages.offset_for_leader_epoch import EpochEndOffset, OffsetForLeaderTopicResult
from ottla.wire.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_PRODUCE_IDS_VERSION = 13
_DELETE_IDS_VERSION = 6
_DENIED_MESSAGE = MESSAGES[TOPIC_DENIED]


def name_of(broker: "Broker", name: str | None, topic_id: UUID, by_id: bool) -> str | None:
    """The name of a topic that a request gives by name or by id; None for an unknown id."""
    if not by_id:
        return name
    topic = broker.catalog.topic_by_id(topic_id)
    return None if topic is None else topic.name


def produce(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on each topic; for transactional batches on the TransactionalId first.

    A transactional batch without a TransactionalId is refused, and one with somebody else's
    producer id by the coordinator, which knows whose it is (CVE-2018-17196).
    """
    body, access = request.body, request.access
    by_id = request.version >= _PRODUCE_IDS_VERSION
    transactional_id = body.transactional_id
    produced = (one.records for topic in body.topic_data for one in topic.partition_data)
    try:
        asks = has_transactional_batch(produced)
    except KafkaError:
        return None  # the handler refuses all of it
    if asks and not (
        transactional_id is not None and access.transactional_id(Operation.WRITE, transactional_id)
    ):
        denied = _denied_produce(request, body.topic_data, TRANSACTIONAL_ID_DENIED)
        return ProduceResponse(responses=denied)

    def may_write(topic: TopicProduceData) -> bool:
        name = name_of(broker, topic.name, topic.topic_id, by_id)
        return name is None or access.topic(Operation.WRITE, name)

    body.topic_data, others = part(body.topic_data, may_write)
    if others:
        refused = _denied_produce(request, others, TOPIC_DENIED)
        request.amend(lambda response: response.responses.extend(refused))
    return None


def _denied_produce(
    request: "Request[Any]", topics: list[TopicProduceData], code: ErrorCode
) -> list[TopicProduceResponse]:
    if request.body.acks == 0:  # there is no answer that could say it: Kafka closes
        raise ProtocolError(f"a Produce with acks=0 was refused: {code.name}")
    return [
        TopicProduceResponse(
            name=topic.name,
            topic_id=topic.topic_id,
            partition_responses=[
                PartitionProduceResponse(
                    index=data.index,
                    error_code=code,
                    base_offset=-1,
                    log_append_time_ms=-1,
                    log_start_offset=-1,
                    error_message=None,
                )
                for data in topic.partition_data
            ],
        )
        for topic in topics
    ]


def _named(
    operation: Operation, field: str, refuse: Callable[[Any], object], request: "Request[Any]"
) -> None:
    """Take the topics without this right out of `topics`, and refuse each in `field`."""
    body = request.body
    body.topics, denied = part(
        body.topics, lambda topic: request.access.topic(operation, topic.name)
    )
    if denied:
        refusals = [refuse(topic) for topic in denied]
        request.amend(lambda response: getattr(response, field).extend(refusals))


def list_offsets(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each topic."""

    def refuse(topic: Any) -> ListOffsetsTopicResponse:
        return ListOffsetsTopicResponse(
            topic.name,
            [
                ListOffsetsPartitionResponse(
                    partition_index=one.partition_index,
                    error_code=TOPIC_DENIED,
                    timestamp=-1,
                    offset=-1,
                    leader_epoch=-1,
                )
                for one in topic.partitions
            ],
        )

    _named(Operation.DESCRIBE, "topics", refuse, request)
    return None


def delete_records(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DELETE on each topic."""

    def refuse(topic: Any) -> DeleteRecordsTopicResult:
        return DeleteRecordsTopicResult(
            topic.name,
            [
                DeleteRecordsPartitionResult(
                    partition_index=one.partition_index, low_watermark=-1, error_code=TOPIC_DENIED
                )
                for one in topic.partitions
            ],
        )

    _named(Operation.DELETE, "topics", refuse, request)
    return None


def create_topics(broker: "Broker", request: "Request[Any]") -> Message | None:
    """CREATE on the cluster or on each topic; DESCRIBE_CONFIGS to be told what was made."""
    body, access = request.body, request.access
    denied: list[Any] = []
    if not access.cluster(Operation.CREATE):
        body.topics, denied = part(
            body.topics, lambda one: access.topic(Operation.CREATE, one.name)
        )

    def amend(response: Any) -> None:
        for result in response.topics:
            if not result.error_code and not access.topic(Operation.DESCRIBE_CONFIGS, result.name):
                result.topic_config_error_code = TOPIC_DENIED
                result.num_partitions = result.replication_factor = -1
                result.configs = []
        response.topics += [
            CreatableTopicResult(
                name=topic.name, error_code=TOPIC_DENIED, error_message="Authorization failed."
            )
            for topic in denied
        ]

    request.amend(amend)
    return None


def create_partitions(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on each topic."""

    def refuse(topic: Any) -> CreatePartitionsTopicResult:
        return CreatePartitionsTopicResult(topic.name, TOPIC_DENIED, None)

    _named(Operation.ALTER, "results", refuse, request)
    return None


def describe_producers(broker: "Broker", request: "Request[Any]") -> Message | None:
    """READ on each topic."""

    def refuse(topic: Any) -> TopicResponse:
        return TopicResponse(
            topic.name,
            [
                PartitionResponse(
                    partition_index=index,
                    error_code=TOPIC_DENIED,
                    error_message=_DENIED_MESSAGE,
                )
                for index in topic.partition_indexes
            ],
        )

    _named(Operation.READ, "topics", refuse, request)
    return None


def offset_for_leader_epoch(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each topic, or CLUSTER_ACTION, which a replica has."""
    body, access = request.body, request.access
    if access.cluster(Operation.CLUSTER_ACTION):
        return None
    body.topics, denied = part(
        body.topics, lambda topic: access.topic(Operation.DESCRIBE, topic.topic)
    )
    if denied:
        refusals = [
            OffsetForLeaderTopicResult(
                topic.topic,
                [
                    EpochEndOffset(
                        partition=one.partition,
                        error_code=TOPIC_DENIED,
                        leader_epoch=-1,
                        end_offset=-1,
                    )
                    for one in topic.partitions
                ],
            )
            for topic in denied
        ]
        request.amend(lambda response: response.topics.extend(refusals))
    return None


def delete_topics(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DELETE on each topic; that it exists, and its name, are told to who may DESCRIBE it."""
    body, access = request.body, request.access
    if access.cluster(Operation.DELETE):
        return None
    refusals: list[DeletableTopicResult] = []

    def may_delete(name: str | None, topic_id: UUID, by_id: bool) -> bool:
        found = name_of(broker, name, topic_id, by_id)
        if found is None:
            return True
        described = access.topic(Operation.DESCRIBE, found)
        is_there = broker.catalog.topic(found) is not None
        if described and (not is_there or access.topic(Operation.DELETE, found)):
            return True
        told = None if by_id and not described else found
        refusals.append(DeletableTopicResult(told, topic_id, TOPIC_DENIED, _DENIED_MESSAGE))
        return False

    if request.version < _DELETE_IDS_VERSION:
        names = body.topic_names
        body.topic_names = [name for name in names if may_delete(name, ZERO_UUID, by_id=False)]
    else:
        body.topics = [
            topic
            for topic in body.topics
            if may_delete(topic.name, topic.topic_id, by_id=topic.name is None)
        ]
    if refusals:
        request.amend(lambda response: response.responses.extend(refusals))
    return None


def describe_topic_partitions(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each topic; when all are asked for, the others do not exist."""
    body, access = request.body, request.access
    if not body.topics:
        request.amend(
            lambda response: _keep_topics(
                response, lambda topic: access.topic(Operation.DESCRIBE, topic.name or "")
            )
        )
        return None
    body.topics, denied = part(
        body.topics, lambda topic: access.topic(Operation.DESCRIBE, topic.name)
    )
    refusals = [
        DescribeTopicPartitionsResponseTopic(
            error_code=TOPIC_DENIED, name=topic.name, topic_id=ZERO_UUID, partitions=[]
        )
        for topic in denied
    ]
    if not body.topics:  # to the handler, none would mean all
        return DescribeTopicPartitionsResponse(topics=refusals)
    request.amend(lambda response: response.topics.extend(refusals))
    return None


def _keep_topics(response: Any, allowed: Callable[[Any], bool]) -> None:
    response.topics = [topic for topic in response.topics if allowed(topic)]
