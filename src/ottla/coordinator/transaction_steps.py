"""What each step of a transaction writes: from the record of a TransactionalId to the next one.

Who may take a step is decided in `transactions`; the numbers are decided here.

- A producer's epoch is raised by InitProducerId, by a time-out and, with version 2, by EndTxn.
- Kafka aborts an open transaction on InitProducerId in two raises: it fences with epoch + 1 (which
  the markers carry and no client is told), answers CONCURRENT_TRANSACTIONS, and gives epoch + 2
  when the client asks again. Here both happen in one frame, with the same numbers. A producer that
  names its own epoch gets epoch + 1, as from Kafka 4.1 on (KAFKA-19367).
- Epochs end at 32766. The next raise takes a new producer id with epoch 0; 32767 occurs only in
  the markers of that last transaction, so every epoch that a client holds can be fenced.
- `previous_producer_id` is set while epoch 0 of such a new id stands, for a retry by the old id.
- A transaction that is kept for its successor (KIP-939) has two identities: its batches' own, which
  stays, and the successor's, which is raised each time that another one comes. Only the latter may
  end it. The markers have the former's epoch + 1, whichever version ends it.
"""

from collections.abc import Collection

from msgspec.structs import replace

from ottla.coordinator.producer_ids import ProducerIds
from ottla.coordinator.records import (
    CoordinatorRecord,
    MarkerRecord,
    OffsetsEnded,
    TransactionRecord,
)
from ottla.coordinator.transaction_states import (
    TRANSACTION_VERSION_2,
    TRANSITIONS,
    TransactionState,
)
from ottla.ports.invariants import invariant

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_TIMESTAMP = -1
NO_TIMEOUT_MS = 2_147_483_647  # of a transaction that takes part in two-phase commit (KIP-939)
EPOCH_MAX = 32_766  # the last epoch a client is given; one more is kept for fencing it

TopicPartition = tuple[str, int]
Change = tuple[list[CoordinatorRecord], TransactionRecord]
"""The records to write, and the state afterwards."""


def first_record(
    transactional_id: str, timeout_ms: int, now_ms: int, producer_ids: ProducerIds
) -> Change:
    """A TransactionalId that is not known: a fresh producer id."""
    producer_id, reserved = producer_ids.take()
    first = TransactionRecord(
        transactional_id=transactional_id,
        producer_id=producer_id,
        producer_epoch=0,
        last_producer_epoch=NO_PRODUCER_EPOCH,
        previous_producer_id=NO_PRODUCER_ID,
        timeout_ms=timeout_ms,
        state=TransactionState.EMPTY,
        partitions=[],
        group_ids=[],
        start_timestamp_ms=NO_TIMESTAMP,
        last_update_timestamp_ms=now_ms,
        client_transaction_version=0,
        fenced_producer_epoch=NO_PRODUCER_EPOCH,
    )
    return [*reserved, first], first


def raise_epoch(
    record: TransactionRecord,
    timeout_ms: int,
    now_ms: int,
    producer_ids: ProducerIds,
    *,
    same_producer: bool,
) -> Change:
    """InitProducerId: abort what is open, then give the next epoch.

    Only the same producer may ask again with its old epoch; a new instance shuts it out.
    """
    endings: list[CoordinatorRecord] = []
    epoch = record.producer_epoch
    if record.state == TransactionState.ONGOING:
        endings = _endings(record, False, epoch + 1, TRANSACTION_VERSION_2)
        if not same_producer:
            epoch += 1
    reserved, raised = _raised(record, epoch, producer_ids)
    after = replace(
        raised,
        last_producer_epoch=record.producer_epoch if same_producer else NO_PRODUCER_EPOCH,
        timeout_ms=timeout_ms,
        state=TransactionState.EMPTY,
        partitions=[],
        group_ids=[],
        start_timestamp_ms=NO_TIMESTAMP,
        last_update_timestamp_ms=now_ms,
        fenced_producer_epoch=NO_PRODUCER_EPOCH,
        kept_producer_id=NO_PRODUCER_ID,
        kept_producer_epoch=NO_PRODUCER_EPOCH,
    )
    return [*reserved, *endings, after], after


def keep(
    record: TransactionRecord, timeout_ms: int, now_ms: int, producer_ids: ProducerIds
) -> Change:
    """InitProducerId that takes the open transaction over, to end it, and shuts out who began it.

    Its time-out is never made shorter: it would be aborted at once, and may be prepared.
    """
    reserved, raised = _raised(record, record.producer_epoch, producer_ids)
    producer_id, producer_epoch = record.identity_in_log
    after = replace(
        raised,
        last_producer_epoch=NO_PRODUCER_EPOCH,
        timeout_ms=max(record.timeout_ms, timeout_ms),
        last_update_timestamp_ms=now_ms,
        fenced_producer_epoch=NO_PRODUCER_EPOCH,
        kept_producer_id=producer_id,
        kept_producer_epoch=producer_epoch,
    )
    return [*reserved, after], after


def extend(
    record: TransactionRecord,
    partitions: Collection[TopicPartition],
    group_ids: Collection[str],
    transaction_version: int,
    now_ms: int,
) -> list[CoordinatorRecord]:
    """Make these part of the transaction, begin one if none is open; [] if they are part of it."""
    is_open = record.state == TransactionState.ONGOING
    all_partitions = dict.fromkeys((*record.partitions, *partitions))
    all_group_ids = dict.fromkeys((*record.group_ids, *group_ids))
    if (
        is_open
        and len(all_partitions) == len(record.partitions)
        and len(all_group_ids) == len(record.group_ids)
    ):
        return []
    after = replace(
        record,
        state=TransactionState.ONGOING,
        partitions=list(all_partitions),
        group_ids=list(all_group_ids),
        start_timestamp_ms=record.start_timestamp_ms if is_open else now_ms,
        last_update_timestamp_ms=now_ms,
        client_transaction_version=transaction_version,
        fenced_producer_epoch=NO_PRODUCER_EPOCH,
    )
    return [after]


