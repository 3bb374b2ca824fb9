"""InitProducerId: v0-5.

Behaviour: gives a producer its id and epoch. With a transactional.id it fences the producer that
had it before, and aborts what that one left open, in the same frame of the journal; the answer
waits for the disk, for it is the fence. Without one it is a fresh id.
Versions: v3 producer id and epoch, to go on after an error (KIP-360); v4 knows PRODUCER_FENCED.
Divergences: never CONCURRENT_TRANSACTIONS (Kafka answers it while an open transaction is aborted).
A request on a connection older than the producer's newest is dropped, see `connection_order`.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.transaction_states import for_old_clients
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(22, 0, 5)
def handle(broker: "Broker", request: "Request[InitProducerIdRequest]") -> None:
    body, connection_id = request.body, request.connection.id
    transactional_id, connections = body.transactional_id, broker.transactions.connections
    if transactional_id is not None:
        connections.check_new_instance(transactional_id, connection_id)
    outcome = broker.transactions.init_producer_id(
        transactional_id,
        body.transaction_timeout_ms,
        body.producer_id,
        body.producer_epoch,
        broker.clock.now_ms(),
    )
    broker.commit(outcome.records)
    error, producer_id, producer_epoch = outcome.reply
    if transactional_id is not None and error is ErrorCode.NONE:
        connections.note(
            Role.COORDINATOR, transactional_id, producer_id, producer_epoch, connection_id
        )
    request.respond(
        InitProducerIdResponse(
            error_code=for_old_clients(error, request.version, fenced_since=4),
            producer_id=producer_id,
            producer_epoch=producer_epoch,
        )
    )
