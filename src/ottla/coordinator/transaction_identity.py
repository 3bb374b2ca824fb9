"""Who a request says it is, against what is known of its TransactionalId."""

from ottla.coordinator.records import TransactionRecord
from ottla.coordinator.transaction_states import Claim
from ottla.coordinator.transaction_steps import (
    NO_PRODUCER_ID,
    identity_before,
    identity_shut_out,
)
from ottla.ports.errors import ErrorCode


def identity_error(
    transactional_id: str, record: TransactionRecord | None, producer_id: int, producer_epoch: int
) -> ErrorCode:
    """NONE only for the producer as it is now: an older epoch is fenced, a newer is nobody's."""
    if not transactional_id:
        return ErrorCode.INVALID_REQUEST
    if record is None or record.producer_id != producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    if record.producer_epoch != producer_epoch:
        return ErrorCode.PRODUCER_FENCED
    return ErrorCode.NONE


def writer_error(
    transactional_id: str, record: TransactionRecord | None, producer_id: int, producer_epoch: int
) -> ErrorCode:
    """May this producer add to a transaction? One that was kept can only be ended (KIP-939)."""
    error = identity_error(transactional_id, record, producer_id, producer_epoch)
    if error is ErrorCode.NONE and record and record.kept_producer_id != NO_PRODUCER_ID:
        return ErrorCode.INVALID_TXN_STATE
    return error


def for_writers(error: ErrorCode) -> ErrorCode:
    """What writes to a log has always been told of a stale epoch (KIP-588)."""
    return ErrorCode.INVALID_PRODUCER_EPOCH if error is ErrorCode.PRODUCER_FENCED else error


def claim(record: TransactionRecord, producer_id: int, producer_epoch: int) -> Claim | ErrorCode:
    """What a version 2 EndTxn claims to be, or why it is refused."""
    claimed = (producer_id, producer_epoch)
    if claimed == (record.producer_id, record.producer_epoch):
        return Claim.CURRENT
    if claimed == identity_before(record):
        return Claim.RETRY
    if claimed == identity_shut_out(record):
        return Claim.SHUT_OUT
    if producer_id != record.producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    return ErrorCode.PRODUCER_FENCED
