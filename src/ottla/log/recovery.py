"""Recovery: the last checkpoint, then the journal, then a new checkpoint.

1. Read the checkpoint; give its records to the broker, which makes the topics; cut the segments
   back to the lengths in it.
2. Replay the frames of the journal through the same code that made them. A torn tail is cut, a
   damaged frame that had been acknowledged is refused.
3. Write what was replayed into the segments and sync them; begin a new journal file where the good
   frames end; write a checkpoint there; remove the old journal, the directories of no topic, and
   the segments that the checkpoint does not name: retention or compaction had let them go.

A crash at any step leaves what the next recovery needs: nothing is removed before the new
checkpoint is durable, and everything before that is done again with the same result. The time it
takes is bounded by the checkpoint interval, not by the size of the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ottla.log.checkpoint import PATH, read_checkpoint, restore_partition, topic_id_of
from ottla.log.journal import DIRECTORY, Journal, Scan, file_positions, read_frames
from ottla.log.store import BATCH, BATCH_ENTRY, ENTRY, RECORD, Store
from ottla.ports.errors import DataDamaged
from ottla.wire.records import read_batch_header

_WRITE_BYTES = 8_388_608  # so much is replayed before it is written, to bound the memory


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovery found."""

    frames: int
    torn_bytes: int
    partitions: int


def recover(
    store: Store, apply: Callable[[bytes], None], snapshot: Callable[[], list[bytes]]
) -> Recovered:
    """Open `store`: `apply` gets each record in order, `snapshot` gives those of the end state.

    Raises DataDamaged when the directory must not be read as it is, StorageFailed when the disk
    refuses.
    """
    disk = store.disk
    disk.make_directory(DIRECTORY)
    disk.make_directory("topics")
    disk.sync_directory("")
    checkpoint = read_checkpoint(disk)
    position = 0
    if checkpoint is not None:
        position = checkpoint.journal_position
        for record in checkpoint.records:
            apply(record)
        for state in checkpoint.partitions:
            partition = store.partitions[topic_id_of(state)][state.index]
            restore_partition(partition, state)
    scan = Scan(position)
    _replay_all(store, scan, apply, is_new=checkpoint is None)
    _settle(store, scan.end_position, snapshot)
    return Recovered(scan.frames, scan.torn_bytes, sum(map(len, store.partitions.values())))


def _replay_all(store: Store, scan: Scan, apply: Callable[[bytes], None], *, is_new: bool) -> None:
    """Replay the journal from the checkpoint on; `scan` tells where its good frames end."""
    disk = store.disk
    if is_new and not file_positions(disk):
        if disk.list("topics"):
            raise DataDamaged(
                f"{disk.describe('')} holds topics, and neither a checkpoint nor a journal: "
                "they were removed. Restore the directory from a copy"
            )
        return  # the first start
    if is_new and file_positions(disk)[0] != 0:
        raise DataDamaged(f"{disk.describe(PATH)} is missing: the journal goes on from it")
    unwritten_bytes = 0
    for body in read_frames(disk, scan.end_position, scan):
        _replay(store, body, apply)
        unwritten_bytes += len(body)
        if unwritten_bytes >= _WRITE_BYTES:
            _write_segments(store)
            unwritten_bytes = 0


def _replay(store: Store, body: memoryview, apply: Callable[[bytes], None]) -> None:
    """One frame, entry by entry."""
    at = 0
    while at < len(body):
        kind, length = ENTRY.unpack_from(body, at)
        end = at + ENTRY.size + length
        if kind == BATCH:
            _, _, topic_id, index, now_ms = BATCH_ENTRY.unpack_from(body, at)
            batch = body[at + BATCH_ENTRY.size : end]
            partition = store.partitions[UUID(bytes=topic_id)][index]
            header = read_batch_header(batch)
            partition.replay([bytes(batch)], header, header.base_offset, now_ms)
        elif kind == RECORD:
            apply(bytes(body[at + ENTRY.size : end]))
        else:
            raise DataDamaged(f"the journal has an entry of unknown kind {kind}: it is newer")
        at = end


def _write_segments(store: Store) -> None:
    for partitions in store.partitions.values():
        for partition in partitions:
            for write in partition.take_writes():
                write.run()
            partition.written()


def _settle(store: Store, end_position: int, snapshot: Callable[[], list[bytes]]) -> None:
    """Make what was replayed durable, and what led to it needless."""
    partitions = [one for topic in store.partitions.values() for one in topic]
    _write_segments(store)
    for partition in partitions:
        partition.advance(partition.end())
    store.journal = Journal(
        store.disk,
        end_position,
        sync=store.sync,
        allocate_bytes=store.journal_allocate_bytes,
    )
    store.take_checkpoint(end_position, snapshot()).run()
    known = {partition.name.directory.rpartition("/")[2]: partition for partition in partitions}
    for name in store.disk.list("topics"):
        if name not in known:
            store.disk.remove(f"topics/{name}")
        else:
            known[name].remove_leftovers()
