"""The checkpoint: the point from which recovery replays the journal.

It holds the journal position, the records that rebuild the catalog and the coordinators, and of
each partition the lengths of its files and its producer state with all retained batches. It is one
small file, replaced by write, sync, rename and directory sync: a crash leaves the old or the new.
Everything that a checkpoint counts on was synced before it is written.
"""

import struct
from uuid import UUID

import msgspec
from crc32c import crc32c

from ottla.log.partition import Partition
from ottla.log.producers import BatchMetadata, ProducerEntry
from ottla.log.segment import SegmentState
from ottla.ports.disk import Disk, write_small_file
from ottla.ports.errors import DataDamaged

PATH = "checkpoint"
_HEADER = struct.Struct(">8sII")  # magic, version, CRC-32C of the content
_MAGIC = b"OTTLACKP"
_VERSION = 1


class ProducerEntryState(msgspec.Struct, frozen=True, array_like=True):
    """A producer's entry as it is stored."""

    producer_id: int
    epoch: int
    coordinator_epoch: int
    last_append_ms: int
    transaction_first_offset: int | None
    batches: list[BatchMetadata]


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """A partition as it is stored."""

    topic_id: bytes
    index: int
    log_start_offset: int
    next_offset: int
    segments: list[SegmentState]
    producers: list[ProducerEntryState]
    first_dirty_offset: int = 0


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """All of the broker's state at a journal position."""

    journal_position: int
    records: list[bytes]
    partitions: list[PartitionState]


def state_of(partition: Partition) -> PartitionState:
    """What a checkpoint keeps of a partition."""
    return PartitionState(
        partition.name.topic_id.bytes,
        partition.name.index,
        partition.log_start_offset,
        partition.next_offset,
        partition.segment_states(),
        [
            ProducerEntryState(
                entry.producer_id,
                entry.epoch,
                entry.coordinator_epoch,
                entry.last_append_ms,
                entry.transaction_first_offset,
                list(entry.batches),
            )
            for entry in partition.producers.entries.values()
        ],
        partition.first_dirty_offset,
    )


def restore_partition(partition: Partition, state: PartitionState) -> None:
    """Make a new partition equal to what was stored. Raises DataDamaged."""
    partition.log_start_offset = state.log_start_offset
    partition.first_dirty_offset = state.first_dirty_offset
    partition.next_offset = partition.high_watermark = state.next_offset
    open_transactions = []
    for stored in state.producers:
        entry = ProducerEntry(
            stored.producer_id,
            stored.epoch,
            stored.coordinator_epoch,
            stored.last_append_ms,
            stored.transaction_first_offset,
        )
        entry.batches.extend(stored.batches)
        partition.producers.entries[stored.producer_id] = entry
        if stored.transaction_first_offset is not None:
            open_transactions.append((stored.transaction_first_offset, stored.producer_id))
    for first_offset, producer_id in sorted(open_transactions):
        partition.transactions.begin(producer_id, first_offset)
    partition.restore(state.segments)


def topic_id_of(state: PartitionState) -> UUID:
    return UUID(bytes=state.topic_id)


def write_checkpoint(disk: Disk, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint."""
    content = msgspec.msgpack.encode(checkpoint)
    header = _HEADER.pack(_MAGIC, _VERSION, crc32c(content))
    write_small_file(disk, PATH, header + content)


def read_checkpoint(disk: Disk) -> Checkpoint | None:
    """The stored checkpoint, or None in a new directory. Raises DataDamaged."""
    if not disk.exists(PATH):
        return None
    file = disk.open(PATH)
    content = file.read(0, file.size())
    file.close()
    place = disk.describe(PATH)
    if len(content) < _HEADER.size:
        raise DataDamaged(f"{place} was cut to {len(content)} bytes")
    magic, version, crc = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise DataDamaged(f"{place} is no checkpoint of Ottla")
    if version != _VERSION:
        raise DataDamaged(
            f"{place} has format version {version}, and this Ottla reads {_VERSION}: "
            "use the version of Ottla that wrote it"
        )
    body = content[_HEADER.size :]
    if crc32c(body) != crc:
        raise DataDamaged(
            f"{place}: its checksum does not match; restore the directory from a copy"
        )
    return msgspec.msgpack.decode(body, type=Checkpoint)
