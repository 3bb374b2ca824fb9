"""One group of the new protocol: its members, their targets, and who holds which partition.

All of it is durable and changes in `apply` only. What only lives as long as the process (deadlines,
what topics looked like when they were looked at last) is beside it, marked as volatile.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Protocol

from ottla.coordinator.assignors import DEFAULT_ASSIGNOR, Partitions
from ottla.coordinator.consumer_group_records import (
    ConsumerCurrentRecord,
    ConsumerGroupRecord,
    ConsumerGroupsRecord,
    ConsumerMemberGone,
    ConsumerMemberRecord,
    ConsumerTargetRecord,
    TopicIdPartition,
    by_topic,
    flat,
)
from ottla.coordinator.consumer_group_states import ConsumerGroupState, Current, loaded
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.invariants import invariant

_DIGEST_BYTES = 16


class Topics(Protocol):
    """The topics that there are. `version` changes whenever one of them does."""

    @property
    def version(self) -> int: ...

    def names(self) -> Collection[str]: ...

    def placement(self, name: str) -> tuple[bytes, int] | None:
        """A topic's id and its number of partitions, or None when there is no such topic."""

    def may_describe(self, principal: str, client_host: str, name: str) -> bool:
        """Whether a client with this principal may know of the topic."""


class NoTopics:
    """For a coordinator on its own: there are no topics."""

    version = 0

    def names(self) -> Collection[str]:
        return ()

    def placement(self, name: str) -> tuple[bytes, int] | None:
        return None

    def may_describe(self, principal: str, client_host: str, name: str) -> bool:
        return False


class ConsumerGroup:
    """A consumer group. `topics_version` is volatile: the topics that it has seen, -1 for none."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.group_epoch = 0
        self.target_epoch = 0
        self.topics_digest = b""
        self.members: dict[str, ConsumerMemberRecord] = {}
        self.static_members: dict[str, str] = {}
        self.targets: dict[str, Partitions] = {}
        self.topics_version = -1
        self.next_assignment_ms = 0
        self._currents: dict[str, Current] = {}
        self._holders: dict[TopicIdPartition, str] = {}

    # What it looks like

    @property
    def state(self) -> ConsumerGroupState:
        """Assigning: the target is older than the group. Reconciling: not all members are there."""
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.group_epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(self.current(one).is_reconciled_to(self.target_epoch) for one in self.members):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    @property
    def assignor(self) -> str:
        """The assignor that most members prefer."""
        return preferred_assignor(self.members.values())

    def member(self, member_id: str) -> ConsumerMemberRecord:
        """Raises KafkaError: UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id} is not a member of group {self.group_id}.",
            )
        return member

    def static_member(self, instance_id: str, member_id: str) -> ConsumerMemberRecord:
        """The member with this instance id.

        Raises KafkaError: UNKNOWN_MEMBER_ID; FENCED_INSTANCE_ID when it is not `member_id`.
        """
        known = self.static_members.get(instance_id)
        if known is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
        if known != member_id:
            raise KafkaError(
                ErrorCode.FENCED_INSTANCE_ID,
                f"Static member {member_id} with instance id {instance_id} was fenced by member "
                f"{known}.",
            )
        return self.members[known]

    def current(self, member_id: str) -> Current:
        """What the member holds; a new one is in epoch 0 and holds nothing."""
        return self._currents.get(member_id, Current())

    def holder(self, partition: TopicIdPartition) -> str | None:
        """The member that has the partition or is still to give it up."""
        return self._holders.get(partition)

    def is_subscribed_to(self, topic: str, matches: Callable[[str], Callable[[str], bool]]) -> bool:
        """Whether a member consumes the topic."""
        if any(topic in member.topics for member in self.members.values()):
            return True
        patterns = {member.topic_regex for member in self.members.values()} - {""}
        return any(matches(pattern)(topic) for pattern in patterns)

    # Who may commit and fetch offsets

    def check_fetch(self, member_id: str | None, member_epoch: int) -> ErrorCode:
        """Whether this member may ask for offsets; nobody in particular always may."""
        if member_id is None and member_epoch < 0:
            return ErrorCode.NONE
        if member_id is None or member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if member_epoch != self.current(member_id).epoch:
            return ErrorCode.STALE_MEMBER_EPOCH
        return ErrorCode.NONE

    def check_commit(
        self, member_id: str, member_epoch: int, partition: TopicIdPartition | None
    ) -> ErrorCode:
        """Whether this member may commit an offset for the partition.

        A member that does not know yet that its epoch went up commits with the one before. That
        goes for partitions which it has had since then without a break (KIP-1251).
        """
        if member_epoch < 0 and not self.members:
            return ErrorCode.NONE
        if member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        current = self.current(member_id)
        if member_epoch == current.epoch:
            return ErrorCode.NONE
        since = None
        if partition is not None:
            since = current.assigned.get(partition, current.revoking.get(partition))
        if since is not None and since <= member_epoch < current.epoch:
            return ErrorCode.NONE
        return ErrorCode.STALE_MEMBER_EPOCH

    # Durable state

    def apply(self, record: ConsumerGroupsRecord) -> None:
        """Take over what a record of this group says, live or in replay."""
        match record:
            case ConsumerGroupRecord():
                self.group_epoch = record.group_epoch
                self.target_epoch = record.target_epoch
                self.topics_digest = record.topics_digest
            case ConsumerMemberRecord():
                self._release_instance(record.member_id)
                self.members[record.member_id] = record
                if record.group_instance_id is not None:
                    self.static_members[record.group_instance_id] = record.member_id
            case ConsumerTargetRecord():
                self.targets[record.member_id] = flat(record.partitions)
            case ConsumerCurrentRecord():
                self._hold(record.member_id, loaded(record))
            case ConsumerMemberGone():
                self._hold(record.member_id, Current())
                del self._currents[record.member_id]
                self._release_instance(record.member_id)
                del self.members[record.member_id]
                self.targets.pop(record.member_id, None)

    def _release_instance(self, member_id: str) -> None:
        known = self.members.get(member_id)
        instance_id = None if known is None else known.group_instance_id
        if instance_id is not None and self.static_members.get(instance_id) == member_id:
            del self.static_members[instance_id]

    def _hold(self, member_id: str, current: Current) -> None:
        before = self.current(member_id)
        for partition in before.held:
            del self._holders[partition]
        for partition in current.held:
            invariant(
                partition not in self._holders,
                "a partition is held by one member",
                group_id=self.group_id,
                partition=partition,
            )
            self._holders[partition] = member_id
        self._currents[member_id] = current

    def record(self) -> ConsumerGroupRecord:
        """Its epochs as they are."""
        return ConsumerGroupRecord(
            self.group_id, self.group_epoch, self.target_epoch, self.topics_digest
        )

    def snapshot(self) -> Iterable[ConsumerGroupsRecord]:
        """The records that make an equal group."""
        group_id = self.group_id
        yield self.record()
        for member_id, member in self.members.items():
            yield member
            if member_id in self.targets:
                yield ConsumerTargetRecord(group_id, member_id, by_topic(self.targets[member_id]))
            if member_id in self._currents:
                yield self._currents[member_id].record(group_id, member_id)


