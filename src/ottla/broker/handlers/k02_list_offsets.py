"""ListOffsets: v1-11.

Behaviour: -1 the end a consumer of this isolation sees, -2 the start, -3 the record with the
largest timestamp, -4 and -5 as -2 and none (nothing is tiered), else the first record with at least
this timestamp, or offset -1 if there is none. A partition that is named twice is INVALID_REQUEST,
once.
Versions: v2 isolation level, v4 leader epochs, v7 max timestamp (KIP-734), v8 -4, v9 -5, v11 -6.
"""

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.log.partition import Partition, TimestampOffset
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_LATEST, _EARLIEST, _MAX_TIMESTAMP, _EARLIEST_LOCAL = -1, -2, -3, -4
_LATEST_TIERED, _EARLIEST_PENDING_UPLOAD = -5, -6
_NEVER = 1 << 15
_SINCE_VERSION = {
    _LATEST: 1,
    _EARLIEST: 1,
    _MAX_TIMESTAMP: 7,
    _EARLIEST_LOCAL: 8,
    _LATEST_TIERED: 9,
    _EARLIEST_PENDING_UPLOAD: 11,
}


@api(2, 1, 11)
def handle(broker: "Broker", request: "Request[ListOffsetsRequest]") -> None:
    read_committed = request.body.isolation_level == 1
    named = [(topic.name, wanted) for topic in request.body.topics for wanted in topic.partitions]
    times = Counter((name, wanted.partition_index) for name, wanted in named)
    answers: dict[tuple[str, int], ListOffsetsPartitionResponse] = {}
    for name, wanted in named:
        place = name, wanted.partition_index
        if times[place] > 1:
            answers[place] = _nothing(wanted.partition_index, ErrorCode.INVALID_REQUEST)
        else:
            partition = broker.catalog.partition(*place)
            answers[place] = _look_up(partition, wanted, read_committed, request.version)
    topics: dict[str, list[ListOffsetsPartitionResponse]] = {}
    for (name, _), answer in answers.items():
        topics.setdefault(name, []).append(answer)
    request.respond_now(
        ListOffsetsResponse(
            topics=[ListOffsetsTopicResponse(name, found) for name, found in topics.items()]
        )
    )


def _nothing(index: int, code: ErrorCode = ErrorCode.NONE) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(
        partition_index=index, error_code=code, offset=-1, timestamp=-1, leader_epoch=-1
    )


def _look_up(
    partition: Partition | None, wanted: ListOffsetsPartition, read_committed: bool, version: int
) -> ListOffsetsPartitionResponse:
    answer = _nothing(wanted.partition_index)
    if wanted.timestamp < 0 and version < _SINCE_VERSION.get(wanted.timestamp, _NEVER):
        answer.error_code = ErrorCode.UNSUPPORTED_VERSION
    elif partition is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif wanted.current_leader_epoch > LEADER_EPOCH:
        answer.error_code = ErrorCode.UNKNOWN_LEADER_EPOCH
    else:
        found = _find(partition, wanted.timestamp, read_committed)
        if found is not None:
            answer.offset, answer.timestamp = found
            answer.leader_epoch = LEADER_EPOCH
    return answer


def _find(partition: Partition, timestamp: int, read_committed: bool) -> TimestampOffset | None:
    if timestamp == _LATEST:
        return TimestampOffset(partition.end_offset(read_committed), -1)
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return TimestampOffset(partition.log_start_offset, -1)
    if timestamp == _MAX_TIMESTAMP:
        return partition.offset_of_max_time()
    if timestamp in (_LATEST_TIERED, _EARLIEST_PENDING_UPLOAD):
        return None
    return partition.offset_for_time(timestamp, read_committed)
