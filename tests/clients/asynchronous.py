"""aiokafka, as a driver: its event loop runs in a thread. A TV1 client without KIP-447."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import aiokafka
import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.clients.driver import (
    WAIT_S,
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
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
_FENCED = (aiokafka.errors.ProducerFenced, aiokafka.errors.InvalidProducerEpoch)


class LoopThread:
    """An event loop in a thread; `run` waits for a coroutine and translates what it raises."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * WAIT_S)
        except aiokafka.errors.KafkaError as error:
            kind = Fenced if isinstance(error, _FENCED) else ClientError
            raise kind(type(error).__name__, str(error)) from error

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AsynchronousProducer(Producer):
    def __init__(self, run: Run, configuration: dict[str, Any]) -> None:
        self._run = run
        self._sent: list[Any] = []

        async def make() -> Any:  # its constructor wants to be inside the running loop
            return aiokafka.AIOKafkaProducer(**configuration)

        self._producer = run(make())
        self._started = False
        if configuration["transactional_id"] is None:
            self.init_transactions()

    def init_transactions(self) -> None:
        self._run(self._producer.start())
        self._started = True

    def begin(self) -> None:
        self._sent.clear()
        self._run(self._producer.begin_transaction())

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
        sending = self._producer.send(
            topic, value, key, partition, timestamp_ms, headers=list(headers)
        )
        self._sent.append(self._run(sending))

    def flush(self) -> list[int]:
        sent, self._sent = self._sent, []

        async def wait() -> list[int]:
            return [report.offset for report in await asyncio.gather(*sent)]

        offsets: list[int] = self._run(wait())
        return offsets

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: object) -> None:
        positions = {aiokafka.TopicPartition(*where): at for where, at in offsets.items()}
        self._run(self._producer.send_offsets_to_transaction(positions, group))

    def commit(self) -> None:
        self._run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._run(self._producer.abort_transaction())

    def close(self) -> None:
        if self._started:
            for report in self._sent:
                report.cancel()
            self._run(self._producer.stop())


class AsynchronousConsumer(Consumer):
    def __init__(self, run: Run, configuration: dict[str, Any]) -> None:
        self._run = run
        self._group_id = configuration["group_id"]

        async def make() -> Any:
            consumer = aiokafka.AIOKafkaConsumer(**configuration)
            await consumer.start()
            return consumer

        self._consumer = run(make())

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        native = [aiokafka.TopicPartition(*where) for where in partitions]
        self._on_loop(self._consumer.assign, native)
        self._run(self._consumer.seek_to_beginning(*native))

    def subscribe(self, topic: str) -> None:
        self._on_loop(self._consumer.subscribe, [topic])

    def assignment(self) -> set[TopicPartition]:
        return {(where.topic, where.partition) for where in self._consumer.assignment()}

    def group(self) -> object:
        return self._group_id

    def poll(self, wait_s: float = 1.0) -> list[Record]:
        found = self._run(self._consumer.getmany(timeout_ms=int(wait_s * 1000)))
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
        self._on_loop(self._consumer.seek, aiokafka.TopicPartition(*partition), offset)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        positions = {aiokafka.TopicPartition(*where): at for where, at in offsets.items()}
        self._run(self._consumer.commit(positions))

    def committed(self, partition: TopicPartition) -> int | None:
        found: int | None = self._run(self._consumer.committed(aiokafka.TopicPartition(*partition)))
        return found

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        where = aiokafka.TopicPartition(*partition)
        found = self._run(self._consumer.offsets_for_times({where: timestamp_ms}))[where]
        return None if found is None else int(found.offset)

    def end_offset(self, partition: TopicPartition) -> int:
        where = aiokafka.TopicPartition(*partition)
        return int(self._run(self._consumer.end_offsets([where]))[where])

    def close(self) -> None:
        self._run(self._consumer.stop())

    def _on_loop(self, method: Callable[..., Any], *arguments: Any) -> None:
        async def call() -> None:
            method(*arguments)

        self._run(call())


class AsynchronousAdmin(Admin):
    def __init__(self, run: Run, bootstrap_servers: str) -> None:
        self._run = run

        async def make() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
            await admin.start()
            return admin

        self._admin = run(make())

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
        answer = self._run(self._admin.create_topics([new]))
        _check(answer.topic_errors[0][1])

    def delete_topic(self, name: str) -> None:
        answer = self._run(self._admin.delete_topics([name]))
        _check(answer.topic_error_codes[0][1])

    def partitions(self, topic: str) -> int | None:
        if topic not in self._run(self._admin.list_topics()):
            return None
        (found,) = self._run(self._admin.describe_topics([topic]))
        return len(found["partitions"])

    def topic_config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self._run(self._admin.describe_configs([resource]))
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}

    def close(self) -> None:
        self._run(self._admin.close())


def _check(error_code: int) -> None:
    if error_code:
        error = aiokafka.errors.for_code(error_code)
        raise ClientError(error.__name__, f"error code {error_code}")


class AsynchronousDriver(Driver):
    name = "aiokafka"
    limits = frozenset({"group-metadata"})

    def __init__(self) -> None:
        self._thread = LoopThread()

    def producer(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        compression: str = "none",
    ) -> Producer:
        return AsynchronousProducer(
            self._thread.run,
            {
                "bootstrap_servers": bootstrap_servers,
                "enable_idempotence": True,
                "transactional_id": transactional_id,
                "transaction_timeout_ms": transaction_timeout_ms,
                "compression_type": None if compression == "none" else compression,
                "max_request_size": 20_000_000,
                "linger_ms": 5,
            },
        )

    def consumer(
        self, bootstrap_servers: str, *, group_id: str | None = None, committed_only: bool = True
    ) -> Consumer:
        return AsynchronousConsumer(
            self._thread.run,
            {
                "bootstrap_servers": bootstrap_servers,
                "group_id": group_id,
                "isolation_level": "read_committed" if committed_only else "read_uncommitted",
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "session_timeout_ms": 6_000,
                "heartbeat_interval_ms": 300,
                "fetch_max_wait_ms": 50,
            },
        )

    def admin(self, bootstrap_servers: str) -> Admin:
        return AsynchronousAdmin(self._thread.run, bootstrap_servers)

    def close(self) -> None:
        self._thread.close()
