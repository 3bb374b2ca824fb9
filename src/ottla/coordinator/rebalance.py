"""The rebalance of a classic group: who joins, when a generation begins, who gets the assignment.

A rebalance has two phases. In the join phase every member's JoinGroup is parked until all are in,
or until the rebalance timeout: dynamic members that did not come are out, static ones keep their
place. Then the generation id goes up and all are answered; the leader also learns who the others
are. In the sync phase each member's SyncGroup is parked until the leader's brings the assignments.
The generation with its assignments becomes a GroupRecord: from then on it survives a restart.

Methods change the volatile side of a Group and add to `out`: records for `Group.apply`, and answers
to parked requests. A request that is parked is answered exactly once: with the phase's result, or
with the reason why it waits in vain (REBALANCE_IN_PROGRESS when the same member asked again;
UNKNOWN_MEMBER_ID when it was removed; FENCED_INSTANCE_ID when another took its instance id). Kafka
leaves some of these to the client's request timeout.

Times are monotonic milliseconds.
"""

from collections.abc import Callable, Iterable

from ottla.coordinator.group import NEVER_MS, Group, Member
from ottla.coordinator.group_states import GroupEvent, GroupState
from ottla.coordinator.membership import (
    UNKNOWN_MEMBER_ID,
    JoinRequest,
    LeavingMember,
    SyncRequest,
    join_refused,
    sync_refused,
)
from ottla.coordinator.records import GroupOutcome
from ottla.ports.errors import ErrorCode
from ottla.ports.invariants import invariant
from ottla.ports.limits import GROUP_MEMBERS_MAX
from ottla.wire.messages.join_group import JoinGroupResponse
from ottla.wire.messages.sync_group import SyncGroupResponse

# A new member waits for its first generation without heartbeats (with JoinGroup v0-3 it does not
# even know its id), so its session cannot tell whether it is still there: classic.new.member.join
# .timeout.ms, not configurable in Kafka either.
NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000
# How often a join phase that nobody came to is looked at, whatever timeout the members asked for.
JOIN_RETRY_MS_MIN = 1_000


