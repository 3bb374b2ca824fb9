"""DeleteRecords: v0-2.

Behaviour: a partition begins at the offset from here on, durable before the answer; -1 is the high
watermark. The answer tells where it begins. An offset below the start changes nothing.
OFFSET_OUT_OF_RANGE beyond the high watermark, POLICY_VIOLATION where cleanup.policy has no delete.
Segments without a record left go with the next checkpoint.
Versions: the same but for their form.
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.log.partition import Partition
from ottla.log.retention import LogStartRecord, log_start_record
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_HIGH_WATERMARK = -1
_NO_LOW_WATERMARK = -1


@api(21, 0, 2)
def handle(broker: "Broker", request: "Request[DeleteRecordsRequest]") -> None:
    records: list[LogStartRecord] = []
    changed: list[Partition] = []
    results = []
    for topic in request.body.topics:
        answers = []
        for wanted in topic.partitions:
            partition = broker.catalog.partition(topic.name, wanted.partition_index)
            answer = DeleteRecordsPartitionResult(partition_index=wanted.partition_index)
            try:
                offset = _start(partition, wanted.offset)
            except KafkaError as error:
                answer.low_watermark, answer.error_code = _NO_LOW_WATERMARK, error.code
            else:
                answer.low_watermark = offset
                if partition is not None and offset > partition.log_start_offset:
                    records.append(log_start_record(partition, offset))
                    changed.append(partition)
            answers.append(answer)
        results.append(DeleteRecordsTopicResult(name=topic.name, partitions=answers))
    broker.commit(records)
    broker.wake(changed)
    request.respond(DeleteRecordsResponse(topics=results))


def _start(partition: Partition | None, offset: int) -> int:
    """Where the partition is to begin. Raises KafkaError."""
    if partition is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if not partition.config.deletes:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"records of {partition.name} cannot be deleted: its cleanup.policy has no delete",
        )
    if offset == _HIGH_WATERMARK:
        offset = partition.high_watermark
    if not 0 <= offset <= partition.high_watermark:
        raise KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{partition.name} ends at {partition.high_watermark}, not at {offset}",
        )
    return max(offset, partition.log_start_offset)
