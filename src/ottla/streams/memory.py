"""A cluster in memory with one writer: what the test driver runs applications against.

Logs keep what Kafka's logs keep: a record written in a transaction has its offset at once, is read
by nobody while the transaction is open, and never if it aborts; a marker takes an offset of its own
at the end of every partition that the transaction touched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ottla.client import Partition, Position
from ottla.ports.invariants import invariant
from ottla.streams.task import HeadedRow, Row


class Outcome(Enum):
    """What became of a transaction."""

    OPEN = 0
    COMMITTED = 1
    ABORTED = 2


@dataclass(slots=True)
class MemoryTransaction:
    """An open transaction, or what became of it."""

    outcome: Outcome = Outcome.OPEN
    touched: dict[Partition, None] = field(default_factory=dict)
    offsets: dict[Partition, Position] = field(default_factory=dict)
    acknowledged: list[Callable[[], None]] = field(default_factory=list)


class MemoryMessage:
    """A record of a log in memory, with the methods of a consumed message."""

    __slots__ = ("_headers", "_key", "_offset", "_partition", "_timestamp_ms", "_topic", "_value")

    def __init__(
        self,
        at: Partition,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: list[tuple[str, bytes]] | None,
    ) -> None:
        self._topic, self._partition = at
        self._offset = offset
        self._key = key
        self._value = value
        self._timestamp_ms = timestamp_ms
        self._headers = headers

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp_ms

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers

    def error(self) -> None:
        return None


Entry = tuple[MemoryMessage | None, MemoryTransaction | None]  # None: a marker; no transaction


class MemoryCluster:
    """Topics with their logs, and the committed offsets of the one group there is."""

    def __init__(self) -> None:
        self._logs: dict[Partition, list[Entry]] = {}
        self._counts: dict[str, int] = {}
        self.committed: dict[Partition, Position] = {}

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; one that is there stays as it is."""
        if topic not in self._counts:
            self._counts[topic] = partitions
            for number in range(partitions):
                self._logs[Partition(topic, number)] = []

    def partition_counts(self) -> dict[str, int]:
        return dict(self._counts)

    def partition_count(self, topic: str) -> int:
        return self._counts[topic]

    def partition_of(self, topic: str, key: bytes | None) -> Partition:
        """The partition of a key, the same as Kafka's default; keyless records are in the first."""
        number = 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % self._counts[topic]
        return Partition(topic, number)

    def append(
        self,
        at: Partition,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: list[tuple[str, bytes]] | None = None,
        transaction: MemoryTransaction | None = None,
    ) -> int:
        """Append a record; its offset."""
        log = self._logs[at]
        message = MemoryMessage(at, len(log), key, value, timestamp_ms, headers)
        log.append((message, transaction))
        if transaction is not None:
            transaction.touched[at] = None
        return len(log) - 1

    def end(self, transaction: MemoryTransaction, outcome: Outcome) -> None:
        """Commit or abort: the markers, and the offsets with them."""
        invariant(transaction.outcome is Outcome.OPEN, "a transaction ends once")
        transaction.outcome = outcome
        for partition in transaction.touched:
            self._logs[partition].append((None, None))
        if outcome is Outcome.COMMITTED:
            self.committed.update(transaction.offsets)

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """Log start and high watermark."""
        return 0, len(self._logs[partition])

    def read(self, partition: Partition, offset: int) -> Iterator[MemoryMessage]:
        """The records that read_committed sees from `offset` on."""
        for message, transaction in self._logs[partition][offset:]:
            if transaction is not None and transaction.outcome is Outcome.OPEN:
                return
            aborted = transaction is not None and transaction.outcome is Outcome.ABORTED
            if message is not None and not aborted:
                yield message

    def stable_end(self, partition: Partition) -> int:
        """The last stable offset."""
        for offset, (_, transaction) in enumerate(self._logs[partition]):
            if transaction is not None and transaction.outcome is Outcome.OPEN:
                return offset
        return len(self._logs[partition])


class MemoryOutput:
    """A transactional producer into a cluster in memory."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self.transaction: MemoryTransaction | None = None

    def begin(self) -> None:
        invariant(self.transaction is None, "one transaction at a time")
        self.transaction = MemoryTransaction()

    def send_rows(self, topic: str, rows: Sequence[Row]) -> None:
        for key, value, timestamp_ms in rows:
            at = self._cluster.partition_of(topic, key)
            self._cluster.append(at, key, value, timestamp_ms, None, self.transaction)

    def send_headed(self, row: HeadedRow) -> None:
        topic, key, value, timestamp_ms, headers = row
        at = self._cluster.partition_of(topic, key)
        self._cluster.append(at, key, value, timestamp_ms, headers, self.transaction)

    def send_changelog(
        self,
        partition: Partition,
        changes: list[tuple[bytes, bytes | None]],
        last_offset: Callable[[int], None],
    ) -> None:
        offset = -1
        for key, value in changes:
            offset = self._cluster.append(partition, key, value, 0, None, self.transaction)
        self._open().acknowledged.append(lambda: last_offset(offset))

    def flush(self) -> None:
        for report in self._open().acknowledged:
            report()

    def send_offsets(self, offsets: Mapping[Partition, Position]) -> None:
        self._open().offsets.update(offsets)

    def commit(self) -> None:
        self._cluster.end(self._open(), Outcome.COMMITTED)
        self.transaction = None

    def abort(self) -> None:
        self._cluster.end(self._open(), Outcome.ABORTED)
        self.transaction = None

    def _open(self) -> MemoryTransaction:
        transaction = self.transaction
        if transaction is None:
            raise ValueError("no transaction is open")
        return transaction


class MemoryChangelogs:
    """Reads changelogs of a cluster in memory, all that is there in one go."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._offsets: dict[Partition, int] = {}

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return {each: self._cluster.bounds(each) for each in partitions}

    def read_from(self, offsets: Mapping[Partition, int]) -> None:
        self._offsets = dict(offsets)

    def poll(self, timeout_s: float) -> list[tuple[Partition, list[MemoryMessage]]]:
        found = []
        for partition, offset in self._offsets.items():
            found.append((partition, list(self._cluster.read(partition, offset))))
            self._offsets[partition] = self._cluster.stable_end(partition)
        return found

    def reached(self, partition: Partition) -> int:
        return self._offsets.get(partition, 0)


def murmur2(data: bytes) -> int:
    """The hash by which Kafka's clients find the partition of a key (32 bits, unsigned)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for position in range(0, whole, 4):
        k = int.from_bytes(data[position : position + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)
