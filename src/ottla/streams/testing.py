"""Test an application without a broker: the same compiled code, stores and commit protocol.

    from ottla.testing import TopologyTestDriver

    with TopologyTestDriver(app, partitions=4) as driver:
        driver.pipe("orders", "k1", {"amount": 5}, timestamp_ms=1_000)
        driver.run()
        assert driver.read("totals") == ...
        driver.crash()              # what was not committed is lost; state comes back
        driver.run()

Records are processed in `step`s and committed by `commit`; `run` does both until nothing is left.
Time by the clock stands still until `advance`.
"""

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ottla.client import Partition
from ottla.ports.clock import SimulatedClock
from ottla.streams.app import App
from ottla.streams.engine import Engine
from ottla.streams.errors import StreamsError
from ottla.streams.memory import (
    MemoryChangelogs,
    MemoryCluster,
    MemoryMessage,
    MemoryOutput,
    Outcome,
)
from ottla.streams.queries import Query, query_tasks
from ottla.streams.restore import Restorer
from ottla.streams.serdes import JSON, STR, Serde, serde_of
from ottla.streams.storage import Storage
from ottla.streams.task import TaskId
from ottla.streams.topics import topics_to_make

_ALL = 1 << 60


class Output(NamedTuple):
    """A record that an application wrote, decoded."""

    key: Any
    value: Any
    timestamp_ms: int
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class TopologyTestDriver:
    """Runs an application on topics in memory.

    Args: `partitions` of the topics that are not named in `topics`, from name to number of
    partitions; `state_dir` to keep the state in, by default a temporary one; `cluster` of an
    earlier driver, to go on from its topics with another version of the code.
    """

    def __init__(
        self,
        app: App,
        *,
        partitions: int = 1,
        topics: dict[str, int] | None = None,
        state_dir: str | Path | None = None,
        cluster: MemoryCluster | None = None,
    ) -> None:
        self._app = app
        self._held = contextlib.ExitStack()
        if state_dir is None:
            state_dir = self._held.enter_context(tempfile.TemporaryDirectory())
        self._state_dir = Path(state_dir)
        self.clock = SimulatedClock()
        self.cluster = cluster or MemoryCluster()
        self._topology = app.topology()
        self._read_to: dict[Partition, int] = {}
        self._create_topics(partitions, topics or {})
        try:
            self._start()
        except BaseException:
            self._held.close()
            raise

    def _create_topics(self, partitions: int, topics: dict[str, int]) -> None:
        internal = dict(self._topology.repartitions)
        for sub in self._topology.subtopologies():
            for topic in sub.source_topics:
                if topic not in internal:
                    self.cluster.create(topic, topics.get(topic, partitions))
        existing = self.cluster.partition_counts()
        for spec in topics_to_make(self._topology, existing, self._app.dead_letter_topic):
            self.cluster.create(spec.name, topics.get(spec.name, spec.partitions))

    def _start(self) -> None:
        """As a worker starts: fence, read committed offsets, restore, then work."""
        self._storage = Storage(self._state_dir, durable=False)
        self._output = MemoryOutput(self.cluster)
        self.engine = Engine(
            self._topology,
            self._output,
            self._storage,
            self.clock,
            dead_letter_topic=self._app.dead_letter_topic,
        )
        self.restorer = Restorer(MemoryChangelogs(self.cluster), self._topology)
        ids: dict[TaskId, None] = {}
        for topic in self.engine.source_topics:
            for number in range(self.cluster.partition_count(topic)):
                ids[self.engine.task_id(Partition(topic, number))] = None
        try:
            tasks = [self.engine.open_task(task_id, self.cluster.committed) for task_id in ids]
        except StreamsError:
            self._storage.close()
            raise
        self.restorer.add(tasks, self.clock.now_ms())
        while self.restorer.busy:
            self.restorer.poll(0)
        self._reading = {
            partition: max(0, self.engine.next_offset(partition))
            for task_id in ids
            for partition in self.engine.sources(task_id)
            if partition.partition < self.cluster.partition_count(partition.topic)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def pipe(
        self,
        topic: str,
        key: Any,
        value: Any,
        *,
        timestamp_ms: int = 0,
        partition: int | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Append a record to a topic. Bytes are written as they are, keys as "str", values as
        "json"."""
        raw_key = key if key is None or isinstance(key, bytes) else STR.serialize(key)
        raw = value if value is None or isinstance(value, bytes) else JSON.serialize(value)
        at = self.cluster.partition_of(topic, raw_key)
        if partition is not None:
            at = Partition(topic, partition)
        self.cluster.append(at, raw_key, raw, timestamp_ms, headers)

    def step(self, records: int = _ALL) -> int:
        """Process up to so many records of each partition, without a commit; how many it were."""
        count = 0
        for partition in self._reading:
            batch: list[MemoryMessage] = []
            for message in self.cluster.read(partition, self._reading[partition]):
                if len(batch) == records:
                    break
                batch.append(message)
            if batch:
                self.engine.process(partition, batch)
                self._reading[partition] = batch[-1].offset() + 1
                count += len(batch)
        self.engine.punctuate()
        return count

    def commit(self) -> None:
        """Commit what was processed."""
        self.engine.commit()

    def run(self, batch: int = _ALL) -> None:
        """Process and commit until nothing is left."""
        while self.step(batch) or self.engine.in_transaction:
            self.commit()

    def abort(self) -> None:
        """Abort the open transaction: what it did will be done again."""
        self.engine.rollback()
        for partition in self._reading:
            self._reading[partition] = max(0, self.engine.next_offset(partition))

    def crash(self) -> None:
        """Lose everything in memory, as with kill -9, and start again."""
        self._storage.close()
        transaction = self._output.transaction
        if transaction is not None and transaction.outcome is Outcome.OPEN:
            self.cluster.end(transaction, Outcome.ABORTED)  # the successor fences the dead
        self._start()

    def lose_disk(self) -> None:
        """Crash, and find an empty state directory: all state comes from the changelogs."""
        self._storage.close()
        for path in sorted((self._state_dir / "state").iterdir()):
            path.unlink()
        self._storage = Storage(self._state_dir, durable=False)
        self.crash()

    def advance(self, duration_ms: int) -> None:
        """Let time by the clock pass, and close what it closes."""
        self.clock.advance(duration_ms)
        self.engine.punctuate()
        self.commit()

    def read(
        self, topic: str, *, key_serde: str | Serde = "str", value_serde: str | Serde = "json"
    ) -> list[Output]:
        """The committed records of a topic that `read` has not given yet, by partition."""
        keys, values = serde_of(key_serde), serde_of(value_serde)
        found = []
        for number in range(self.cluster.partition_count(topic)):
            partition = Partition(topic, number)
            for message in self.cluster.read(partition, self._read_to.get(partition, 0)):
                self._read_to[partition] = message.offset() + 1
                key, value = message.key(), message.value()
                found.append(
                    Output(
                        None if key is None else keys.deserialize(key),
                        None if value is None else values.deserialize(value),
                        message.timestamp()[1],
                        number,
                        tuple(message.headers() or ()),
                    )
                )
        return found

    def query(self, store: str) -> Query:
        """The committed state of a store, all partitions."""
        return query_tasks(self._topology, self.engine.tasks, store)

    def metrics(self) -> dict[str, int]:
        """Counters of what is committed."""
        return dict(self.engine.totals)

    def close(self) -> None:
        """Let go of the state directory."""
        self._storage.close()
        self._held.close()