def preferred_assignor(members: Iterable[ConsumerMemberRecord]) -> str:
    """The one that most of these members prefer, of equals the first; or the default."""
    votes = Counter(member.assignor for member in members if member.assignor is not None)
    return str(votes.most_common(1)[0][0]) if votes else DEFAULT_ASSIGNOR


def digest(names: Iterable[str], topics: Topics) -> bytes:
    """Changes when one of these topics is made, deleted or gets more partitions; empty for none."""
    made = blake2b(digest_size=_DIGEST_BYTES)
    found = [(name, placement) for name in sorted(names) if (placement := topics.placement(name))]
    for name, (topic_id, count) in found:
        made.update(b"%d %b %d " % (len(name), name.encode(), count) + topic_id)
    return made.digest() if found else b""


def subscriptions(
    members: Mapping[str, ConsumerMemberRecord],
    topics: Topics,
    matches: Callable[[str], Callable[[str], bool]],
) -> dict[str, frozenset[str]]:
    """For each member the names that it subscribes to, of topics that exist or not.

    A pattern stands for those of the topics that there are which the member may know of.
    """
    matched: dict[str, list[str]] = {}
    shared: dict[object, frozenset[str]] = {}  # most members of a group subscribe alike
    found: dict[str, frozenset[str]] = {}
    for member_id, member in members.items():
        pattern, principal, host = member.topic_regex, member.principal, member.client_host
        alike = tuple(member.topics), *((pattern, principal, host) if pattern else ())
        if alike not in shared:
            if pattern and pattern not in matched:
                matched[pattern] = list(filter(matches(pattern), topics.names()))
            known = (
                name
                for name in matched.get(pattern, ())
                if topics.may_describe(principal, host, name)
            )
            shared[alike] = frozenset(member.topics).union(known)
        found[member_id] = shared[alike]
    return found


def all_names(subscribed: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """What any of the members subscribes to."""
    return frozenset().union(*set(subscribed.values()))
