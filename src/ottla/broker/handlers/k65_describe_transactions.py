"""DescribeTransactions: v0 (KIP-664).

Behaviour: state, producer, start time, time-out and partitions of each TransactionalId asked for;
TRANSACTIONAL_ID_NOT_FOUND for one that is not known. The producer is the one that is in the
batches: another may have taken the transaction over to end it (KIP-939).
Divergences: groups whose offsets are part of the transaction are not shown (Kafka shows a
partition of __consumer_offsets, which does not exist here).
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.transaction_states import TransactionState as State
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(65, 0, 0)
def handle(broker: "Broker", request: "Request[DescribeTransactionsRequest]") -> None:
    states = [
        _describe(broker, transactional_id) for transactional_id in request.body.transactional_ids
    ]
    request.respond(DescribeTransactionsResponse(transaction_states=states))


def _describe(broker: "Broker", transactional_id: str) -> TransactionState:
    if not transactional_id:
        return TransactionState(error_code=ErrorCode.INVALID_REQUEST)
    record = broker.transactions.transaction(transactional_id)
    if record is None:
        return TransactionState(
            error_code=ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, transactional_id=transactional_id
        )
    producer_id, producer_epoch = record.identity_in_log
    by_topic: dict[str, list[int]] = {}
    for topic, partition in record.partitions:
        by_topic.setdefault(topic, []).append(partition)
    return TransactionState(
        transactional_id=transactional_id,
        transaction_state=State(record.state).label,
        transaction_timeout_ms=record.timeout_ms,
        transaction_start_time_ms=record.start_timestamp_ms,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        topics=[TopicData(topic, partitions) for topic, partitions in by_topic.items()],
    )
