"""Producers and consumers that work on through any number of broker crashes, and take notes.

Each actor is a thread with clients of confluent-kafka and a part of the history that only it writes
to. What a client cannot know is noted as unknown: once a commit was tried and its answer did not
come, only what is read can tell, and the producer is made anew before anything else is sent.
"""

import random
import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException, TopicPartition

from tests.process.history import Outcome, Partition, Reading, Seen, Transaction, Write

# Quick to notice that a broker is back; nothing here changes what a client may assume.
_CONNECTION = {
    # With "rebootstrap", its default, librdkafka forgets its only broker when that goes away, and a
    # TxnOffsetCommit under way waits for the forgotten one until its time is over.
    "metadata.recovery.strategy": "none",
    "retry.backoff.max.ms": 50,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 50,
    "retry.backoff.ms": 20,
    "log_level": 0,
}


def make_producer(bootstrap_servers: str, **configuration: Any) -> confluent_kafka.Producer:
    """An idempotent producer; underscores in names stand for dots."""
    dotted = {name.replace("_", "."): value for name, value in configuration.items()}
    return confluent_kafka.Producer(
        {
            **_CONNECTION,
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 2,
            "message.timeout.ms": 0 if "transactional.id" not in dotted else 60_000,
            **dotted,
        }
    )


def make_consumer(bootstrap_servers: str, **configuration: Any) -> confluent_kafka.Consumer:
    """A read_committed consumer that commits only when told to."""
    dotted = {name.replace("_", "."): value for name, value in configuration.items()}
    return confluent_kafka.Consumer(
        {
            **_CONNECTION,
            "bootstrap.servers": bootstrap_servers,
            "group.id": "nobody",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 20,
            **dotted,
        }
    )


