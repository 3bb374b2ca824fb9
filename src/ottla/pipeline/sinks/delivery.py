"""The sink worker: records of a topic into a database, each once.

It reads by hand, from the positions that the destination has, and commits no offsets to Kafka. When
the destination is away it tries again with what the destination itself says is in.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson

from ottla.client import Admin, ClientError, Consumer, Message, Partition
from ottla.pipeline.dead_letters import SOURCE_COLUMN
from ottla.pipeline.errors import Fenced, PipelineStopped, SinkAway
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.reports import Reporter
from ottla.pipeline.sinks.open import open_for
from ottla.pipeline.sinks.sink import (
    Batch,
    Move,
    Position,
    RefusedRow,
    Sink,
    SinkRow,
)
from ottla.pipeline.topics import make_topics
from ottla.ports.invariants import invariant

_BATCH_ROWS = 5_000
_BATCH_WAIT_S = 0.15
_POLL_S = 0.05
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class SinkWorker:
    """Takes the output topic of a pipeline into its destination, until `stop` is set."""

    def __init__(
        self, spec: PipelineSpec, bootstrap_servers: str, report: Reporter, stop: threading.Event
    ) -> None:
        self._spec = spec
        self._topic = spec.output_topic
        self._bootstrap_servers = bootstrap_servers
        self._report = report
        self._stop = stop
        self._positions: dict[int, Position] = {}
        self._lag = 0
        self._rows = 0
        self._dead = 0
        self._committed = 0
        self._aborted = 0

    def run(self) -> None:
        """Work until `stop`. Raises Fenced, PipelineStopped or ClientError."""
        count = make_topics(self._spec, self._bootstrap_servers)[self._topic]
        topic_id = Admin(self._bootstrap_servers).topic_ids([self._topic])[self._topic]
        sink = open_for(self._spec, topic_id, owner=f"{socket.gethostname()}:{os.getpid()}")
        consumer = Consumer(
            self._bootstrap_servers, group_id=f"{self._spec.name}-sink", offset_reset="error"
        )
        try:
            partitions = [Partition(self._topic, number) for number in range(count)]
            starts = {each: low for each, (low, _) in consumer.end_offsets(partitions).items()}
            self._claim(sink, {each.partition: start for each, start in starts.items()})
            self._check_retention({each.partition: start for each, start in starts.items()})
            self._seek(consumer)
            while not self._stop.is_set():
                self._step(sink, consumer)
        finally:
            consumer.close()
            sink.close()

    def _claim(self, sink: Sink, start_offsets: dict[int, int]) -> None:
        for backoff_s in self._backoffs():
            try:
                sink.connect()
                self._positions = sink.claim(start_offsets)
                return
            except SinkAway as error:
                self._wait(error, backoff_s)

    def _step(self, sink: Sink, consumer: Consumer) -> None:
        """Gather a batch and put it in; if the destination is away, find out what is in."""
        batch = self._gather(consumer)
        self._lag = sum(consumer.lag(each) for each in consumer.positions())
        if not batch.moves:
            self._report.progress(**self._facts())
            return
        try:
            written = sink.write(batch)
        except SinkAway as error:
            self._aborted += 1
            self._reconnect(sink, error)
            self._seek(consumer)
            return
        for move in batch.moves:
            self._positions[move.partition] = Position(move.epoch, move.new)
        self._rows += written.rows
        self._dead += written.dead
        self._committed += 1
        self._report.progress(**self._facts())

    def _gather(self, consumer: Consumer) -> Batch:
        batch = Batch([], [], [])
        news: dict[int, tuple[int, int]] = {}
        deadline = time.monotonic() + _BATCH_WAIT_S
        count = 0
        while count < _BATCH_ROWS and not self._stop.is_set():
            for partition, messages in self._consume(consumer, _BATCH_ROWS - count):
                for message in messages:
                    _add(message, partition.partition, batch)
                count += len(messages)
                before = news.get(partition.partition, (0, 0))[1]
                last = messages[-1].offset()
                invariant(last is not None, "a record has an offset", partition=partition)
                news[partition.partition] = (int(last or 0) + 1, before + len(messages))
            if time.monotonic() >= deadline:
                break
        for number, (new, rows) in news.items():
            epoch, old = self._positions[number]
            batch.moves.append(Move(number, epoch, old, new, rows))
        return batch

    def _consume(self, consumer: Consumer, count: int) -> list[tuple[Partition, list[Message]]]:
        try:
            return consumer.consume(count, _POLL_S)
        except ClientError as error:
            starts = consumer.end_offsets([Partition(self._topic, n) for n in self._positions])
            self._check_retention({each.partition: low for each, (low, _) in starts.items()})
            raise error

    def _reconnect(self, sink: Sink, error: SinkAway) -> None:
        """Connect again, and take the positions from the destination. Raises Fenced."""
        for backoff_s in self._backoffs():
            self._wait(error, backoff_s)
            try:
                sink.connect()
                recorded = sink.recorded()
            except SinkAway as again:
                error = again
                continue
            for number, position in self._positions.items():
                if recorded.get(number, Position(-1, -1)).epoch != position.epoch:
                    raise Fenced(
                        f"another sink worker of pipeline {self._spec.name} has taken over "
                        f"partition {number} of {self._topic}"
                    )
                self._positions[number] = recorded[number]
            return

    def _backoffs(self) -> "_Backoffs":
        return _Backoffs(self._stop)

    def _wait(self, error: SinkAway, backoff_s: float) -> None:
        self._report.waiting(str(error), **self._facts())
        self._stop.wait(backoff_s)

    def _seek(self, consumer: Consumer) -> None:
        consumer.assign(
            {
                Partition(self._topic, number): position.next_offset
                for number, position in self._positions.items()
            }
        )

    def _check_retention(self, start_offsets: Mapping[int, int]) -> None:
        """Records that were deleted before they were delivered are lost: never skip them."""
        for number, start in start_offsets.items():
            position = self._positions.get(number)
            if position is not None and position.next_offset < start:
                raise PipelineStopped(
                    f"retention overran the sink: the next record for {self._spec.sink.shown} is "
                    f"{self._topic}-{number}@{position.next_offset}, but the topic begins at "
                    f"{start} now. {start - position.next_offset} offsets are lost; raise "
                    "retention.ms, and load them from the source again"
                )

    def _facts(self) -> dict[str, Any]:
        return {
            "lag": self._lag,
            "rows": self._rows,
            "dead": self._dead,
            "committed": self._committed,
            "aborted": self._aborted,
            "next_offsets": {
                str(n): position.next_offset for n, position in self._positions.items()
            },
            "at": time.time(),
        }


class _Backoffs:
    """Longer and longer waits, until `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._count = 0

    def __iter__(self) -> "_Backoffs":
        return self

    def __next__(self) -> float:
        if self._stop.is_set():
            raise StopIteration
        backoff_s = _BACKOFF_S[min(self._count, len(_BACKOFF_S) - 1)]
        self._count += 1
        return backoff_s


def _add(message: Message, partition: int, batch: Batch) -> None:
    """A record as a row, or as a dead letter if it is none."""
    value = message.value()
    offset = int(message.offset() or 0)
    if value is None:
        reason = "the record has no value"
        batch.refused.append(RefusedRow(partition, offset, None, None, reason, ""))
        return
    try:
        values = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        reason, raw = f"not JSON: {error}", bytes(value).decode("utf-8", "backslashreplace")
        batch.refused.append(RefusedRow(partition, offset, None, None, reason, raw))
        return
    if not isinstance(values, dict):
        raw = bytes(value).decode()
        reason = "JSON, but not an object"
        batch.refused.append(RefusedRow(partition, offset, None, None, reason, raw))
        return
    source = values.pop(SOURCE_COLUMN, None)
    batch.rows.append(SinkRow(partition, offset, values, source))
