"""The store: one journal, all partitions, and the way through a group commit.

An operation fills a `Frame` with batches and records and appends it. `begin_sync` takes everything
that was appended, as a ticket whose `run` writes the journal and syncs it, in a thread of the
server; `complete_sync` then moves the durable position and the high watermarks. One ticket is under
way at a time; what arrives meanwhile shares the next one. Segments are written with a ticket now
and then, for nothing but reads depends on them.

When the journal has grown by `checkpoint_bytes` the ticket also begins a new journal file, and a
checkpoint of the state at that very position follows: `begin_checkpoint`, its `run` in another
thread, `complete_checkpoint`. Directories of deleted topics go only after the checkpoint that no
longer knows them, for until then a recovery still looks for them.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ottla.log.checkpoint import Checkpoint, state_of, write_checkpoint
from ottla.log.config import log_config
from ottla.log.journal import Journal, JournalWrite, remove_files_before
from ottla.log.partition import Partition, PartitionEnd, PartitionName
from ottla.log.retention import LogStartRecord
from ottla.log.segment import Segment, SegmentStore, SegmentWrite
from ottla.ports.disk import Buffer, Disk
from ottla.ports.failpoints import failpoint

BATCH, RECORD = 1, 2
ENTRY = struct.Struct(">BI")  # kind, length of what follows
BATCH_ENTRY = struct.Struct(">BI16siq")  # and topic id, partition, time of the append
_BATCH_ENTRY_REST_BYTES = BATCH_ENTRY.size - ENTRY.size
CHECKPOINT_BYTES = 134_217_728
JOURNAL_ALLOCATE_BYTES = 8_388_608
SEGMENT_WRITE_BYTES = 1_048_576  # so much may wait to be written to all segments together


class Frame:
    """The entries of one operation: all of them survive a crash, or none."""

    def __init__(self) -> None:
        self.entries: list[Buffer] = []
        self.partitions: list[Partition] = []

    def add_batch(self, partition: Partition, batch: Sequence[Buffer], now_ms: int) -> None:
        """A batch that `partition` has appended."""
        size_bytes = _BATCH_ENTRY_REST_BYTES + sum(map(len, batch))
        topic_id = partition.topic_id_bytes
        entry = BATCH_ENTRY.pack(BATCH, size_bytes, topic_id, partition.name.index, now_ms)
        self.entries.append(entry)
        self.entries.extend(batch)
        self.partitions.append(partition)

    def add_record(self, record: bytes) -> None:
        """An encoded record of the catalog or a coordinator."""
        self.entries.append(ENTRY.pack(RECORD, len(record)))
        self.entries.append(record)


@dataclass(frozen=True, slots=True)
class SyncTicket:
    """One group commit."""

    writes: list[SegmentWrite]
    written: list[Partition]  # whose writes these are
    journal_write: JournalWrite
    ends: list[tuple[Partition, PartitionEnd]]
    checkpoint: "CheckpointTicket | None"  # to run once this has completed

    @property
    def syncs(self) -> bool:
        """It waits for the disk, and does not only write."""
        return self.journal_write.makes_durable

    def run(self) -> None:
        """Write and sync; for a worker thread. Raises StorageFailed: then stop the broker."""
        for write in self.writes:
            write.run()
        self.journal_write.run()


@dataclass(frozen=True, slots=True)
class CheckpointTicket:
    """One checkpoint."""

    disk: Disk
    stores: list[SegmentStore]
    directories: list[str]
    checkpoint: Checkpoint
    doomed: list[Partition]
    doomed_segments: list[Segment]

    def run(self) -> None:
        """Sync the segments, write the checkpoint, remove what it has made needless."""
        for store in self.stores:
            store.run()
        for directory in self.directories:
            self.disk.sync_directory(directory)
        failpoint("checkpoint.segments_synced")
        write_checkpoint(self.disk, self.checkpoint)
        failpoint("checkpoint.written")
        remove_files_before(self.disk, self.checkpoint.journal_position)
        for segment in self.doomed_segments:
            segment.remove()
        for partition in self.doomed:
            partition.close()
            if self.disk.exists(partition.name.directory):
                self.disk.remove(partition.name.directory)


class Store:
    """Journal and partitions of one data directory."""

    def __init__(
        self,
        disk: Disk,
        *,
        sync: bool = True,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        journal_allocate_bytes: int = JOURNAL_ALLOCATE_BYTES,
        segment_bytes: int | None = None,
    ) -> None:
        """A store that `recovery.recover` opens. `sync=False` is durability "os"."""
        self.disk = disk
        self.sync = sync
        self.journal_allocate_bytes = journal_allocate_bytes
        self.partitions: dict[UUID, list[Partition]] = {}
        self.journal: Journal
        self._checkpoint_bytes = checkpoint_bytes
        self._segment_bytes = segment_bytes
        self._dirty: dict[int, Partition] = {}  # appended to since the last sync began
        self._unwritten: dict[int, Partition] = {}  # with batches that wait for their segments
        self._written_position = 0  # of the journal, when the segments were last written
        self._doomed: list[Partition] = []
        self._checkpoint_due = False
        self._checkpoint_busy = False
        self._checkpoint_ready: CheckpointTicket | None = None

    # -- topics -------------------------------------------------------------------------------

    def add_partitions(self, topic: str, topic_id: UUID, count: int) -> list[Partition]:
        """Partitions of a topic, up to `count` in all; their files are made when written to."""
        partitions = self.partitions.setdefault(topic_id, [])
        for index in range(len(partitions), count):
            name = PartitionName(topic, topic_id, index)
            partitions.append(Partition(self.disk, name, self._segment_bytes))
        return partitions

    def configure(self, partitions: Sequence[Partition], configs: Mapping[str, str]) -> None:
        """A topic's partitions have these configs from here on."""
        config = log_config(configs, self._segment_bytes)
        for partition in partitions:
            partition.use(config)

    def drop_partitions(self, topic_id: UUID) -> None:
        """The topic was deleted."""
        for partition in self.partitions.pop(topic_id, []):
            self._dirty.pop(id(partition), None)
            self._unwritten.pop(id(partition), None)
            self._doomed.append(partition)

    def raise_log_start(self, record: LogStartRecord) -> None:
        """What a partition held below an offset is gone."""
        partition = self.partitions[UUID(bytes=record.topic_id)][record.index]
        partition.raise_log_start(record.offset)

    # -- group commit -------------------------------------------------------------------------

    def append(self, frame: Frame) -> None:
        """Append what one operation did. It is durable after the next sync."""
        self.journal.append(frame.entries)
        for partition in frame.partitions:
            self._dirty[id(partition)] = self._unwritten[id(partition)] = partition

    @property
    def write_wanted(self) -> bool:
        """There is something that the journal's file does not hold."""
        return self.journal.has_pending

    @property
    def sync_wanted(self) -> bool:
        """There is something that is not durable, or a checkpoint is due."""
        journal = self.journal
        return journal.durable_position != journal.written_position or (
            self._checkpoint_due and not self._checkpoint_busy
        )

    def begin_write(self) -> SyncTicket:
        """Take everything appended so far, to be written to the journal's file and not synced."""
        return SyncTicket([], [], self.journal.take(roll=False, sync=False), [], None)

    def begin_sync(self, snapshot: Callable[[], list[bytes]]) -> SyncTicket:
        """Take everything that is not durable, to be written and synced.

        `snapshot` gives the encoded records of the present state, if a checkpoint is due.
        """
        roll = not self._checkpoint_busy and (
            self._checkpoint_due or self.journal.file_bytes >= self._checkpoint_bytes
        )
        dirty, self._dirty = list(self._dirty.values()), {}
        written = self._take_unwritten(at_once=roll)
        writes = [write for partition in written for write in partition.take_writes()]
        ends = [(partition, partition.end()) for partition in dirty]
        checkpoint = None
        if roll:
            self._checkpoint_due, self._checkpoint_busy = False, True
            checkpoint = self.take_checkpoint(self.journal.written_position, snapshot())
        return SyncTicket(writes, written, self.journal.take(roll=roll), ends, checkpoint)

    def _take_unwritten(self, *, at_once: bool) -> list[Partition]:
        """The partitions to write to their segments now: none while little waits.

        Small batches are put together so, and most of a transaction's cost in system calls saved.
        """
        position = self.journal.written_position
        if not at_once and position - self._written_position < SEGMENT_WRITE_BYTES:
            return []
        self._written_position = position
        unwritten, self._unwritten = list(self._unwritten.values()), {}
        return unwritten

    def complete_sync(self, ticket: SyncTicket) -> list[Partition]:
        """What `ticket` held is durable. Returns the partitions whose high watermark rose."""
        self.journal.complete(ticket.journal_write)
        for partition in ticket.written:
            partition.written()
        for partition, end in ticket.ends:
            partition.advance(end)
        if ticket.checkpoint is not None:
            self._checkpoint_ready = ticket.checkpoint
        return [partition for partition, _ in ticket.ends]

    # -- checkpoints --------------------------------------------------------------------------

    def request_checkpoint(self) -> None:
        """Let the next sync begin a checkpoint, however small the journal is."""
        self._checkpoint_due = True

    def begin_checkpoint(self) -> CheckpointTicket | None:
        """The checkpoint that the last completed sync has made possible; given out once."""
        ticket, self._checkpoint_ready = self._checkpoint_ready, None
        return ticket

    def complete_checkpoint(self) -> None:
        """The checkpoint has run: the next one may come."""
        self._checkpoint_busy = False

    def take_checkpoint(self, position: int, records: list[bytes]) -> CheckpointTicket:
        """A checkpoint of the state as it is now, with the journal's next file at `position`."""
        partitions = [one for topic in self.partitions.values() for one in topic]
        stores = [store for one in partitions for store in one.take_stores()]
        directories = {store.directory: None for store in stores}
        if directories:
            directories["topics"] = None
        doomed = [one for one in self._doomed if not one.compacting]
        self._doomed = [one for one in self._doomed if one.compacting]
        return CheckpointTicket(
            self.disk,
            stores,
            list(directories),
            Checkpoint(position, records, [state_of(partition) for partition in partitions]),
            doomed,
            [segment for one in partitions for segment in one.take_doomed()],
        )

    def close(self) -> None:
        """Close all files."""
        self.journal.close()
        for partitions in self.partitions.values():
            for partition in partitions:
                partition.close()
