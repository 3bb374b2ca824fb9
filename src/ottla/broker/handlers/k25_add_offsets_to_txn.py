"""AddOffsetsToTxn: v0-4.

Behaviour: makes a group's offsets part of the transaction, and begins one if none is open.
TxnOffsetCommit brings the offsets. Clients with transaction version 2 leave this request out.
Versions: v2 knows PRODUCER_FENCED, v3 is flexible, v4 is the same.
Divergences: the group itself is part of the transaction, not a partition of __consumer_offsets; at
most limits.TRANSACTION_GROUPS_MAX of them. Never CONCURRENT_TRANSACTIONS. A late request on a
connection that was given up is dropped, see `connection_order`.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.transaction_states import for_old_clients
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(25, 0, 4)
def handle(broker: "Broker", request: "Request[AddOffsetsToTxnRequest]") -> None:
    body, connection_id = request.body, request.connection.id
    connections = broker.transactions.connections
    producer = (body.transactional_id, body.producer_id, body.producer_epoch)
    connections.check(Role.COORDINATOR, *producer, connection_id)
    outcome = broker.transactions.add_offsets(*producer, body.group_id, broker.clock.now_ms())
    broker.commit(outcome.records)
    broker.counters.refused(outcome.reply)
    error = for_old_clients(outcome.reply, request.version, fenced_since=2)
    if error is ErrorCode.NONE:
        connections.note(Role.COORDINATOR, *producer, connection_id)
    # Durable, as AddPartitionsToTxn is: it may be what begins the transaction.
    request.respond(AddOffsetsToTxnResponse(error_code=error))
