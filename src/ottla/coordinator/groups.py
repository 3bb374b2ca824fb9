"""The group coordinator: classic groups, those of the new protocol, and the offsets they commit.

Classic groups are here; groups of the new protocol (KIP-848) are in `consumer_groups`, behind the
same door: an id belongs to one kind of group at a time. A group without members changes its kind
when a member of the other kind joins it, and keeps its offsets (docs/decisions/0005).

Operations look at what is in memory, change only what is volatile (who has joined, deadlines,
parked requests; see `group`) and answer with records and replies. `apply` is the only one to change
what is durable: complete generations and offsets. It is given the same records live and in replay.

A group exists while it has a generation, members, member ids given out, or offsets. One that has
offsets only is what Kafka calls a simple group: its consumer assigns partitions itself.

Two clocks: `monotonic_ms` for all that ends a session or a phase, `now_ms` (wall time) for the
timestamps of commits. `on_timer` does what is due; `next_deadline_ms` says when to call it next.
After replay that is at once, to give all members a full session timeout from then on.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence

from ottla.coordinator.consumer_group import ConsumerGroup, NoTopics, Topics
from ottla.coordinator.consumer_group_records import (
    ConsumerGroupGone,
    ConsumerGroupRecord,
    ConsumerGroupsRecord,
)
from ottla.coordinator.consumer_groups import ConsumerGroupConfig, ConsumerGroups
from ottla.coordinator.consumer_heartbeat import ConsumerHeartbeat, HeartbeatAnswer
from ottla.coordinator.consumer_protocol import CONSUMER_PROTOCOL_TYPE
from ottla.coordinator.group import NEVER_MS, Group
from ottla.coordinator.group_description import CONSUMER, GroupDescription, GroupFilter
from ottla.coordinator.group_states import GroupEvent, GroupState
from ottla.coordinator.membership import (
    UNKNOWN_MEMBER_ID,
    JoinRequest,
    LeavingMember,
    SyncRequest,
    join_refused,
    sync_refused,
)
from ottla.coordinator.offsets import (
    NO_PRODUCER_ID,
    FetchedOffset,
    OffsetStore,
    OffsetToCommit,
    TopicPartition,
    commit,
    commit_some,
)
from ottla.coordinator.rebalance import Rebalancer
from ottla.coordinator.records import (
    CoordinatorRecord,
    GroupDeleted,
    GroupOutcome,
    GroupRecord,
    OffsetDeleted,
    OffsetRecord,
    OffsetsEnded,
    Outcome,
)
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import (
    GROUP_MEMBERS_TOTAL_MAX,
    GROUP_SESSION_TIMEOUT_MS_MAX,
    GROUP_SESSION_TIMEOUT_MS_MIN,
)

GroupCoordinatorRecord = (
    GroupRecord | GroupDeleted | OffsetRecord | OffsetDeleted | OffsetsEnded | ConsumerGroupsRecord
)


class GroupCoordinator:
    """All groups of the broker.

    `initial_rebalance_delay_ms`: how long an empty group waits for more members before its first
    generation. `new_member_id` makes a unique member id that begins with the given text. `topics`
    and `consumer_config` (of a group by its id) are for groups of the new protocol.
    """

    def __init__(
        self,
        initial_rebalance_delay_ms: int,
        new_member_id: Callable[[str], str],
        topics: Topics | None = None,
        consumer_config: Callable[[str], ConsumerGroupConfig] = lambda _: ConsumerGroupConfig(),
    ) -> None:
        self.consumer = ConsumerGroups(topics or NoTopics(), consumer_config)
        self._rebalancer = Rebalancer(initial_rebalance_delay_ms, new_member_id)
        self._groups: dict[str, Group] = {}
        self._offsets = OffsetStore()
        self._population = 0
        self._replayed: set[str] = set()
        self._scheduled: dict[str, float] = {}
        self._wakes: list[tuple[float, str]] = []

    # Membership

    def join(self, token: object, request: JoinRequest, monotonic_ms: int) -> GroupOutcome:
        """JoinGroup: `token` is answered with a JoinGroupResponse, now or in a later outcome."""
        out = GroupOutcome([], [])
        group = self._groups.get(request.group_id)
        error = self._refuse_join(request, group)
        if error is not ErrorCode.NONE:
            out.replies.append((token, join_refused(error, request.member_id)))
            return out
        if group is None:
            if self.consumer.get(request.group_id) is not None:
                out.records.append(ConsumerGroupGone(request.group_id))
            group = self._groups[request.group_id] = Group(request.group_id)
        self._rebalancer.join(group, token, request, monotonic_ms, out)
        self._settle(group)
        return out

    def _refuse_join(self, request: JoinRequest, group: Group | None) -> ErrorCode:
        timeout_ms = request.session_timeout_ms
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        if not GROUP_SESSION_TIMEOUT_MS_MIN <= timeout_ms <= GROUP_SESSION_TIMEOUT_MS_MAX:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        consumer = self.consumer.get(request.group_id)
        if consumer is not None and consumer.members:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.member_id != UNKNOWN_MEMBER_ID:
            return ErrorCode.NONE if group is not None else ErrorCode.UNKNOWN_MEMBER_ID
        if self._population >= GROUP_MEMBERS_TOTAL_MAX:
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return ErrorCode.NONE

    def sync(self, token: object, request: SyncRequest, monotonic_ms: int) -> GroupOutcome:
        """SyncGroup: `token` is answered with a SyncGroupResponse, now or in a later outcome."""
        out = GroupOutcome([], [])
        group = self._groups.get(request.group_id)
        if not request.group_id:
            out.replies.append((token, sync_refused(ErrorCode.INVALID_GROUP_ID)))
        elif group is None:
            out.replies.append((token, sync_refused(ErrorCode.UNKNOWN_MEMBER_ID)))
        else:
            self._rebalancer.sync(group, token, request, monotonic_ms, out)
            self._settle(group)
        return out

    def heartbeat(
        self,
        group_id: str,
        member_id: str,
        generation_id: int,
        group_instance_id: str | None,
        monotonic_ms: int,
    ) -> ErrorCode:
        """Heartbeat: keeps the session; REBALANCE_IN_PROGRESS asks the member to join again."""
        if not group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self._groups.get(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        error = group.validate_generation(member_id, group_instance_id, generation_id)
        if error is not ErrorCode.NONE:
            return error
        group.extend_session(group.members[member_id], monotonic_ms)
        self._settle(group)
        if group.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(
        self, group_id: str, members: Sequence[LeavingMember], monotonic_ms: int
    ) -> tuple[GroupOutcome, list[ErrorCode]]:
        """LeaveGroup: an error code for each of the members, in order.

        Raises KafkaError: INVALID_GROUP_ID.
        """
        out = GroupOutcome([], [])
        if not group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        consumer = self.consumer.get(group_id)
        if consumer is not None:
            removed = self.consumer.remove(consumer, members)
            return GroupOutcome(removed.records, []), removed.reply
        group = self._groups.get(group_id)
        if group is None:
            return out, [ErrorCode.UNKNOWN_MEMBER_ID for _ in members]
        errors = self._rebalancer.leave(group, members, monotonic_ms, out)
        self._settle(group)
        return out, errors

    def consumer_heartbeat(
        self, request: ConsumerHeartbeat, monotonic_ms: int
    ) -> Outcome[HeartbeatAnswer]:
        """ConsumerGroupHeartbeat: of a member of the new protocol.

        Raises KafkaError: what is wrong; GROUP_ID_NOT_FOUND for a classic group with members.
        """
        group = self._groups.get(request.group_id)
        return self.consumer.heartbeat(
            request,
            monotonic_ms,
            is_classic=group is not None or self._offsets.has_group(request.group_id),
            is_occupied=group is not None and group.state is not GroupState.EMPTY,
        )

    # Offsets

    def commit_offsets(
        self,
        group_id: str,
        member_id: str,
        generation_id: int,
        group_instance_id: str | None,
        offsets: Sequence[OffsetToCommit],
        now_ms: int,
        monotonic_ms: int,
        *,
        knows_epochs: bool = True,
    ) -> Outcome[list[ErrorCode]]:
        """OffsetCommit: an error code for each of the offsets, in order.

        A generation in a group that does not exist is GROUP_ID_NOT_FOUND. A commit keeps the
        member's session like a heartbeat. For a group of the new protocol the generation is the
        member's epoch, which a client `knows_epochs` of or is UNSUPPORTED_VERSION.
        """
        consumer = self.consumer.get(group_id)
        if consumer is not None:
            errors = self._consumer_errors(consumer, member_id, generation_id, offsets)
            if not knows_epochs and member_id in consumer.members:
                errors = [ErrorCode.UNSUPPORTED_VERSION for _ in offsets]
            return commit_some(group_id, offsets, errors, now_ms, NO_PRODUCER_ID, -1)
        group = self._groups.get(group_id)
        error = self._validate_commit(group_id, member_id, generation_id, group_instance_id, False)
        if error is not ErrorCode.NONE:
            return Outcome([], [error for _ in offsets])
        if group is not None and member_id in group.members:
            group.extend_session(group.members[member_id], monotonic_ms)
            self._settle(group)
        return commit(group_id, offsets, now_ms, NO_PRODUCER_ID, -1)

    def txn_commit_offsets(
        self,
        group_id: str,
        member_id: str,
        generation_id: int,
        group_instance_id: str | None,
        producer_id: int,
        producer_epoch: int,
        offsets: Sequence[OffsetToCommit],
        now_ms: int,
    ) -> Outcome[list[ErrorCode]]:
        """TxnOffsetCommit, once the transaction has been checked: pending until OffsetsEnded.

        An error code for each of the offsets, in order. Member, generation and instance id are
        checked as far as they are given (KIP-447).
        """
        consumer = self.consumer.get(group_id)
        if consumer is not None:
            errors = [
                ErrorCode.ILLEGAL_GENERATION if code is ErrorCode.STALE_MEMBER_EPOCH else code
                for code in self._consumer_errors(consumer, member_id, generation_id, offsets)
            ]
            return commit_some(group_id, offsets, errors, now_ms, producer_id, producer_epoch)
        error = self._validate_commit(group_id, member_id, generation_id, group_instance_id, True)
        if error is not ErrorCode.NONE:
            return Outcome([], [error for _ in offsets])
        return commit(group_id, offsets, now_ms, producer_id, producer_epoch)

    def _consumer_errors(
        self,
        group: ConsumerGroup,
        member_id: str,
        member_epoch: int,
        offsets: Sequence[OffsetToCommit],
    ) -> list[ErrorCode]:
        partitions = [(offset.topic, offset.partition) for offset in offsets]
        return self.consumer.check_commits(group, member_id, member_epoch, partitions)

    def _validate_commit(
        self,
        group_id: str,
        member_id: str,
        generation_id: int,
        group_instance_id: str | None,
        transactional: bool,
    ) -> ErrorCode:
        group = self._groups.get(group_id)
        if group is not None:
            return group.validate_offset_commit(
                member_id, group_instance_id, generation_id, transactional=transactional
            )
        if transactional and not group_id:
            return ErrorCode.INVALID_GROUP_ID
        if generation_id < 0:
            return ErrorCode.NONE
        if self._offsets.has_group(group_id):
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.ILLEGAL_GENERATION if transactional else ErrorCode.GROUP_ID_NOT_FOUND

    def fetch_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition] | None, require_stable: bool
    ) -> list[FetchedOffset]:
        """OffsetFetch: the committed offsets of these partitions, or with None of all."""
        return self._offsets.fetch(group_id, partitions, require_stable)

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> ErrorCode:
        """Whether the member may ask for offsets: only groups of the new protocol look."""
        consumer = self.consumer.get(group_id)
        return ErrorCode.NONE if consumer is None else consumer.check_fetch(member_id, member_epoch)

    def delete_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition]
    ) -> Outcome[list[ErrorCode]]:
        """OffsetDelete: an error code for each partition, in order.

        Raises KafkaError: INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP for members of
        another protocol than "consumer", whose subscriptions nobody can read.
        """
        if not group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        group = self._groups.get(group_id)
        consumer = self.consumer.get(group_id)
        if group is None and consumer is None and not self._offsets.has_group(group_id):
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
        if group is not None and group.state is not GroupState.EMPTY and not group.is_consumer:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        records: list[CoordinatorRecord] = []
        errors = []
        subscribed = {
            topic: (group is not None and group.is_subscribed_to(topic))
            or (consumer is not None and consumer.is_subscribed_to(topic, self.consumer.matcher))
            for topic in {topic for topic, _ in partitions}
        }
        for topic, partition in partitions:
            if subscribed[topic]:
                errors.append(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
                continue
            errors.append(ErrorCode.NONE)
            if self._offsets.has_offset(group_id, (topic, partition)):
                records.append(OffsetDeleted(group_id, topic, partition))
        return Outcome(records, errors)

    def delete_topic(self, topic: str) -> list[OffsetDeleted]:
        """Records to write with the deletion of a topic: a new one of that name starts afresh."""
        return self._offsets.delete_topic(topic)

    # Groups as a whole

    def describe(self, group_id: str) -> GroupDescription | None:
        """The classic group, or None when there is none of that id."""
        group = self._groups.get(group_id)
        if group is None:
            if not self._offsets.has_group(group_id) or self.consumer.get(group_id) is not None:
                return None
            return GroupDescription(group_id, GroupState.EMPTY)
        protocol_type = group.protocol_type or ""
        members = [member.state(member.assignment) for member in group.members.values()]
        if group.state is not GroupState.STABLE:
            return GroupDescription(group_id, group.state, protocol_type, "", members)
        name = group.protocol_name or ""
        return GroupDescription(group_id, group.state, protocol_type, name, members)

    def list_groups(
        self, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupDescription]:
        """All groups by id, or those in any of the states and of any of the types."""
        wanted = GroupFilter(states, types)
        ids = self._groups.keys() | self._offsets.group_ids() | self.consumer.ids()
        return list(filter(wanted.takes, map(self._listed, sorted(ids))))

    def _listed(self, group_id: str) -> GroupDescription:
        consumer = self.consumer.get(group_id)
        if consumer is not None:
            return GroupDescription(
                group_id, consumer.state, CONSUMER_PROTOCOL_TYPE, group_type=CONSUMER
            )
        group = self._groups.get(group_id)
        if group is None:
            return GroupDescription(group_id, GroupState.EMPTY)
        return GroupDescription(group_id, group.state, group.protocol_type or "")

    def delete_groups(self, group_ids: Sequence[str]) -> Outcome[list[ErrorCode]]:
        """DeleteGroups: an error code for each group, in order."""
        records: list[CoordinatorRecord] = []
        errors = []
        for group_id in group_ids:
            group, consumer = self._groups.get(group_id), self.consumer.get(group_id)
            if group is None and consumer is None and not self._offsets.has_group(group_id):
                errors.append(ErrorCode.GROUP_ID_NOT_FOUND)
            elif (group is not None and group.state is not GroupState.EMPTY) or (
                consumer is not None and consumer.members
            ):
                errors.append(ErrorCode.NON_EMPTY_GROUP)
            else:
                errors.append(ErrorCode.NONE)
                records.append(GroupDeleted(group_id))
        return Outcome(records, errors)

    # Time

    def on_timer(self, monotonic_ms: int) -> GroupOutcome:
        """Do what is due: end sessions and phases of rebalances."""
        out = GroupOutcome([*self.consumer.on_timer(monotonic_ms)], [])
        for group_id in sorted(self._replayed):
            group = self._groups[group_id]
            group.start_sessions(monotonic_ms)
            self._settle(group)
        self._replayed.clear()
        due = set()
        while self._wakes and self._wakes[0][0] <= monotonic_ms:
            wake_ms, group_id = heapq.heappop(self._wakes)
            if self._scheduled.get(group_id) == wake_ms:
                del self._scheduled[group_id]
                due.add(group_id)
        for group_id in sorted(due):
            group = self._groups[group_id]
            self._rebalancer.expire(group, monotonic_ms, out)
            group.wake_ms = group.earliest_deadline_ms()
            self._settle(group)
        return out

    def next_deadline_ms(self) -> int | None:
        """When `on_timer` should be called next, in monotonic milliseconds; None: no need to."""
        if self._replayed:
            return 0
        while self._wakes and self._scheduled.get(self._wakes[0][1]) != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        deadline_ms = self.consumer.next_deadline_ms()
        if not self._wakes:
            return deadline_ms
        classic_ms = int(self._wakes[0][0])
        return classic_ms if deadline_ms is None else min(classic_ms, deadline_ms)

    def _settle(self, group: Group) -> None:
        """After a change: forget the group if nothing is left of it, else see to its timer."""
        self._population += group.population - group.counted
        group.counted = group.population
        group_id = group.group_id
        if group.is_unused:
            self._drop(group)
        elif group.wake_ms < self._scheduled.get(group_id, NEVER_MS):
            self._scheduled[group_id] = group.wake_ms
            heapq.heappush(self._wakes, (group.wake_ms, group_id))

    def _drop(self, group: Group) -> None:
        group.transition(GroupEvent.DROPPED)
        self._population -= group.counted
        self._scheduled.pop(group.group_id, None)
        self._replayed.discard(group.group_id)
        del self._groups[group.group_id]

    # Durable state

    def apply(self, record: GroupCoordinatorRecord) -> None:
        """Take over what a record says, live or in replay."""
        match record:
            case GroupRecord():
                self._apply_generation(record)
            case GroupDeleted():
                group = self._groups.get(record.group_id)
                if group is not None:
                    self._drop(group)
                self.consumer.forget(record.group_id)
                self._offsets.forget_group(record.group_id)
            case OffsetRecord() | OffsetDeleted() | OffsetsEnded():
                self._offsets.apply(record)
            case _:
                classic = self._groups.get(record.group_id)
                if classic is not None and isinstance(record, ConsumerGroupRecord):
                    self._drop(classic)
                self.consumer.apply(record)

    def _apply_generation(self, record: GroupRecord) -> None:
        group = self._groups.get(record.group_id)
        if group is None:
            group = self._groups[record.group_id] = Group(record.group_id)
        group.apply(record)
        if group.has_unstarted_sessions:
            self._replayed.add(record.group_id)
        else:
            self._replayed.discard(record.group_id)
        self._settle(group)

    def snapshot(self) -> list[CoordinatorRecord]:
        """Records that make an empty coordinator equal to this one, as far as it is durable."""
        generations = [self._groups[group_id].record for group_id in sorted(self._groups)]
        records: list[CoordinatorRecord] = [known for known in generations if known is not None]
        records.extend(self.consumer.snapshot())
        records.extend(self._offsets.snapshot())
        return records
