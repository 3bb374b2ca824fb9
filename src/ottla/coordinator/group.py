"""One classic group: its members, what they vote for, who leads, what they may still do.

A group is two things at once. *Volatile* is who has asked to join or sync (their tokens), the
deadlines, the member ids given out but not joined with, and a generation that has not got its
assignments yet; operations change these as they please, and a crash forgets them. *Durable* is the
last complete generation, `record`: it changes in `apply` only, and a restart brings it back,
so that members go on as if nothing had happened (they get a full session timeout to show up).

A Group knows no replies and starts no rebalance; that is `rebalance.Rebalancer`.
"""

import math
from collections import Counter
from dataclasses import dataclass

from ottla.coordinator.consumer_protocol import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from ottla.coordinator.group_states import TRANSITIONS, GroupEvent, GroupState
from ottla.coordinator.membership import UNKNOWN_MEMBER_ID, JoinRequest
from ottla.coordinator.records import GroupRecord, MemberState
from ottla.ports.errors import ErrorCode
from ottla.ports.invariants import invariant
from ottla.wire.messages.join_group import JoinGroupResponseMember

NEVER_MS = math.inf


@dataclass(slots=True)
class Member:
    """A member. `is_new` until its first generation; `deadline_ms` is None while it need not
    heartbeat because it waits for an answer, and after replay until the timers are started."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: list[tuple[str, bytes]]
    assignment: bytes = b""
    is_new: bool = False
    deadline_ms: float | None = None

    def metadata(self, protocol_name: str | None) -> bytes:
        """The metadata for the protocol; empty when the member does not know it."""
        return next((data for name, data in self.protocols if name == protocol_name), b"")

    def state(self, assignment: bytes) -> MemberState:
        """The member as a GroupRecord keeps it."""
        return MemberState(
            self.member_id,
            self.group_instance_id,
            self.client_id,
            self.client_host,
            self.session_timeout_ms,
            self.rebalance_timeout_ms,
            self.protocols,
            assignment,
        )


class Group:
    """A classic group.

    `joining` and `syncing` hold the tokens of parked requests by member id; `pending` the deadlines
    of member ids given out and not yet joined with; `pending_sync` those who owe a SyncGroup.
    `wake_ms` is never later than the earliest deadline; `counted` is what the coordinator last saw
    of `population`.
    """

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.record: GroupRecord | None = None
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self.joining: dict[str, object] = {}
        self.syncing: dict[str, object] = {}
        self.pending: dict[str, float] = {}
        self.pending_sync: set[str] = set()
        self.initial_rebalance = False
        self.initial_until_ms = NEVER_MS
        self.new_member_added = False
        self.join_deadline_ms = NEVER_MS
        self.sync_deadline_ms = NEVER_MS
        self.wake_ms = NEVER_MS
        self.counted = 0
        self._support: Counter[str] = Counter()

    # What it looks like

    @property
    def is_unused(self) -> bool:
        """Nothing durable, nobody in it and nobody on the way."""
        return (
            self.state is GroupState.EMPTY
            and self.record is None
            and not self.members
            and not self.pending
        )

    @property
    def population(self) -> int:
        """How many member ids the group keeps."""
        return len(self.members) + len(self.pending)

    @property
    def all_joined(self) -> bool:
        """Every member waits for the next generation, and no new one is on the way."""
        return len(self.joining) == len(self.members) and not self.pending

    @property
    def is_consumer(self) -> bool:
        """Whether the members speak the "consumer" protocol, whose subscriptions can be read."""
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    @property
    def has_unstarted_sessions(self) -> bool:
        """Whether members have come by replay and nothing ends their sessions yet."""
        return bool(self._unstarted())

    @property
    def can_rebalance(self) -> bool:
        return GroupEvent.REBALANCE in TRANSITIONS[self.state]

    @property
    def rebalance_timeout_ms(self) -> int:
        """How long a join or sync phase may take: the longest that a member asked for."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def supports(self, protocol_type: str, protocols: list[tuple[str, bytes]]) -> bool:
        """Whether a member with these protocols can be in the group with all the others."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type and protocols)
        return protocol_type == self.protocol_type and any(
            self._support[name] == len(self.members) for name, _ in protocols
        )

    def select_protocol(self) -> str:
        """The protocol with the most votes of those that every member knows.

        Each member votes for its favourite of them; of equals the first voted for is taken.
        """
        count = len(self.members)
        candidates = {name for name, known_by in self._support.items() if known_by == count}
        invariant(candidates, "members have a protocol in common", group_id=self.group_id)
        votes = Counter(
            next(name for name, _ in member.protocols if name in candidates)
            for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def joined_members(self) -> list[JoinGroupResponseMember]:
        """What the leader needs to know to make the assignment."""
        return [
            JoinGroupResponseMember(
                member.member_id, member.group_instance_id, member.metadata(self.protocol_name)
            )
            for member in self.members.values()
        ]

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether members consume the topic; yes in case of doubt."""
        if not self.is_consumer:
            return False
        for member in self.members.values():
            topics = subscribed_topics(member.metadata(self.protocol_name))
            if topics is None or topic in topics:
                return True
        return False

    # Who may do what

    def validate_member(self, member_id: str, group_instance_id: str | None) -> ErrorCode:
        """NONE, UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID: another has taken the instance id."""
        if group_instance_id is not None:
            owner = self.static_members.get(group_instance_id)
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if owner != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def validate_generation(
        self, member_id: str, group_instance_id: str | None, generation_id: int
    ) -> ErrorCode:
        """`validate_member`, or ILLEGAL_GENERATION when the member speaks of another generation."""
        error = self.validate_member(member_id, group_instance_id)
        if error is ErrorCode.NONE and generation_id != self.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        return error

    def validate_offset_commit(
        self,
        member_id: str,
        group_instance_id: str | None,
        generation_id: int,
        *,
        transactional: bool,
    ) -> ErrorCode:
        """Whether these offsets may be committed now.

        Without a generation a group without members takes them (an administrator, or a consumer
        that assigns partitions itself), and of a transactional producer any group: before KIP-447
        it had nothing to show. The phase of a rebalance counts for plain commits only.
        """
        if generation_id < 0 and self.state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation_id >= 0 or member_id != UNKNOWN_MEMBER_ID or group_instance_id is not None:
            error = self.validate_generation(member_id, group_instance_id, generation_id)
            if error is not ErrorCode.NONE:
                return error
        elif not transactional:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if not transactional and self.state is GroupState.COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    # What operations change

    def transition(self, event: GroupEvent) -> None:
        """Move along the table; what is not in it is a bug."""
        after = TRANSITIONS[self.state].get(event)
        invariant(after, "a legal move", group_id=self.group_id, state=self.state, event=event)
        if after is not None:
            self.state = after

    def by(self, deadline_ms: float) -> float:
        """The deadline, having seen to it that the group is looked at by then."""
        self.wake_ms = min(self.wake_ms, deadline_ms)
        return deadline_ms

    def extend_session(self, member: Member, monotonic_ms: int) -> None:
        """The member has shown that it is alive."""
        member.deadline_ms = self.by(monotonic_ms + member.session_timeout_ms)

    def add(self, member: Member, protocol_type: str) -> None:
        """Take in a new member; the first one decides the group's protocol type and leads."""
        invariant(member.member_id not in self.members, "a member is added once")
        if member.group_instance_id is not None:
            invariant(member.group_instance_id not in self.static_members, "one per instance id")
            self.static_members[member.group_instance_id] = member.member_id
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        self.pending.pop(member.member_id, None)
        self._count(member, 1)

    def remove(self, member_id: str) -> Member:
        """Let a member go; its parked requests are the caller's to answer, before."""
        invariant(
            member_id not in self.joining and member_id not in self.syncing,
            "a member that goes has been answered",
            group_id=self.group_id,
        )
        member = self.members.pop(member_id)
        self._count(member, -1)
        self.pending_sync.discard(member_id)
        if member.group_instance_id is not None:
            del self.static_members[member.group_instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def update(self, member: Member, request: JoinRequest) -> None:
        """The member has joined again, maybe with other protocols."""
        self._count(member, -1)
        member.protocols = request.protocols
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        self._count(member, 1)

    def elect_leader(self) -> bool:
        """Keep the leader if it joined, else take the first who did; False if nobody did."""
        if self.leader_id not in self.joining:
            elected = next((known for known in self.members if known in self.joining), None)
            if elected is None:
                return False
            self.leader_id = elected
        return True

    def earliest_deadline_ms(self) -> float:
        """When something happens here unless somebody does something first."""
        sessions = (m.deadline_ms for m in self.members.values() if m.deadline_ms is not None)
        return min(
            self.join_deadline_ms,
            self.sync_deadline_ms,
            min(sessions, default=NEVER_MS),
            min(self.pending.values(), default=NEVER_MS),
        )

    # Complete generations

    def completed(self, assignments: dict[str, bytes]) -> GroupRecord:
        """The record of this generation with these assignments."""
        return GroupRecord(
            self.group_id,
            self.generation_id,
            self.protocol_type or "",
            self.protocol_name,
            self.leader_id,
            [
                member.state(assignments.get(member_id, b""))
                for member_id, member in self.members.items()
            ],
        )

    def emptied(self) -> GroupRecord:
        """The record of the next generation, which has no members."""
        return GroupRecord(
            self.group_id, self.generation_id + 1, self.protocol_type or "", None, None, []
        )

    def apply(self, record: GroupRecord) -> None:
        """A generation is complete. Members that are here already keep their deadlines."""
        invariant(
            record.generation_id >= self.generation_id,
            "a generation never goes back",
            group_id=self.group_id,
            generation_id=record.generation_id,
        )
        self.transition(GroupEvent.ASSIGNED if record.members else GroupEvent.EMPTIED)
        self.record = record
        self.generation_id = record.generation_id
        self.protocol_type = record.protocol_type or None
        self.protocol_name = record.protocol_name
        self.leader_id = record.leader_id
        before, self.members, self.static_members = self.members, {}, {}
        self._support.clear()
        for state in record.members:
            member = _load(state)
            present = before.get(state.member_id)
            if present is not None:
                member.deadline_ms = present.deadline_ms
            self.members[member.member_id] = member
            if member.group_instance_id is not None:
                self.static_members[member.group_instance_id] = member.member_id
            self._count(member, 1)

    def start_sessions(self, monotonic_ms: int) -> None:
        """After replay: give every member a full session timeout to show up."""
        for member in self._unstarted():
            self.extend_session(member, monotonic_ms)

    def _unstarted(self) -> list[Member]:
        return [
            member
            for member_id, member in self.members.items()
            if member.deadline_ms is None
            and member_id not in self.joining
            and member_id not in self.syncing
        ]

    def _count(self, member: Member, change: int) -> None:
        for name in {name for name, _ in member.protocols}:
            self._support[name] += change
            if not self._support[name]:
                del self._support[name]


def _load(state: MemberState) -> Member:
    return Member(
        state.member_id,
        state.group_instance_id,
        state.client_id,
        state.client_host,
        state.session_timeout_ms,
        state.rebalance_timeout_ms,
        state.protocols,
        state.assignment,
    )
