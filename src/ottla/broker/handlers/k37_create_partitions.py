"""CreatePartitions: v0-3.

Behaviour: a topic gets more partitions, empty ones behind those it has; durable before the answer.
`validate_only` makes none. An assignment may name this node only.
Versions: v2 flexible, v3 may be throttled, which never happens here.
"""

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.assignments import check_assignment
from ottla.broker.catalog import TopicRecord, check_partition_count
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError, error_code, error_text
from ottla.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_QUOTA_VERSION = 3


@api(37, 0, 3)
def handle(broker: "Broker", request: "Request[CreatePartitionsRequest]") -> None:
    named = Counter(topic.name for topic in request.body.topics)
    wanted = {topic.name: topic for topic in request.body.topics}
    results = []
    for name, topic in wanted.items():
        failed: KafkaError | None = None
        try:
            if named[name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            record = _enlarged(broker, request, topic)
            if not request.body.validate_only:
                broker.check_disk_space()
                broker.commit([record])
        except KafkaError as error:
            failed = error
        results.append(
            CreatePartitionsTopicResult(
                name=name, error_code=error_code(failed), error_message=error_text(failed)
            )
        )
    request.respond(CreatePartitionsResponse(results=results))


def _enlarged(
    broker: "Broker", request: "Request[CreatePartitionsRequest]", wanted: CreatePartitionsTopic
) -> TopicRecord:
    """The record of the topic with more partitions. Raises KafkaError."""
    topic = broker.catalog.topic(wanted.name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    count = len(topic.partitions)
    if wanted.count == count:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {count} partition(s).")
    if wanted.count < count:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {wanted.name} currently has {count} partition(s); {wanted.count} would "
            "not be an increase.",
        )
    if wanted.assignments is not None:
        additional, given = wanted.count - count, len(wanted.assignments)
        if given != additional:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {additional} additional partition(s), but only {given} "
                "assignment(s) were specified.",
            )
        for assignment in wanted.assignments:
            check_assignment(assignment.broker_ids, broker.node_id)
    check_partition_count(wanted.count)
    request.charge_mutations(wanted.count - count, strict_from=_QUOTA_VERSION)
    return broker.catalog.alter(topic, partition_count=wanted.count)
