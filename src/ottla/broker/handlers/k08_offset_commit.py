"""OffsetCommit: v2-10.

Behaviour: the offsets are the group's once they are durable, which is before the answer. A member
commits for its generation; without a generation only a group without members takes offsets. A
commit keeps the member's session like a heartbeat. In a group of the new protocol the member's
epoch takes the generation's place; one that is too old for a partition is STALE_MEMBER_EPOCH
(KIP-1251).
Versions: v6 leader epochs, v7 static members, v9 members of the new protocol, and
GROUP_ID_NOT_FOUND where older versions hear ILLEGAL_GENERATION, v10 topics by id.
Divergences: the retention time of v2-4 is not looked at, for offsets do not expire.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.offsets import OffsetToCommit
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.catalog import Topic
    from ottla.broker.request import Request

_EPOCHS_VERSION = 9
_TOPIC_ID_VERSION = 10
_Placed = tuple[OffsetToCommit, OffsetCommitResponsePartition]


@api(8, 2, 10)
def handle(broker: "Broker", request: "Request[OffsetCommitRequest]") -> None:
    body = request.body
    topics = []
    known: list[_Placed] = []
    for topic in body.topics:
        if request.version < _TOPIC_ID_VERSION:
            found = broker.catalog.topic(topic.name)
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            found = broker.catalog.topic_by_id(topic.topic_id)
            unknown = ErrorCode.UNKNOWN_TOPIC_ID
        partitions = [
            OffsetCommitResponsePartition(partition.partition_index, unknown)
            for partition in topic.partitions
        ]
        topics.append(OffsetCommitResponseTopic(topic.name, topic.topic_id, partitions))
        if found is not None:
            known.extend(_known_offsets(found, topic, partitions))
    codes = _commit(broker, request, [offset for offset, _ in known])
    for (_, answer), code in zip(known, codes, strict=True):
        answer.error_code = code
    request.respond(OffsetCommitResponse(topics=topics))


def _known_offsets(
    found: "Topic",
    topic: OffsetCommitRequestTopic,
    answers: list[OffsetCommitResponsePartition],
) -> list[_Placed]:
    """The offsets for partitions that exist, each with its place in the answer."""
    known = []
    for wanted, answer in zip(topic.partitions, answers, strict=True):
        if 0 <= wanted.partition_index < len(found.partitions):
            offset = OffsetToCommit(
                found.name,
                wanted.partition_index,
                wanted.committed_offset,
                wanted.committed_leader_epoch,
                wanted.committed_metadata or "",
            )
            known.append((offset, answer))
        else:
            answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return known


def _commit(
    broker: "Broker", request: "Request[OffsetCommitRequest]", offsets: list[OffsetToCommit]
) -> list[ErrorCode]:
    body = request.body
    try:
        broker.check_disk_space()
    except KafkaError:
        # What Kafka makes of KAFKA_STORAGE_ERROR here: clients look for the coordinator and retry.
        return [ErrorCode.NOT_COORDINATOR for _ in offsets]
    outcome = broker.groups.commit_offsets(
        body.group_id,
        body.member_id,
        body.generation_id_or_member_epoch,
        body.group_instance_id,
        offsets,
        broker.clock.now_ms(),
        broker.clock.monotonic_ms(),
        knows_epochs=request.version >= _EPOCHS_VERSION,
    )
    broker.commit(outcome.records)
    if request.version >= _EPOCHS_VERSION:
        return outcome.reply
    return [
        ErrorCode.ILLEGAL_GENERATION if code is ErrorCode.GROUP_ID_NOT_FOUND else code
        for code in outcome.reply
    ]
