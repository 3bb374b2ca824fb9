"""A producer: idempotent, and with a transactional.id, transactional.

    with ottla.Producer("127.0.0.1:9092", transactional_id="orders") as producer:
        with producer.transaction(consumer) as transaction:
            transaction.send("out", key, value)

Leaving the block commits, an exception aborts. The states of a transactional producer:

    READY --begin--> OPEN --commit--> READY
                     OPEN --abort---> READY
                     OPEN --commit not answered--> UNKNOWN --commit--> READY
    any --fenced or fatal--> CLOSED

From UNKNOWN there is no abort: the broker may have committed, and others may have read it.

Records of one call are handed to librdkafka one by one: measured, its `produce` is as fast as its
`produce_batch`, which has neither timestamps nor headers. Records are partitioned as by Kafka's
Java client (murmur2), so that keys meet in the same partition whoever wrote them.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Unpack

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from ottla.client.errors import (
    Abortable,
    ClientError,
    Fatal,
    OutcomeUnknown,
    ProducerFenced,
    TimedOut,
    kafka_error,
    not_let_in,
    translate,
)
from ottla.client.settings import Refusals, Security, connection
from ottla.client.types import Headers, Partition, Position

if TYPE_CHECKING:
    from ottla.client.consumer import Consumer

_ANY_PARTITION = -1
_QUEUE_FULL_WAIT_S = 0.1


class State(Enum):
    """Where a transactional producer is."""

    READY = "no transaction is open"
    OPEN = "a transaction is open"
    UNKNOWN = "a commit was not answered"
    CLOSED = "the producer is closed"


ALLOWED: dict[str, frozenset[State]] = {
    "begin a transaction": frozenset((State.READY,)),
    "send in a transaction": frozenset((State.OPEN,)),
    "send offsets": frozenset((State.OPEN,)),
    "commit a transaction": frozenset((State.OPEN, State.UNKNOWN)),
    "abort a transaction": frozenset((State.OPEN,)),
}


class Producer:
    """A producer.

    Args:
        bootstrap_servers: "host:port,host:port".
        transactional_id: one per producer that runs at a time; starting a second one fences the
            first. Without it the producer is idempotent.
        transaction_timeout_ms: the broker aborts a transaction that is open for longer.
        linger_ms: how long a record may wait for company.
        timeout_ms: how long a call may wait for the broker.
        config: more settings of librdkafka.
        security: how to be let in; see `ottla.client.settings.Security`.
    Raises TimedOut when the broker is not there, Fatal when the settings are refused, NotLetIn when
    the broker refuses us.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        linger_ms: int = 5,
        timeout_ms: int = 30_000,
        config: Mapping[str, Any] | None = None,
        **security: Unpack[Security],
    ) -> None:
        self.transactional_id = transactional_id
        self._refusals = Refusals()
        self._timeout_s = timeout_ms / 1000
        settings: dict[str, Any] = {
            **connection(bootstrap_servers, security, self._refusals),
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "batch.size": 1_000_000,
            "message.timeout.ms": max(timeout_ms, 60_000),
            "log_level": 2,
        }
        if transactional_id is not None:
            settings |= {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": transaction_timeout_ms,
                "message.timeout.ms": transaction_timeout_ms,
            }
        else:
            settings |= {"on_delivery": self._delivered, "delivery.report.only.error": True}
        try:
            self._producer = confluent_kafka.Producer(settings | dict(config or {}))
        except KafkaException as error:
            raise translate(kafka_error(error), "make a producer") from error
        self._failed: ClientError | None = None
        self.state = State.READY
        if transactional_id is not None:
            self._retried("start a transactional producer", self._producer.init_transactions)

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.close()
        except ClientError as second:
            if error is None:
                raise
            error.add_note(str(second))

    def send(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | str | None,
        *,
        headers: Headers | None = None,
        partition: int = _ANY_PARTITION,
        timestamp_ms: int = 0,
    ) -> None:
        """Hand a record over; `flush` waits until it and all before it are acknowledged.

        Raises Fatal if a record sent before could not be delivered.
        """
        if self.transactional_id is not None:
            self._allow("send in a transaction")
        elif self.state is State.CLOSED:
            raise Fatal(f"cannot send to {topic}: {self.state.value}")
        self._raise_failed()
        self._produce(topic, value, key, partition, timestamp_ms, headers)
        self._poll(0)

    def send_rows(
        self,
        topic: str,
        rows: Iterable[tuple[bytes | None, bytes | None, int]],
        partition: int = _ANY_PARTITION,
    ) -> None:
        """Hand over many records `(key, value, timestamp_ms)`, in order."""
        produce = self._producer.produce
        try:
            for key, value, timestamp_ms in rows:
                try:
                    produce(topic, value, key, partition, None, None, timestamp_ms)
                except BufferError:
                    self._produce(topic, value, key, partition, timestamp_ms, None)
        except KafkaException as error:
            raise self._translated(error, f"send to {topic}") from error
        self._poll(0)
        self._raise_failed()

    def send_pairs(
        self, topic: str, pairs: Iterable[tuple[bytes | None, bytes | None]], partition: int
    ) -> None:
        """Hand over many records `(key, value)` with the time of now, in order."""
        produce = self._producer.produce
        try:
            for key, value in pairs:
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    self._produce(topic, value, key, partition, 0, None)
        except KafkaException as error:
            raise self._translated(error, f"send to {topic}") from error
        self._poll(0)
        self._raise_failed()

    def send_with_offset(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int,
        delivered: Callable[[int], None],
    ) -> None:
        """Hand a record over and, once it is acknowledged, tell its offset to `delivered`."""

        def report(error: Any, message: Any) -> None:
            if error is None:
                delivered(message.offset())

        self._produce(topic, value, key, partition, 0, None, report)

    def flush(self) -> None:
        """Wait until all records are acknowledged.

        Raises TimedOut when the broker is too slow, Fatal when a record could not be delivered.
        """
        try:
            left = self._producer.flush(self._timeout_s)
        except KafkaException as error:
            raise self._translated(error, "flush") from error
        self._raise_failed()
        if left:
            raise self._in_vain(
                "flush",
                TimedOut(
                    f"{left} records were not acknowledged within {self._timeout_s} s. "
                    "They are still being sent: flush again, or close the producer to give up"
                ),
            )

    @contextmanager
    def transaction(self, consumer: "Consumer | None" = None) -> Iterator["Transaction"]:
        """A transaction for the length of a block.

        Args: with a `consumer`, its positions are committed with the transaction, and when the
        transaction aborts it goes back to its committed offsets.
        Raises what the block raises, and Abortable, Fatal, ProducerFenced or OutcomeUnknown.
        """
        self.begin()
        transaction = Transaction(self)
        try:
            yield transaction
            if consumer is not None:
                transaction.send_offsets(consumer)
            self.commit()
        except BaseException as error:
            if self.state is State.OPEN:
                self._abort_after(error)
            if consumer is not None and not isinstance(error, OutcomeUnknown | Fatal):
                consumer.rewind()
            raise

    def begin(self) -> None:
        """Open a transaction. Prefer `transaction()`, which cannot be left open."""
        self._allow("begin a transaction")
        self._retried("begin a transaction", lambda _: self._producer.begin_transaction())
        self.state = State.OPEN

    def send_offsets(self, offsets: Mapping[Partition, Position], consumer: "Consumer") -> None:
        """Commit offsets of the consumer's group with the transaction (KIP-447).

        Raises Abortable when the group has moved on since.
        """
        self._allow("send offsets")
        positions = [
            confluent_kafka.TopicPartition(
                partition.topic, partition.partition, position.offset, position.metadata
            )
            for partition, position in offsets.items()
        ]
        metadata = consumer.group_metadata()
        self._retried(
            "commit offsets in a transaction",
            lambda timeout_s: self._producer.send_offsets_to_transaction(
                positions, metadata, timeout_s
            ),
        )

    def commit(self) -> None:
        """Commit the open transaction.

        Raises Abortable (nothing was committed), or OutcomeUnknown when the broker did not answer:
        then call `commit` again, or make a new producer with the same transactional.id.
        """
        self._allow("commit a transaction")
        try:
            self._retried("commit a transaction", self._producer.commit_transaction)
        except TimedOut as error:
            self.state = State.UNKNOWN
            raise OutcomeUnknown(
                f"the commit of {self.transactional_id} was not answered within "
                f"{self._timeout_s} s: it may have happened or not. Commit again, or make a new "
                "producer with this transactional.id and read the committed offsets; do not abort",
                error.code,
            ) from error
        self.state = State.READY

    def abort(self) -> None:
        """Abort the open transaction: none of its records will be read by read_committed."""
        self._allow("abort a transaction")
        self._retried("abort a transaction", self._producer.abort_transaction)
        self.state = State.READY

    def close(self) -> None:
        """Give up what is open and let go of all connections.

        An open transaction is left to the broker, which aborts it when a producer with the same
        transactional.id starts, or after transaction.timeout.ms. Raises TimedOut when records
        were not acknowledged in time: they are given up, and may have been stored or not.
        """
        if self.state is State.CLOSED:
            return
        given_up = None
        if self.state is State.OPEN:
            self._producer.purge()
        elif self.transactional_id is None and (left := self._producer.flush(self._timeout_s)):
            said = (
                f"{left} records were not acknowledged within {self._timeout_s} s and are given up"
            )
            given_up = self._in_vain("close", TimedOut(f"{said}: they may be stored or not"))
        self.state = State.CLOSED
        del self._producer  # the last reference: librdkafka's threads end here
        self._raise_failed()
        if given_up is not None:
            raise given_up

    def _allow(self, action: str) -> None:
        if self.transactional_id is None:
            raise Fatal(f"cannot {action}: the producer was made without a transactional_id")
        if self.state not in ALLOWED[action]:
            raise Fatal(f"cannot {action}: {self.state.value}")

    def _produce(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        partition: int,
        timestamp_ms: int,
        headers: Headers | None,
        report: Callable[[Any, Any], None] | None = None,
    ) -> None:
        deadline = time.monotonic() + self._timeout_s
        more: list[Any] = [list(headers)] if headers else []
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, report, None, timestamp_ms, *more
                )
                return
            except BufferError:  # the queue is full: let it drain
                self._poll(_QUEUE_FULL_WAIT_S)
                if time.monotonic() > deadline:
                    full = TimedOut(
                        f"cannot send to {topic}: the queue stayed full for {self._timeout_s} s. "
                        "Is the broker there?"
                    )
                    raise self._in_vain(f"send to {topic}", full) from None
            except KafkaException as error:
                raise self._translated(error, f"send to {topic}") from error

    def _retried(self, doing: str, call: Callable[[float], Any]) -> None:
        """Call again while the error says so and there is time."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                call(max(0.1, deadline - time.monotonic()))
                return
            except KafkaException as error:
                again = kafka_error(error).retriable() and time.monotonic() < deadline
                if not again:
                    raise self._translated(error, doing) from error
                self._poll(0.01)

    def _poll(self, timeout_s: float) -> None:
        """Take note of answers. Raises the fatal error of the producer, once it has one."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            raise self._translated(error, "go on") from error

    def _translated(self, error: KafkaException, doing: str) -> ClientError:
        found = kafka_error(error)
        if found.code() == KafkaError._FATAL:  # says only that there is another error: ask for it
            try:
                self._producer.poll(0)
            except KafkaException as real:
                found = kafka_error(real)
        ours = translate(found, doing)
        if isinstance(ours, ProducerFenced) or found.fatal():
            self._producer.purge()
            self.state = State.CLOSED
        return self._in_vain(doing, ours)

    def _in_vain(self, doing: str, error: ClientError) -> ClientError:
        """The error, or what is behind it if it is that we are not let in."""
        if isinstance(error, TimedOut):
            with contextlib.suppress(KafkaException):
                self._producer.poll(0)  # lets librdkafka say it
            if self._refusals.reason:
                return not_let_in(doing, self._refusals.reason)
        return error

    def _abort_after(self, error: BaseException) -> None:
        """Abort without hiding what led to it."""
        try:
            self.abort()
        except ClientError as second:
            error.add_note(f"the abort that followed failed too: {second}")
            self.state = State.CLOSED if self.state is State.OPEN else self.state

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None and self._failed is None:
            self._failed = translate(error, f"deliver a record to {message.topic()}")

    def _raise_failed(self) -> None:
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error


class Transaction:
    """What can be done inside `with producer.transaction() as transaction`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def send(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | str | None,
        *,
        headers: Headers | None = None,
        partition: int = _ANY_PARTITION,
        timestamp_ms: int = 0,
    ) -> None:
        """Add a record to the transaction. Raises Abortable or Fatal."""
        self._producer.send(
            topic, key, value, headers=headers, partition=partition, timestamp_ms=timestamp_ms
        )

    def send_offsets(self, consumer: "Consumer") -> None:
        """Commit the positions of a consumer with the transaction. Raises Abortable or Fatal."""
        positions = {
            partition: Position(offset) for partition, offset in consumer.positions().items()
        }
        if positions:
            self._producer.send_offsets(positions, consumer)


__all__ = ["Abortable", "Producer", "State", "Transaction"]
