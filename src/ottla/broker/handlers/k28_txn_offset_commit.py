"""TxnOffsetCommit: v0-5.

Behaviour: the offsets wait for the end of the transaction: they become the group's committed
offsets with its commit, or are dropped with its abort. First the transaction is checked, then the
group: member, generation and instance id as far as given (KIP-447).
Versions: v2 leader epoch; v3 generation, member and instance id; v4 knows TRANSACTION_ABORTABLE;
v5 adds the group to the transaction (KIP-890), before it must have been added by AddOffsetsToTxn.
A stale epoch is INVALID_PRODUCER_EPOCH at every version: this is a write, as Produce is.
Divergences: before v5 a late request on a connection that was given up is dropped, see
`connection_order`.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.offsets import OffsetToCommit
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_IMPLICIT_ADD_VERSION = 5


@api(28, 0, 5)
def handle(broker: "Broker", request: "Request[TxnOffsetCommitRequest]") -> None:
    offsets = [
        OffsetToCommit(
            topic.name,
            partition.partition_index,
            partition.committed_offset,
            partition.committed_leader_epoch,
            partition.committed_metadata or "",
        )
        for topic in request.body.topics
        for partition in topic.partitions
    ]
    existing = [
        offset
        for offset in offsets
        if broker.catalog.partition(offset.topic, offset.partition) is not None
    ]
    known = {(offset.topic, offset.partition) for offset in existing}
    errors = iter(_commit(broker, request, existing))
    topics = [
        TxnOffsetCommitResponseTopic(
            name=topic.name,
            partitions=[
                TxnOffsetCommitResponsePartition(
                    partition_index=partition.partition_index,
                    error_code=(
                        next(errors)
                        if (topic.name, partition.partition_index) in known
                        else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                    ),
                )
                for partition in topic.partitions
            ],
        )
        for topic in request.body.topics
    ]
    response = TxnOffsetCommitResponse(topics=topics)
    has_errors = any(partition.error_code for topic in topics for partition in topic.partitions)
    if has_errors or broker.transactions.is_two_phase(request.body.transactional_id):
        request.respond(response)
    else:
        request.respond_when_written(response)


def _commit(
    broker: "Broker", request: "Request[TxnOffsetCommitRequest]", offsets: list[OffsetToCommit]
) -> list[ErrorCode]:
    """An error code for each of the offsets, in order."""
    body, connection_id, now_ms = request.body, request.connection.id, broker.clock.now_ms()
    connections = broker.transactions.connections
    producer = (body.transactional_id, body.producer_id, body.producer_epoch)
    if not body.group_id:
        return [ErrorCode.INVALID_GROUP_ID] * len(offsets)
    if request.version < _IMPLICIT_ADD_VERSION:
        connections.check(Role.OFFSETS, *producer, connection_id)
    admitted = broker.transactions.admit_offset_commit(
        *producer, body.group_id, request.version, now_ms
    )
    broker.counters.refused(admitted.reply)
    if admitted.reply is not ErrorCode.NONE:
        return [admitted.reply] * len(offsets)
    if request.version < _IMPLICIT_ADD_VERSION:
        connections.note(Role.OFFSETS, *producer, connection_id)
    committed = broker.groups.txn_commit_offsets(
        body.group_id,
        body.member_id,
        body.generation_id,
        body.group_instance_id,
        body.producer_id,
        body.producer_epoch,
        offsets,
        now_ms,
    )
    if committed.records:
        deferred = not broker.transactions.is_two_phase(body.transactional_id)
        broker.commit([*admitted.records, *committed.records], deferred=deferred)
    return committed.reply
