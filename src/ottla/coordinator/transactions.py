"""The transaction coordinator: who may write under a transactional.id, and what is open.

Everything durable is one TransactionRecord per TransactionalId (and the reservation of producer
ids). Operations only look: they answer with the records to write and the reply. `apply` changes
the state, live and in replay. (What operations do change is volatile: the next producer id in its
block, and when `on_timer` should look again.)

EndTxn is one step: its records are the markers of every partition touched, the end of the groups'
pending offsets, and the TransactionRecord with the result. The broker writes them as one frame,
which a crash keeps or loses as a whole. So there is no prepared state, nothing to finish after a
crash, and the next transaction can begin at once.

A transaction may be taken over by its producer's next instance, to be ended and not aborted, and
it may have no time-out: then it can be part of another system's two-phase commit (KIP-939).

A producer acts only with the current producer id and epoch; all others are fenced. A transaction
that times out is aborted with a raised epoch: a producer that was only slow learns it from
INVALID_PRODUCER_EPOCH and goes on (KIP-588), by InitProducerId with its old epoch, or with
version 2 by EndTxn(abort).

Unlike Kafka: a retry of InitProducerId writes nothing, so it cannot turn a completed transaction
into Empty before the retry of its EndTxn; InitProducerId with a producer id must name the current
epoch to abort an open transaction (Kafka lets a fenced producer abort its successor's); and the
retry of a version 2 EndTxn must be by the same producer, not just have the number before.

Times are wall clock in milliseconds: they must mean the same after a restart.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ottla.coordinator.connection_order import ConnectionOrder
from ottla.coordinator.producer_ids import ProducerIds
from ottla.coordinator.records import (
    CoordinatorRecord,
    Outcome,
    ProducerIdsReserved,
    TransactionalIdExpired,
    TransactionRecord,
)
from ottla.coordinator.transaction_identity import (
    claim,
    for_writers,
    identity_error,
    writer_error,
)
from ottla.coordinator.transaction_states import (
    END_VERSION_1,
    END_VERSION_2,
    TRANSACTION_VERSION_1,
    TRANSACTION_VERSION_2,
    TRANSITIONS,
    Step,
    TransactionState,
)
from ottla.coordinator.transaction_steps import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_TIMEOUT_MS,
    Change,
    TopicPartition,
    check_transition,
    end,
    extend,
    first_record,
    identity_before,
    identity_shut_out,
    keep,
    raise_epoch,
    shut_out,
)
from ottla.ports.errors import ErrorCode
from ottla.ports.invariants import invariant
from ottla.ports.limits import (
    TRANSACTION_GROUPS_MAX,
    TRANSACTION_TIMEOUT_MS_MAX,
    TRANSACTIONAL_ID_EXPIRATION_MS,
    TRANSACTIONAL_IDS_MAX,
)

EXPIRY_INTERVAL_MS = 3_600_000  # transaction.remove.expired.transaction.cleanup.interval.ms
DUE_PER_TIMER_MAX = 1_000  # what one frame of on_timer ends or forgets
_NEVER_MS = 2**63 - 1

_ONGOING = TransactionState.ONGOING


class ProducerReply(NamedTuple):
    """An error, or the producer id and epoch to use from now on."""

    error: ErrorCode
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


@dataclass(slots=True)
class OpenTransaction:
    """An Ongoing transaction's content, ready for look-ups: derived from its record."""

    partitions: set[TopicPartition]
    group_ids: set[str]
    deadline_ms: int


