"""Promises of the groups of the new protocol (KIP-848), whatever members, time and power cuts do.

- No partition is two members' at once: what a member may do because of an answer that it has seen
  is nobody else's, until it has said that it gave it up, or has been removed.
- A member's epoch never goes back but to 0, and an epoch is not told before it is durable.
- When faults stop, every partition of a topic that somebody subscribes to has an owner, who knows
  it, and the group is Stable.

Method: a Hypothesis state machine plays four consumers, two of them static, that behave as Kafka's
clients do: they give up at once what an answer does not name, and begin anew with nothing when they
are fenced. Answers are lost, or are seen only after `sync_disk`; `crash` loses some of what was not
durable, and replays the rest or a snapshot. Topics come, grow and go.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.coordinator.consumer_group_records import TopicIdPartition, flat
from ottla.coordinator.consumer_heartbeat import HeartbeatAnswer
from ottla.coordinator.records import CoordinatorRecord
from ottla.ports.errors import ErrorCode, KafkaError
from tests.unit.coordinator.consumer_driver import (
    GROUP,
    REBALANCE_MS,
    ConsumerDriver,
    FakeTopics,
)

SUBSCRIPTIONS = [(["t"], ""), (["t", "u"], ""), (["u"], ""), ([], "t|v.*"), ([], "")]
_FRESH = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND)
_ROUNDS_MAX = 40


class DurableDriver(ConsumerDriver):
    """A driver with a disk: what was written since `sync_disk` may be lost in a crash."""

    def __init__(self, topics: FakeTopics, assignment_interval_ms: int) -> None:
        self.frames: list[list[CoordinatorRecord]] = []
        self.durable = 0
        super().__init__(topics, assignment_interval_ms)

    def commit(self, records: object) -> None:  # type: ignore[override]
        kept: list[CoordinatorRecord] = list(records)  # type: ignore[call-overload]
        if kept:
            self.frames.append(kept)
            super().commit(kept)

    def crash(self, kept: int, *, from_snapshot: bool) -> None:
        del self.frames[kept:]
        self.durable = kept
        self.written = [record for frame in self.frames for record in frame]
        self.restart()
        if from_snapshot:
            before = self.groups.snapshot()
            self.restart(from_snapshot=True)
            assert self.groups.snapshot() == before


@dataclass
class Client:
    """A consumer, and what it believes. `waits` is an answer, and the frames it rests on."""

    member_id: str
    instance: str | None
    subscription: tuple[list[str], str]
    running: bool = False
    epoch: int = 0
    owned: frozenset[TopicIdPartition] = frozenset()
    waits: tuple[int, HeartbeatAnswer | ErrorCode] | None = None
    says_all: bool = True
    incarnation: int = field(default=0)

    def begin_anew(self) -> None:
        self.epoch, self.owned, self.waits, self.says_all = 0, frozenset(), None, True


clients = st.integers(0, 3)


class ConsumerGroupMachine(RuleBasedStateMachine):
    @initialize(interval_ms=st.sampled_from([0, 1_000]))
    def start(self, interval_ms: int) -> None:
        self.topics = FakeTopics(t=3, u=2)
        self.driver = DurableDriver(self.topics, interval_ms)
        self.clients = [
            Client("a", None, (["t"], "")),
            Client("b", None, (["t", "u"], "")),
            Client("c", "one", (["t"], "")),
            Client("d", "two", ([], "t|v.*")),
        ]

    # Consumers

    @rule(index=clients, lost=st.booleans(), says_owned=st.booleans())
    def heartbeat(self, index: int, lost: bool, says_owned: bool) -> None:
        """Joins if it has not yet. One whose last answer is still to come has given up on it."""
        client = self.clients[index]
        client.running = True
        joins = client.epoch == 0
        names, regex = client.subscription
        everything = joins or client.says_all
        answer: HeartbeatAnswer | ErrorCode
        try:
            answer = self.driver.heartbeat(
                client.member_id,
                client.epoch,
                topics=names if everything else None,
                regex=regex if everything else None,
                instance=client.instance,
                owned=client.owned if everything or says_owned else None,
                rebalance_ms=REBALANCE_MS if everything else -1,
            )
        except KafkaError as error:
            answer = error.code
        client.waits = None if lost else (len(self.driver.frames), answer)
        client.says_all = lost  # as clients do after a request that failed
        self.answers_are_seen()

    @rule(index=clients, goes_for_good=st.booleans())
    def leave(self, index: int, goes_for_good: bool) -> None:
        client = self.clients[index]
        if not client.running:
            return
        epoch = -1 if goes_for_good or client.instance is None else -2
        client.begin_anew()
        client.running = False
        with suppress(KafkaError):  # it may have been removed
            self.driver.heartbeat(client.member_id, epoch, instance=client.instance)

    @rule(index=clients)
    def die(self, index: int) -> None:
        """Its process ends; another one of the same instance id, or none, may follow."""
        client = self.clients[index]
        client.begin_anew()
        client.running = False
        client.incarnation += 1
        client.member_id = f"{client.member_id[0]}{client.incarnation}"

    @rule(index=clients, subscription=st.sampled_from(SUBSCRIPTIONS))
    def subscribe(self, index: int, subscription: tuple[list[str], str]) -> None:
        self.clients[index].subscription = subscription
        self.clients[index].says_all = True

    @rule(rounds=st.integers(1, 4))
    def all_is_well(self, rounds: int) -> None:
        """What a group does most of the time: all who run send heartbeats, and hear the answers."""
        for _ in range(rounds):
            self.sync_disk()
            for index, client in enumerate(self.clients):
                if client.running:
                    self.heartbeat(index, lost=False, says_owned=True)
                    self.sync_disk()

    @rule(name=st.sampled_from(["t", "u"]), lost=st.floats(0, 1))
    def a_rebalance_is_cut_off(self, name: str, lost: float) -> None:
        """Partitions change hands, and the power goes before the disk has all of it."""
        self.sync_disk()
        self.topic_grows(name, 1)
        for _ in range(2):
            for index, client in enumerate(self.clients):
                if client.running:
                    self.heartbeat(index, lost=False, says_owned=True)
        if self.driver.frames:
            self.crash(lost, from_snapshot=False)

    # The world

    @rule(name=st.sampled_from(["t", "u", "vv"]), more=st.integers(1, 2))
    def topic_grows(self, name: str, more: int) -> None:
        self.topics.set(name, min(self.topics.counts.get(name, 0) + more, 6))

    @rule(name=st.sampled_from(["t", "u", "vv"]))
    def topic_goes(self, name: str) -> None:
        self.topics.delete(name)

    @rule(delta_ms=st.sampled_from([0, 1_000, 5_000, 30_000, 60_000]))
    def advance(self, delta_ms: int) -> None:
        self.driver.advance(delta_ms)

    @rule()
    def sync_disk(self) -> None:
        self.driver.durable = len(self.driver.frames)
        self.answers_are_seen()

    @precondition(lambda self: self.driver.frames)
    @rule(lost=st.floats(0, 1), from_snapshot=st.booleans())
    def crash(self, lost: float, from_snapshot: bool) -> None:
        unsynced = len(self.driver.frames) - self.driver.durable
        kept = len(self.driver.frames) - round(unsynced * lost)
        for client in self.clients:
            client.waits, client.says_all = None, True
        self.driver.crash(kept, from_snapshot=from_snapshot)

    # What must hold

    @invariant()
    def answers_are_seen(self) -> None:
        for client in self.clients:
            if client.waits is not None and client.waits[0] <= self.driver.durable:
                answer, client.waits = client.waits[1], None
                self._take(client, answer)

    def _take(self, client: Client, answer: HeartbeatAnswer | ErrorCode) -> None:
        if isinstance(answer, ErrorCode):
            assert answer in (
                *_FRESH,
                ErrorCode.UNRELEASED_INSTANCE_ID,
                ErrorCode.FENCED_INSTANCE_ID,
            )
            client.begin_anew()
            return
        assert answer.member_epoch >= client.epoch
        client.epoch = answer.member_epoch
        if answer.assigned is not None:
            client.owned = flat(answer.assigned)

    def _is_member(self, client: Client) -> bool:
        group = self.driver.groups.consumer.get(GROUP)
        return (
            client.running
            and client.epoch > 0
            and group is not None
            and client.member_id in group.members
        )

    @invariant()
    def a_partition_has_one_owner(self) -> None:
        owned = [one for client in self.clients if self._is_member(client) for one in client.owned]
        assert len(owned) == len(set(owned))

    @invariant()
    def what_a_member_owns_the_coordinator_knows(self) -> None:
        group = self.driver.groups.consumer.get(GROUP)
        for client in self.clients:
            if group is not None and self._is_member(client):
                for partition in client.owned:
                    assert group.holder(partition) == client.member_id

    def teardown(self) -> None:
        """The faults stop: the dead are noticed, the living share all that there is."""
        if not hasattr(self, "driver"):
            return
        self.sync_disk()
        for _ in range(_ROUNDS_MAX):
            self.driver.advance(5_000)
            for index, client in enumerate(self.clients):
                if client.running:
                    self.heartbeat(index, lost=False, says_owned=True)
                    self.sync_disk()
        self._everything_is_shared()

    def _everything_is_shared(self) -> None:
        group = self.driver.groups.consumer.get(GROUP)
        living = [client for client in self.clients if client.running]
        if not living:
            assert group is None or self.driver.state() == "Empty"
            assert self.driver.groups.next_deadline_ms() is None
            return
        assert group is not None
        assert self.driver.state() == "Stable"
        assert set(group.members) == {client.member_id for client in living}
        wanted = set()
        for client in living:
            names, regex = client.subscription
            found = {"t", "vv"} if regex else set()
            for name in (found | set(names)) & self.topics.counts.keys():
                wanted |= self.topics.partitions(name, *range(self.topics.counts[name]))
            assert client.owned == group.targets.get(client.member_id, frozenset())
            assert client.epoch == group.target_epoch
        assert wanted == {partition for client in living for partition in client.owned}


SOAK = bool(os.environ.get("OTTLA_SOAK"))
ConsumerGroupMachine.TestCase.settings = settings(
    max_examples=4_000 if SOAK else 150,
    stateful_step_count=50,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestConsumerGroupMachine = ConsumerGroupMachine.TestCase
