"""OffsetForLeaderEpoch: v2-4.

Behaviour: the only leader epoch there has been is 0, and it ends where the log ends. An older one
is not known (-1, -1); a newer current epoch is UNKNOWN_LEADER_EPOCH. Consumers use it to notice
truncation, of which there is none here: what they have read is durable.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(23, 2, 4)
def handle(broker: "Broker", request: "Request[OffsetForLeaderEpochRequest]") -> None:
    topics = [
        OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=[_look_up(broker, topic.topic, wanted) for wanted in topic.partitions],
        )
        for topic in request.body.topics
    ]
    request.respond_now(OffsetForLeaderEpochResponse(topics=topics))


def _look_up(broker: "Broker", topic: str, wanted: OffsetForLeaderPartition) -> EpochEndOffset:
    partition = broker.catalog.partition(topic, wanted.partition)
    answer = EpochEndOffset(partition=wanted.partition, leader_epoch=-1, end_offset=-1)
    if partition is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif wanted.current_leader_epoch > LEADER_EPOCH:
        answer.error_code = ErrorCode.UNKNOWN_LEADER_EPOCH
    elif wanted.leader_epoch == LEADER_EPOCH:
        answer.leader_epoch, answer.end_offset = LEADER_EPOCH, partition.high_watermark
    return answer
