"""The engine's ports over a Kafka cluster: a transaction to write into, changelogs to read."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ottla.client import Admin, Consumer, Message, Partition, Position, Producer
from ottla.streams.task import HeadedRow, Row

_CHANGELOG_BATCH = 10_000


class TransactionOutput:
    """Exactly once: everything is in a transaction, the consumer's offsets too."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self._producer = producer
        self._consumer = consumer

    def begin(self) -> None:
        self._producer.begin()

    def send_rows(self, topic: str, rows: Sequence[Row]) -> None:
        self._producer.send_rows(topic, rows)

    def send_headed(self, row: HeadedRow) -> None:
        topic, key, value, timestamp_ms, headers = row
        self._producer.send(topic, key, value, timestamp_ms=timestamp_ms, headers=headers)

    def send_changelog(
        self,
        partition: Partition,
        changes: list[tuple[bytes, bytes | None]],
        last_offset: Callable[[int], None],
    ) -> None:
        """Write to a changelog; the offset of the last record is told once it is acknowledged."""
        topic, number = partition
        key, value = changes.pop()
        self._producer.send_pairs(topic, changes, number)
        self._producer.send_with_offset(topic, key, value, number, last_offset)

    def flush(self) -> None:
        self._producer.flush()

    def send_offsets(self, offsets: Mapping[Partition, Position]) -> None:
        self._producer.send_offsets(offsets, self._consumer)

    def commit(self) -> None:
        self._producer.commit()

    def abort(self) -> None:
        self._producer.abort()


class ChangelogReader:
    """Reads changelog partitions without joining a group."""

    def __init__(self, bootstrap_servers: str, group_id: str, admin: Admin) -> None:
        self._consumer = Consumer(bootstrap_servers, group_id, offset_reset="error")
        self._admin = admin
        self._reading = False

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        partitions = list(partitions)
        ends = self._admin.end_offsets(partitions, isolation="read_uncommitted")
        starts = self._admin.start_offsets(partitions)
        return {each: (starts[each], ends[each]) for each in partitions}

    def read_from(self, offsets: Mapping[Partition, int]) -> None:
        if offsets or self._reading:
            self._consumer.assign(offsets)
        self._reading = bool(offsets)

    def poll(self, timeout_s: float) -> list[tuple[Partition, list[Message]]]:
        return self._consumer.consume(_CHANGELOG_BATCH, timeout_s)

    def reached(self, partition: Partition) -> int:
        position = self._consumer.positions().get(partition, 0)
        return max(position, self._consumer.ended.get(partition, 0))

    def close(self) -> None:
        self._consumer.close()
