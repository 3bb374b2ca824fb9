"""Groups of the new protocol (KIP-848): the same heartbeats get the same answers.

Every test runs on Ottla and on Apache Kafka, with requests made by hand. Which member gets which
partition is the assignor's affair: the tests look at how many, and take the rest from the answers.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from ottla.client.admin import Admin, TopicSpec
from ottla.ports.errors import ErrorCode
from ottla.wire.messages import consumer_group_heartbeat as heartbeats
from ottla.wire.messages import leave_group as leaves
from ottla.wire.messages import offset_commit as commits
from ottla.wire.messages import offset_fetch as fetches
from ottla.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.wire.messages.delete_groups import DeleteGroupsRequest
from ottla.wire.messages.describe_groups import DescribeGroupsRequest
from ottla.wire.messages.list_groups import ListGroupsRequest
from ottla.wire.messages.metadata import MetadataRequest
from tests.clients.reading import eventually
from tests.differential.raw import Raw

Unique = Callable[[str], str]
NONE = ErrorCode.NONE
FENCED = ErrorCode.FENCED_MEMBER_EPOCH
INVALID = ErrorCode.INVALID_REQUEST
NOT_FOUND = ErrorCode.GROUP_ID_NOT_FOUND
STALE = ErrorCode.STALE_MEMBER_EPOCH
UNKNOWN_MEMBER = ErrorCode.UNKNOWN_MEMBER_ID
REBALANCE_MS = 60_000
_LIMIT_S = 30.0

Partitions = frozenset[int]


class Beat(NamedTuple):
    """An answer to a heartbeat; `assigned` is None when nothing is said of it."""

    error: ErrorCode
    epoch: int
    assigned: Partitions | None
    message: str | None


class Group:
    """A group that consumes one topic."""

    def __init__(self, raw: Raw, group_id: str, topic: str, topic_id: Any) -> None:
        self.raw = raw
        self.group_id = group_id
        self.topic = topic
        self._topic_id = topic_id

    def beat(self, member_id: str, epoch: int, *, version: int = 1, **fields: Any) -> Beat:
        """One heartbeat; `owned` are partitions of the topic."""
        owned = fields.pop("owned", frozenset() if epoch == 0 else None)
        request = heartbeats.ConsumerGroupHeartbeatRequest(
            group_id=fields.pop("group_id", self.group_id),
            member_id=member_id,
            member_epoch=epoch,
            rebalance_timeout_ms=fields.pop("timeout_ms", REBALANCE_MS if epoch == 0 else -1),
            subscribed_topic_names=fields.pop("topics", [self.topic] if epoch == 0 else None),
            topic_partitions=None if owned is None else self._partitions(owned),
            **fields,
        )
        answer = self.raw.ask(version, request)
        assigned = None
        if answer.assignment is not None:
            topics = answer.assignment.topic_partitions
            assigned = frozenset(one for topic in topics for one in topic.partitions)
        error = ErrorCode(answer.error_code)
        return Beat(error, answer.member_epoch, assigned, answer.error_message)

    def _partitions(self, owned: Partitions) -> list[heartbeats.TopicPartitions]:
        return [heartbeats.TopicPartitions(self._topic_id, sorted(owned))] if owned else []

    def commit(self, member_id: str, epoch: int, partition: int, version: int = 9) -> ErrorCode:
        one = commits.OffsetCommitRequestPartition(partition, 5, -1, "")
        topic = commits.OffsetCommitRequestTopic(self.topic, self._topic_id, [one])
        request = commits.OffsetCommitRequest(self.group_id, epoch, member_id, topics=[topic])
        answer = self.raw.ask(version, request)
        return ErrorCode(answer.topics[0].partitions[0].error_code)

    def fetch(self, member_id: str | None, epoch: int) -> ErrorCode:
        topic = fetches.OffsetFetchRequestTopics(self.topic, self._topic_id, [0])
        group = fetches.OffsetFetchRequestGroup(self.group_id, member_id, epoch, [topic])
        answer = self.raw.ask(9, fetches.OffsetFetchRequest(groups=[group]))
        return ErrorCode(answer.groups[0].error_code)

    def describe(self) -> Any:
        return self.raw.ask(1, ConsumerGroupDescribeRequest(group_ids=[self.group_id])).groups[0]

    def share(self, *members: str) -> dict[str, tuple[int, Partitions]]:
        """Let the members share the topic; each one's epoch and what it has."""
        state: dict[str, tuple[int, Partitions]] = {}
        for member in members:
            joined = self.beat(member, 0)
            state[member] = joined.epoch, joined.assigned or frozenset()
            for known in itertools.chain(state, state):
                epoch, has = state[known]
                answer = self.beat(known, epoch, owned=has)
                assert answer.error is NONE
                now = has if answer.assigned is None else answer.assigned
                if now < has:  # it gives up what it is to, and says so
                    answer = self.beat(known, answer.epoch, owned=now)
                state[known] = answer.epoch, now
        for member in members:
            epoch, has = state[member]
            answer = self.beat(member, epoch, owned=has)
            state[member] = answer.epoch, has if answer.assigned is None else answer.assigned
        return state


