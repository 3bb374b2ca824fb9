"""kafka-python, as a driver. A TV1 client."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kafka
import kafka.codec
import kafka.errors
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.structs import OffsetAndMetadata

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

# It warns of every connection that a stopped broker closed: the tests stop brokers on purpose.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

_FENCED = (kafka.errors.ProducerFencedError, kafka.errors.InvalidProducerEpochError)
_ABORTABLE = (kafka.errors.TransactionAbortableError, kafka.errors.TransactionAbortedError)


def _translated(error: Exception) -> ClientError:
    name = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:  # the client wraps what was fatal in a KafkaError
        if isinstance(cause, _FENCED):
            return Fenced(type(cause).__name__, str(error))
        cause = cause.__cause__ or (cause.args[0] if _wraps(cause) else None)
    if isinstance(error, _ABORTABLE):
        return Abortable(name, str(error))
    return ClientError(name, str(error))


def _wraps(error: BaseException) -> bool:
    return bool(error.args) and isinstance(error.args[0], BaseException)


@contextmanager
def _translation() -> Iterator[None]:
    try:
        yield
    except kafka.errors.KafkaError as error:
        raise _translated(error) from error


class PurePythonProducer(Producer):
    def __init__(self, configuration: dict[str, Any]) -> None:
        self._producer = kafka.KafkaProducer(**configuration)
        self._sent: list[Any] = []

    def init_transactions(self) -> None:
        with _translation():
            self._producer.init_transactions()

    def begin(self) -> None:
        self._sent.clear()
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
        with _translation():
            self._sent.append(
                self._producer.send(
                    topic,
                    value,
                    key=key,
                    headers=list(headers),
                    partition=partition,
                    timestamp_ms=timestamp_ms,
                )
            )

    def flush(self) -> list[int]:
        sent, self._sent = self._sent, []
        with _translation():
            self._producer.flush(WAIT_S)
            return [future.get(WAIT_S).offset for future in sent]

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: object) -> None:
        with _translation():
            self._producer.send_offsets_to_transaction(_with_metadata(offsets), group)

    def commit(self) -> None:
        with _translation():
            self._producer.commit_transaction()

    def abort(self) -> None:
        with _translation():
            self._producer.abort_transaction()

    def close(self) -> None:
        self._producer.close(timeout=5)


# A poll that ends in the middle of a join loses its outcome: kafka-python 3.0.12 then has the
# broker's assignment, believes that it is in force, and never takes it up. With records a poll
# ends at once all the same.
WHOLE_JOIN_S = 1.0


class PurePythonConsumer(Consumer):
    def __init__(self, configuration: dict[str, Any]) -> None:
        self._consumer = kafka.KafkaConsumer(**configuration)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        native = [kafka.TopicPartition(*where) for where in partitions]
        self._consumer.assign(native)
        self._consumer.seek_to_beginning(*native)

    def subscribe(self, topic: str) -> None:
        self._consumer.subscribe([topic])

    def assignment(self) -> set[TopicPartition]:
        return {(where.topic, where.partition) for where in self._consumer.assignment()}

    def group(self) -> object:
        return self._consumer.group_metadata()

    def poll(self, wait_s: float = 1.0) -> list[Record]:
        with _translation():
            found = self._consumer.poll(timeout_ms=int(max(wait_s, WHOLE_JOIN_S) * 1000))
        return [
            Record(
                record.topic,
                record.partition,
                record.offset,
                record.key,
                record.value,
                list(record.headers),
                record.timestamp,
            )
            for records in found.values()
            for record in records
        ]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(kafka.TopicPartition(*partition), offset)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        with _translation():
            self._consumer.commit(_with_metadata(offsets))

    def committed(self, partition: TopicPartition) -> int | None:
        with _translation():
            found: int | None = self._consumer.committed(kafka.TopicPartition(*partition))
        return found

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        where = kafka.TopicPartition(*partition)
        with _translation():
            found = self._consumer.offsets_for_times({where: timestamp_ms})[where]
        return None if found is None else int(found.offset)

    def end_offset(self, partition: TopicPartition) -> int:
        where = kafka.TopicPartition(*partition)
        with _translation():
            return int(self._consumer.end_offsets([where])[where])

    def close(self) -> None:
        self._consumer.close(autocommit=False)


class PurePythonAdmin(Admin):
    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = kafka.KafkaAdminClient(bootstrap_servers=bootstrap_servers)

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
        with _translation():
            self._admin.create_topics([new])

    def delete_topic(self, name: str) -> None:
        with _translation():
            self._admin.delete_topics([name])

    def partitions(self, topic: str) -> int | None:
        with _translation():
            if topic not in self._admin.list_topics():
                return None
            (found,) = self._admin.describe_topics([topic])
        return len(found["partitions"])

    def topic_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        with _translation():
            found = self._admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def close(self) -> None:
        self._admin.close()


def _with_metadata(
    offsets: Mapping[TopicPartition, int],
) -> dict[kafka.TopicPartition, OffsetAndMetadata]:
    return {
        kafka.TopicPartition(*where): OffsetAndMetadata(offset, "", -1)
        for where, offset in offsets.items()
    }


class PurePythonDriver(Driver):
    name = "kafka-python"
    limits = frozenset({"null-header"} | (set() if kafka.codec.has_snappy() else {"snappy"}))

    def producer(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        compression: str = "none",
    ) -> Producer:
        return PurePythonProducer(
            {
                "bootstrap_servers": bootstrap_servers,
                "transactional_id": transactional_id,
                "transaction_timeout_ms": transaction_timeout_ms,
                "compression_type": None if compression == "none" else compression,
                "max_request_size": 20_000_000,
                "linger_ms": 5,
            }
        )

    def consumer(
        self, bootstrap_servers: str, *, group_id: str | None = None, committed_only: bool = True
    ) -> Consumer:
        return PurePythonConsumer(
            {
                "bootstrap_servers": bootstrap_servers,
                "group_id": group_id,
                "isolation_level": "read_committed" if committed_only else "read_uncommitted",
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "session_timeout_ms": 6_000,
                "heartbeat_interval_ms": 300,
                "fetch_max_wait_ms": 50,
            }
        )

    def admin(self, bootstrap_servers: str) -> Admin:
        return PurePythonAdmin(bootstrap_servers)
