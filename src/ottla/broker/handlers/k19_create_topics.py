"""CreateTopics: v2-7.

Behaviour: makes topics; each has its own answer, durable before it is given. `validate_only` makes
nothing. A replica assignment may name this node only.
Versions: v4 takes -1 for the default partition count and replication factor (KIP-464), v5 answers
configs and counts, v7 the topic id.
"""

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.catalog import TopicRecord
from ottla.broker.registry import api
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_DEFAULT = -1
_SOURCE_TOPIC, _SOURCE_DEFAULT = 1, 5


@api(19, 2, 7)
def handle(broker: "Broker", request: "Request[CreateTopicsRequest]") -> None:
    body = request.body
    named = Counter(topic.name for topic in body.topics)
    results = []
    for topic in body.topics:
        try:
            if named[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            results.append(_create(broker, topic, validate_only=body.validate_only))
        except KafkaError as error:
            results.append(
                CreatableTopicResult(
                    name=topic.name, error_code=error.code, error_message=error.message
                )
            )
    request.respond(CreateTopicsResponse(topics=results))


def _create(
    broker: "Broker", topic: CreatableTopic, *, validate_only: bool
) -> CreatableTopicResult:
    count = _partition_count(broker, topic)
    configs = {one.name: one.value for one in topic.configs if one.value is not None}
    record = broker.catalog.create(topic.name, count, configs)
    if not validate_only:
        broker.check_disk_space()
        broker.commit([record])
    return _result(record)


def _partition_count(broker: "Broker", topic: CreatableTopic) -> int:
    """How many partitions are asked for. Raises KafkaError."""
    if topic.assignments:
        if topic.num_partitions != _DEFAULT or topic.replication_factor != _DEFAULT:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                "partitions and replication factor are not given together with an assignment",
            )
        indexes = sorted(one.partition_index for one in topic.assignments)
        if indexes != list(range(len(indexes))) or any(
            one.broker_ids != [broker.node_id] for one in topic.assignments
        ):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"partitions are numbered from 0 and live on node {broker.node_id}",
            )
        return len(indexes)
    if topic.replication_factor not in (_DEFAULT, 1):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {topic.replication_factor} time(s): "
            "there is one broker, and it does not replicate",
        )
    return (
        broker.config.num_partitions if topic.num_partitions == _DEFAULT else topic.num_partitions
    )


def _result(record: TopicRecord) -> CreatableTopicResult:
    return CreatableTopicResult(
        name=record.name,
        topic_id=UUID(bytes=record.topic_id),
        error_code=ErrorCode.NONE,
        num_partitions=record.partition_count,
        replication_factor=1,
        configs=[
            CreatableTopicConfigs(
                name=name,
                value=record.configs.get(name, definition.default),
                read_only=False,
                config_source=_SOURCE_TOPIC if name in record.configs else _SOURCE_DEFAULT,
                is_sensitive=False,
            )
            for name, definition in TOPIC_CONFIGS.items()
        ],
    )
