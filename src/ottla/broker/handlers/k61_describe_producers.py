"""DescribeProducers: v0 (KIP-664).

Behaviour: what each partition knows of its producers: epoch, last sequence, and the first offset
of a transaction that is open there. It is how a hanging transaction is found.
Divergences: LastTimestamp is when the broker appended the producer's last batch, not the time the
producer wrote into it; expiry counts from it.
"""

from typing import TYPE_CHECKING

from ottla.broker.catalog import check_topic_name
from ottla.broker.registry import api
from ottla.log.partition import Partition
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(61, 0, 0)
def handle(broker: "Broker", request: "Request[DescribeProducersRequest]") -> None:
    topics = [
        TopicResponse(
            name=topic.name,
            partitions=[_describe(broker, topic.name, index) for index in topic.partition_indexes],
        )
        for topic in request.body.topics
    ]
    request.respond(DescribeProducersResponse(topics=topics))


def _describe(broker: "Broker", topic: str, index: int) -> PartitionResponse:
    try:
        check_topic_name(topic)
        partition = broker.catalog.partition(topic, index)
        if partition is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {topic}-{index}"
            )
    except KafkaError as error:
        return PartitionResponse(
            partition_index=index, error_code=error.code, error_message=error.message
        )
    return PartitionResponse(partition_index=index, active_producers=_producers(partition))


def _producers(partition: Partition) -> list[ProducerState]:
    return [
        ProducerState(
            producer_id=entry.producer_id,
            producer_epoch=entry.epoch,
            last_sequence=entry.last_sequence,
            last_timestamp=entry.last_append_ms,
            coordinator_epoch=entry.coordinator_epoch,
            current_txn_start_offset=(
                -1 if entry.transaction_first_offset is None else entry.transaction_first_offset
            ),
        )
        for entry in partition.producers.entries.values()
    ]
