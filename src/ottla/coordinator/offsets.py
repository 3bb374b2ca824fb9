"""Committed offsets of all groups, and offsets that wait for the end of their transaction.

An offset that a consumer commits is the group's offset at once. One that a transactional producer
commits is *pending*, kept by group and producer id, until the transaction ends: COMMIT makes it
the group's offset, ABORT drops it. Nobody is shown a pending offset; a reader who asks for stable
offsets is told UNSTABLE_OFFSET_COMMIT while there is one (KIP-447).

When plain and transactional commits of one partition are mixed, the one that was *written* later
wins, not the one whose marker came later, as in Apache Kafka. So each offset carries its place in
the order of writes, and a snapshot gives the offsets back in that order.

Offsets do not expire; they go with their group, their topic, or by OffsetDelete.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from ottla.coordinator.records import (
    CoordinatorRecord,
    OffsetDeleted,
    OffsetRecord,
    OffsetsEnded,
    Outcome,
)
from ottla.ports.errors import ErrorCode
from ottla.ports.limits import OFFSET_METADATA_BYTES_MAX

TopicPartition = tuple[str, int]
NO_OFFSET = -1
NO_PRODUCER_ID = -1


class OffsetToCommit(NamedTuple):
    """What a client asks to commit for one partition. `leader_epoch` is -1 when not known."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class FetchedOffset(NamedTuple):
    """A partition's committed offset as OffsetFetch shows it; `offset` is -1 when there is none."""

    topic: str
    partition: int
    offset: int = NO_OFFSET
    leader_epoch: int = -1
    metadata: str = ""
    error_code: ErrorCode = ErrorCode.NONE


class _Written(NamedTuple):
    """An offset and its place in the order of writes."""

    sequence: int
    record: OffsetRecord


_Offsets = dict[TopicPartition, _Written]


