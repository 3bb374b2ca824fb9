"""The coordinator of consumer groups of the new protocol (KIP-848).

There is one request, the heartbeat. A member says with it what it wants (join, subscribe, leave)
and, when it matters, what it owns; the answer says its epoch and, when that changed, what it may
own. Each heartbeat brings the group as far as it can be brought:

1. the member is taken in, or what it asks for is noted;
2. when subscriptions or topics have changed the group's epoch goes up. Topics are looked at when
   the catalog has changed since the last look, so that a new topic, or one with more partitions,
   reaches the group with the next heartbeat of any member;
3. a group whose epoch is beyond its target's gets a new target from its assignor, but not more
   often than the assignment interval allows;
4. the member itself takes its next step towards the target (`consumer_group_states.reconcile`).

A member that is silent for a session timeout, or does not give up partitions within its rebalance
timeout, is removed. Both clocks begin anew after a restart, for all members.

Operations look at what is durable and answer with records; `apply` changes it. Times are monotonic
milliseconds.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import msgspec

from ottla.coordinator.assignors import ASSIGNORS, Partitions, Subscriber
from ottla.coordinator.consumer_group import (
    ConsumerGroup,
    Topics,
    all_names,
    digest,
    preferred_assignor,
    subscriptions,
)
from ottla.coordinator.consumer_group_records import (
    ConsumerGroupGone,
    ConsumerGroupRecord,
    ConsumerGroupsRecord,
    ConsumerMemberGone,
    ConsumerMemberRecord,
    ConsumerTargetRecord,
    TopicIdPartition,
    by_topic,
)
from ottla.coordinator.consumer_group_states import (
    STATIC_LEAVE_EPOCH,
    Current,
    MemberState,
    reconcile,
)
from ottla.coordinator.consumer_heartbeat import (
    ConsumerHeartbeat,
    HeartbeatAnswer,
    check_epoch,
    check_request,
    updated_member,
)
from ottla.coordinator.group import NEVER_MS
from ottla.coordinator.membership import LeavingMember
from ottla.coordinator.patterns import matcher
from ottla.coordinator.records import Outcome
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import GROUP_MEMBERS_MAX, GROUP_MEMBERS_TOTAL_MAX

_PATTERNS_KEPT = 256
_FIRST_EPOCH = 1
Members = dict[str, ConsumerMemberRecord]


class ConsumerGroupConfig(msgspec.Struct, frozen=True):
    """Kafka's group.consumer.*: session.timeout.ms, heartbeat.interval.ms and so on."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    assignment_interval_ms: int = 1_000


class _Deadlines(msgspec.Struct):
    """When a member is removed unless it is heard of, or gives up what it must, before."""

    session_ms: float
    rebalance_ms: float = NEVER_MS


class _Step(msgspec.Struct):
    """One heartbeat under way: the group as it would be after it, and the records so far."""

    group: ConsumerGroup
    known: ConsumerMemberRecord | None
    replaced: ConsumerMemberRecord | None
    member: ConsumerMemberRecord
    current: Current
    target_epoch: int
    target: Partitions
    records: list[ConsumerGroupsRecord] = []

    @property
    def resubscribes(self) -> bool:
        before = self.known or self.replaced
        if before is None:
            return bool(self.member.topics or self.member.topic_regex)
        return (before.topics, before.topic_regex) != (self.member.topics, self.member.topic_regex)

    def members(self) -> Members:
        """All members, this one as it is now and without the one that it replaces."""
        members = self.group.members | {self.member.member_id: self.member}
        if self.replaced is not None:
            del members[self.replaced.member_id]
        return members

    def targets(self) -> dict[str, Partitions]:
        """The targets so far; the one of a replaced member is its successor's."""
        targets = dict(self.group.targets)
        if self.replaced is not None and self.replaced.member_id in targets:
            targets[self.member.member_id] = targets.pop(self.replaced.member_id)
        return targets


