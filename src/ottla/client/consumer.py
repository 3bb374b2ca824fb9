"""A consumer: read_committed, in a group or with partitions assigned by hand.

Positions are kept here: the offset after the last message handed out, per partition. Nothing is
committed by itself. The end of a partition is noticed from librdkafka's own events, which know of
transaction markers: a position can never reach a high watermark that lies behind a marker, but
`ended` tells that everything up to it was read.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from ottla.client.errors import Fatal, TimedOut, kafka_error, not_let_in, translate
from ottla.client.settings import Refusals, Security, connection
from ottla.client.types import Message, Partition, Position

_END = KafkaError._PARTITION_EOF
EARLIEST = confluent_kafka.OFFSET_BEGINNING
_LASTING = frozenset(
    (
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError._FATAL,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    )
)
Rebalanced = Callable[[list[Partition]], None]


class Consumer:
    """A consumer.

    Args:
        bootstrap_servers: "host:port,host:port".
        group_id: the consumer group; needed to subscribe and to commit.
        instance_id: static membership (KIP-345): a restart takes the place of its predecessor.
        isolation: "read_committed" or "read_uncommitted".
        offset_reset: where to begin without a committed offset: "earliest", "latest" or "error".
        session_timeout_ms: after this long without a sign the group gives the partitions away.
        config: more settings of librdkafka.
        security: how to be let in; see `ottla.client.settings.Security`.
    Raises Fatal when the settings are refused.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        *,
        instance_id: str | None = None,
        isolation: str = "read_committed",
        offset_reset: str = "earliest",
        session_timeout_ms: int = 10_000,
        timeout_ms: int = 30_000,
        config: Mapping[str, Any] | None = None,
        **security: Unpack[Security],
    ) -> None:
        self._refusals = Refusals()
        self.group_id = group_id
        self._timeout_s = timeout_ms / 1000
        settings: dict[str, Any] = {
            **connection(bootstrap_servers, security, self._refusals),
            "group.id": group_id,
            "isolation.level": isolation,
            "auto.offset.reset": offset_reset,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "session.timeout.ms": session_timeout_ms,
            "heartbeat.interval.ms": max(1, session_timeout_ms // 4),
            "partition.assignment.strategy": "range",
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 5,  # a full queue stops fetching for this long, not for 1 s
            "log_level": 2,
        }
        if instance_id is not None:
            settings["group.instance.id"] = instance_id
        self._offset_reset = offset_reset
        self._positions: dict[Partition, int] = {}
        self.ended: dict[Partition, int] = {}  # at the end when read up to this offset
        try:
            self._consumer = confluent_kafka.Consumer(settings | dict(config or {}))
        except KafkaException as error:
            raise translate(kafka_error(error), "make a consumer") from error

    def __enter__(self) -> "Consumer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: Rebalanced | None = None,
        on_revoke: Rebalanced | None = None,
        on_lost: Rebalanced | None = None,
    ) -> None:
        """Join the group for these topics.

        The callbacks run inside `consume` and `close`. `on_assign` may call `assign`; `on_revoke`
        may still commit; `on_lost` may not: the partitions belong to another member already.
        """

        def told(callback: Rebalanced | None, forget: bool) -> Callable[[Any, Any], None]:
            def call(_: Any, partitions: list[Any]) -> None:
                changed = [Partition(each.topic, each.partition) for each in partitions]
                if callback is not None:
                    callback(changed)
                for each in changed if forget else ():
                    self._positions.pop(each, None)
                    self.ended.pop(each, None)

            return call

        lost = told(on_lost or on_revoke, True)
        self._consumer.subscribe(
            list(topics),
            on_assign=told(on_assign, False),
            on_revoke=told(on_revoke, True),
            on_lost=lost,
        )

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read exactly these partitions from these offsets.

        -1 stands for what `offset_reset` says, EARLIEST for the beginning of the log.

        In a group, these may be fewer than the group has assigned, and more later.
        """
        self._positions = {each: offset for each, offset in offsets.items() if offset >= 0}
        self.ended.clear()
        self._call(
            "assign partitions",
            lambda: self._consumer.assign(list(map(self._start, offsets.items()))),
        )

    def consume(self, count: int, timeout_s: float) -> list[tuple[Partition, list[Message]]]:
        """Up to `count` messages, gathered by partition, each partition's in order.

        Returns as soon as there are any, with nothing after `timeout_s`. Raises Fatal when the
        consumer cannot go on, for example on an offset out of range with `offset_reset="error"`,
        or NotLetIn when the broker refuses us.
        """
        # librdkafka waits until it has `count` messages: ask for what is there, then wait for one.
        messages: list[Message] = self._call("consume", lambda: self._consumer.consume(count, 0))
        if not messages and timeout_s > 0:
            messages = self._call("consume", lambda: self._consumer.consume(1, timeout_s))
        if not messages and self._refusals.reason:
            raise not_let_in("consume", self._refusals.reason)
        runs: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            if message.error() is not None:
                self._event(message)
                continue
            key = (message.topic(), message.partition())
            if key in runs:
                runs[key].append(message)
            else:
                runs[key] = [message]
        gathered = []
        for (topic, partition), run in runs.items():
            found = Partition(topic, partition)
            self._positions[found] = run[-1].offset() + 1
            gathered.append((found, run))
        return gathered

    def _event(self, message: Message) -> None:
        """The end of a partition, or an error; those that pass by themselves are left alone."""
        error, partition = (
            message.error(),
            Partition(str(message.topic()), message.partition() or 0),
        )
        if error is None:
            return
        if error.code() == _END:
            self.ended[partition] = int(message.offset() or 0)
        elif error.fatal() or error.code() in _LASTING:
            raise translate(error, f"consume {partition}")

    def at_end(self, partition: Partition) -> bool:
        """Whether everything that can be read of a partition was read, as of the last event."""
        return self.ended.get(partition, -1) >= self._positions.get(partition, 0)

    def positions(self) -> dict[Partition, int]:
        """The next offset of every partition that was read or assigned with an offset."""
        return dict(self._positions)

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`. Raises Fatal when the partition is not assigned."""
        self._call(
            f"seek {partition}", lambda: self._consumer.seek(self._start((partition, offset)))
        )
        self.ended.pop(partition, None)
        if offset >= 0:
            self._positions[partition] = offset
        else:
            self._positions.pop(partition, None)

    def rewind(self) -> None:
        """Go back to the committed offsets, as after an aborted transaction."""
        assigned = self.assignment()
        if assigned:
            offsets = self.committed(assigned)
            for partition in assigned:
                self.seek(partition, offsets[partition].offset)

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, Position]:
        """The group's committed offsets, once no transaction on them is open any more (KIP-447).

        Raises TimedOut when one stays open for too long.
        """
        asked = [confluent_kafka.TopicPartition(*each) for each in partitions]
        if not asked:
            return {}
        found = self._call(
            "read committed offsets", lambda: self._consumer.committed(asked, self._timeout_s)
        )
        result = {}
        for each in found:
            if each.error is not None:
                raise translate(each.error, f"read the committed offset of {each.topic}")
            partition = Partition(each.topic, each.partition)
            result[partition] = Position(max(each.offset, -1), each.metadata or "")
        return result

    def commit(self, offsets: Mapping[Partition, Position]) -> None:
        """Commit offsets without a transaction, and wait for the answer. Raises ClientError."""
        asked = [
            confluent_kafka.TopicPartition(*each, position.offset, position.metadata)
            for each, position in offsets.items()
        ]
        self._call(
            "commit offsets", lambda: self._consumer.commit(offsets=asked, asynchronous=False)
        )

    def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """The log start and the high watermark of partitions, asked from the broker."""
        return {
            each: self._call(
                f"read the end of {each}",
                lambda each=each: self._consumer.get_watermark_offsets(  # type: ignore[misc]
                    confluent_kafka.TopicPartition(*each), self._timeout_s
                ),
            )
            for each in partitions
        }

    def lag(self, partition: Partition) -> int:
        """How many offsets lie before the end, as far as is known without asking."""
        if self.at_end(partition):
            return 0
        known = self._consumer.get_watermark_offsets(
            confluent_kafka.TopicPartition(*partition), cached=True
        )
        high = known[1] if known and known[1] >= 0 else 0
        return max(0, high - self._positions.get(partition, 0))

    def assignment(self) -> list[Partition]:
        """The partitions read at present."""
        found = self._call("read the assignment", self._consumer.assignment)
        return [Partition(each.topic, each.partition) for each in found]

    def group_metadata(self) -> Any:
        """What `Producer.send_offsets` needs to know of the group: member and generation."""
        return self._consumer.consumer_group_metadata()

    def unsubscribe(self) -> None:
        """Leave the group."""
        self._call("unsubscribe", self._consumer.unsubscribe)

    def close(self) -> None:
        """Leave the group and let go of all connections."""
        self._consumer.close()

    def _start(self, item: tuple[Partition, int]) -> confluent_kafka.TopicPartition:
        partition, offset = item
        if offset == -1:
            offset = {
                "earliest": confluent_kafka.OFFSET_BEGINNING,
                "latest": confluent_kafka.OFFSET_END,
            }.get(self._offset_reset, confluent_kafka.OFFSET_STORED)
        return confluent_kafka.TopicPartition(*partition, offset)

    def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except KafkaException as error:
            ours = translate(kafka_error(error), doing)
            if isinstance(ours, TimedOut) and self._refusals.reason:
                ours = not_let_in(doing, self._refusals.reason)
            raise ours from error
        except RuntimeError as error:
            raise Fatal(f"cannot {doing}: the consumer is closed") from error