def end(
    record: TransactionRecord,
    commit: bool,
    transaction_version: int,
    now_ms: int,
    producer_ids: ProducerIds,
) -> Change:
    """End what is open, if anything is: with version 2 nothing need be."""
    epoch = record.producer_epoch
    if transaction_version >= TRANSACTION_VERSION_2:
        endings = _endings(record, commit, epoch + 1, transaction_version)
        reserved, raised = _raised(record, epoch, producer_ids)
    else:
        endings = _endings(record, commit, epoch, transaction_version)
        reserved, raised = [], record
    after = replace(
        raised,
        state=TransactionState.COMPLETE_COMMIT if commit else TransactionState.COMPLETE_ABORT,
        partitions=[],
        group_ids=[],
        start_timestamp_ms=(
            record.start_timestamp_ms if record.state == TransactionState.ONGOING else now_ms
        ),
        last_update_timestamp_ms=now_ms,
        client_transaction_version=transaction_version,
        fenced_producer_epoch=NO_PRODUCER_EPOCH,
        kept_producer_id=NO_PRODUCER_ID,
        kept_producer_epoch=NO_PRODUCER_EPOCH,
    )
    return [*reserved, *endings, after], after


def shut_out(
    record: TransactionRecord, now_ms: int, producer_ids: ProducerIds
) -> list[CoordinatorRecord]:
    """After a power cut: abort what is open, or raise the epoch if something may have been open.

    The batches of an open transaction are acknowledged before they are durable: any of them may be
    missing now, or all, with the transaction itself. So nobody may go on with it. Version 1 makes
    the beginning of a transaction durable before it is acknowledged: what was open there, still is.

    How the last transaction ended stays known, with the epoch that it had, for EndTxn sent again.
    """
    if record.state == TransactionState.ONGOING:
        return end(record, False, TRANSACTION_VERSION_2, now_ms, producer_ids)[0]
    if (
        record.state != TransactionState.EMPTY
        and record.client_transaction_version < TRANSACTION_VERSION_2
    ):
        return []
    reserved, raised = _raised(record, record.producer_epoch, producer_ids)
    after = replace(
        raised,
        last_producer_epoch=record.last_producer_epoch,
        previous_producer_id=(
            record.previous_producer_id
            if raised.producer_id == record.producer_id
            else record.producer_id
        ),
        last_update_timestamp_ms=now_ms,
        fenced_producer_epoch=record.producer_epoch,
    )
    return [*reserved, after]


def identity_before(record: TransactionRecord) -> tuple[int, int] | None:
    """Producer id and epoch of the same producer before its last raise, if that is remembered."""
    if record.last_producer_epoch == NO_PRODUCER_EPOCH:
        return None
    if record.previous_producer_id != NO_PRODUCER_ID:
        return record.previous_producer_id, record.last_producer_epoch
    return record.producer_id, record.last_producer_epoch


def identity_shut_out(record: TransactionRecord) -> tuple[int, int] | None:
    """Producer id and epoch that a power cut has made void, while nothing came after."""
    if record.fenced_producer_epoch == NO_PRODUCER_EPOCH:
        return None
    return record.producer_id, record.fenced_producer_epoch


def _raised(record: TransactionRecord, epoch: int, producer_ids: ProducerIds) -> Change:
    """The producer after `epoch`, and what must be written before it is used."""
    if epoch < EPOCH_MAX:
        raised = replace(
            record,
            producer_epoch=epoch + 1,
            previous_producer_id=NO_PRODUCER_ID,
            last_producer_epoch=record.producer_epoch,
        )
        return [], raised
    producer_id, reserved = producer_ids.take()
    raised = replace(
        record,
        producer_id=producer_id,
        producer_epoch=0,
        previous_producer_id=record.producer_id,
        last_producer_epoch=record.producer_epoch,
    )
    return [*reserved], raised


def _endings(
    record: TransactionRecord, commit: bool, marker_epoch: int, transaction_version: int
) -> list[CoordinatorRecord]:
    """A marker for every partition touched, and the end of the offsets of every group touched.

    A version 2 marker's epoch is above the producer's: a batch of the ended transaction that comes
    late meets a higher epoch in the partition.
    """
    producer_id = record.producer_id
    if record.kept_producer_id != NO_PRODUCER_ID:
        producer_id, marker_epoch = record.kept_producer_id, record.kept_producer_epoch + 1
    endings: list[CoordinatorRecord] = [
        MarkerRecord(topic, partition, producer_id, marker_epoch, commit, transaction_version)
        for topic, partition in record.partitions
    ]
    if record.group_ids:
        endings.append(OffsetsEnded(producer_id, record.group_ids, commit))
    return endings


def check_transition(before: TransactionRecord, after: TransactionRecord) -> None:
    """A transaction moves as its table says, and epochs rise; else this is a bug of ours."""
    invariant(
        TransactionState(after.state) in TRANSITIONS[TransactionState(before.state)],
        "a transaction moves as its table says",
        before=before,
        after=after,
    )
    invariant(
        before.producer_id != after.producer_id or before.producer_epoch <= after.producer_epoch,
        "the epoch of a producer id never falls",
        before=before,
        after=after,
    )
