"""Producer state of one partition: what makes a retry harmless and a transaction one thing.

Per producer id: its epoch, its last five batches (as many as a client may have in flight) and the
first offset of its open transaction. The rules are those of Kafka's ProducerStateManager, in its
order: duplicate, epoch, sequence, transactionality. The state changes when a batch is appended,
before it is durable: a duplicate that arrives meanwhile is answered with the original's offsets,
and the broker parks that answer with the original's.

Not Kafka's: all five batches survive a restart (Kafka keeps one), and expiry counts from the time
of the append, not from the timestamp that the producer wrote into the batch.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import PRODUCER_BATCHES_RETAINED, PRODUCER_ID_EXPIRATION_MS
from ottla.wire.records import BatchHeader

SEQUENCE_MAX = 2_147_483_647
NO_EPOCH = -1


def sequence_after(sequence: int, count: int) -> int:
    """The sequence `count` after `sequence`: 2^31 - 1 is followed by 0, also inside a batch."""
    return (sequence + count) & SEQUENCE_MAX


class BatchMetadata(msgspec.Struct, frozen=True, array_like=True):
    """A batch that is remembered to recognise its retry."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp_ms: int


@dataclass(slots=True)
class ProducerEntry:
    """What a partition knows of one producer id."""

    producer_id: int
    epoch: int
    coordinator_epoch: int = -1
    last_append_ms: int = 0
    transaction_first_offset: int | None = None
    batches: deque[BatchMetadata] = field(
        default_factory=lambda: deque(maxlen=PRODUCER_BATCHES_RETAINED)
    )

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else -1


class ProducerState:
    """The producer entries of one partition."""

    def __init__(self) -> None:
        self.entries: dict[int, ProducerEntry] = {}

    def check(self, header: BatchHeader, *, must_start_at_zero: bool) -> BatchMetadata | None:
        """Decide on a client's batch that carries a producer id.

        Returns the original's metadata when the batch is a duplicate, None when it may be
        appended. `must_start_at_zero`: a first batch of an unknown producer needs sequence 0
        (KAFKA-18202, transaction version 2). Raises KafkaError as Kafka answers.
        """
        entry = self.entries.get(header.producer_id)
        if entry is None:
            if must_start_at_zero and header.base_sequence != 0:
                raise _out_of_order(header, -1)
            return None
        if entry.epoch == header.producer_epoch:
            for known in entry.batches:
                if (
                    known.first_sequence == header.base_sequence
                    and known.last_sequence == header.last_sequence
                ):
                    return known
        self._check_epoch(entry, header)
        self._check_sequence(entry, header)
        if entry.transaction_first_offset is not None and not header.is_transactional:
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE,
                f"producer id {header.producer_id} has an open transaction on this partition and "
                "sent a batch that is not part of it",
            )
        return None

    @staticmethod
    def _check_epoch(entry: ProducerEntry, header: BatchHeader) -> None:
        if header.producer_epoch < entry.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"epoch {header.producer_epoch} of producer id {header.producer_id} is older than "
                f"{entry.epoch}: another producer with the same transactional.id took over, or the "
                "transaction timed out",
            )

    @staticmethod
    def _check_sequence(entry: ProducerEntry, header: BatchHeader) -> None:
        if header.producer_epoch != entry.epoch:
            if header.base_sequence != 0 and entry.epoch != NO_EPOCH:
                raise _out_of_order(header, -1)
            return
        last = entry.last_sequence
        if last != -1 and header.base_sequence != sequence_after(last, 1):
            raise _out_of_order(header, last)
        if last == -1 and header.base_sequence != 0:
            raise _out_of_order(header, last)

    def append(self, header: BatchHeader, base_offset: int, now_ms: int) -> ProducerEntry:
        """Remember a batch that was appended at `base_offset`."""
        entry = self._entry(header.producer_id, header.producer_epoch)
        entry.last_append_ms = now_ms
        entry.batches.append(
            BatchMetadata(
                header.base_sequence,
                header.last_sequence,
                base_offset,
                base_offset + header.last_offset_delta,
                header.max_timestamp,
            )
        )
        if header.is_transactional and entry.transaction_first_offset is None:
            entry.transaction_first_offset = base_offset
        return entry

    def check_marker(
        self, producer_id: int, epoch: int, *, version: int, coordinator_epoch: int
    ) -> None:
        """Raise KafkaError when a marker may not end anything here.

        INVALID_PRODUCER_EPOCH: it is older than the producer. With transaction version 2 its epoch
        is above the producer's, or equal to it with no transaction open: a retry (KAFKA-19999).
        TRANSACTION_COORDINATOR_FENCED: a later coordinator has written a marker already.
        """
        entry = self.entries.get(producer_id) or ProducerEntry(producer_id, NO_EPOCH)
        retry = entry.transaction_first_offset is None
        if epoch < entry.epoch or (epoch == entry.epoch and version >= 2 and not retry):
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"marker epoch {epoch} of producer id {producer_id} against {entry.epoch}",
            )
        if coordinator_epoch < entry.coordinator_epoch:
            raise KafkaError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"coordinator epoch {coordinator_epoch} of a marker of producer id {producer_id} "
                f"against {entry.coordinator_epoch}",
            )

    def end_transaction(
        self, producer_id: int, epoch: int, coordinator_epoch: int, now_ms: int
    ) -> int | None:
        """Note a marker; returns the first offset of the transaction it ended, or None."""
        entry = self._entry(producer_id, epoch)
        entry.coordinator_epoch = coordinator_epoch
        entry.last_append_ms = now_ms
        first_offset = entry.transaction_first_offset
        entry.transaction_first_offset = None
        return first_offset

    def _entry(self, producer_id: int, epoch: int) -> ProducerEntry:
        """The producer's entry at `epoch`; a new epoch starts with no batches."""
        entry = self.entries.get(producer_id)
        if entry is None:
            entry = self.entries[producer_id] = ProducerEntry(producer_id, epoch)
        elif entry.epoch != epoch:
            entry.epoch = epoch
            entry.batches.clear()
        return entry

    def expire(self, now_ms: int) -> int:
        """Forget producers idle for producer.id.expiration.ms; never one with a transaction open.

        Returns how many were forgotten.
        """
        old = [
            entry.producer_id
            for entry in self.entries.values()
            if entry.transaction_first_offset is None
            and now_ms - entry.last_append_ms >= PRODUCER_ID_EXPIRATION_MS
        ]
        for producer_id in old:
            del self.entries[producer_id]
        return len(old)


def _out_of_order(header: BatchHeader, last_sequence: int) -> KafkaError:
    return KafkaError(
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        f"sequence {header.base_sequence} of producer id {header.producer_id} epoch "
        f"{header.producer_epoch} does not follow {last_sequence}",
    )
