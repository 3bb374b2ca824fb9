"""The engine of a worker: its tasks, the open transaction, and when to commit and to save.

It knows no client. What it writes goes into an `Output`, what it is given are messages; a worker
(`ottla.streams.worker`) puts it between Kafka's consumer and producer, the test driver
(`ottla.streams.testing`) between logs in memory. A transaction begins with the first record after
the last commit, and holds all tasks of the worker.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ottla.client import EARLIEST, Message, Partition, Position
from ottla.ports.clock import Clock
from ottla.ports.invariants import invariant
from ottla.streams.commit import OffsetMetadata, Output, commit, emit, save
from ottla.streams.compiler import Program, compile_subtopology
from ottla.streams.errors import StateMismatch
from ottla.streams.state import Store
from ottla.streams.storage import Storage
from ottla.streams.task import Task, TaskId
from ottla.streams.topology import SubTopology, Topology

SAVE_INTERVAL_MS = 1_000
SAVE_KEYS = 200_000  # save earlier when so many keys wait for it

_log = logging.getLogger(__name__)


class Engine:
    """Tasks and their transaction.

    Args: `dead_letter_topic` turns dead letters on; without it a record that fails stops the work.
    """

    def __init__(
        self,
        topology: Topology,
        output: Output,
        storage: Storage,
        clock: Clock,
        *,
        dead_letter_topic: str | None = None,
    ) -> None:
        self.topology = topology
        self.output = output
        self.storage = storage
        self.tasks: dict[TaskId, Task] = {}
        self.totals: Counter[str] = Counter()
        self.in_transaction = False
        self.began_at_ms = 0
        self._clock = clock
        self._dead_letter_topic = dead_letter_topic
        self._subs = topology.subtopologies()
        self._programs: list[Program] = [
            compile_subtopology(topology, sub, rollback=dead_letter_topic is not None)
            for sub in self._subs
        ]
        self._routes: dict[str, SubTopology] = {
            topic: sub for sub in self._subs for topic in sub.source_topics
        }
        self._saved_at_ms = clock.monotonic_ms()

    @property
    def source_topics(self) -> list[str]:
        return list(self._routes)

    def task_id(self, partition: Partition) -> TaskId:
        """The task that reads a partition."""
        return TaskId(self._routes[partition.topic].id, partition.partition)

    def sources(self, task_id: TaskId) -> list[Partition]:
        """The partitions that a task reads."""
        topics = self._subs[task_id.subtopology].source_topics
        return [Partition(topic, task_id.partition) for topic in topics]

    def open_task(self, task_id: TaskId, committed: Mapping[Partition, Position]) -> Task:
        """Make a task that goes on from committed offsets. Its stores are not restored yet.

        Raises StateMismatch when the state belongs to another topology.
        """
        sub = self._subs[task_id.subtopology]
        program = self._programs[task_id.subtopology]
        task = Task(
            sub, task_id.partition, program, self.storage, self._dead_letter_topic, self.totals
        )
        found = {each: committed[each] for each in self.sources(task_id) if each in committed}
        metadata = [OffsetMetadata.parse(position.metadata) for position in found.values()]
        for store in task.stores.values():
            _check_layout(store, [each.stores.get(store.spec.name) for each in metadata])
        saved = [store.meta for store in task.stores.values()]
        task.begin_at(
            {each.topic: at.offset for each, at in found.items() if at.offset >= 0},
            max([-1, *(m.stream_time_ms for m in metadata), *(m.stream_time_ms for m in saved)]),
            max([-1, *(m.wall_time_ms for m in metadata), *(m.wall_time_ms for m in saved)]),
        )
        self.tasks[task_id] = task
        return task

    def process(self, partition: Partition, messages: Sequence[Message]) -> None:
        """Run records through their task, into the open transaction.

        Raises StepFailed when a record fails and there are no dead letters, and ClientError.
        """
        task = self.tasks[self.task_id(partition)]
        self._begin()
        task.process(partition.topic, messages, self._clock.now_ms())
        emit(task, self.output)

    def punctuate(self) -> None:
        """Close the windows by processing time that are over."""
        now_ms = self._clock.now_ms()
        for task in self.tasks.values():
            if task.over(now_ms):
                self._begin()
                task.punctuate(now_ms)
                emit(task, self.output)

    def _begin(self) -> None:
        if not self.in_transaction:
            self.output.begin()
            self.in_transaction = True
            self.began_at_ms = self._clock.monotonic_ms()

    def commit(self) -> None:
        """Commit what is open, if anything is; save when it is time to.

        Raises ClientError: then `rollback`, or after OutcomeUnknown `forget`, must follow.
        """
        if not self.in_transaction:
            return
        commit(self.tasks.values(), self.output, self.topology)
        self.in_transaction = False
        self.totals["commits"] += 1
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._saved_at_ms >= SAVE_INTERVAL_MS or self._unsaved() >= SAVE_KEYS:
            self.save()

    def save(self, tasks: Iterable[Task] | None = None) -> None:
        """Write committed state to the disk."""
        tasks = self.tasks.values() if tasks is None else tasks
        save(tasks, self.storage, self._clock.now_ms())
        self._saved_at_ms = self._clock.monotonic_ms()

    def rollback(self) -> None:
        """Abort what is open: state and positions are those of the last commit again.

        Raises ClientError when the abort fails; the tasks are rolled back all the same.
        """
        was_open = self.in_transaction
        self.forget()
        if was_open:
            self.totals["aborts"] += 1
            self.output.abort()

    def forget(self) -> None:
        """Roll the tasks back without telling the broker."""
        self.in_transaction = False
        for task in self.tasks.values():
            task.rollback()

    def close_tasks(self, task_ids: Iterable[TaskId]) -> None:
        """Let tasks go, with nothing open: what is committed goes to the disk."""
        invariant(not self.in_transaction, "tasks are let go between transactions")
        closing = [self.tasks.pop(each) for each in task_ids if each in self.tasks]
        if closing:
            save(closing, self.storage, self._clock.now_ms())

    def next_offset(self, partition: Partition) -> int:
        """Where to read on: at the beginning, if nothing was ever committed."""
        task = self.tasks[self.task_id(partition)]
        return task.next_offsets().get(partition.topic, EARLIEST)

    def next_offsets(self) -> dict[Partition, int]:
        """Where the tasks read on; right after a commit, what it has committed."""
        return {
            Partition(topic, task_id.partition): offset
            for task_id, task in self.tasks.items()
            for topic, offset in task.next_offsets().items()
        }

    def _unsaved(self) -> int:
        return sum(
            store.unsaved_count for task in self.tasks.values() for store in task.stores.values()
        )


def _check_layout(store: Store, fingerprints: Iterable[str | None]) -> None:
    """Refuse state that was written by another definition of the same name."""
    wanted = store.spec.fingerprint
    for found in (store.meta.fingerprint, *fingerprints):
        if found is not None and found != wanted:
            raise StateMismatch(
                f"store {store.spec.name!r} holds the state of another definition; it is now "
                f"{store.spec.layout}. A changed window, aggregation or key serde needs another "
                "name, or an application reset: the old state would be misread"
            )
