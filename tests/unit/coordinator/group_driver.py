"""Drives a GroupCoordinator as the broker does: records are applied at once, answers collected.

Every token is checked to be answered once at most. Time is the test's to turn.
"""

import struct
from collections.abc import Sequence
from itertools import count

from ottla.coordinator.groups import GroupCoordinator, GroupCoordinatorRecord
from ottla.coordinator.membership import JoinRequest, LeavingMember, SyncRequest
from ottla.coordinator.offsets import OffsetToCommit
from ottla.coordinator.records import CoordinatorRecord, GroupOutcome, OffsetsEnded
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.join_group import JoinGroupResponse
from ottla.wire.messages.sync_group import SyncGroupResponse

GROUP = "orders"
SESSION_MS = 10_000
REBALANCE_MS = 60_000
RANGE = [("range", b"r")]
TIMER_CALLS_MAX = 10_000
WALL_MS = 1_700_000_000_000


def subscription(*topics: str) -> bytes:
    """Metadata of the consumer protocol, version 0."""
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


class Driver:
    """A coordinator, its clock, all it has written and all it has answered."""

    def __init__(self, initial_rebalance_delay_ms: int = 0) -> None:
        self._delay_ms = initial_rebalance_delay_ms
        self._ids = count(1)
        self._tokens = count(1)
        self.now_ms = 1_000
        self.written: list[GroupCoordinatorRecord] = []
        self.answers: dict[int, JoinGroupResponse | SyncGroupResponse] = {}
        self.parked: set[int] = set()
        self.groups = self._new_coordinator()

    def _new_coordinator(self) -> GroupCoordinator:
        return GroupCoordinator(self._delay_ms, lambda name: f"{name}-{next(self._ids)}")

    # What the broker does

    def commit(self, records: Sequence[CoordinatorRecord]) -> None:
        for record in records:
            self.written.append(record)
            self.groups.apply(record)

    def _take(self, outcome: GroupOutcome) -> None:
        self.commit(outcome.records)
        for token, reply in outcome.replies:
            assert token in self.parked, f"token {token} is answered twice"
            self.parked.discard(token)
            self.answers[token] = reply

    def _park(self) -> int:
        token = next(self._tokens)
        self.parked.add(token)
        return token

    def advance(self, delta_ms: int) -> None:
        """Let time pass; the timer runs at every deadline on the way."""
        end_ms = self.now_ms + delta_ms
        for _ in range(TIMER_CALLS_MAX):
            deadline_ms = self.groups.next_deadline_ms()
            if deadline_ms is None or deadline_ms > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, deadline_ms)
            self._take(self.groups.on_timer(self.now_ms))
        raise AssertionError("the timer runs without end")

    def restart(self, *, from_snapshot: bool = False) -> None:
        """Crash: what is volatile is lost, parked requests too. Replay all that was written."""
        records = self.groups.snapshot() if from_snapshot else list(self.written)
        self.groups = self._new_coordinator()
        for record in records:
            self.groups.apply(record)
        self.parked.clear()

    # What clients do

    def send_join(
        self,
        member_id: str = "",
        *,
        instance: str | None = None,
        protocols: list[tuple[str, bytes]] = RANGE,
        protocol_type: str = "consumer",
        version: int = 9,
        group: str = GROUP,
        session_ms: int = SESSION_MS,
        rebalance_ms: int = REBALANCE_MS,
    ) -> int:
        token = self._park()
        request = JoinRequest(
            group,
            member_id,
            instance,
            "client",
            "/127.0.0.1",
            session_ms,
            rebalance_ms,
            protocol_type,
            protocols,
            requires_member_id=version >= 4,
            can_skip_assignment=version >= 9,
        )
        self._take(self.groups.join(token, request, self.now_ms))
        return token

    def send_sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
        group: str = GROUP,
    ) -> int:
        token = self._park()
        request = SyncRequest(
            group, member_id, instance, generation, assignments or {}, protocol_type, protocol_name
        )
        self._take(self.groups.sync(token, request, self.now_ms))
        return token

    def heartbeat(
        self, member_id: str, generation: int, instance: str | None = None, group: str = GROUP
    ) -> ErrorCode:
        return self.groups.heartbeat(group, member_id, generation, instance, self.now_ms)

    def leave(self, *members: tuple[str, str | None], group: str = GROUP) -> list[ErrorCode]:
        leaving = [LeavingMember(*member) for member in members]
        outcome, errors = self.groups.leave(group, leaving, self.now_ms)
        self._take(outcome)
        return errors

    def commit_offsets(
        self,
        *offsets: OffsetToCommit,
        member_id: str = "",
        generation: int = -1,
        instance: str | None = None,
        group: str = GROUP,
    ) -> list[ErrorCode]:
        outcome = self.groups.commit_offsets(
            group, member_id, generation, instance, offsets, WALL_MS, self.now_ms
        )
        self.commit(outcome.records)
        return outcome.reply

    def txn_commit_offsets(
        self,
        producer_id: int,
        *offsets: OffsetToCommit,
        member_id: str = "",
        generation: int = -1,
        instance: str | None = None,
        group: str = GROUP,
    ) -> list[ErrorCode]:
        outcome = self.groups.txn_commit_offsets(
            group, member_id, generation, instance, producer_id, 0, offsets, WALL_MS
        )
        self.commit(outcome.records)
        return outcome.reply

    def end_transaction(self, producer_id: int, *, commit: bool, group: str = GROUP) -> None:
        self.commit([OffsetsEnded(producer_id, [group], commit)])

    # Shortcuts

    def joined(self, token: int) -> JoinGroupResponse:
        """The answer to a JoinGroup that has one by now."""
        answer = self.answers[token]
        assert isinstance(answer, JoinGroupResponse)
        return answer

    def synced(self, token: int) -> SyncGroupResponse:
        """The answer to a SyncGroup that has one by now."""
        answer = self.answers[token]
        assert isinstance(answer, SyncGroupResponse)
        return answer

    def new_member_id(self, **request: object) -> str:
        """A member id given out with MEMBER_ID_REQUIRED."""
        answer = self.joined(self.send_join(**request))  # type: ignore[arg-type]
        assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
        return answer.member_id

    def start_member(self, **request: object) -> tuple[str, int]:
        """A dynamic member on its way into the group: its id and its parked JoinGroup."""
        member_id = self.new_member_id(**request)
        return member_id, self.send_join(member_id, **request)  # type: ignore[arg-type]

    def stable_group(self, size: int, **request: object) -> tuple[list[str], int]:
        """A stable group of dynamic members, the leader first, and its generation."""
        members: list[str] = []
        for _ in range(size):
            member_id, token = self.start_member(**request)
            for known in members:
                self.send_join(known, **request)  # type: ignore[arg-type]
            members.append(member_id)
        answer = self.joined(token)
        members.sort(key=lambda member_id: member_id != answer.leader)
        group = str(request.get("group", GROUP))
        self.assign(members, answer.generation_id, group=group)
        return members, answer.generation_id

    def assign(self, members: Sequence[str], generation: int, *, group: str = GROUP) -> None:
        """All members sync, the first with the assignments."""
        leader, *followers = members
        for member_id in followers:
            self.send_sync(member_id, generation, group=group)
        assignments = {known: f"to {known}".encode() for known in members}
        self.send_sync(leader, generation, assignments, group=group)

    def state(self, group: str = GROUP) -> str:
        """The group's state by Kafka's name; "" when there is no such group."""
        found = self.groups.describe(group)
        return "" if found is None else found.state.value