@pytest.fixture
def raw(quick_groups: str) -> Iterator[Raw]:
    connection = Raw(quick_groups)
    connection.find_coordinator(0, "anything")
    yield connection
    connection.close()


@pytest.fixture
def group(quick_groups: str, raw: Raw, unique: Unique) -> Group:
    """A group whose topic, of three partitions, the coordinator knows."""
    topic = unique("topic")
    Admin(quick_groups).create_topics([TopicSpec(topic, 3)])
    described = raw.ask(12, MetadataRequest(topics=None))
    (topic_id,) = [one.topic_id for one in described.topics if one.name == topic]
    made = Group(raw, unique("group"), topic, topic_id)
    eventually(
        lambda: bool(made.beat("m", 0, group_id=unique("probe")).assigned), "the topic is known"
    )
    return made


def test_members_share_a_topic_step_by_step(group: Group) -> None:
    assert group.beat("a", 0)[:3] == (NONE, 2, {0, 1, 2})
    assert group.beat("b", 0)[:3] == (NONE, 3, frozenset())
    asked = group.beat("a", 2)
    assert asked.epoch == 2
    assert asked.assigned is not None
    assert len(asked.assigned) in (1, 2)
    assert group.beat("a", 2, owned={0, 1, 2})[:3] == (NONE, 2, None)
    assert group.beat("b", 3)[:3] == (NONE, 3, None)
    assert [group.commit("a", 2, index) for index in range(3)] == [NONE] * 3, "it still owns them"
    assert group.describe().group_state == "Reconciling"
    assert group.beat("a", 2, owned=asked.assigned)[:3] == (NONE, 3, None)
    rest = frozenset({0, 1, 2}) - asked.assigned
    assert group.beat("b", 3)[:3] == (NONE, 3, rest)
    assert group.describe().group_state == "Stable"


def test_who_is_fenced(group: Group) -> None:
    state = group.share("a", "b")
    epoch, owned = state["a"]
    assert group.beat("a", epoch - 1, owned=owned)[:3] == (NONE, epoch, None), "a lost answer"
    assert group.beat("a", epoch - 1, owned={0, 1, 2}).error is FENCED
    assert group.beat("a", epoch - 1).error is FENCED
    greater = group.beat("a", epoch + 1)
    assert greater.error is FENCED
    assert f"greater member epoch ({epoch + 1})" in (greater.message or "")
    assert group.beat("nobody", epoch).error is UNKNOWN_MEMBER
    assert group.beat("nobody", -1).error is UNKNOWN_MEMBER
    assert group.beat("a", 0)[:3] == (NONE, epoch, owned), "it may begin anew"


