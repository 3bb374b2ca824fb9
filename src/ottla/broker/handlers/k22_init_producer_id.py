"""InitProducerId: v0-6.

Behaviour: gives a producer its id and epoch. With a transactional.id it fences the producer that
had it before, and aborts what that one left open, in the same frame of the journal; the answer
waits for the disk, for it is the fence. Without one it is a fresh id.
Versions: v3 producer id and epoch, to go on after an error (KIP-360); v4 knows PRODUCER_FENCED. v6
is for two-phase commit (KIP-939): with Enable2Pc no transaction times out, which the broker's
setting has to allow, or TRANSACTIONAL_ID_AUTHORIZATION_FAILED. KeepPreparedTxn does not abort what
is open: the answer tells whose it is, and the producer may end it, and do nothing else before
(INVALID_TXN_STATE). It works without Enable2Pc too, with the time-out.
Divergences: never CONCURRENT_TRANSACTIONS (Kafka answers it while an open transaction is aborted).
A request on a connection older than the producer's newest is dropped, see `connection_order`.
Kafka's brokers keep v6 to themselves, and refuse KeepPreparedTxn with UNSUPPORTED_VERSION (4.4).
"""

from typing import TYPE_CHECKING

from ottla.broker.counters import Ending
from ottla.broker.registry import api
from ottla.coordinator.connection_order import Role
from ottla.coordinator.records import MarkerRecord, OffsetsEnded
from ottla.coordinator.transaction_states import for_old_clients
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_NOBODY = (-1, -1)


@api(22, 0, 6)
def handle(broker: "Broker", request: "Request[InitProducerIdRequest]") -> None:
    body, connection_id = request.body, request.connection.id
    transactional_id, connections = body.transactional_id, broker.transactions.connections
    if transactional_id is not None:
        connections.check_new_instance(transactional_id, connection_id)
    if transactional_id and body.enable2_pc and not broker.config.two_phase_commit:
        code = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        request.respond(InitProducerIdResponse(error_code=code, producer_epoch=-1))
        return
    outcome = broker.transactions.init_producer_id(
        transactional_id,
        body.transaction_timeout_ms,
        body.producer_id,
        body.producer_epoch,
        broker.clock.now_ms(),
        two_phase=body.enable2_pc,
        keep_prepared=body.keep_prepared_txn,
    )
    broker.commit(outcome.records)
    error, producer_id, producer_epoch = outcome.reply
    broker.counters.refused(error)
    broker.counters.ended[Ending.TAKEN_OVER] += any(
        isinstance(record, MarkerRecord | OffsetsEnded) for record in outcome.records
    )
    ongoing = _kept(broker, transactional_id) if error is ErrorCode.NONE else _NOBODY
    if transactional_id is not None and error is ErrorCode.NONE:
        connections.note(
            Role.COORDINATOR, transactional_id, producer_id, producer_epoch, connection_id
        )
    request.respond(
        InitProducerIdResponse(
            error_code=for_old_clients(error, request.version, fenced_since=4),
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            ongoing_txn_producer_id=ongoing[0],
            ongoing_txn_producer_epoch=ongoing[1],
        )
    )


def _kept(broker: "Broker", transactional_id: str | None) -> tuple[int, int]:
    """Producer id and epoch of the transaction that was kept, if one was."""
    record = broker.transactions.transaction(transactional_id or "")
    return _NOBODY if record is None else (record.kept_producer_id, record.kept_producer_epoch)
