"""CreateTopics: v2-7.

Behaviour: makes topics; each has its own answer, durable before it is given. `validate_only` makes
nothing. A replica assignment may name this node only, and there is one replica of everything.
Versions: v4 takes -1 for the default partition count and replication factor (KIP-464), v5 answers
configs and counts, v7 the topic id.
"""

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.assignments import check_assignment
from ottla.broker.catalog import TopicRecord
from ottla.broker.registry import api
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.ports.errors import ErrorCode, KafkaError, error_text
from ottla.ports.limits import REQUEST_PARTITIONS_MAX
from ottla.wire.messages.create_topics import (
    CreatableReplicaAssignment,
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
_QUOTA_VERSION = 6


@api(19, 2, 7)
def handle(broker: "Broker", request: "Request[CreateTopicsRequest]") -> None:
    body = request.body
    named = Counter(topic.name for topic in body.topics)
    too_many = sum(_asked_for(broker, topic) for topic in body.topics) > REQUEST_PARTITIONS_MAX
    results = []
    for topic in {one.name: one for one in body.topics}.values():
        try:
            if too_many:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    "Excessively large number of partitions per request.",
                )
            if named[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            results.append(_create(broker, request, topic))
        except KafkaError as error:
            results.append(
                CreatableTopicResult(
                    name=topic.name, error_code=error.code, error_message=error_text(error)
                )
            )
    request.respond(CreateTopicsResponse(topics=results))


def _asked_for(broker: "Broker", topic: CreatableTopic) -> int:
    if topic.assignments:
        return len(topic.assignments)
    default = topic.num_partitions == _DEFAULT
    return max(broker.config.num_partitions if default else topic.num_partitions, 0)


def _create(
    broker: "Broker", request: "Request[CreateTopicsRequest]", topic: CreatableTopic
) -> CreatableTopicResult:
    nulls = [one.name for one in topic.configs if one.value is None]
    configs = {one.name: one.value for one in topic.configs if one.value is not None}
    broker.catalog.check_new(topic.name, {} if nulls else configs)
    if nulls:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {nulls[0]}"
        )
    record = broker.catalog.create(topic.name, _partition_count(broker, topic), configs)
    request.charge_mutations(record.partition_count, strict_from=_QUOTA_VERSION)
    if not request.body.validate_only:
        broker.check_disk_space()
        broker.commit([record])
    return _result(broker, record)


def _partition_count(broker: "Broker", topic: CreatableTopic) -> int:
    """How many partitions are asked for. Raises KafkaError."""
    if topic.assignments:
        if topic.replication_factor != _DEFAULT:
            raise _invalid("replication factor")
        if topic.num_partitions != _DEFAULT:
            raise _invalid("numPartitions")
        return _assigned(broker, topic.assignments)
    if topic.replication_factor < _DEFAULT or topic.replication_factor == 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    count = topic.num_partitions
    if topic.replication_factor > 1 and (count > 0 or count == _DEFAULT):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {topic.replication_factor} time(s): The target "
            f"replication factor of {topic.replication_factor} cannot be reached because only 1 "
            "broker(s) are registered or some brokers have all their log directories cordoned.",
        )
    return broker.config.num_partitions if count == _DEFAULT else count


def _assigned(broker: "Broker", assignments: list[CreatableReplicaAssignment]) -> int:
    """How many partitions are assigned by hand. Raises KafkaError."""
    indexes = set[int]()
    for one in assignments:
        if one.partition_index in indexes:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {one.partition_index}",
            )
        check_assignment(one.broker_ids, broker.node_id)
        indexes.add(one.partition_index)
    if indexes != set(range(len(indexes))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        )
    return len(indexes)


def _invalid(what: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_REQUEST,
        f"A manual partition assignment was specified, but {what} was not set to -1.",
    )


def _result(broker: "Broker", record: TopicRecord) -> CreatableTopicResult:
    configs = []
    for name in sorted(TOPIC_CONFIGS):
        value = broker.catalog.configs.topic_value(name, record.configs)
        configs.append(
            CreatableTopicConfigs(
                name=name,
                value=value.value,
                read_only=False,
                config_source=value.source,
                is_sensitive=False,
            )
        )
    return CreatableTopicResult(
        name=record.name,
        topic_id=UUID(bytes=record.topic_id),
        error_code=ErrorCode.NONE,
        error_message=None,
        num_partitions=record.partition_count,
        replication_factor=1,
        configs=configs,
    )