def test_requests_that_make_no_sense(group: Group) -> None:
    assert group.beat("a", 1).error is NOT_FOUND
    assert group.beat("a", -1).error is NOT_FOUND
    wrong: list[tuple[Beat, ErrorCode, str]] = [
        (group.beat("a", 0, group_id=""), INVALID, "GroupId can't be empty."),
        (group.beat("", 0), INVALID, "MemberId can't be empty."),
        (group.beat("", 1, version=0), INVALID, "MemberId can't be empty."),
        (group.beat("a", -3), INVALID, "MemberEpoch is invalid."),
        (group.beat("a", -2), INVALID, "InstanceId can't be null."),
        (group.beat("a", 0, instance_id=""), INVALID, "InstanceId can't be empty."),
        (group.beat("a", 0, rack_id=""), INVALID, "RackId can't be empty."),
        (
            group.beat("a", 0, timeout_ms=-1),
            INVALID,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            group.beat("a", 0, owned={0}),
            INVALID,
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            group.beat("a", 0, topics=None),
            INVALID,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
            "(re-)joining.",
        ),
        (
            group.beat("a", 0, server_assignor="sticky"),
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            "ServerAssignor sticky is not supported. Supported assignors: uniform, range.",
        ),
    ]
    assert [(beat.error, beat.message) for beat, _, _ in wrong] == [
        (error, message) for _, error, message in wrong
    ]
    for pattern in ("(", "(?=a)b", r"(a)\1"):
        refused = group.beat("a", 0, subscribed_topic_regex=pattern)
        assert refused.error is ErrorCode.INVALID_REGULAR_EXPRESSION
        begins = f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: "
        assert (refused.message or "").startswith(begins)
    assert group.describe().error_code == NOT_FOUND, "none of them made a group"


def test_a_member_without_an_id_of_its_own(group: Group) -> None:
    """Version 0: the broker makes one."""
    assert group.beat("", 0, version=0)[:3] == (NONE, 2, {0, 1, 2})


def test_offsets_by_epoch(group: Group) -> None:
    state = group.share("a", "b")
    epoch, owned = state["a"]
    mine, others = min(owned), min({0, 1, 2} - owned)
    assert group.commit("a", epoch, mine) is NONE
    assert group.commit("a", epoch, mine, version=8) is ErrorCode.UNSUPPORTED_VERSION
    assert group.commit("a", epoch - 1, mine) is NONE, "it had it before (KIP-1251)"
    assert group.commit("a", epoch - 1, others) is STALE
    assert group.commit("a", epoch - 2, mine) is STALE
    assert group.commit("a", epoch + 1, mine) is STALE
    assert group.commit("a", -1, mine) is STALE
    assert group.commit("nobody", epoch, mine) is UNKNOWN_MEMBER
    assert group.commit("", -1, mine) is UNKNOWN_MEMBER
    assert [group.fetch("a", one) for one in (epoch - 1, epoch, -1)] == [STALE, NONE, STALE]
    assert [group.fetch(one, -1) for one in (None, "", "nobody")] == [
        *(NONE, UNKNOWN_MEMBER, UNKNOWN_MEMBER)
    ]


def test_static_members(group: Group) -> None:
    assert group.beat("a1", 0, instance_id="a")[:3] == (NONE, 2, {0, 1, 2})
    assert group.beat("a2", 0, instance_id="a").error is ErrorCode.UNRELEASED_INSTANCE_ID
    assert group.beat("a2", 2, instance_id="a").error is ErrorCode.FENCED_INSTANCE_ID
    assert group.beat("a1", 2, instance_id="b").error is UNKNOWN_MEMBER
    assert group.beat("a2", -2, instance_id="a").error is ErrorCode.FENCED_INSTANCE_ID
    assert group.beat("a1", -2, instance_id="a")[:3] == (NONE, -2, None)
    (kept,) = group.describe().members
    assert (kept.member_id, kept.member_epoch) == ("a1", -2)
    assert group.beat("a2", 0, instance_id="a")[:3] == (NONE, 2, {0, 1, 2})
    assert group.beat("a1", 2, instance_id="a").error is ErrorCode.FENCED_INSTANCE_ID
    assert group.beat("a2", -1, instance_id="a")[:3] == (NONE, -1, None)
    assert group.describe().group_state == "Empty"


