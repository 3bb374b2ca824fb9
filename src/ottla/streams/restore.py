"""Restoring a store: reading what its changelog has beyond the state on the disk.

Where to stop. All that a transaction wrote before the committed offsets were read must be seen, and
its markers reach its partitions one by one: the last stable offset of the changelog may still lie
before data of a transaction whose offsets are committed already. So the target is the
high watermark, asked for after the committed offsets, and the reader waits until the last stable
offset has passed it. Transactions that are open there belong to the worker's own predecessor, which
was fenced before, or to a worker that lost the partition; that one is refused at step 4 of its
commit, or its transaction times out.

A changelog may end in markers, or in records of an aborted transaction; no record will ever be read
at its last offset. The reader's own event for the end of the partition counts, not a position.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ottla.client import Message, Partition
from ottla.streams.errors import StateMismatch
from ottla.streams.state import Store
from ottla.streams.task import Task, TaskId
from ottla.streams.topology import Topology

# A tombstone is kept in a compacted changelog for this long: state older than that may still have
# keys whose deletion can no longer be read, and is restored from the start.
TOMBSTONES_KEPT_MS = 7 * 24 * 3600 * 1000
SAVE_EVERY_KEYS = 100_000

_log = logging.getLogger(__name__)


class Changelogs(Protocol):
    """A reader of changelog partitions, read_committed."""

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Log start and high watermark."""
        ...

    def read_from(self, offsets: Mapping[Partition, int]) -> None:
        """Read exactly these partitions from these offsets."""
        ...

    def poll(self, timeout_s: float) -> Sequence[tuple[Partition, Sequence[Message]]]: ...

    def reached(self, partition: Partition) -> int:
        """Everything before this offset was read, or is nothing that can be read."""
        ...


class Restorer:
    """Brings the stores of tasks up to the ends of their changelogs, step by step."""

    def __init__(self, changelogs: Changelogs, topology: Topology) -> None:
        self._changelogs = changelogs
        self._topology = topology
        self._stores: dict[Partition, tuple[Task, Store, int]] = {}
        self.restored = 0

    def add(self, tasks: Iterable[Task], now_ms: int) -> list[Task]:
        """Begin with these tasks; those that have nothing to restore.

        Raises StateMismatch when a store on disk is ahead of its changelog.
        """
        tasks = list(tasks)
        stores = {
            Partition(self._topology.changelog_topic(store.spec.name), store.partition): (
                task,
                store,
            )
            for task in tasks
            for store in task.stores.values()
        }
        for partition, (start, end) in self._changelogs.bounds(stores).items():
            task, store = stores[partition]
            _check(store, partition, start, end, now_ms)
            if store.changelog_offset < start:
                store.changelog_offset = start
            if store.changelog_offset < end:
                self._stores[partition] = (task, store, end)
        self._read()
        waiting = self._waiting()
        return [task for task in tasks if task.id not in waiting]

    def remove(self, tasks: Iterable[Task]) -> None:
        """Forget these tasks: they were taken away."""
        ids = {task.id for task in tasks}
        left = {each: entry for each, entry in self._stores.items() if entry[0].id not in ids}
        if len(left) != len(self._stores):
            self._stores = left
            self._read()

    @property
    def busy(self) -> bool:
        return bool(self._stores)

    def restoring(self, task_id: TaskId) -> bool:
        """Whether a task is not ready yet."""
        return any(task.id == task_id for task, _, _ in self._stores.values())

    def poll(self, timeout_s: float) -> list[Task]:
        """Read some more; the tasks that are ready now."""
        for partition, messages in self._changelogs.poll(timeout_s):
            entry = self._stores.get(partition)
            if entry is None:
                continue
            store = entry[1]
            for message in messages:
                store.restore(message.key() or b"", message.value(), message.offset() + 1)
            self.restored += len(messages)
        ready = []
        for partition, (task, store, end) in list(self._stores.items()):
            reached = self._changelogs.reached(partition)
            if reached >= end:
                store.changelog_offset = max(store.changelog_offset, reached)
                del self._stores[partition]
                if task.id not in self._waiting():
                    ready.append(task)
        if ready:
            self._read()
        return ready

    def large(self) -> list[Task]:
        """Tasks with so much restored state that it should be saved now."""
        return [
            task
            for task, store, _ in self._stores.values()
            if store.unsaved_count >= SAVE_EVERY_KEYS
        ]

    def _waiting(self) -> set[object]:
        return {task.id for task, _, _ in self._stores.values()}

    def _read(self) -> None:
        self._changelogs.read_from(
            {partition: store.changelog_offset for partition, (_, store, _) in self._stores.items()}
        )


def _check(store: Store, partition: Partition, start: int, end: int, now_ms: int) -> None:
    """Decide whether the state on the disk can be gone on from."""
    if store.changelog_offset > end:
        raise StateMismatch(
            f"the state of store {store.spec.name!r} reaches to offset {store.changelog_offset} of "
            f"{partition}, which ends at {end}: the topic was made anew, or this is another "
            "cluster. Start with an empty state_dir if the changelog is the truth"
        )
    if store.fresh:
        return
    if store.changelog_offset < start:
        _log.warning(
            "%s begins at %d, after the local state of store %r (%d): that store is rebuilt",
            partition,
            start,
            store.spec.name,
            store.changelog_offset,
        )
        store.start_anew()
    elif now_ms - store.meta.saved_at_ms > TOMBSTONES_KEPT_MS:
        _log.warning("the local state of %s is older than its tombstones: rebuilt", partition)
        store.start_anew()
