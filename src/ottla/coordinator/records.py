"""What the coordinators write: their state is these records, replayed in order, and nothing else.

An operation of a coordinator only looks and answers with records and a reply. The broker appends
the records to the journal as one frame (all of them survive a crash, or none), gives each to
`apply`, and parks the reply until the frame is on the disk. Recovery gives the same records to the
same `apply`. A snapshot is a list of records too: those that make an empty coordinator equal.
"""

from typing import Generic, TypeVar

import msgspec

from ottla.coordinator.consumer_group_records import ConsumerGroupsRecord

R = TypeVar("R")


class TransactionRecord(msgspec.Struct, tag="txn", frozen=True, array_like=True):
    """All that is known of one TransactionalId; replaces what was known before.

    `state` is a TransactionState's number. `partitions` and `group_ids` are what the open
    transaction has touched. Times are wall clock, in milliseconds. `producer_epoch` is the one to
    use next; `last_producer_epoch` the one before it, for a retry (KIP-360), or -1.
    `fenced_producer_epoch` is the one that was shut out after a power cut, or -1.
    `kept_producer_id` and its epoch are who began the open transaction, when another has taken it
    over to end it (KIP-939): its batches have them, and its markers will; else -1.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    last_producer_epoch: int
    previous_producer_id: int
    timeout_ms: int
    state: int
    partitions: list[tuple[str, int]]
    group_ids: list[str]
    start_timestamp_ms: int
    last_update_timestamp_ms: int
    client_transaction_version: int
    fenced_producer_epoch: int = -1
    kept_producer_id: int = -1
    kept_producer_epoch: int = -1

    @property
    def identity_in_log(self) -> tuple[int, int]:
        """Producer id and epoch in the batches of the open transaction."""
        if self.kept_producer_id != -1:
            return self.kept_producer_id, self.kept_producer_epoch
        return self.producer_id, self.producer_epoch


class TransactionalIdExpired(msgspec.Struct, tag="txn-expired", frozen=True, array_like=True):
    """A TransactionalId that was not used for transactional.id.expiration.ms is forgotten."""

    transactional_id: str


class ProducerIdsReserved(msgspec.Struct, tag="pids", frozen=True, array_like=True):
    """Producer ids below `next_producer_id` may have been given out: never give them again."""

    next_producer_id: int


class MarkerRecord(msgspec.Struct, tag="marker", frozen=True, array_like=True):
    """A COMMIT or ABORT marker to append to a partition: it ends the producer's transaction there.

    Never stored as it is: the broker turns it into a control batch of the partition.
    """

    topic: str
    partition: int
    producer_id: int
    producer_epoch: int
    commit: bool
    transaction_version: int


class OffsetRecord(msgspec.Struct, tag="offset", frozen=True, array_like=True):
    """A group's committed offset; with `producer_id` >= 0 one that waits for its transaction."""

    group_id: str
    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    producer_id: int = -1
    producer_epoch: int = -1


class OffsetsEnded(msgspec.Struct, tag="offsets-ended", frozen=True, array_like=True):
    """The producer's pending offsets in these groups become committed offsets, or are dropped."""

    producer_id: int
    group_ids: list[str]
    commit: bool


class OffsetDeleted(msgspec.Struct, tag="offset-deleted", frozen=True, array_like=True):
    """The group's offset for this partition is forgotten."""

    group_id: str
    topic: str
    partition: int


class MemberState(msgspec.Struct, frozen=True, array_like=True):
    """A member of a classic group as it stands in a completed generation."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: list[tuple[str, bytes]]
    assignment: bytes


class GroupRecord(msgspec.Struct, tag="group", frozen=True, array_like=True):
    """A classic group's generation, complete with assignments; replaces what was known before."""

    group_id: str
    generation_id: int
    protocol_type: str
    protocol_name: str | None
    leader_id: str | None
    members: list[MemberState]


class GroupDeleted(msgspec.Struct, tag="group-deleted", frozen=True, array_like=True):
    """The group and its offsets are forgotten."""

    group_id: str


CoordinatorRecord = (
    TransactionRecord
    | TransactionalIdExpired
    | ProducerIdsReserved
    | MarkerRecord
    | OffsetRecord
    | OffsetsEnded
    | OffsetDeleted
    | GroupRecord
    | GroupDeleted
    | ConsumerGroupsRecord
)


class Outcome(msgspec.Struct, Generic[R]):
    """What an operation decided: records to write, and the reply to park until they are durable."""

    records: list[CoordinatorRecord]
    reply: R


class GroupOutcome(msgspec.Struct):
    """Like Outcome, for operations that answer others too: each reply goes with its token.

    A token is whatever the caller gave to `join` or `sync` to recognise the request by.
    """

    records: list[CoordinatorRecord]
    replies: list[tuple[object, object]]