class ConsumerGroups:
    """All consumer groups. `config` tells the settings of a group by its id."""

    def __init__(self, topics: Topics, config: Callable[[str], ConsumerGroupConfig]) -> None:
        self._topics = topics
        self._config = config
        self._groups: dict[str, ConsumerGroup] = {}
        self._population = 0
        self._deadlines: dict[tuple[str, str], _Deadlines] = {}
        self._replayed: set[tuple[str, str]] = set()
        self._scheduled: dict[tuple[str, str], float] = {}
        self._wakes: list[tuple[float, tuple[str, str]]] = []
        self.matcher = lru_cache(_PATTERNS_KEPT)(matcher)

    def get(self, group_id: str) -> ConsumerGroup | None:
        return self._groups.get(group_id)

    def ids(self) -> set[str]:
        return set(self._groups)

    # Heartbeats

    def heartbeat(
        self,
        request: ConsumerHeartbeat,
        monotonic_ms: int,
        *,
        is_classic: bool = False,
        is_occupied: bool = False,
    ) -> Outcome[HeartbeatAnswer]:
        """ConsumerGroupHeartbeat. Raises KafkaError with what Kafka says.

        `is_classic`: the id is a classic group's. `is_occupied`: and that one has members.
        """
        check_request(request, ASSIGNORS)
        group = self._groups.get(request.group_id)
        if group is None:
            if not request.joins or is_occupied:
                raise _not_found(request, is_classic)
            group = ConsumerGroup(request.group_id)
        if request.member_epoch < 0:
            return self._leave(group, request)
        config = self._config(request.group_id)
        step = self._admit(group, request)
        before = step.current
        self._advance(step, config, monotonic_ms)
        self._reconcile(step, request)
        self._groups.setdefault(request.group_id, group)
        self._keep_alive(step, before, config, monotonic_ms)
        told = request.is_full or before.assigned.keys() != step.current.assigned.keys()
        answer = HeartbeatAnswer(
            step.member.member_id,
            step.current.epoch,
            config.heartbeat_interval_ms,
            by_topic(frozenset(step.current.assigned)) if told else None,
        )
        return Outcome(list(step.records), answer)

    def _admit(self, group: ConsumerGroup, request: ConsumerHeartbeat) -> _Step:
        """Step 1: who it is, and whether it may go on."""
        known = group.members.get(request.member_id)
        if known is None and request.joins:
            self._check_room(group)
        replaced = None
        instance_id = request.group_instance_id
        if instance_id is not None and request.joins:
            replaced = self._released(group, instance_id, request.member_id)
        elif instance_id is not None:
            known = group.static_member(instance_id, request.member_id)
        elif not request.joins:
            known = group.member(request.member_id)
        predecessor = (known or replaced or request).member_id
        current = group.current(predecessor)
        if known is not None and not request.joins:
            check_epoch(current, request)
        if replaced is not None:
            assigned = dict.fromkeys(current.assigned, 0)
            current = Current(assigned=assigned)
            if replaced.member_id == request.member_id:
                known, replaced = replaced, None
        member = updated_member(known or replaced, request)
        target = group.targets.get(predecessor, frozenset())
        step = _Step(group, known, replaced, member, current, group.target_epoch, target)
        if step.resubscribes and member.topic_regex:
            self._check_pattern(member.topic_regex)
        if replaced is not None:
            step.records.append(ConsumerMemberGone(group.group_id, replaced.member_id))
        if known != member:
            step.records.append(member)
        return step

    def _check_pattern(self, pattern: str) -> None:
        try:
            self.matcher(pattern)
        except KafkaError as error:
            raise KafkaError(error.code, f"SubscribedTopicRegex {error.message}") from error

    def _check_room(self, group: ConsumerGroup) -> None:
        if len(group.members) >= GROUP_MEMBERS_MAX:
            raise KafkaError(
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {GROUP_MEMBERS_MAX} "
                "members.",
            )
        if self._population >= GROUP_MEMBERS_TOTAL_MAX:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "too many members in all")

    def _released(
        self, group: ConsumerGroup, instance_id: str, member_id: str
    ) -> ConsumerMemberRecord | None:
        """The member that had the instance id and has left it for a while, if there is one."""
        owner = group.static_members.get(instance_id)
        if owner is None:
            return None
        if group.current(owner).epoch != STATIC_LEAVE_EPOCH:
            raise KafkaError(
                ErrorCode.UNRELEASED_INSTANCE_ID,
                f"Static member {member_id} with instance id {instance_id} cannot join the group "
                f"because the instance id is owned by {owner} member.",
            )
        return group.members[owner]

    def _advance(self, step: _Step, config: ConsumerGroupConfig, monotonic_ms: int) -> None:
        """Steps 2 and 3: the group's epoch and its target."""
        group = step.group
        group_epoch = max(group.group_epoch, _FIRST_EPOCH)
        topics_digest = group.topics_digest
        moved = step.resubscribes
        if moved or group.topics_version != self._topics.version:
            names = subscriptions(step.members(), self._topics, self.matcher)
            topics_digest = digest(all_names(names), self._topics)
            group.topics_version = self._topics.version
            if moved or topics_digest != group.topics_digest:
                group_epoch += 1
        may_assign = not step.target_epoch or monotonic_ms >= group.next_assignment_ms
        if group_epoch > step.target_epoch and may_assign:
            step.target_epoch = group_epoch
            group.next_assignment_ms = monotonic_ms + config.assignment_interval_ms
            self._assign(step)
        elif step.replaced is not None:
            step.records.append(_target_record(step, step.member.member_id, step.target))
        after = ConsumerGroupRecord(group.group_id, group_epoch, step.target_epoch, topics_digest)
        if after != group.record():
            step.records.insert(0, after)

    def _assign(self, step: _Step) -> None:
        before = step.targets()
        targets = self._targets(step.members(), before)
        step.target = targets[step.member.member_id]
        for member_id, target in targets.items():
            is_new = member_id not in step.group.targets
            if is_new or before[member_id] != target:
                step.records.append(_target_record(step, member_id, target))

    def _targets(self, members: Members, before: Mapping[str, Partitions]) -> dict[str, Partitions]:
        """What the assignor makes of it."""
        names = subscriptions(members, self._topics, self.matcher)
        placed = {name: self._topics.placement(name) for name in all_names(names)}
        found = {name: placement for name, placement in placed.items() if placement is not None}
        ids = {
            names_of: frozenset(found[name][0] for name in names_of if name in found)
            for names_of in set(names.values())
        }
        return ASSIGNORS[preferred_assignor(members.values())](
            [
                Subscriber(member_id, member.group_instance_id, ids[names[member_id]])
                for member_id, member in members.items()
            ],
            dict(found.values()),
            before,
        )

    def _reconcile(self, step: _Step, request: ConsumerHeartbeat) -> None:
        """Step 4: the member's next step."""
        group, member_id = step.group, step.member.member_id

        def is_anothers(partition: TopicIdPartition) -> bool:
            return group.holder(partition) not in (None, member_id)

        step.current = reconcile(
            step.current, step.target_epoch, step.target, is_anothers, request.owned
        )
        if step.current != group.current(member_id):
            step.records.append(step.current.record(group.group_id, member_id))

    def _keep_alive(
        self, step: _Step, before: Current, config: ConsumerGroupConfig, monotonic_ms: int
    ) -> None:
        key = step.group.group_id, step.member.member_id
        deadlines = self._deadlines.setdefault(key, _Deadlines(NEVER_MS))
        self._replayed.discard(key)
        deadlines.session_ms = monotonic_ms + config.session_timeout_ms
        if step.current.state is not MemberState.UNREVOKED_PARTITIONS:
            deadlines.rebalance_ms = NEVER_MS
        elif step.current != before or deadlines.rebalance_ms == NEVER_MS:
            deadlines.rebalance_ms = monotonic_ms + step.member.rebalance_timeout_ms
        self._schedule(key)

    # Leaving

    def _leave(self, group: ConsumerGroup, request: ConsumerHeartbeat) -> Outcome[HeartbeatAnswer]:
        """-1: for good. -2: a static member will be back, and keeps its place."""
        instance_id = request.group_instance_id
        if instance_id is None:
            member = group.member(request.member_id)
        else:
            member = group.static_member(instance_id, request.member_id)
        answer = HeartbeatAnswer(member.member_id, request.member_epoch, 0, None)
        if request.member_epoch == STATIC_LEAVE_EPOCH:
            gone = group.current(member.member_id)._replace(
                epoch=STATIC_LEAVE_EPOCH, state=MemberState.STABLE, revoking={}
            )
            deadlines = self._deadlines.get((group.group_id, member.member_id))
            if deadlines is not None:
                deadlines.rebalance_ms = NEVER_MS
            return Outcome([gone.record(group.group_id, member.member_id)], answer)
        return Outcome(list(self._removed(group, [member.member_id])), answer)

    def remove(
        self, group: ConsumerGroup, leaving: Iterable[LeavingMember]
    ) -> Outcome[list[ErrorCode]]:
        """LeaveGroup: an administrator removes members; an error code for each, in order."""
        errors, gone = [], []
        for member_id, instance_id in leaving:
            found = member_id or group.static_members.get(instance_id or "", "")
            try:
                if instance_id is None:
                    member = group.member(found)
                else:
                    member = group.static_member(instance_id, found)
            except KafkaError as error:
                errors.append(error.code)
                continue
            errors.append(ErrorCode.NONE)
            gone.append(member.member_id)
        records = self._removed(group, list(dict.fromkeys(gone))) if gone else []
        return Outcome(list(records), errors)

    def _removed(self, group: ConsumerGroup, member_ids: list[str]) -> list[ConsumerGroupsRecord]:
        """Records that remove members: the rest share what they had with the next heartbeat."""
        gone = set(member_ids)
        left = {known: member for known, member in group.members.items() if known not in gone}
        names = subscriptions(left, self._topics, self.matcher)
        topics_digest = digest(all_names(names), self._topics)
        group.topics_version = self._topics.version
        return [
            *(ConsumerMemberGone(group.group_id, member_id) for member_id in member_ids),
            ConsumerGroupRecord(
                group.group_id, group.group_epoch + 1, group.target_epoch, topics_digest
            ),
        ]

    # Offsets

    def check_commits(
        self,
        group: ConsumerGroup,
        member_id: str,
        member_epoch: int,
        partitions: Iterable[tuple[str, int]],
    ) -> list[ErrorCode]:
        """Whether the member may commit offsets for these partitions of topics by name."""
        errors = []
        for name, index in partitions:
            placement = self._topics.placement(name)
            place = None if placement is None else (placement[0], index)
            errors.append(group.check_commit(member_id, member_epoch, place))
        return errors

    # Time

    def on_timer(self, monotonic_ms: int) -> list[ConsumerGroupsRecord]:
        """Records that remove the members whose time is up."""
        for key in sorted(self._replayed):
            self._start_clocks(key, monotonic_ms)
        self._replayed.clear()
        late: dict[str, list[str]] = {}
        while self._wakes and self._wakes[0][0] <= monotonic_ms:
            wake_ms, key = heapq.heappop(self._wakes)
            if self._scheduled.get(key) != wake_ms:
                continue
            del self._scheduled[key]
            if self._deadline(key) <= monotonic_ms:
                late.setdefault(key[0], []).append(key[1])
            else:
                self._schedule(key)
        records: list[ConsumerGroupsRecord] = []
        for group_id, member_ids in late.items():
            records += self._removed(self._groups[group_id], member_ids)
        return records

    def next_deadline_ms(self) -> int | None:
        """When `on_timer` should be called next; None: no need to."""
        if self._replayed:
            return 0
        while self._wakes and self._scheduled.get(self._wakes[0][1]) != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        return int(self._wakes[0][0]) if self._wakes else None

    def _start_clocks(self, key: tuple[str, str], monotonic_ms: int) -> None:
        group_id, member_id = key
        group = self._groups[group_id]
        deadlines = _Deadlines(monotonic_ms + self._config(group_id).session_timeout_ms)
        if group.current(member_id).state is MemberState.UNREVOKED_PARTITIONS:
            timeout_ms = group.members[member_id].rebalance_timeout_ms
            deadlines.rebalance_ms = monotonic_ms + timeout_ms
        self._deadlines[key] = deadlines
        self._schedule(key)

    def _deadline(self, key: tuple[str, str]) -> float:
        deadlines = self._deadlines[key]
        return min(deadlines.session_ms, deadlines.rebalance_ms)

    def _schedule(self, key: tuple[str, str]) -> None:
        """One entry for each member is enough: when it comes up it is put off if need be."""
        deadline_ms = self._deadline(key)
        if deadline_ms < self._scheduled.get(key, NEVER_MS):
            self._scheduled[key] = deadline_ms
            heapq.heappush(self._wakes, (deadline_ms, key))

    # Durable state

    def apply(self, record: ConsumerGroupsRecord) -> None:
        """Take over what a record says, live or in replay."""
        group_id = record.group_id
        if isinstance(record, ConsumerGroupGone):
            self.forget(group_id)
            return
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = ConsumerGroup(group_id)
        before = len(group.members)
        group.apply(record)
        self._population += len(group.members) - before
        if isinstance(record, ConsumerMemberGone):
            self._forget_clocks((group_id, record.member_id))
        elif isinstance(record, ConsumerMemberRecord):
            key = group_id, record.member_id
            if key not in self._deadlines:
                self._replayed.add(key)

    def forget(self, group_id: str) -> None:
        """The group is deleted, or has become a classic one."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            self._population -= len(group.members)
            for member_id in group.members:
                self._forget_clocks((group_id, member_id))

    def _forget_clocks(self, key: tuple[str, str]) -> None:
        self._deadlines.pop(key, None)
        self._scheduled.pop(key, None)
        self._replayed.discard(key)

    def snapshot(self) -> list[ConsumerGroupsRecord]:
        """Records that make an equal coordinator out of an empty one."""
        return [
            record
            for group_id in sorted(self._groups)
            for record in self._groups[group_id].snapshot()
        ]


def _not_found(request: ConsumerHeartbeat, is_classic: bool) -> KafkaError:
    what = "Group" if is_classic or request.member_epoch < 0 else "Consumer group"
    why = "is not a consumer group" if is_classic else "not found"
    return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"{what} {request.group_id} {why}.")


def _target_record(step: _Step, member_id: str, target: Partitions) -> ConsumerTargetRecord:
    return ConsumerTargetRecord(step.group.group_id, member_id, by_topic(target))