class Actor:
    """Repeats `step` in a thread until `stop`; what a step raises fails the test at `stop`."""

    def __init__(self, name: str, bootstrap_servers: str, seed: int) -> None:
        self.name = name
        self.transactions: list[Transaction] = []
        self.bootstrap_servers = bootstrap_servers
        self.rng = random.Random(f"{seed} {name}")
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, limit_s: float = 60) -> None:
        """Let it finish its step and close its clients; raises what went wrong in it."""
        self._ending.set()
        self._thread.join(limit_s)
        assert not self._thread.is_alive(), f"{self.name} does not come to an end"
        if self._failure is not None:
            raise self._failure

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def count(self, outcome: Outcome) -> int:
        """How many transactions had this outcome so far."""
        return sum(1 for one in list(self.transactions) if one.outcome is outcome)

    def step(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close the clients."""

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self.step()
            self.close()
        except BaseException as error:  # noqa: BLE001 - raised again by stop
            self._failure = error


class PlainWriter(Actor):
    """One idempotent producer for the whole run: its retries must neither double nor lose (P2)."""

    def __init__(self, name: str, bootstrap: str, seed: int, partitions: list[Partition]) -> None:
        super().__init__(name, bootstrap, seed)
        self._partitions = partitions
        self._producer = make_producer(bootstrap)
        self._sent = 0

    def step(self) -> None:
        for _ in range(self.rng.randrange(1, 8)):
            partition = self.rng.choice(self._partitions)
            one = Transaction(self.name, [Write(partition, f"{self.name}-{self._sent}")])
            self.transactions.append(one)
            self._sent += 1

            def report(error: Any, _message: Any, one: Transaction = one) -> None:
                assert error is None, f"a delivery failed: {error}"
                one.outcome = Outcome.COMMITTED

            topic, number = partition
            self._producer.produce(topic, one.writes[0].value, partition=number, on_delivery=report)
        self._producer.poll(0)
        time.sleep(0.02)
        while len(self._producer) > 2_000:
            self._producer.poll(0.05)

    def close(self) -> None:
        assert self._producer.flush(60) == 0


class TransactionalWriter(Actor):
    """Commits and aborts transactions over several topics and partitions.

    A patient one tries a commit again until it has the answer. An impatient one gives up at once,
    and makes a new producer whose InitProducerId decides what becomes of the transaction.
    """

    def __init__(
        self, name: str, bootstrap: str, seed: int, partitions: list[Partition], patient: bool
    ) -> None:
        super().__init__(name, bootstrap, seed)
        self._partitions = partitions
        self._patient = patient
        self._producer: confluent_kafka.Producer | None = None
        self._sent = 0

    def step(self) -> None:
        if self._producer is None:
            self._producer = init_producer(self.bootstrap_servers, f"id-{self.name}")
            return
        writes = []
        for partition in self.rng.choices(self._partitions, k=self.rng.randrange(1, 7)):
            writes.append(Write(partition, f"{self.name}-{self._sent}"))
            self._sent += 1
        one = Transaction(self.name, writes, Outcome.ABORTED)  # until a commit is tried
        self.transactions.append(one)
        try:
            self._producer.begin_transaction()
            for (topic, number), value in writes:
                self._producer.produce(topic, value, partition=number)
            if self.rng.random() < 0.1:
                self._producer.abort_transaction(30)
                return
            one.outcome = Outcome.UNKNOWN
            commit(self._producer, self._patient)
            one.outcome = Outcome.COMMITTED
        except KafkaException:
            self._producer = None

    def close(self) -> None:
        self._producer = None


class Copier(Actor):
    """Copies a topic into another one, input position and output in one transaction (P3).

    The group's metadata is taken before the records: if the group moves on in between, the offsets
    are refused, and the copier goes back to what is committed.
    """

    def __init__(self, name: str, bootstrap: str, seed: int, source: str, target: str) -> None:
        super().__init__(name, bootstrap, seed)
        self._target = target
        self._consumer = make_consumer(bootstrap, group_id=f"group-{name}")
        self._consumer.subscribe([source])
        self._producer: confluent_kafka.Producer | None = None
        self.copied = 0

    def step(self) -> None:
        if self._producer is None:
            self._producer = init_producer(self.bootstrap_servers, f"id-{self.name}")
            if self._producer is not None and not self._rewind():
                self._producer = None
            return
        group = self._consumer.consumer_group_metadata()
        records = [one for one in self._consumer.consume(500, 0.05) if one.error() is None]
        if not records:
            return
        positions = {(one.topic(), one.partition()): one.offset() + 1 for one in records}
        offsets = [TopicPartition(*where, offset) for where, offset in positions.items()]
        try:
            self._producer.begin_transaction()
            for one in records:
                self._producer.produce(self._target, one.value(), partition=one.partition())
            self._producer.send_offsets_to_transaction(offsets, group, 30)
            commit(self._producer, patient=True)
            self.copied += len(records)
        except KafkaException:
            self._producer = None

    def _rewind(self) -> bool:
        """Go back to the committed offsets; false if the broker went away meanwhile."""
        try:
            for where in self._consumer.committed(self._consumer.assignment(), 30):
                if where.offset < 0:
                    where.offset = confluent_kafka.OFFSET_BEGINNING
                self._consumer.seek(where)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        self._consumer.close()


class Reader(Actor):
    """One consumer for the whole run: it must neither skip nor step back (P6)."""

    def __init__(self, name: str, bootstrap: str, seed: int, partitions: list[Partition]) -> None:
        super().__init__(name, bootstrap, seed)
        self.reading = Reading(name)
        self._consumer = make_consumer(bootstrap)
        self._consumer.assign(_from_the_beginning(partitions))

    def step(self) -> None:
        self.reading.seen += _seen(self._consumer.consume(200, 0.1))

    def close(self) -> None:
        self._consumer.close()


def read_everything(bootstrap_servers: str, partitions: list[Partition]) -> Reading:
    """A complete reading: every partition from its beginning to its end."""
    reading = Reading("final", complete=True)
    consumer = make_consumer(bootstrap_servers, enable_partition_eof=True)
    consumer.assign(_from_the_beginning(partitions))
    ended: set[Partition] = set()
    while len(ended) < len(partitions):
        messages = consumer.consume(500, 1.0)
        reading.seen += _seen(messages)
        for message in messages:
            if message.error() is not None:
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
                ended.add((message.topic(), message.partition()))
    consumer.close()
    return reading


def end_offsets(
    bootstrap_servers: str, partitions: list[Partition], isolation_level: str
) -> dict[Partition, int]:
    """High watermarks (read_uncommitted), or last stable offsets (read_committed)."""
    consumer = make_consumer(bootstrap_servers, isolation_level=isolation_level)
    found = {
        partition: int(consumer.get_watermark_offsets(TopicPartition(*partition), 30)[1])
        for partition in partitions
    }
    consumer.close()
    return found


def _from_the_beginning(partitions: list[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*where, confluent_kafka.OFFSET_BEGINNING) for where in partitions]


def _seen(messages: list[confluent_kafka.Message]) -> list[Seen]:
    return [
        Seen((message.topic(), message.partition()), message.offset(), message.value().decode())
        for message in messages
        if message.error() is None
    ]


def init_producer(bootstrap_servers: str, transactional_id: str) -> confluent_kafka.Producer | None:
    """A transactional producer that has fenced its predecessor; None if that did not work out."""
    producer = make_producer(bootstrap_servers, transactional_id=transactional_id)
    try:
        producer.init_transactions(30)
    except KafkaException:
        return None
    return producer


def commit(producer: confluent_kafka.Producer, patient: bool) -> None:
    """Commit. Raises KafkaException when the outcome is not known."""
    while True:
        try:
            producer.commit_transaction(30 if patient else 0.2)
            return
        except KafkaException as error:
            if not (patient and error.args[0].retriable()):
                raise