class OffsetStore:
    """The offsets of all groups. Changed by `apply` and `forget_group` only."""

    def __init__(self) -> None:
        self._committed: dict[str, _Offsets] = {}
        self._pending: dict[str, dict[int, _Offsets]] = {}
        self._sequence = 0

    def has_group(self, group_id: str) -> bool:
        """Whether the group has an offset, committed or pending."""
        return group_id in self._committed or group_id in self._pending

    def group_ids(self) -> set[str]:
        """The groups that have offsets, committed or pending."""
        return self._committed.keys() | self._pending.keys()

    def has_offset(self, group_id: str, partition: TopicPartition) -> bool:
        """Whether the group has an offset for the partition, committed or pending."""
        return partition in self._committed.get(group_id, ()) or self.is_unstable(
            group_id, partition
        )

    def is_unstable(self, group_id: str, partition: TopicPartition) -> bool:
        """Whether an open transaction has committed an offset for the partition."""
        pending = self._pending.get(group_id)
        return pending is not None and any(partition in offsets for offsets in pending.values())

    def fetch(
        self, group_id: str, partitions: Iterable[TopicPartition] | None, require_stable: bool
    ) -> list[FetchedOffset]:
        """The committed offsets of these partitions, or with None of all that have one."""
        committed = self._committed.get(group_id, {})
        wanted = sorted(committed) if partitions is None else partitions
        fetched = []
        for partition in wanted:
            written = committed.get(partition)
            if require_stable and self.is_unstable(group_id, partition):
                unstable = ErrorCode.UNSTABLE_OFFSET_COMMIT
                fetched.append(FetchedOffset(*partition, error_code=unstable))
            elif written is None:
                fetched.append(FetchedOffset(*partition))
            else:
                record = written.record
                fetched.append(
                    FetchedOffset(*partition, record.offset, record.leader_epoch, record.metadata)
                )
        return fetched

    def delete_topic(self, topic: str) -> list[OffsetDeleted]:
        """Records that forget all offsets of a topic which is about to be deleted."""
        found: set[tuple[str, int]] = set()
        for group_id, offsets in self._all_offsets():
            found.update((group_id, index) for name, index in offsets if name == topic)
        return [OffsetDeleted(group_id, topic, index) for group_id, index in sorted(found)]

    def apply(self, record: OffsetRecord | OffsetDeleted | OffsetsEnded) -> None:
        """Take over what a record says; the only way offsets change, live and in replay."""
        match record:
            case OffsetRecord():
                self._write(record)
            case OffsetDeleted():
                self._delete(record.group_id, (record.topic, record.partition))
            case OffsetsEnded():
                for group_id in record.group_ids:
                    self._end(group_id, record.producer_id, record.commit)

    def forget_group(self, group_id: str) -> None:
        """Drop the offsets of a deleted group, those of open transactions too."""
        self._committed.pop(group_id, None)
        self._pending.pop(group_id, None)

    def snapshot(self) -> list[OffsetRecord]:
        """All offsets in the order they were written."""
        written = [entry for _, offsets in self._all_offsets() for entry in offsets.values()]
        return [entry.record for entry in sorted(written, key=lambda entry: entry.sequence)]

    def _all_offsets(self) -> Iterable[tuple[str, _Offsets]]:
        yield from self._committed.items()
        for group_id, by_producer in self._pending.items():
            for offsets in by_producer.values():
                yield group_id, offsets

    def _write(self, record: OffsetRecord) -> None:
        self._sequence += 1
        if record.producer_id == NO_PRODUCER_ID:
            offsets = self._committed.setdefault(record.group_id, {})
        else:
            by_producer = self._pending.setdefault(record.group_id, {})
            offsets = by_producer.setdefault(record.producer_id, {})
        offsets[record.topic, record.partition] = _Written(self._sequence, record)

    def _delete(self, group_id: str, partition: TopicPartition) -> None:
        """Kafka's tombstone: it drops what open transactions have committed as well."""
        committed = self._committed.get(group_id, {})
        committed.pop(partition, None)
        if not committed:
            self._committed.pop(group_id, None)
        pending = self._pending.get(group_id, {})
        for producer_id, offsets in list(pending.items()):
            offsets.pop(partition, None)
            if not offsets:
                del pending[producer_id]
        if not pending:
            self._pending.pop(group_id, None)

    def _end(self, group_id: str, producer_id: int, commit: bool) -> None:
        by_producer = self._pending.get(group_id, {})
        ended = by_producer.pop(producer_id, {})
        if not by_producer:
            self._pending.pop(group_id, None)
        if not commit or not ended:
            return
        committed = self._committed.setdefault(group_id, {})
        for partition, (sequence, record) in ended.items():
            present = committed.get(partition)
            if present is None or present.sequence < sequence:
                plain = msgspec.structs.replace(record, producer_id=-1, producer_epoch=-1)
                committed[partition] = _Written(sequence, plain)


def commit_some(
    group_id: str,
    offsets: Sequence[OffsetToCommit],
    errors: Sequence[ErrorCode],
    now_ms: int,
    producer_id: int,
    producer_epoch: int,
) -> Outcome[list[ErrorCode]]:
    """Commit the offsets that have no error yet."""
    accepted = [
        offset for offset, error in zip(offsets, errors, strict=True) if error is ErrorCode.NONE
    ]
    committed = commit(group_id, accepted, now_ms, producer_id, producer_epoch)
    codes = iter(committed.reply)
    return Outcome(
        committed.records, [next(codes) if code is ErrorCode.NONE else code for code in errors]
    )


def commit(
    group_id: str,
    offsets: Sequence[OffsetToCommit],
    now_ms: int,
    producer_id: int,
    producer_epoch: int,
) -> Outcome[list[ErrorCode]]:
    """Records that commit the offsets, and an error code for each of them."""
    records: list[CoordinatorRecord] = []
    errors = []
    for topic, partition, offset, leader_epoch, metadata in offsets:
        if len(metadata) > OFFSET_METADATA_BYTES_MAX:
            errors.append(ErrorCode.OFFSET_METADATA_TOO_LARGE)
            continue
        errors.append(ErrorCode.NONE)
        records.append(
            OffsetRecord(
                group_id,
                topic,
                partition,
                offset,
                leader_epoch,
                metadata,
                now_ms,
                producer_id,
                producer_epoch,
            )
        )
    return Outcome(records, errors)
