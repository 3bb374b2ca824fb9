"""What compaction keeps of each batch: the rules of Kafka's LogCleaner, one batch at a time.

- Of each key the last record stays; those beyond what was mapped stay all. A record without a key
  goes.
- A tombstone stays until its batch's delete horizon, which is set when it is first seen here:
  delete.retention.ms later, so that a consumer which reads the log from its start sees it.
- Records of aborted transactions go. A transaction's marker stays as long as there is data of it,
  and then until its own delete horizon (KIP-534).
- The last batch of each producer, and the last one of what is compacted, stay as empty batches:
  they carry the producer's sequence, and the offset that comes next.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from ottla.log.transactions_index import AbortedTransaction
from ottla.wire.records import BatchHeader, read_marker
from ottla.wire.rewrite import RawRecord, read_raw_records, with_records, without_records
from ottla.wire.writing import Bytes

KEYS_MAX = 1_000_000  # of one compaction: what they take of memory is bounded
_KEY_BYTES_MAX = 24  # a longer key is known by its hash
LastOfProducer = tuple[int | None, int]  # the last data offset, and the epoch


class Transactions:
    """Which transactions of a log were aborted, met batch by batch in the order of the log."""

    def __init__(self, aborted: Sequence[AbortedTransaction]) -> None:
        self._to_come = sorted(aborted, key=lambda one: one.first_offset, reverse=True)
        self._aborted: dict[int, tuple[AbortedTransaction, bool]] = {}  # and whether data was seen
        self._committed: set[int] = set()  # producers with data since their last marker
        self.kept: list[AbortedTransaction] = []  # those whose data or marker consumers may meet

    def is_aborted(self, header: BatchHeader) -> bool:
        """Note a data batch; whether its transaction was aborted."""
        self._begin_up_to(header.last_offset)
        if not header.is_transactional:
            return False
        found = self._aborted.get(header.producer_id)
        if found is None:
            self._committed.add(header.producer_id)
            return False
        self._aborted[header.producer_id] = (found[0], True)
        return True

    def has_no_data(self, header: BatchHeader, batch: Bytes) -> bool:
        """Note a marker; whether no batch of its transaction was met before it."""
        self._begin_up_to(header.last_offset)
        if not header.record_count:
            return True  # an earlier compaction has left the batch without its marker
        if read_marker(batch).commit:
            had_data = header.producer_id in self._committed
            self._committed.discard(header.producer_id)
            return not had_data
        aborted, had_data = self._aborted.pop(header.producer_id, (None, False))
        if aborted is not None and had_data:
            self.kept.append(aborted)
        return not had_data

    def _begin_up_to(self, offset: int) -> None:
        while self._to_come and self._to_come[-1].first_offset <= offset:
            one = self._to_come.pop()
            self._aborted[one.producer_id] = (one, False)


class OffsetMap:
    """The last offset of each key from some offset on."""

    def __init__(
        self, start_offset: int, aborted: Sequence[AbortedTransaction], keys_max: int = KEYS_MAX
    ) -> None:
        self.end_offset = start_offset  # all below it, from the start on, is in the map
        self._start_offset = start_offset
        self._transactions = Transactions(aborted)
        self._keys_max = keys_max
        self._offsets: dict[bytes, int] = {}

    @property
    def is_full(self) -> bool:
        return len(self._offsets) >= self._keys_max

    def add(self, header: BatchHeader, batch: Bytes) -> None:
        """Take a batch in; batches come in the order of the log. Raises ProtocolError."""
        if header.is_control:
            self._transactions.has_no_data(header, batch)
        elif not self._transactions.is_aborted(header) and header.last_offset >= self._start_offset:
            for record in read_raw_records(batch, header):
                if record.key is not None and record.offset >= self._start_offset:
                    self._offsets[_short(record.key)] = record.offset
        self.end_offset = max(self.end_offset, header.last_offset + 1)

    def is_latest(self, record: RawRecord) -> bool:
        """Whether no later record with its key is known."""
        return record.key is not None and record.offset >= self._offsets.get(_short(record.key), -1)


def _short(key: bytes) -> bytes:
    return key if len(key) <= _KEY_BYTES_MAX else blake2b(key, digest_size=_KEY_BYTES_MAX).digest()


class Cleaner:
    """Goes through a log once and says of each batch what stays of it."""

    def __init__(
        self,
        offsets: OffsetMap,
        aborted: Sequence[AbortedTransaction],
        last_of_producers: Mapping[int, LastOfProducer],
        now_ms: int,
        delete_retention_ms: int,
    ) -> None:
        self.transactions = Transactions(aborted)
        self._offsets = offsets
        self._last_of_producers = last_of_producers
        self._now_ms = now_ms
        self._delete_retention_ms = delete_retention_ms

    def clean(self, header: BatchHeader, batch: Bytes) -> Bytes | None:
        """What stays of the batch, or None. Raises ProtocolError if it cannot be read."""
        if header.is_control:
            is_over = self.transactions.has_no_data(header, batch)
            if header.base_offset >= self._offsets.end_offset:
                return batch
            return self._clean_marker(header, batch, is_over)
        is_aborted = self.transactions.is_aborted(header)
        if header.base_offset >= self._offsets.end_offset:
            return batch
        if is_aborted or not header.record_count:
            return without_records(header) if self._stays_empty(header) else None
        return self._clean_records(header, batch)

    def _clean_marker(self, header: BatchHeader, batch: Bytes, is_over: bool) -> Bytes | None:
        horizon_ms = header.delete_horizon_ms
        if not is_over or (horizon_ms is not None and horizon_ms > self._now_ms):
            return batch
        if horizon_ms is None and header.record_count:
            records = [*read_raw_records(batch, header)]
            return with_records(header, records, self._now_ms + self._delete_retention_ms)
        return without_records(header) if self._stays_empty(header) else None

    def _clean_records(self, header: BatchHeader, batch: Bytes) -> Bytes | None:
        horizon_ms = header.delete_horizon_ms
        keeps_tombstones = horizon_ms is None or self._now_ms < horizon_ms
        kept = [
            record
            for record in read_raw_records(batch, header)
            if self._offsets.is_latest(record) and (record.has_value or keeps_tombstones)
        ]
        if not kept:
            return without_records(header) if self._stays_empty(header) else None
        new_horizon_ms = None
        if horizon_ms is None and not all(record.has_value for record in kept):
            new_horizon_ms = self._now_ms + self._delete_retention_ms
        if len(kept) == header.record_count and new_horizon_ms is None:
            return batch
        return with_records(header, kept, new_horizon_ms)

    def _stays_empty(self, header: BatchHeader) -> bool:
        """The batch is the last of its producer, or the last that is compacted."""
        if header.last_offset + 1 == self._offsets.end_offset:
            return True
        last = self._last_of_producers.get(header.producer_id)
        if last is None:
            return False
        offset, epoch = last
        if offset is None:
            return header.is_control and header.producer_epoch == epoch
        return header.last_offset == offset
