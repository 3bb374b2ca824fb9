"""AddPartitionsToTxn: v0-5.

Behaviour: makes partitions part of the transaction, and begins one if none is open. All or none: a
partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION, the others are then
OPERATION_NOT_ATTEMPTED.
Versions: v0-3 are for clients before transaction version 2; v2 knows PRODUCER_FENCED. v4-5 are
what Kafka's brokers say to each other: several transactions, and VerifyOnly, which adds nothing and
answers TRANSACTION_ABORTABLE for what is not there.
Divergences: never CONCURRENT_TRANSACTIONS. v4-5 are served to any client. A late request on a
connection that was given up is dropped, see `connection_order`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.transaction_states import TRANSACTION_VERSION_2, for_old_clients
from ottla.coordinator.transaction_steps import TopicPartition
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_BATCHED_VERSION = 4


@api(24, 0, 5)
def handle(broker: "Broker", request: "Request[AddPartitionsToTxnRequest]") -> None:
    if request.version >= _BATCHED_VERSION:
        results = [
            AddPartitionsToTxnResult(
                transactional_id=transaction.transactional_id,
                topic_results=_results(transaction.topics, _batched(broker, transaction)),
            )
            for transaction in request.body.transactions
        ]
        request.respond(AddPartitionsToTxnResponse(results_by_transaction=results))
        return
    topics = request.body.v3_and_below_topics
    errors = _from_client(broker, request)
    # The beginning of a transaction has to be durable. Without it a power cut could take all of it,
    # and EndTxn would be taken for the repeated end of the one before, which had the same epoch.
    request.respond(
        AddPartitionsToTxnResponse(results_by_topic_v3_and_below=_results(topics, errors))
    )


def _from_client(
    broker: "Broker", request: "Request[AddPartitionsToTxnRequest]"
) -> list[ErrorCode]:
    """An error code for each partition of a v0-3 request, in order."""
    body, connection_id = request.body, request.connection.id
    producer = (
        body.v3_and_below_transactional_id,
        body.v3_and_below_producer_id,
        body.v3_and_below_producer_epoch,
    )
    connections = broker.transactions.connections
    connections.check(Role.COORDINATOR, *producer, connection_id)
    partitions = _partitions(body.v3_and_below_topics)
    unknown = _unknown(broker, partitions)
    if unknown is not None:
        return unknown
    outcome = broker.transactions.add_partitions(*producer, partitions, broker.clock.now_ms())
    broker.commit(outcome.records)
    broker.counters.refused(outcome.reply)
    if outcome.reply is ErrorCode.NONE:
        connections.note(Role.COORDINATOR, *producer, connection_id)
    return [for_old_clients(outcome.reply, request.version, fenced_since=2)] * len(partitions)


def _batched(broker: "Broker", transaction: AddPartitionsToTxnTransaction) -> list[ErrorCode]:
    """An error code for each partition of one transaction of a v4-5 request, in order."""
    partitions = _partitions(transaction.topics)
    unknown = _unknown(broker, partitions)
    if unknown is not None:
        return unknown
    producer = (
        transaction.transactional_id,
        transaction.producer_id,
        transaction.producer_epoch,
    )
    if transaction.verify_only:
        return broker.transactions.verify_partitions(*producer, partitions)
    outcome = broker.transactions.add_partitions(
        *producer, partitions, broker.clock.now_ms(), TRANSACTION_VERSION_2
    )
    broker.commit(outcome.records)
    broker.counters.refused(outcome.reply)
    return [outcome.reply] * len(partitions)


def _partitions(topics: Sequence[AddPartitionsToTxnTopic]) -> list[TopicPartition]:
    return [(topic.name, partition) for topic in topics for partition in topic.partitions]


def _unknown(broker: "Broker", partitions: Sequence[TopicPartition]) -> list[ErrorCode] | None:
    """When some do not exist: which, and that the others were left alone."""
    exist = [broker.catalog.partition(*partition) is not None for partition in partitions]
    if all(exist):
        return None
    return [
        ErrorCode.OPERATION_NOT_ATTEMPTED if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        for known in exist
    ]


def _results(
    topics: Sequence[AddPartitionsToTxnTopic], errors: Sequence[ErrorCode]
) -> list[AddPartitionsToTxnTopicResult]:
    """The errors, given in the order of the request, as the response wants them."""
    remaining = iter(errors)
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=partition, partition_error_code=next(remaining)
                )
                for partition in topic.partitions
            ],
        )
        for topic in topics
    ]
