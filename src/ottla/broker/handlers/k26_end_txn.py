"""EndTxn: v0-5.

Behaviour: commits or aborts. The markers of all partitions, the end of the groups' pending offsets
and the transaction's result are one frame of the journal; the answer waits until it is durable.
Versions: v2 knows PRODUCER_FENCED. v5 is transaction version 2 (KIP-890): the epoch rises, the
answer carries the producer id and epoch to use next, and an abort is right in every state.
Divergences: the transaction is complete with the answer (Kafka answers first and writes the
markers later), so never CONCURRENT_TRANSACTIONS. Before v5 a late request on a connection that was
given up is dropped, see `connection_order`.
"""

from typing import TYPE_CHECKING

from ottla.broker.counters import Ending
from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.transaction_states import (
    TRANSACTION_VERSION_1,
    TRANSACTION_VERSION_2,
    for_old_clients,
)
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.end_txn import EndTxnRequest, EndTxnResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(26, 0, 5)
def handle(broker: "Broker", request: "Request[EndTxnRequest]") -> None:
    body, connection_id = request.body, request.connection.id
    connections = broker.transactions.connections
    producer = (body.transactional_id, body.producer_id, body.producer_epoch)
    version = TRANSACTION_VERSION_2 if request.version >= 5 else TRANSACTION_VERSION_1
    if version == TRANSACTION_VERSION_1:
        connections.check(Role.COORDINATOR, *producer, connection_id)
    outcome = broker.transactions.end_transaction(
        *producer, body.committed, version, broker.clock.now_ms()
    )
    broker.commit(outcome.records)
    error, producer_id, producer_epoch = outcome.reply
    broker.counters.refused(error)
    if outcome.records:
        broker.counters.ended[Ending.COMMITTED if body.committed else Ending.ABORTED] += 1
    if version == TRANSACTION_VERSION_1 and error is ErrorCode.NONE:
        connections.note(Role.COORDINATOR, *producer, connection_id)
    request.respond(
        EndTxnResponse(
            error_code=for_old_clients(error, request.version, fenced_since=2),
            producer_id=producer_id,
            producer_epoch=producer_epoch,
        )
    )
