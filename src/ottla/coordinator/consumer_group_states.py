"""The states of a member of a new consumer group, and how it gets from one to the next (KIP-848).

The assignor says what a member is to have (its target); `reconcile` brings it there without a
partition ever being two members' at once. A member first gives up what it is to lose, and only then
gets the target's epoch and what is free of the rest:

- Stable: it has all of the target whose epoch it has.
- UnrevokedPartitions: it was asked to give up partitions. It keeps its epoch until its heartbeat
  names what it owns and none of them is in it; its rebalance timeout ends this.
- UnreleasedPartitions: it has the target's epoch, and waits for partitions that others still hold.

A partition is held by a member while it is assigned to it *or* being revoked from it. Who holds it
is looked up in what is durable, so that it is free only once a record says so.

A group's own state says how far its members are: see `ConsumerGroup.state`.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import NamedTuple

from ottla.coordinator.consumer_group_records import (
    ConsumerCurrentRecord,
    TopicIdPartition,
    epochs_by_topic,
    flat_epochs,
)

STATIC_LEAVE_EPOCH = -2
"""A static member is gone for a while: it keeps what it holds until its session ends."""

Partitions = frozenset[TopicIdPartition]


class ConsumerGroupState(Enum):
    """The value is the name Kafka shows."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class MemberState(IntEnum):
    """Numbers as Kafka stores them."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2


class Current(NamedTuple):
    """What a member holds, and in which epochs each partition was assigned to it (KIP-1251)."""

    epoch: int = 0
    previous_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: Mapping[TopicIdPartition, int] = MappingProxyType({})
    revoking: Mapping[TopicIdPartition, int] = MappingProxyType({})

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == target_epoch

    @property
    def held(self) -> Iterable[TopicIdPartition]:
        """All that nobody else may have."""
        return (*self.assigned, *self.revoking)

    def at(self, epoch: int) -> "Current":
        """The next step, in this epoch; what came before it is the epoch until now."""
        return self._replace(epoch=epoch, previous_epoch=self.epoch)

    def record(self, group_id: str, member_id: str) -> ConsumerCurrentRecord:
        return ConsumerCurrentRecord(
            group_id,
            member_id,
            self.epoch,
            self.previous_epoch,
            int(self.state),
            epochs_by_topic(self.assigned),
            epochs_by_topic(self.revoking),
        )


def loaded(record: ConsumerCurrentRecord) -> Current:
    """What the record says."""
    return Current(
        record.member_epoch,
        record.previous_epoch,
        MemberState(record.state),
        flat_epochs(record.assigned),
        flat_epochs(record.revoking),
    )


def reconcile(
    current: Current,
    target_epoch: int,
    target: Partitions,
    is_anothers: Callable[[TopicIdPartition], bool],
    owned: Partitions | None,
) -> Current:
    """The member's next step towards its target, or `current` when there is none to take.

    `is_anothers`: another member holds the partition. `owned`: what the member says it owns; None
    when it did not say.
    """
    if current.is_reconciled_to(target_epoch):
        return current
    unrevoked = current.state is MemberState.UNREVOKED_PARTITIONS
    if unrevoked and _still_owns(owned, current.revoking):
        return current
    kept = {one: epoch for one, epoch in current.assigned.items() if one in target}
    lost = {one: epoch for one, epoch in current.assigned.items() if one not in target}
    if lost and _still_owns(owned, lost):
        return current.at(current.epoch)._replace(
            state=MemberState.UNREVOKED_PARTITIONS, assigned=kept, revoking=lost
        )
    missing = target - kept.keys()
    free = [one for one in missing if not is_anothers(one)]
    waits = len(free) < len(missing)
    return current.at(target_epoch)._replace(
        state=MemberState.UNRELEASED_PARTITIONS if waits else MemberState.STABLE,
        assigned=kept | dict.fromkeys(free, target_epoch),
        revoking={},
    )


def _still_owns(owned: Partitions | None, revoked: Mapping[TopicIdPartition, int]) -> bool:
    return owned is None or any(one in owned for one in revoked)
