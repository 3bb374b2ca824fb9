"""confluent-kafka (librdkafka), as a driver. A TV1 client."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from tests.clients.driver import (
    WAIT_S,
    Abortable,
    Admin,
    ClientError,
    Consumer,
    Driver,
    Fenced,
    Headers,
    Producer,
    Record,
    TopicPartition,
)

_FENCED = {
    confluent_kafka.KafkaError._FENCED,
    confluent_kafka.KafkaError.PRODUCER_FENCED,
    confluent_kafka.KafkaError.INVALID_PRODUCER_EPOCH,
}


def _translated(error: confluent_kafka.KafkaError) -> ClientError:
    """The driver's error for one of librdkafka's."""
    if error.code() in _FENCED:
        return Fenced(error.name(), error.str())
    if error.txn_requires_abort():
        return Abortable(error.name(), error.str())
    return ClientError(error.name(), error.str())


@contextmanager
def _translation() -> Iterator[None]:
    try:
        yield
    except confluent_kafka.KafkaException as error:
        raise _translated(error.args[0]) from error
    except SystemError as error:  # a fatal error, and a delivery report behind it
        if not isinstance(error.__cause__, confluent_kafka.KafkaException):
            raise
        raise _translated(error.__cause__.args[0]) from error


def _partition(where: TopicPartition, offset: int | None = None) -> confluent_kafka.TopicPartition:
    if offset is None:
        return confluent_kafka.TopicPartition(*where)
    return confluent_kafka.TopicPartition(*where, offset)


class ConfluentProducer(Producer):
    def __init__(self, configuration: dict[str, Any]) -> None:
        self._producer = confluent_kafka.Producer(configuration)
        self._reports: list[tuple[int, Any, Any]] = []
        self._sent = 0

    def init_transactions(self) -> None:
        with _translation():
            self._producer.init_transactions(WAIT_S)

    def begin(self) -> None:
        with _translation():
            self._producer.begin_transaction()

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        index = self._sent
        self._sent += 1

        def report(error: Any, message: Any) -> None:
            self._reports.append((index, error, message))

        extra = {} if timestamp_ms is None else {"timestamp": timestamp_ms}
        with _translation():
            self._producer.produce(
                topic,
                value,
                key,
                partition,
                on_delivery=report,
                headers=list(headers),
                **extra,
            )
        self._producer.poll(0)

    def flush(self) -> list[int]:
        with _translation():
            left = self._producer.flush(WAIT_S)
        reports, self._reports = sorted(self._reports, key=lambda report: report[0]), []
        for _, error, _ in reports:
            if error is not None:
                raise _translated(error)
        if left:
            raise ClientError("flush", f"{left} records are still unacknowledged")
        return [message.offset() for _, _, message in reports]

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: object) -> None:
        with _translation():
            self._producer.send_offsets_to_transaction(
                [_partition(where, offset) for where, offset in offsets.items()],
                group,
                WAIT_S,
            )

    def commit(self) -> None:
        with _translation():
            self._producer.commit_transaction(WAIT_S)
        self._reports.clear()

    def abort(self) -> None:
        with _translation():
            self._producer.abort_transaction(WAIT_S)
        self._reports.clear()

    def close(self) -> None:
        self._producer.purge()
        with suppress(ClientError), _translation():  # one that is fenced says so once more
            self._producer.flush(5)


class ConfluentConsumer(Consumer):
    def __init__(self, configuration: dict[str, Any]) -> None:
        self._consumer = confluent_kafka.Consumer(configuration)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        beginning = confluent_kafka.OFFSET_BEGINNING
        self._consumer.assign([_partition(where, beginning) for where in partitions])

    def subscribe(self, topic: str) -> None:
        self._consumer.subscribe([topic])

    def assignment(self) -> set[TopicPartition]:
        return {(where.topic, where.partition) for where in self._consumer.assignment()}

    def group(self) -> object:
        return self._consumer.consumer_group_metadata()

    def poll(self, wait_s: float = 1.0) -> list[Record]:
        messages = self._consumer.consume(1, wait_s)
        messages += self._consumer.consume(500, 0.02)
        records = []
        for message in messages:
            if message.error() is not None:
                raise _translated(message.error())
            records.append(
                Record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    message.headers() or [],
                    message.timestamp()[1],
                )
            )
        return records

    def seek(self, partition: TopicPartition, offset: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:  # a partition can be sought once its fetcher runs, a moment after the assign
            try:
                self._consumer.seek(_partition(partition, offset))
                return
            except confluent_kafka.KafkaException as error:
                if time.monotonic() > deadline:
                    raise _translated(error.args[0]) from error
                time.sleep(0.02)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        with _translation():
            self._consumer.commit(
                offsets=[_partition(where, offset) for where, offset in offsets.items()],
                asynchronous=False,
            )

    def committed(self, partition: TopicPartition) -> int | None:
        with _translation():
            (found,) = self._consumer.committed([_partition(partition)], WAIT_S)
        return int(found.offset) if found.offset >= 0 else None

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        with _translation():
            (found,) = self._consumer.offsets_for_times(
                [_partition(partition, timestamp_ms)], WAIT_S
            )
        return int(found.offset) if found.offset >= 0 else None

    def end_offset(self, partition: TopicPartition) -> int:
        with _translation():
            return int(self._consumer.get_watermark_offsets(_partition(partition), WAIT_S)[1])

    def close(self) -> None:
        self._consumer.close()


class ConfluentAdmin(Admin):
    def __init__(self, configuration: dict[str, Any]) -> None:
        self._admin = AdminClient(configuration)

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(name, partitions, 1, config=dict(config or {}))
        with _translation():
            self._admin.create_topics([new])[name].result(WAIT_S)

    def delete_topic(self, name: str) -> None:
        with _translation():
            self._admin.delete_topics([name])[name].result(WAIT_S)

    def partitions(self, topic: str) -> int | None:
        with _translation():
            found = self._admin.list_topics(timeout=WAIT_S).topics.get(topic)
        return None if found is None else len(found.partitions)

    def topic_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        with _translation():
            entries = self._admin.describe_configs([resource])[resource].result(WAIT_S)
        return {name: entry.value for name, entry in entries.items()}

    def close(self) -> None:
        """AdminClient has nothing to close: it goes with its last reference."""


class ConfluentDriver(Driver):
    name = "confluent"

    def producer(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        compression: str = "none",
    ) -> Producer:
        configuration: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "compression.type": compression,
            "message.max.bytes": 20_000_000,
            "linger.ms": 5,
            "log_level": 0,
        }
        if transactional_id is not None:
            configuration["transactional.id"] = transactional_id
            configuration["transaction.timeout.ms"] = transaction_timeout_ms
        return ConfluentProducer(configuration)

    def consumer(
        self, bootstrap_servers: str, *, group_id: str | None = None, committed_only: bool = True
    ) -> Consumer:
        return ConfluentConsumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group_id or "no-group",
                "isolation.level": "read_committed" if committed_only else "read_uncommitted",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 300,
                "fetch.wait.max.ms": 50,
                "fetch.message.max.bytes": 20_000_000,
                "log_level": 0,
            }
        )

    def admin(self, bootstrap_servers: str) -> Admin:
        return ConfluentAdmin({"bootstrap.servers": bootstrap_servers, "log_level": 0})