class Rebalancer:
    """Leads groups from one generation to the next.

    `initial_rebalance_delay_ms`: how long an empty group waits for more members to come before its
    first generation. `new_member_id` makes a member id that begins with the given text.
    """

    def __init__(
        self, initial_rebalance_delay_ms: int, new_member_id: Callable[[str], str]
    ) -> None:
        self._delay_ms = initial_rebalance_delay_ms
        self._new_member_id = new_member_id

    # JoinGroup

    def join(
        self, group: Group, token: object, request: JoinRequest, now_ms: int, out: GroupOutcome
    ) -> None:
        """A member wants to be in the next generation."""
        member_id = request.member_id
        if member_id not in group.members and len(group.members) >= GROUP_MEMBERS_MAX:
            group.pending.pop(member_id, None)
            refused = join_refused(ErrorCode.GROUP_MAX_SIZE_REACHED, UNKNOWN_MEMBER_ID)
            out.replies.append((token, refused))
        elif not group.supports(request.protocol_type, request.protocols):
            refused = join_refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)
            out.replies.append((token, refused))
        elif member_id == UNKNOWN_MEMBER_ID:
            self._join_unknown(group, token, request, now_ms, out)
        elif member_id in group.pending and request.group_instance_id is None:
            self._add(group, member_id, token, request, now_ms, out)
        else:
            error = group.validate_member(member_id, request.group_instance_id)
            if error is ErrorCode.NONE:
                self._rejoin(group, token, request, now_ms, out)
            else:
                out.replies.append((token, join_refused(error, member_id)))

    def _join_unknown(
        self, group: Group, token: object, request: JoinRequest, now_ms: int, out: GroupOutcome
    ) -> None:
        instance_id = request.group_instance_id
        if instance_id is not None:
            new_id = self._new_member_id(instance_id)
            if instance_id in group.static_members:
                self._replace_static(group, new_id, token, request, now_ms, out)
            else:
                self._add(group, new_id, token, request, now_ms, out)
            return
        new_id = self._new_member_id(request.client_id)
        if request.requires_member_id:
            # KIP-394: a client that retries its first JoinGroup must not leave ghosts behind.
            group.pending[new_id] = group.by(now_ms + request.session_timeout_ms)
            out.replies.append((token, join_refused(ErrorCode.MEMBER_ID_REQUIRED, new_id)))
        else:
            self._add(group, new_id, token, request, now_ms, out)

    def _add(
        self,
        group: Group,
        member_id: str,
        token: object,
        request: JoinRequest,
        now_ms: int,
        out: GroupOutcome,
    ) -> None:
        member = Member(
            member_id,
            request.group_instance_id,
            request.client_id,
            request.client_host,
            request.session_timeout_ms,
            request.rebalance_timeout_ms,
            request.protocols,
            is_new=True,
            deadline_ms=group.by(now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS),
        )
        group.new_member_added = group.initial_rebalance
        group.add(member, request.protocol_type)
        group.joining[member_id] = token
        self._rebalance_or_complete_join(group, now_ms, out)

    def _rejoin(
        self, group: Group, token: object, request: JoinRequest, now_ms: int, out: GroupOutcome
    ) -> None:
        """A known member joins again: for the next generation, or to hear of this one."""
        member = group.members[request.member_id]
        unchanged = member.protocols == request.protocols
        leads = group.leader_id == member.member_id
        # A leader that joins a stable group asks for a new assignment: topics may have changed.
        told = unchanged and (
            group.state is GroupState.COMPLETING_REBALANCE
            or (group.state is GroupState.STABLE and not leads)
        )
        if told:
            reply = _generation(group, member, with_members=leads)
            out.replies.append((token, reply))
            return
        group.update(member, request)
        self._park_join(group, member, token, out)
        self._rebalance_or_complete_join(group, now_ms, out)

    def _replace_static(
        self,
        group: Group,
        new_id: str,
        token: object,
        request: JoinRequest,
        now_ms: int,
        out: GroupOutcome,
    ) -> None:
        """A static member is back without its member id: it takes the old one's place (KIP-345).

        In a stable group whose protocol stays the same it gets the assignment without a rebalance.
        """
        instance_id = request.group_instance_id
        invariant(instance_id is not None, "a static member has an instance id")
        old_id = group.static_members[instance_id or ""]
        led = group.leader_id == old_id
        self._answer_parked(group, old_id, ErrorCode.FENCED_INSTANCE_ID, old_id, out)
        old = group.remove(old_id)
        member = Member(
            new_id,
            instance_id,
            request.client_id,
            request.client_host,
            request.session_timeout_ms,
            request.rebalance_timeout_ms,
            request.protocols,
            assignment=old.assignment,
        )
        group.add(member, request.protocol_type)
        group.extend_session(member, now_ms)
        if led:
            group.leader_id = new_id
        if group.state is GroupState.STABLE and group.select_protocol() == group.protocol_name:
            reply = _generation(
                group,
                member,
                with_members=led and request.can_skip_assignment,
                skip_assignment=led and request.can_skip_assignment,
                # A leader that cannot be told to skip must not learn that it leads (KIP-814).
                leader_id=None if request.can_skip_assignment or not led else old_id,
            )
            out.replies.append((token, reply))
            assignments = {known.member_id: known.assignment for known in group.members.values()}
            out.records.append(group.completed(assignments))
            return
        group.joining[new_id] = token
        if group.state is GroupState.PREPARING_REBALANCE:
            self._maybe_complete_join(group, now_ms, out)
        else:
            # In CompletingRebalance the leader may be assigning to the old member id just now.
            self._prepare_rebalance(group, now_ms, out)

    # The join phase

    def _rebalance_or_complete_join(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        if group.can_rebalance:
            self._prepare_rebalance(group, now_ms, out)
        else:
            self._maybe_complete_join(group, now_ms, out)

    def _prepare_rebalance(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        for member_id in list(group.syncing):
            self._answer_sync(group, member_id, sync_refused(ErrorCode.REBALANCE_IN_PROGRESS), out)
            group.extend_session(group.members[member_id], now_ms)
        group.pending_sync.clear()
        group.sync_deadline_ms = NEVER_MS
        group.initial_rebalance = group.state is GroupState.EMPTY
        group.new_member_added = False
        group.transition(GroupEvent.REBALANCE)
        if group.initial_rebalance and self._delay_ms:
            longest_ms = max(group.rebalance_timeout_ms, self._delay_ms)
            group.initial_until_ms = now_ms + longest_ms
            group.join_deadline_ms = group.by(now_ms + self._delay_ms)
        elif group.initial_rebalance or group.all_joined:
            self._complete_join(group, now_ms, out)
        else:
            group.join_deadline_ms = group.by(now_ms + group.rebalance_timeout_ms)

    def _maybe_complete_join(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        if (
            group.state is GroupState.PREPARING_REBALANCE
            and not group.initial_rebalance
            and group.all_joined
        ):
            self._complete_join(group, now_ms, out)

    def _join_time_is_up(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        if group.new_member_added and now_ms < group.initial_until_ms:
            group.new_member_added = False
            until_ms = min(now_ms + self._delay_ms, group.initial_until_ms)
            group.join_deadline_ms = group.by(until_ms)
        else:
            self._complete_join(group, now_ms, out)

    def _complete_join(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        """The join phase is over: begin the next generation with those who came."""
        group.join_deadline_ms = NEVER_MS
        absent = [
            member.member_id
            for member in group.members.values()
            if member.member_id not in group.joining and member.group_instance_id is None
        ]
        for member_id in absent:
            group.remove(member_id)
        if not group.members:
            group.initial_rebalance = False
            out.records.append(group.emptied())
            return
        if not group.elect_leader():
            # Static members only, none of them here: their sessions decide.
            again_ms = max(group.rebalance_timeout_ms, JOIN_RETRY_MS_MIN)
            group.join_deadline_ms = group.by(now_ms + again_ms)
            return
        group.initial_rebalance = False
        group.generation_id += 1
        group.protocol_name = group.select_protocol()
        group.transition(GroupEvent.JOINED)
        group.pending_sync = set(group.members)
        group.sync_deadline_ms = group.by(now_ms + group.rebalance_timeout_ms)
        for member in group.members.values():
            leads = member.member_id == group.leader_id
            self._answer_join(group, member.member_id, _generation(group, member, leads), out)
            member.is_new = False
            group.extend_session(member, now_ms)

    # SyncGroup

    def sync(
        self, group: Group, token: object, request: SyncRequest, now_ms: int, out: GroupOutcome
    ) -> None:
        """A member asks for its assignment; the leader brings those of all."""
        error = _validate_sync(group, request)
        if error is ErrorCode.NONE and group.state is GroupState.PREPARING_REBALANCE:
            error = ErrorCode.REBALANCE_IN_PROGRESS
        if error is not ErrorCode.NONE:
            out.replies.append((token, sync_refused(error)))
            return
        member = group.members[request.member_id]
        group.pending_sync.discard(member.member_id)
        if not group.pending_sync:
            group.sync_deadline_ms = NEVER_MS
        if group.state is GroupState.STABLE:
            out.replies.append((token, _assignment(group, member.assignment)))
            return
        again = sync_refused(ErrorCode.REBALANCE_IN_PROGRESS)
        self._answer_sync(group, member.member_id, again, out)
        group.syncing[member.member_id] = token
        if member.member_id == group.leader_id:
            self._complete_sync(group, request.assignments, now_ms, out)

    def _complete_sync(
        self, group: Group, assignments: dict[str, bytes], now_ms: int, out: GroupOutcome
    ) -> None:
        out.records.append(group.completed(assignments))
        for member_id in list(group.syncing):
            reply = _assignment(group, assignments.get(member_id, b""))
            self._answer_sync(group, member_id, reply, out)
            group.extend_session(group.members[member_id], now_ms)

    # LeaveGroup, and members that are heard of no more

    def leave(
        self, group: Group, leaving: Iterable[LeavingMember], now_ms: int, out: GroupOutcome
    ) -> list[ErrorCode]:
        """Members go, each by its own choice or an administrator's; an error code for each."""
        errors = [self._leave(group, identity, out) for identity in leaving]
        if ErrorCode.NONE in errors and group.state is not GroupState.EMPTY:
            self._rebalance_or_complete_join(group, now_ms, out)
        return errors

    def _leave(self, group: Group, identity: LeavingMember, out: GroupOutcome) -> ErrorCode:
        member_id, instance_id = identity
        if member_id == UNKNOWN_MEMBER_ID:
            known = None if instance_id is None else group.static_members.get(instance_id)
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = known
        elif group.pending.pop(member_id, None) is not None:
            return ErrorCode.NONE
        else:
            error = group.validate_member(member_id, instance_id)
            if error is not ErrorCode.NONE:
                return error
        self._remove(group, member_id, out)
        return ErrorCode.NONE

    def expire(self, group: Group, now_ms: int, out: GroupOutcome) -> None:
        """Do what is due: sessions that ended, a phase that took too long."""
        late = [known for known, deadline_ms in group.pending.items() if deadline_ms <= now_ms]
        for member_id in late:
            del group.pending[member_id]
        gone = self._expire_sessions(group, now_ms, out)
        if group.state is GroupState.PREPARING_REBALANCE:
            if (late or gone) and group.all_joined:
                self._complete_join(group, now_ms, out)
            elif group.join_deadline_ms <= now_ms:
                self._join_time_is_up(group, now_ms, out)
        elif gone:
            self._prepare_rebalance(group, now_ms, out)
        elif group.sync_deadline_ms <= now_ms:
            group.sync_deadline_ms = NEVER_MS
            overdue = list(group.pending_sync)
            for member_id in overdue:
                self._remove(group, member_id, out)
            if overdue:
                self._prepare_rebalance(group, now_ms, out)

    def _expire_sessions(self, group: Group, now_ms: int, out: GroupOutcome) -> bool:
        """Remove the members whose session has ended; whether there were any."""
        gone = False
        for member in list(group.members.values()):
            if member.deadline_ms is None or member.deadline_ms > now_ms:
                continue
            waits = member.member_id in group.joining or member.member_id in group.syncing
            if waits and not member.is_new:
                member.deadline_ms = None  # it need not heartbeat; the answer starts its session
            else:
                self._remove(group, member.member_id, out)
                gone = True
        return gone

    # Parked requests

    def _remove(self, group: Group, member_id: str, out: GroupOutcome) -> None:
        unknown = ErrorCode.UNKNOWN_MEMBER_ID
        self._answer_parked(group, member_id, unknown, UNKNOWN_MEMBER_ID, out)
        group.remove(member_id)

    def _park_join(self, group: Group, member: Member, token: object, out: GroupOutcome) -> None:
        again = join_refused(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id)
        self._answer_join(group, member.member_id, again, out)
        group.joining[member.member_id] = token

    def _answer_parked(
        self, group: Group, member_id: str, error: ErrorCode, told_id: str, out: GroupOutcome
    ) -> None:
        self._answer_join(group, member_id, join_refused(error, told_id), out)
        self._answer_sync(group, member_id, sync_refused(error), out)

    def _answer_join(
        self, group: Group, member_id: str, reply: JoinGroupResponse, out: GroupOutcome
    ) -> None:
        if member_id in group.joining:
            out.replies.append((group.joining.pop(member_id), reply))

    def _answer_sync(
        self, group: Group, member_id: str, reply: SyncGroupResponse, out: GroupOutcome
    ) -> None:
        if member_id in group.syncing:
            out.replies.append((group.syncing.pop(member_id), reply))


def _generation(
    group: Group,
    member: Member,
    with_members: bool,
    *,
    skip_assignment: bool = False,
    leader_id: str | None = None,
) -> JoinGroupResponse:
    """The group's current generation as a member is told of it."""
    return JoinGroupResponse(
        generation_id=group.generation_id,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=leader_id or group.leader_id or "",
        skip_assignment=skip_assignment,
        member_id=member.member_id,
        members=group.joined_members() if with_members else [],
    )


def _assignment(group: Group, assignment: bytes) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        assignment=assignment,
    )


def _validate_sync(group: Group, request: SyncRequest) -> ErrorCode:
    error = group.validate_generation(
        request.member_id, request.group_instance_id, request.generation_id
    )
    if error is ErrorCode.NONE and (
        request.protocol_type not in (None, group.protocol_type)
        or request.protocol_name not in (None, group.protocol_name)
    ):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    return error
