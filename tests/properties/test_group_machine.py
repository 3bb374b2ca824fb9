"""Promises of the group coordinator under all that clients, time and power cuts can do to it.

- Members of a stable generation all have that generation, one protocol, and their own assignment.
- A complete generation never goes back, whatever is lost in a crash.
- Committed offsets are those of a naive model; pending ones are never seen before their commit.
- Every parked request is answered exactly once.

Method: a Hypothesis state machine plays a handful of consumers (dynamic and static, old and new)
against a coordinator whose records become durable only by `sync_disk`; a client sees an answer
only then, as in the broker. `crash` loses some of what was not durable and replays the rest, from
the records or from a snapshot. The model is a list of events, evaluated anew at every step.
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ottla.coordinator.offsets import OffsetToCommit
from ottla.coordinator.records import GroupDeleted, GroupRecord
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.join_group import JoinGroupResponse
from ottla.wire.messages.sync_group import SyncGroupResponse
from tests.properties.group_model import Event, UnsyncedDriver, committed_by, unstable_by
from tests.unit.coordinator.group_driver import GROUP

PARTITIONS = [("t", 0), ("t", 1), ("u", 0)]
PRODUCERS = [7, 8]
RANGE, STICKY = ("range", b"r"), ("sticky", b"s")


@dataclass
class Consumer:
    """What a consumer believes. `told` are the generation's members when it leads; `synced` is the
    last generation it got an assignment for."""

    instance: str | None
    version: int
    protocols: list[tuple[str, bytes]]
    member_id: str = ""
    generation: int = -1
    waits_for: int | None = None
    joined: bool = False
    synced: int = -1
    told: list[str] = field(default_factory=list)

    def forget(self) -> None:
        self.member_id, self.generation, self.synced = "", -1, -1
        self.waits_for, self.joined = None, False


def _places(record: GroupRecord) -> set[tuple[str | None, str, bytes]]:
    """Members as they stay when a static one is replaced: all but its member id."""
    return {
        (
            one.group_instance_id,
            one.member_id if one.group_instance_id is None else "",
            one.assignment,
        )
        for one in record.members
    }


partitions = st.sampled_from(PARTITIONS)
offsets = st.integers(0, 1_000)
producers = st.sampled_from(PRODUCERS)
consumers = st.integers(0, 3)


class OffsetMachine(RuleBasedStateMachine):
    """Producers, administrators and a disk around the offsets of one group."""

    @initialize()
    def start(self) -> None:
        self.driver = UnsyncedDriver(0)
        self.events: list[tuple[int, Event]] = []

    def _happened(self, *event: object) -> None:
        self.events.append((len(self.driver.frames), event))

    @rule(partition=partitions, offset=offsets)
    def commit_without_a_member(self, partition: tuple[str, int], offset: int) -> None:
        empty = self.driver.state() in ("", "Empty")
        (error,) = self.driver.commit_offsets(OffsetToCommit(*partition, offset))
        assert error is (ErrorCode.NONE if empty else ErrorCode.UNKNOWN_MEMBER_ID)
        if empty:
            self._happened("plain", partition, offset, None)

    @rule(producer_id=producers, partition=partitions, offset=offsets)
    def commit_in_a_transaction(
        self, producer_id: int, partition: tuple[str, int], offset: int
    ) -> None:
        (error,) = self.driver.txn_commit_offsets(producer_id, OffsetToCommit(*partition, offset))
        assert error is ErrorCode.NONE
        self._happened("pending", partition, offset, producer_id)

    @rule(producer_id=producers, commit=st.booleans())
    def end_transaction(self, producer_id: int, commit: bool) -> None:
        self.driver.end_transaction(producer_id, commit=commit)
        self._happened("end", producer_id, commit)

    @rule(partition=partitions)
    def delete_offset(self, partition: tuple[str, int]) -> None:
        try:
            outcome = self.driver.groups.delete_offsets(GROUP, [partition])
        except KafkaError:
            return
        self.driver.commit(outcome.records)
        if outcome.reply == [ErrorCode.NONE]:
            self._happened("delete", partition)

    @rule()
    def delete_group(self) -> None:
        state = self.driver.state()
        outcome = self.driver.groups.delete_groups([GROUP])
        self.driver.commit(outcome.records)
        if outcome.reply == [ErrorCode.NONE]:
            assert state == "Empty"
            self._happened("delete group")

    @rule()
    def sync_disk(self) -> None:
        self.driver.sync_disk()

    @precondition(lambda self: self.driver.frames)
    @rule(lost=st.floats(0, 1), from_snapshot=st.booleans())
    def crash(self, lost: float, from_snapshot: bool) -> None:
        unsynced = len(self.driver.frames) - self.driver.durable
        kept = len(self.driver.frames) - round(unsynced * lost)
        self.driver.crash(kept, from_snapshot=from_snapshot)
        self.events = [(frame, event) for frame, event in self.events if frame <= kept]

    @invariant()
    def offsets_are_the_models(self) -> None:
        events = [event for _, event in self.events]
        fetched = self.driver.groups.fetch_offsets(GROUP, PARTITIONS, require_stable=False)
        shown = {(one.topic, one.partition): one.offset for one in fetched if one.offset >= 0}
        assert shown == committed_by(events)
        fetched = self.driver.groups.fetch_offsets(GROUP, PARTITIONS, require_stable=True)
        unstable = {
            (one.topic, one.partition)
            for one in fetched
            if one.error_code is ErrorCode.UNSTABLE_OFFSET_COMMIT
        }
        assert unstable == unstable_by(events)


class GroupMachine(OffsetMachine):
    """Consumers, producers, a clock and a disk around one group."""

    @initialize(delay_ms=st.sampled_from([0, 0, 3_000]))
    def start(self, delay_ms: int) -> None:  # type: ignore[override]
        self.driver = UnsyncedDriver(delay_ms)
        self.events = []
        self.kafka = [
            Consumer(None, 9, [RANGE, STICKY]),
            Consumer(None, 3, [STICKY, RANGE]),
            Consumer("one", 9, [RANGE]),
            Consumer("two", 8, [RANGE, STICKY]),
        ]
        self.protocols: dict[int, str | None] = {}
        self.highest_synced = 0

    # Consumers

    @rule(index=consumers, change=st.booleans())
    def join(self, index: int, change: bool) -> None:
        """Also while a request is parked: a client that has lost its connection and retries."""
        consumer = self.kafka[index]
        if change:
            name, data = consumer.protocols[0]
            consumer.protocols = [(name, data + b"+"), *consumer.protocols[1:]]
        consumer.joined = False
        consumer.waits_for = self.driver.send_join(
            consumer.member_id,
            instance=consumer.instance,
            protocols=consumer.protocols,
            version=consumer.version,
        )

    @rule(index=consumers)
    def sync(self, index: int) -> None:
        consumer = self.kafka[index]
        if not consumer.joined:
            return
        generation = consumer.generation
        assignments = {known: f"{generation}:{known}".encode() for known in consumer.told}
        consumer.waits_for = self.driver.send_sync(
            consumer.member_id, generation, assignments, instance=consumer.instance
        )

    @rule(who=st.sets(consumers, min_size=1))
    def join_together(self, who: set[int]) -> None:
        for _ in range(2):  # the first answer may be MEMBER_ID_REQUIRED
            for index in sorted(who):
                if self.kafka[index].waits_for is None:
                    self.join(index, change=False)
            self.answers_are_taken()

    @rule(who=st.sets(consumers, min_size=1), backwards=st.booleans())
    def sync_together(self, who: set[int], backwards: bool) -> None:
        for index in sorted(who, reverse=backwards):
            if self.kafka[index].waits_for is None:
                self.sync(index)
        self.answers_are_taken()

    @rule()
    def become_stable(self) -> None:
        """All who can join do, and sync: what clients are after all the time."""
        everyone = set(range(len(self.kafka)))
        self.sync_disk()
        self.answers_are_taken()
        self.join_together(everyone)
        self.sync_together(everyone, backwards=False)

    @rule(index=st.integers(2, 3))
    def come_back(self, index: int) -> None:
        """A static consumer's process dies and starts again at once."""
        self.die(index)
        self.join(index, change=False)
        self.sync_disk()
        self.answers_are_taken()
        self.sync_together({index}, backwards=False)

    @rule(index=consumers)
    def heartbeat(self, index: int) -> None:
        consumer = self.kafka[index]
        error = self.driver.heartbeat(consumer.member_id, consumer.generation, consumer.instance)
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            consumer.forget()
        else:
            assert consumer.member_id in self._member_ids()

    @rule(index=consumers)
    def leave(self, index: int) -> None:
        consumer = self.kafka[index]
        self.driver.leave((consumer.member_id, consumer.instance))
        consumer.forget()

    @rule(index=st.integers(1, 3))
    def be_removed_while_waiting(self, index: int) -> None:
        """All but the first join and sync, and an administrator removes one of them."""
        everyone = set(range(len(self.kafka)))
        self.join(index, change=True)
        self.join_together(everyone)
        self.sync_together(everyone - {0}, backwards=True)
        consumer = self.kafka[index]
        self.driver.leave((consumer.member_id, consumer.instance))

    @rule(index=consumers)
    def die(self, index: int) -> None:
        self.kafka[index].forget()

    @rule(index=consumers, partition=partitions, offset=offsets)
    def commit(self, index: int, partition: tuple[str, int], offset: int) -> None:
        consumer = self.kafka[index]
        (error,) = self.driver.commit_offsets(
            OffsetToCommit(*partition, offset),
            member_id=consumer.member_id,
            generation=consumer.generation,
            instance=consumer.instance,
        )
        if error is ErrorCode.NONE:
            assert consumer.generation < 0 or consumer.member_id in self._member_ids()
            self._happened("plain", partition, offset, None)

    @rule(producer_id=producers, partition=partitions, offset=offsets, index=consumers)
    def commit_as_a_member_in_a_transaction(
        self, producer_id: int, partition: tuple[str, int], offset: int, index: int
    ) -> None:
        consumer = self.kafka[index]
        (error,) = self.driver.txn_commit_offsets(
            producer_id,
            OffsetToCommit(*partition, offset),
            member_id=consumer.member_id,
            generation=consumer.generation,
            instance=consumer.instance,
        )
        if error is ErrorCode.NONE:
            self._happened("pending", partition, offset, producer_id)

    # The same with consumers around

    @rule()
    def delete_group(self) -> None:
        self.sync_disk()
        self.answers_are_taken()  # before generations start again at 1
        super().delete_group()
        if self.events and self.events[-1][1] == ("delete group",):
            self.protocols.clear()
            self.highest_synced = 0
            for consumer in self.kafka:
                consumer.synced = -1

    @precondition(lambda self: self.driver.frames)
    @rule(lost=st.floats(0, 1), from_snapshot=st.booleans())
    def crash(self, lost: float, from_snapshot: bool) -> None:
        super().crash(lost, from_snapshot)
        for consumer in self.kafka:
            consumer.waits_for = None  # its connection is gone, and the answer with it
            if consumer.synced == self._durable_generation():
                assert consumer.member_id in self._member_ids()
                error = self.driver.heartbeat(
                    consumer.member_id, consumer.synced, consumer.instance
                )
                assert error is ErrorCode.NONE, "a restart costs no rebalance"

    @rule(delta_ms=st.sampled_from([0, 1, 1_000, 5_000, 10_000, 60_000, 300_000]))
    def advance(self, delta_ms: int) -> None:
        self.driver.advance(delta_ms)

    # What must hold

    def _durable_generation(self) -> int:
        records = [record for frame in self.driver.frames for record in frame]
        found = [one.generation_id for one in records if isinstance(one, GroupRecord)]
        return found[-1] if found else 0

    def _member_ids(self) -> set[str]:
        found = self.driver.groups.describe(GROUP)
        return set() if found is None else {member.member_id for member in found.members}

    @invariant()
    def answers_are_taken(self) -> None:
        for consumer in self.kafka:
            answer = self.driver.answers.get(consumer.waits_for or 0)
            if answer is None:
                continue
            consumer.waits_for = None
            if answer.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
                consumer.forget()
            elif isinstance(answer, JoinGroupResponse):
                self._take_join(consumer, answer)
            elif answer.error_code == ErrorCode.NONE:
                self._take_sync(consumer, answer)

    def _take_join(self, consumer: Consumer, answer: JoinGroupResponse) -> None:
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            consumer.member_id = answer.member_id
        elif answer.error_code == ErrorCode.NONE:
            assert answer.generation_id >= self.highest_synced
            names = [name for name, _ in consumer.protocols]
            assert answer.protocol_name in names
            consumer.member_id, consumer.generation = answer.member_id, answer.generation_id
            consumer.joined = True
            consumer.told = [member.member_id for member in answer.members]
            leads = answer.leader == answer.member_id
            assert bool(consumer.told) == leads
            assert not leads or answer.member_id in consumer.told

    def _take_sync(self, consumer: Consumer, answer: SyncGroupResponse) -> None:
        generation = consumer.generation
        assert generation >= self.highest_synced, "a complete generation went back"
        self.highest_synced = consumer.synced = generation
        assert self.protocols.setdefault(generation, answer.protocol_name) == answer.protocol_name
        if answer.assignment:
            assert bytes(answer.assignment).startswith(b"%d:" % generation)
            if consumer.instance is None:
                assert bytes(answer.assignment) == b"%d:%s" % (
                    generation,
                    consumer.member_id.encode(),
                )

    @invariant()
    def generations_never_go_back(self) -> None:
        """The same generation is written again for a replaced static member only."""
        before = GroupRecord(GROUP, 0, "", None, None, [])
        for record in (record for frame in self.driver.frames for record in frame):
            if isinstance(record, GroupDeleted):
                before = GroupRecord(GROUP, 0, "", None, None, [])
            elif isinstance(record, GroupRecord):
                assert record.generation_id >= before.generation_id
                if record.generation_id == before.generation_id:
                    assert record.protocol_name == before.protocol_name
                    assert _places(record) == _places(before)
                before = record

    @invariant()
    def members_agree(self) -> None:
        found = self.driver.groups.describe(GROUP)
        if found is None:
            return
        instances = [m.group_instance_id for m in found.members if m.group_instance_id is not None]
        assert len(instances) == len(set(instances))
        if found.state.value == "Stable":
            assert found.members
            for member in found.members:
                assert found.protocol_name in [name for name, _ in member.protocols]
        assert (found.state.value == "Empty") <= (not found.members)

    def teardown(self) -> None:
        """When all clients fall silent every request has its answer, and the group is empty."""
        if not hasattr(self, "driver"):
            return
        self.driver.advance(1_000_000)
        self.driver.sync_disk()
        assert self.driver.parked == set()
        assert self.driver.state() in ("", "Empty")
        assert self.driver.groups.next_deadline_ms() is None


SOAK = bool(os.environ.get("OTTLA_SOAK"))


def examples(count: int) -> settings:
    return settings(
        max_examples=count * 20 if SOAK else count,
        stateful_step_count=60,
        deadline=None,
        derandomize=not SOAK,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


OffsetMachine.TestCase.settings = examples(200)
GroupMachine.TestCase.settings = examples(400)
TestOffsetMachine = OffsetMachine.TestCase
TestGroupMachine = GroupMachine.TestCase