def test_a_group_as_it_is_told(group: Group) -> None:
    epoch = group.share("a", "b")["b"][0]
    told = group.describe()
    assert (told.group_state, told.group_epoch, told.assignment_epoch) == ("Stable", epoch, epoch)
    assert told.assignor_name == "uniform"
    for member in told.members:
        assert (member.member_epoch, member.member_type) == (epoch, 1)
        assert (member.subscribed_topic_names, member.subscribed_topic_regex) == ([group.topic], "")
        assert (member.client_id, member.client_host) == ("raw", "/127.0.0.1")
        assert member.assignment == member.target_assignment
        assert member.assignment.topic_partitions[0].topic_name == group.topic
    listed = group.raw.ask(
        5, ListGroupsRequest(states_filter=["stable"], types_filter=["CONSUMER"])
    )
    (row,) = [one for one in listed.groups if one.group_id == group.group_id]
    assert (row.protocol_type, row.group_state, row.group_type) == (
        "consumer",
        "Stable",
        "consumer",
    )
    listed = group.raw.ask(5, ListGroupsRequest(types_filter=["classic"]))
    assert group.group_id not in [one.group_id for one in listed.groups]
    for version, error in ((5, NONE), (6, NOT_FOUND)):
        (classic,) = group.raw.ask(version, DescribeGroupsRequest(groups=[group.group_id])).groups
        assert (classic.error_code, classic.group_state) == (error, "Dead")
    assert classic.error_message == f"Group {group.group_id} is not a classic group."


def test_a_group_goes_when_its_members_have(group: Group) -> None:
    def delete() -> ErrorCode:
        (result,) = group.raw.ask(2, DeleteGroupsRequest([group.group_id])).results
        return ErrorCode(result.error_code)

    assert delete() is NOT_FOUND
    group.beat("a", 0)
    assert delete() is ErrorCode.NON_EMPTY_GROUP
    assert group.beat("a", -1)[:3] == (NONE, -1, None)
    assert group.commit("", -1, 0) is NONE, "an administrator's, now that nobody is there"
    assert delete() is NONE
    assert group.describe().error_code == NOT_FOUND


def test_an_administrator_removes_members(group: Group) -> None:
    group.beat("a", 0)
    group.beat("b1", 0, instance_id="b")
    leaving = [("nobody", None), ("", "none"), ("other", "b"), ("a", "b"), ("a", None), ("", "b")]
    members = [leaves.MemberIdentity(*identity, "") for identity in leaving]
    answer = group.raw.ask(5, leaves.LeaveGroupRequest(group.group_id, "", members))
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert [one.error_code for one in answer.members] == [
        *(UNKNOWN_MEMBER, UNKNOWN_MEMBER, fenced, fenced),
        *(NONE, NONE),
    ]
    assert group.describe().group_state == "Empty"


def test_a_topic_gets_more_partitions(quick_groups: str, group: Group) -> None:
    assert group.beat("a", 0).assigned == {0, 1, 2}
    from confluent_kafka.admin import AdminClient, NewPartitions

    admin = AdminClient({"bootstrap.servers": quick_groups})
    admin.create_partitions([NewPartitions(group.topic, 5)])[group.topic].result(_LIMIT_S)
    deadline = time.monotonic() + _LIMIT_S
    while (answer := group.beat("a", 2)).epoch == 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer[:3] == (NONE, 3, {0, 1, 2, 3, 4})


def test_a_group_of_the_other_kind_without_members_changes_its_kind(group: Group) -> None:
    assert group.commit("", -1, 0) is NONE
    assert group.beat("a", 1).error is NOT_FOUND
    assert group.beat("a", 0)[:3] == (NONE, 2, {0, 1, 2})
    assert group.fetch("a", 2) is NONE
