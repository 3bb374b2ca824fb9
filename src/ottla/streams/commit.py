"""The commit protocol: state, output and input position move together, or not at all (P7).

    1 rows        what the sinks still hold back goes into the transaction
    2 changelog   each key that changed, once, with its last value
    3 flush       everything is acknowledged by the broker
    4 offsets     the positions, with the group's generation (KIP-447): a member that the group has
                  left behind is refused here, and nothing of this transaction is ever read
    5 commit      from here on it is so, for everybody at once
    6 apply       the writes of this transaction become the state of the stores in memory
    7 save        now and then: state, changelog offset and clocks go to the disk in one write

A failure before 5 aborts: the writes are dropped, the input is read again. A failure in 5 may leave
the outcome unknown; then only the committed offsets, read after a new producer with the same
transactional.id has started, say what happened. A crash after 5 leaves a disk that is behind: its
changelog offset says from where the changelog has the rest. The disk is never ahead of the
changelog, so no crash makes it necessary to wipe it.

The metadata of each committed offset carries the clocks and the fingerprints of the stores. Both
must be found again where there is no local state.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ottla.client import Partition, Position
from ottla.ports.failpoints import failpoint
from ottla.streams.storage import Storage, StoreChanges
from ottla.streams.task import HeadedRow, Row, Task
from ottla.streams.topology import Topology

STEPS = ("1.rows", "2.changelog", "3.flush", "4.offsets", "5.commit", "6.apply", "7.save", "8.end")


class Output(Protocol):
    """A transaction to write into. Everything may raise a ClientError."""

    def begin(self) -> None: ...
    def send_rows(self, topic: str, rows: Sequence[Row]) -> None: ...
    def send_headed(self, row: HeadedRow) -> None: ...
    def send_changelog(
        self,
        partition: Partition,
        changes: list[tuple[bytes, bytes | None]],
        last_offset: Callable[[int], None],
    ) -> None: ...
    def flush(self) -> None: ...
    def send_offsets(self, offsets: Mapping[Partition, Position]) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class OffsetMetadata(msgspec.Struct, frozen=True):
    """What is stored with a committed offset: the clocks, and store name -> fingerprint."""

    stream_time_ms: int = -1
    wall_time_ms: int = -1
    stores: dict[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> "OffsetMetadata":
        """From the text of an offset; empty for one that was committed by something else."""
        try:
            found: OffsetMetadata = msgspec.json.decode(text, type=cls)
            return found
        except (msgspec.DecodeError, msgspec.ValidationError):
            return cls()


def commit(tasks: Iterable[Task], output: Output, topology: Topology) -> None:
    """Steps 1 to 6 for all tasks of a worker, in the transaction that is open.

    Raises ClientError as `output` does; the caller aborts, unless the outcome is unknown.
    """
    touched = [task for task in tasks if task.touched]
    failpoint("commit.1.rows")
    for task in touched:
        emit(task, output)
        for topic, rows in task.take_latest():
            output.send_rows(topic, rows)
            task.counters["records_out"] += len(rows)
    failpoint("commit.2.changelog")
    for task in touched:
        for store in task.stores.values():
            changes = store.changes()
            if changes:
                topic = topology.changelog_topic(store.spec.name)
                partition = Partition(topic, store.partition)
                output.send_changelog(partition, changes, store.changelog_written)
    failpoint("commit.3.flush")
    output.flush()
    failpoint("commit.4.offsets")
    output.send_offsets(_positions(touched))
    failpoint("commit.5.commit")
    output.commit()
    failpoint("commit.6.apply")
    for task in touched:
        task.committed()


def emit(task: Task, output: Output) -> None:
    """Send what the loop has put out and nothing can replace any more."""
    for topic, rows in task.take_rows():
        output.send_rows(topic, rows)
        task.counters["records_out"] += len(rows)
    for row in task.take_headed():
        output.send_headed(row)
        task.counters["records_out"] += 1


def save(tasks: Iterable[Task], storage: Storage, now_ms: int) -> None:
    """Step 7. Raises StorageFailed; what is committed stays in Kafka and is restored from there."""
    failpoint("commit.7.save")
    stores = [(task, store) for task in tasks for store in task.stores.values()]
    metas = [task.meta(store, now_ms) for task, store in stores]
    changes: list[StoreChanges] = [
        store.unsaved_changes(meta) for (_, store), meta in zip(stores, metas, strict=True)
    ]
    if changes:
        storage.save(changes)
    for (_, store), meta in zip(stores, metas, strict=True):
        store.saved(meta)
    failpoint("commit.8.end")


def _positions(tasks: Iterable[Task]) -> dict[Partition, Position]:
    positions = {}
    for task in tasks:
        fingerprints = {name: store.spec.fingerprint for name, store in task.stores.items()}
        metadata = OffsetMetadata(task.stream_time_ms, task.wall_time_ms, fingerprints)
        text = msgspec.json.encode(metadata).decode()
        for topic, offset in task.next_offsets().items():
            positions[Partition(topic, task.id.partition)] = Position(offset, text)
    return positions