class TransactionCoordinator:
    """All TransactionalIds of the broker."""

    def __init__(self) -> None:
        self.connections = ConnectionOrder()
        self._producer_ids = ProducerIds()
        self._transactions: dict[str, TransactionRecord] = {}
        self._open: dict[str, OpenTransaction] = {}
        # No transaction times out, no id expires before these; on_timer makes them exact.
        self._timeout_due_ms = _NEVER_MS
        self._expiry_due_ms = _NEVER_MS

    # -- operations -----------------------------------------------------------------------------

    def init_producer_id(
        self,
        transactional_id: str | None,
        timeout_ms: int,
        producer_id: int,
        producer_epoch: int,
        now_ms: int,
        *,
        two_phase: bool = False,
        keep_prepared: bool = False,
    ) -> Outcome[ProducerReply]:
        """Give a producer its id and epoch, and fence all that came before it.

        `producer_id` and `producer_epoch` are -1, or what a producer had that wants to go on after
        an error (KIP-360). Without a TransactionalId they mean nothing: the id is always fresh.
        `two_phase`: its transactions never time out. `keep_prepared`: one that is open is not
        aborted, and this producer may end it (KIP-939).
        """
        if (producer_id == NO_PRODUCER_ID) != (producer_epoch == NO_PRODUCER_EPOCH):
            return _refused(ErrorCode.INVALID_REQUEST)
        if transactional_id is None:
            fresh_id, reserved = self._producer_ids.take()
            return Outcome([*reserved], ProducerReply(ErrorCode.NONE, fresh_id, 0))
        if not transactional_id:
            return _refused(ErrorCode.INVALID_REQUEST)
        if two_phase:
            timeout_ms = NO_TIMEOUT_MS
        elif not 0 < timeout_ms <= TRANSACTION_TIMEOUT_MS_MAX:
            return _refused(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        record = self._transactions.get(transactional_id)
        if record is None:
            if len(self._transactions) >= TRANSACTIONAL_IDS_MAX:
                return _refused(ErrorCode.POLICY_VIOLATION)
            return _identified(
                first_record(transactional_id, timeout_ms, now_ms, self._producer_ids)
            )
        same_producer = producer_id != NO_PRODUCER_ID
        expected = (producer_id, producer_epoch)
        if same_producer and expected != (record.producer_id, record.producer_epoch):
            if expected == identity_before(record) and record.state != _ONGOING:
                return Outcome([], _identity(record))  # a retry
            if expected == identity_shut_out(record):
                return Outcome([], _identity(record))
            return _refused(ErrorCode.PRODUCER_FENCED)
        if keep_prepared and record.state == _ONGOING:
            return _identified(keep(record, timeout_ms, now_ms, self._producer_ids))
        return _identified(
            raise_epoch(record, timeout_ms, now_ms, self._producer_ids, same_producer=same_producer)
        )

    def add_partitions(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Collection[TopicPartition],
        now_ms: int,
        transaction_version: int = TRANSACTION_VERSION_1,
    ) -> Outcome[ErrorCode]:
        """Make existing partitions part of the transaction; begin one if none is open."""
        record = self._transactions.get(transactional_id)
        error = writer_error(transactional_id, record, producer_id, producer_epoch)
        if record is None or error is not ErrorCode.NONE:
            return Outcome([], error)
        return Outcome(extend(record, partitions, (), transaction_version, now_ms), ErrorCode.NONE)

    def verify_partitions(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Sequence[TopicPartition],
    ) -> list[ErrorCode]:
        """An error code for each partition: is it part of the open transaction?"""
        record = self._transactions.get(transactional_id)
        error = writer_error(transactional_id, record, producer_id, producer_epoch)
        if error is not ErrorCode.NONE:
            return [error] * len(partitions)
        return self._membership(transactional_id, partitions, ErrorCode.TRANSACTION_ABORTABLE)

    def add_offsets(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        group_id: str,
        now_ms: int,
        transaction_version: int = TRANSACTION_VERSION_1,
    ) -> Outcome[ErrorCode]:
        """Make a group's offsets part of the transaction; begin one if none is open."""
        record = self._transactions.get(transactional_id)
        error = writer_error(transactional_id, record, producer_id, producer_epoch)
        if record is None or error is not ErrorCode.NONE:
            return Outcome([], error)
        groups = record.group_ids
        if len(groups) >= TRANSACTION_GROUPS_MAX and group_id not in groups:
            return Outcome([], ErrorCode.POLICY_VIOLATION)
        return Outcome(extend(record, (), (group_id,), transaction_version, now_ms), ErrorCode.NONE)

    def admit_produce(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        partitions: Sequence[TopicPartition],
        produce_version: int,
        now_ms: int,
    ) -> Outcome[list[ErrorCode] | None]:
        """May this producer write transactional batches to these partitions now? (KIP-890)

        Call it for every transactional Produce, once per request, before any of its batches is
        appended, with the existing partitions only. Commit the records in the frame of the batches
        or before it. The reply is None when all are admitted, else an error code for each
        partition, in their order.

        Produce v12 adds what is missing to the transaction, or begins one (transaction version 2).
        Before, a partition must have been added by AddPartitionsToTxn. A fenced producer gets
        INVALID_PRODUCER_EPOCH: on produce, PRODUCER_FENCED is not for clients (KIP-588).
        """
        if not partitions:
            return Outcome([], None)
        record = self._transactions.get(transactional_id)
        error = writer_error(transactional_id, record, producer_id, producer_epoch)
        if record is None or error is not ErrorCode.NONE:
            return Outcome([], [for_writers(error)] * len(partitions))
        open_transaction = self._open.get(transactional_id)
        if open_transaction is not None and open_transaction.partitions.issuperset(partitions):
            return Outcome([], None)
        if produce_version >= 12:
            return Outcome(extend(record, partitions, (), TRANSACTION_VERSION_2, now_ms), None)
        absent = (
            ErrorCode.TRANSACTION_ABORTABLE
            if produce_version == 11
            else ErrorCode.INVALID_TXN_STATE
        )
        return Outcome([], self._membership(transactional_id, partitions, absent))

    def admit_offset_commit(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        group_id: str,
        request_version: int,
        now_ms: int,
    ) -> Outcome[ErrorCode]:
        """May this producer commit offsets of the group in its transaction now?

        As `admit_produce`: TxnOffsetCommit v5 adds the group, before it must have been added by
        AddOffsetsToTxn. Commit the records in the frame of the offsets.
        """
        if request_version >= 5:
            outcome = self.add_offsets(
                transactional_id,
                producer_id,
                producer_epoch,
                group_id,
                now_ms,
                TRANSACTION_VERSION_2,
            )
            return Outcome(outcome.records, for_writers(outcome.reply))
        record = self._transactions.get(transactional_id)
        error = writer_error(transactional_id, record, producer_id, producer_epoch)
        if error is not ErrorCode.NONE:
            return Outcome([], for_writers(error))
        open_transaction = self._open.get(transactional_id)
        if open_transaction is not None and group_id in open_transaction.group_ids:
            return Outcome([], ErrorCode.NONE)
        if request_version == 4:
            return Outcome([], ErrorCode.TRANSACTION_ABORTABLE)
        return Outcome([], ErrorCode.INVALID_TXN_STATE)

    def end_transaction(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        commit: bool,
        transaction_version: int,
        now_ms: int,
    ) -> Outcome[ProducerReply]:
        """Commit or abort. With version 2 the reply says what to use next."""
        if not transactional_id:
            return _refused(ErrorCode.INVALID_REQUEST)
        record = self._transactions.get(transactional_id)
        if record is None:
            return _refused(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        state = TransactionState(record.state)
        if transaction_version >= TRANSACTION_VERSION_2:
            claimed = claim(record, producer_id, producer_epoch)
            if isinstance(claimed, ErrorCode):
                return _refused(claimed)
            step = END_VERSION_2[state, commit, claimed]
        else:
            error = identity_error(transactional_id, record, producer_id, producer_epoch)
            if error is not ErrorCode.NONE:
                return _refused(error)
            step = END_VERSION_1[state, commit]
        if isinstance(step, ErrorCode):
            return _refused(step)
        records: list[CoordinatorRecord] = []
        if step is Step.END:
            records, record = end(record, commit, transaction_version, now_ms, self._producer_ids)
        if transaction_version >= TRANSACTION_VERSION_2:
            return Outcome(records, _identity(record))
        return Outcome(records, ProducerReply(ErrorCode.NONE))

    # -- time -----------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """Wall time at which `on_timer` may have something to do, never too late; or None."""
        due_ms = min(self._timeout_due_ms if self._open else _NEVER_MS, self._expiry_due_ms)
        return None if due_ms == _NEVER_MS else due_ms

    def on_timer(self, now_ms: int) -> Outcome[list[str]]:
        """Abort what is open for too long, forget ids that nobody uses.

        The reply names the TransactionalIds whose transaction is aborted. At most
        DUE_PER_TIMER_MAX of each kind are taken at a time: the next deadline is then past already.
        """
        records: list[CoordinatorRecord] = []
        timed_out: list[str] = []
        if now_ms >= self._timeout_due_ms:
            timed_out = list(
                islice(
                    (name for name, each in self._open.items() if each.deadline_ms <= now_ms),
                    DUE_PER_TIMER_MAX,
                )
            )
            for transactional_id in timed_out:
                # The raise of the epoch is what fences the producer that was too slow.
                record = self._transactions[transactional_id]
                records += end(record, False, TRANSACTION_VERSION_2, now_ms, self._producer_ids)[0]
            aborted = set(timed_out)
            self._timeout_due_ms = min(
                (each.deadline_ms for name, each in self._open.items() if name not in aborted),
                default=_NEVER_MS,
            )
        if now_ms >= self._expiry_due_ms:
            records += self._expire(now_ms)
        return Outcome(records, timed_out)

    def after_power_loss(self, now_ms: int) -> list[CoordinatorRecord]:
        """Abort what is open, and shut out every producer that may have had something open.

        Not in two-phase commit: there, what is acknowledged is durable, for it may be prepared.
        """
        return [
            each
            for record in self._transactions.values()
            if record.timeout_ms != NO_TIMEOUT_MS
            for each in shut_out(record, now_ms, self._producer_ids)
        ]

    def _expire(self, now_ms: int) -> list[TransactionalIdExpired]:
        """Records that forget what was not used for long; an open transaction never is."""
        idle = [record for record in self._transactions.values() if record.state != _ONGOING]
        expired = [
            TransactionalIdExpired(record.transactional_id)
            for record in idle
            if _expiry_ms(record) <= now_ms
        ]
        if len(expired) > DUE_PER_TIMER_MAX:
            self._expiry_due_ms = now_ms
            return expired[:DUE_PER_TIMER_MAX]
        earliest_ms = min(
            (_expiry_ms(record) for record in idle if _expiry_ms(record) > now_ms),
            default=_NEVER_MS,
        )
        self._expiry_due_ms = max(earliest_ms, now_ms + EXPIRY_INTERVAL_MS)
        return expired

    # -- state ----------------------------------------------------------------------------------

    def apply(self, record: CoordinatorRecord) -> None:
        """Change the state by a record of its own kinds, live or in replay."""
        if isinstance(record, TransactionRecord):
            self._apply_transaction(record)
        elif isinstance(record, ProducerIdsReserved):
            self._producer_ids.apply(record)
        elif isinstance(record, TransactionalIdExpired):
            self._apply_expired(record.transactional_id)
        else:
            invariant(False, "the record is another coordinator's", record=record)

    def _apply_transaction(self, record: TransactionRecord) -> None:
        transactional_id = record.transactional_id
        before = self._transactions.get(transactional_id)
        if before is not None:
            check_transition(before, record)
        self._transactions[transactional_id] = record
        self._expiry_due_ms = min(self._expiry_due_ms, _expiry_ms(record))
        if record.state == _ONGOING:
            deadline_ms = _NEVER_MS
            if record.timeout_ms != NO_TIMEOUT_MS:
                deadline_ms = record.start_timestamp_ms + record.timeout_ms
            self._open[transactional_id] = OpenTransaction(
                set(record.partitions), set(record.group_ids), deadline_ms
            )
            self._timeout_due_ms = min(self._timeout_due_ms, deadline_ms)
        else:
            self._open.pop(transactional_id, None)

    def _apply_expired(self, transactional_id: str) -> None:
        record = self._transactions.pop(transactional_id)
        invariant(
            TransactionState.DEAD in TRANSITIONS[TransactionState(record.state)],
            "an open transaction does not expire",
            record=record,
        )
        self.connections.forget(transactional_id)

    def snapshot(self) -> list[CoordinatorRecord]:
        """The records that make an empty coordinator equal to this one."""
        reserved = ProducerIdsReserved(self._producer_ids.reserved_end)
        return [reserved, *self._transactions.values()]

    def transaction(self, transactional_id: str) -> TransactionRecord | None:
        """What is known of a TransactionalId."""
        return self._transactions.get(transactional_id)

    def is_two_phase(self, transactional_id: str | None) -> bool:
        """Does it take part in two-phase commit? Then what is acknowledged must be durable."""
        record = self._transactions.get(transactional_id or "")
        return record is not None and record.timeout_ms == NO_TIMEOUT_MS

    def transactions(self) -> Iterable[TransactionRecord]:
        """What is known of all TransactionalIds."""
        return self._transactions.values()

    def _membership(
        self, transactional_id: str, partitions: Sequence[TopicPartition], absent: ErrorCode
    ) -> list[ErrorCode]:
        """NONE for each partition of the open transaction, `absent` for the others."""
        open_transaction = self._open.get(transactional_id)
        known = open_transaction.partitions if open_transaction is not None else ()
        return [ErrorCode.NONE if each in known else absent for each in partitions]


def _refused(error: ErrorCode) -> Outcome[ProducerReply]:
    return Outcome([], ProducerReply(error))


def _identified(change: Change) -> Outcome[ProducerReply]:
    records, after = change
    return Outcome(records, _identity(after))


def _identity(record: TransactionRecord) -> ProducerReply:
    return ProducerReply(ErrorCode.NONE, record.producer_id, record.producer_epoch)


def _expiry_ms(record: TransactionRecord) -> int:
    return record.last_update_timestamp_ms + TRANSACTIONAL_ID_EXPIRATION_MS
