"""Drives groups of the new protocol as the broker does: records are applied at once.

Topics are the test's to make, change and delete; time is the test's to turn.
"""

from collections.abc import Iterable, Sequence

from ottla.coordinator.consumer_group_records import TopicIdPartition, flat
from ottla.coordinator.consumer_groups import ConsumerGroupConfig
from ottla.coordinator.consumer_heartbeat import ConsumerHeartbeat, HeartbeatAnswer
from ottla.coordinator.groups import GroupCoordinator
from ottla.coordinator.offsets import OffsetToCommit
from ottla.coordinator.records import CoordinatorRecord
from ottla.ports.errors import ErrorCode, KafkaError

GROUP = "orders"
SESSION_MS = 45_000
REBALANCE_MS = 60_000
WALL_MS = 1_700_000_000_000
TIMER_CALLS_MAX = 10_000


class FakeTopics:
    """Topics by name. An id is used once, also when a name is used again."""

    def __init__(self, **counts: int) -> None:
        self.version = 0
        self.counts: dict[str, int] = {}
        self.hidden: set[tuple[str, str]] = set()
        self._ids: dict[str, bytes] = {}
        for name, count in counts.items():
            self.set(name, count)

    def set(self, name: str, count: int) -> None:
        """Make a topic, or give it more partitions."""
        self.version += 1
        if name not in self.counts:
            self._ids[name] = name.encode() + b"#%d" % self.version
        self.counts[name] = count

    def delete(self, name: str) -> None:
        self.version += 1
        self.counts.pop(name, None)

    def names(self) -> list[str]:
        return list(self.counts)

    def placement(self, name: str) -> tuple[bytes, int] | None:
        return (self._ids[name], self.counts[name]) if name in self.counts else None

    def may_describe(self, principal: str, client_host: str, name: str) -> bool:
        assert client_host == "/127.0.0.1"
        return (principal, name) not in self.hidden

    def partitions(self, name: str, *indexes: int) -> frozenset[TopicIdPartition]:
        return frozenset((self._ids[name], index) for index in indexes)


class ConsumerDriver:
    """A coordinator, its clock, its topics and all that it has written."""

    def __init__(self, topics: FakeTopics, assignment_interval_ms: int = 0) -> None:
        self.topics = topics
        self.config = ConsumerGroupConfig(SESSION_MS, 5_000, assignment_interval_ms)
        self.now_ms = 1_000
        self.written: list[CoordinatorRecord] = []
        self.groups = self.new_coordinator()

    def new_coordinator(self) -> GroupCoordinator:
        return GroupCoordinator(0, lambda name: f"{name}-1", self.topics, lambda _: self.config)

    def commit(self, records: Sequence[CoordinatorRecord]) -> None:
        for record in records:
            self.written.append(record)
            self.groups.apply(record)  # type: ignore[arg-type]

    def advance(self, delta_ms: int) -> None:
        """Let time pass; the timer runs at every deadline on the way."""
        end_ms = self.now_ms + delta_ms
        for _ in range(TIMER_CALLS_MAX):
            deadline_ms = self.groups.next_deadline_ms()
            if deadline_ms is None or deadline_ms > end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, deadline_ms)
            self.commit(self.groups.on_timer(self.now_ms).records)
        raise AssertionError("the timer runs without end")

    def restart(self, *, from_snapshot: bool = False) -> None:
        """A crash: all that was written is replayed, or a snapshot of it."""
        records: Iterable[CoordinatorRecord] = list(self.written)
        if from_snapshot:
            records = self.groups.snapshot()
        self.groups = self.new_coordinator()
        for record in records:
            self.groups.apply(record)  # type: ignore[arg-type]

    # What members do

    def heartbeat(
        self,
        member_id: str,
        epoch: int,
        *,
        topics: list[str] | None = None,
        regex: str | None = None,
        instance: str | None = None,
        owned: frozenset[TopicIdPartition] | None = None,
        assignor: str | None = None,
        rebalance_ms: int = -1,
    ) -> HeartbeatAnswer:
        request = ConsumerHeartbeat(
            GROUP,
            member_id,
            epoch,
            instance,
            None,
            rebalance_ms,
            "client",
            "/127.0.0.1",
            topics,
            regex,
            assignor,
            owned,
            f"User:{member_id}",
        )
        outcome = self.groups.consumer_heartbeat(request, self.now_ms)
        self.commit(outcome.records)
        return outcome.reply

    def join(
        self,
        member_id: str,
        *topics: str,
        regex: str | None = None,
        instance: str | None = None,
        assignor: str | None = None,
    ) -> HeartbeatAnswer:
        return self.heartbeat(
            member_id,
            0,
            topics=list(topics),
            regex=regex,
            instance=instance,
            owned=frozenset(),
            assignor=assignor,
            rebalance_ms=REBALANCE_MS,
        )

    def refusal(
        self,
        member_id: str,
        epoch: int,
        *,
        topics: list[str] | None = None,
        instance: str | None = None,
        owned: frozenset[TopicIdPartition] | None = None,
    ) -> ErrorCode:
        """The error of a heartbeat that must fail, and write nothing."""
        before = len(self.written)
        try:
            self.heartbeat(
                member_id,
                epoch,
                topics=topics,
                instance=instance,
                owned=owned,
                rebalance_ms=REBALANCE_MS if epoch == 0 else -1,
            )
        except KafkaError as error:
            assert len(self.written) == before
            return error.code
        raise AssertionError("the heartbeat was accepted")

    def commit_offset(
        self, member_id: str, epoch: int, topic: str = "t", partition: int = 0
    ) -> ErrorCode:
        offset = OffsetToCommit(topic, partition, 7)
        outcome = self.groups.commit_offsets(
            GROUP, member_id, epoch, None, [offset], WALL_MS, self.now_ms
        )
        self.commit(outcome.records)
        return outcome.reply[0]

    def txn_commit_offset(self, member_id: str, epoch: int, partition: int = 0) -> ErrorCode:
        offset = OffsetToCommit("t", partition, 7)
        outcome = self.groups.txn_commit_offsets(
            GROUP, member_id, epoch, None, 5, 0, [offset], WALL_MS
        )
        self.commit(outcome.records)
        return outcome.reply[0]

    # What there is to see

    def held(self, member_id: str) -> set[tuple[str, int]]:
        """What the member may hold, by topic name (of topics that are there)."""
        group = self.groups.consumer.get(GROUP)
        assert group is not None
        return self.by_name(frozenset(group.current(member_id).assigned))

    def by_name(self, partitions: Iterable[TopicIdPartition]) -> set[tuple[str, int]]:
        return {(topic_id.split(b"#")[0].decode(), index) for topic_id, index in partitions}

    def told(self, answer: HeartbeatAnswer) -> set[tuple[str, int]] | None:
        """What an answer says the member is to have."""
        return None if answer.assigned is None else self.by_name(flat(answer.assigned))

    def state(self) -> str:
        group = self.groups.consumer.get(GROUP)
        return "" if group is None else group.state.value
