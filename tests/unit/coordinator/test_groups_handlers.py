"""The APIs of the group coordinator over the wire, at every version that is served.

Method: a broker's core in process; each request goes through frames as a client's would.
"""

from uuid import UUID

import pytest

from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_groups import DeleteGroupsRequest
from ottla.wire.messages.describe_groups import DescribeGroupsRequest
from ottla.wire.messages.find_coordinator import FindCoordinatorRequest
from ottla.wire.messages.heartbeat import HeartbeatRequest
from ottla.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.wire.messages.list_groups import ListGroupsRequest
from ottla.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

GROUP = "orders"
NOBODY = UUID(int=99)


@pytest.fixture
def broker() -> InProcessBroker:
    return InProcessBroker()


@pytest.fixture
def client(broker: InProcessBroker) -> InProcessClient:
    client = broker.connect("test")
    client.request(CreateTopicsRequest(topics=[CreatableTopic("t", 2, 1)]), 7)
    return client


def topic_id(broker: InProcessBroker, name: str = "t") -> UUID:
    topic = broker.core.catalog.topic(name)
    assert topic is not None
    return topic.topic_id


def join_request(member_id: str = "", instance: str | None = None) -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id=GROUP,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=20_000,
        member_id=member_id,
        group_instance_id=instance,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", b"metadata")],
    )


def start_consumer(client: InProcessClient) -> str:
    """A group of one member, stable in generation 1; its member id."""
    first = client.request(join_request(), 9)
    assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
    joined = client.request(join_request(first.member_id), 9)
    assert (joined.error_code, joined.generation_id) == (ErrorCode.NONE, 1)
    sync = SyncGroupRequest(
        GROUP, 1, first.member_id, None, "consumer", "range",
        [SyncGroupRequestAssignment(first.member_id, b"assignment")],
    )  # fmt: skip
    synced = client.request(sync, 5)
    assert (synced.error_code, synced.assignment) == (ErrorCode.NONE, b"assignment")
    return first.member_id


def commit_request(
    broker: InProcessBroker,
    version: int,
    offset: int,
    *,
    member_id: str = "",
    generation: int = -1,
    metadata: str | None = "note",
) -> OffsetCommitRequest:
    """Partitions 0 and 7 of "t", of which the second does not exist, and an unknown topic."""

    def topic(name: str, known_as: UUID, *partitions: int) -> OffsetCommitRequestTopic:
        wanted = [OffsetCommitRequestPartition(one, offset, 3, metadata) for one in partitions]
        by_id = version >= 10
        return OffsetCommitRequestTopic(
            "" if by_id else name, known_as if by_id else UUID(int=0), wanted
        )

    return OffsetCommitRequest(
        group_id=GROUP,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        topics=[topic("t", topic_id(broker), 0, 7), topic("nobody", NOBODY, 0)],
    )


def fetch_request(
    broker: InProcessBroker, version: int, *, everything: bool = False, stable: bool = False
) -> OffsetFetchRequest:
    if version < 8:
        topics = None if everything else [OffsetFetchRequestTopic("t", [0, 1])]
        return OffsetFetchRequest(GROUP, topics, require_stable=stable)
    wanted = [
        OffsetFetchRequestTopics("t", topic_id(broker), [0, 1])
        if version >= 10
        else OffsetFetchRequestTopics("t", partition_indexes=[0, 1])
    ]
    group = OffsetFetchRequestGroup(GROUP, topics=None if everything else wanted)
    return OffsetFetchRequest(groups=[group], require_stable=stable)


@pytest.mark.parametrize("version", range(10))
def test_join_group(client: InProcessClient, version: int) -> None:
    joined = client.request(join_request(), version)
    if version >= 4:
        assert joined.error_code == ErrorCode.MEMBER_ID_REQUIRED
        joined = client.request(join_request(joined.member_id), version)
    assert joined.error_code == ErrorCode.NONE
    assert (joined.generation_id, joined.protocol_name) == (1, "range")
    assert joined.protocol_type == ("consumer" if version >= 7 else None)
    assert joined.leader == joined.member_id
    assert [member.metadata for member in joined.members] == [b"metadata"]
    refused = client.request(join_request("nobody"), version)
    assert refused.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_join_group_v0_takes_the_session_timeout_for_the_rebalance(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    first = client.request(join_request(), 0)
    client.request(SyncGroupRequest(GROUP, 1, first.member_id), 0)
    parked = broker.connect().send(join_request(), 0)
    broker.advance(9_999)
    assert not parked.answered
    broker.advance(1)
    assert parked.response is not None


@pytest.mark.parametrize("version", range(6))
def test_sync_group(client: InProcessClient, version: int) -> None:
    joined = client.request(join_request(), 3)
    sync = SyncGroupRequest(
        GROUP,
        1,
        joined.member_id,
        protocol_type="consumer" if version >= 5 else None,
        protocol_name="range" if version >= 5 else None,
        assignments=[SyncGroupRequestAssignment(joined.member_id, b"all")],
    )
    synced = client.request(sync, version)
    assert (synced.error_code, synced.assignment) == (ErrorCode.NONE, b"all")
    assert synced.protocol_name == ("range" if version >= 5 else None)


def test_sync_group_v5_names_its_protocol(client: InProcessClient) -> None:
    member_id = start_consumer(client)
    refused = client.request(SyncGroupRequest(GROUP, 1, member_id), 5)
    assert refused.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("version", range(5))
def test_heartbeat(client: InProcessClient, version: int) -> None:
    member_id = start_consumer(client)
    assert client.request(HeartbeatRequest(GROUP, 1, member_id), version).error_code == 0
    refused = client.request(HeartbeatRequest(GROUP, 2, member_id), version)
    assert refused.error_code == ErrorCode.ILLEGAL_GENERATION


@pytest.mark.parametrize("version", range(6))
def test_leave_group(client: InProcessClient, version: int) -> None:
    member_id = start_consumer(client)

    def leave() -> list[int]:
        if version < 3:
            left = client.request(LeaveGroupRequest(GROUP, member_id), version)
            return [left.error_code]
        request = LeaveGroupRequest(GROUP, members=[MemberIdentity(member_id)])
        left = client.request(request, version)
        assert left.error_code == ErrorCode.NONE
        assert [member.member_id for member in left.members] == [member_id]
        return [member.error_code for member in left.members]

    assert leave() == [ErrorCode.NONE]
    assert leave() == [ErrorCode.UNKNOWN_MEMBER_ID]
    unnamed = client.request(LeaveGroupRequest("", members=[MemberIdentity("m")]), 3)
    assert unnamed.error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize("version", range(2, 11))
def test_offset_commit(broker: InProcessBroker, client: InProcessClient, version: int) -> None:
    committed = client.request(commit_request(broker, version, 42), version)
    known, unknown = committed.topics
    assert [(one.partition_index, one.error_code) for one in known.partitions] == [
        (0, ErrorCode.NONE),
        (7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    missing = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert [one.error_code for one in unknown.partitions] == [missing]
    if version >= 10:
        assert (known.topic_id, unknown.topic_id) == (topic_id(broker), NOBODY)
    else:
        assert (known.name, unknown.name) == ("t", "nobody")
    fetched = client.request(fetch_request(broker, 5), 5)
    (partition, _) = fetched.topics[0].partitions
    epoch = 3 if version >= 6 else -1
    assert (partition.committed_offset, partition.metadata) == (42, "note")
    assert partition.committed_leader_epoch == epoch


@pytest.mark.parametrize("version", range(2, 11))
def test_offset_commit_in_a_group_that_is_not(
    broker: InProcessBroker, client: InProcessClient, version: int
) -> None:
    request = commit_request(broker, version, 1, member_id="m", generation=3)
    partition = client.request(request, version).topics[0].partitions[0]
    expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
    assert partition.error_code == expected


def test_offset_commit_without_metadata(broker: InProcessBroker, client: InProcessClient) -> None:
    client.request(commit_request(broker, 9, 1, metadata=None), 9)
    fetched = client.request(fetch_request(broker, 9), 9)
    assert fetched.groups[0].topics[0].partitions[0].metadata == ""


def test_an_offset_commit_is_answered_once_it_is_durable(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    committing = client.send(commit_request(broker, 9, 1), 9)
    reading = broker.connect().send(fetch_request(broker, 9), 9)
    assert not committing.answered
    assert not reading.answered, "a reader sees nothing that a power cut could unsay"
    broker.sync()
    assert committing.answered
    assert reading.answered


def test_a_full_disk_refuses_offsets_and_generations(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    assert isinstance(broker.disk, SimulatedDisk)
    broker.sync()
    broker.disk.free = 0
    full = InProcessBroker(broker.disk, broker.clock)
    client = full.connect()
    committed = client.request(commit_request(full, 9, 1), 9)
    assert committed.topics[0].partitions[0].error_code == ErrorCode.NOT_COORDINATOR
    joined = client.request(join_request(), 3)
    sync = SyncGroupRequest(GROUP, 1, joined.member_id)
    assert client.request(sync, 3).error_code == ErrorCode.NOT_COORDINATOR
    broker.disk.free = 1 << 40
    assert client.request(sync, 3).error_code == ErrorCode.NONE


@pytest.mark.parametrize("version", range(1, 11))
def test_offset_fetch(broker: InProcessBroker, client: InProcessClient, version: int) -> None:
    client.request(commit_request(broker, 9, 42), 9)

    def partitions(everything: bool) -> list[tuple[int, int, int]]:
        answer = client.request(fetch_request(broker, version, everything=everything), version)
        if version < 8:
            (topic,) = answer.topics
            assert answer.error_code == ErrorCode.NONE
        else:
            (group,) = answer.groups
            assert (group.group_id, group.error_code) == (GROUP, ErrorCode.NONE)
            (topic,) = group.topics
        if version >= 10:
            assert topic.topic_id == topic_id(broker)
        else:
            assert topic.name == "t"
        return [
            (one.partition_index, one.committed_offset, one.error_code) for one in topic.partitions
        ]

    assert partitions(everything=False) == [(0, 42, 0), (1, -1, 0)]
    if version >= 2:
        assert partitions(everything=True) == [(0, 42, 0)]


def test_offset_fetch_v10_of_an_unknown_topic(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    wanted = OffsetFetchRequestGroup(GROUP, topics=[OffsetFetchRequestTopics("", NOBODY, [4])])
    answer = client.request(OffsetFetchRequest(groups=[wanted]), 10)
    (topic,) = answer.groups[0].topics
    assert topic.topic_id == NOBODY
    assert [(one.partition_index, one.error_code) for one in topic.partitions] == [
        (4, ErrorCode.UNKNOWN_TOPIC_ID)
    ]


def test_offset_fetch_of_several_groups(client: InProcessClient) -> None:
    wanted = [OffsetFetchRequestGroup(name, topics=None) for name in ("a", "b")]
    answer = client.request(OffsetFetchRequest(groups=wanted), 8)
    assert [(group.group_id, group.topics) for group in answer.groups] == [("a", []), ("b", [])]


@pytest.mark.parametrize(
    ("version", "key_type"),
    [(0, 0), *((version, kind) for version in range(1, 7) for kind in (0, 1))],
)
def test_find_coordinator(client: InProcessClient, version: int, key_type: int) -> None:
    found = client.request(
        FindCoordinatorRequest("k" if version < 4 else "", key_type, ["k", "l"]), version
    )
    if version < 4:
        assert (found.error_code, found.node_id, found.port) == (ErrorCode.NONE, 1, 9092)
        assert found.host == "127.0.0.1"
    else:
        assert [one.key for one in found.coordinators] == ["k", "l"]
        assert {(one.node_id, one.host, one.port) for one in found.coordinators} == {
            (1, "127.0.0.1", 9092)
        }


@pytest.mark.parametrize("key_type", [2, 3, -1])
@pytest.mark.parametrize("version", range(1, 7))
def test_find_coordinator_of_what_is_not_coordinated(
    client: InProcessClient, version: int, key_type: int
) -> None:
    found = client.request(FindCoordinatorRequest("k", key_type, ["k"]), version)
    answer = found if version < 4 else found.coordinators[0]
    assert (answer.error_code, answer.node_id) == (ErrorCode.INVALID_REQUEST, -1)
    assert str(key_type) in answer.error_message


@pytest.mark.parametrize("version", range(7))
def test_describe_groups(client: InProcessClient, version: int) -> None:
    member_id = start_consumer(client)
    request = DescribeGroupsRequest([GROUP, "nobody"], version >= 3)
    known, unknown = client.request(request, version).groups
    assert (known.group_id, known.group_state) == (GROUP, "Stable")
    assert (known.protocol_type, known.protocol_data) == ("consumer", "range")
    (member,) = known.members
    assert (member.member_id, member.client_id) == (member_id, "test")
    assert member.client_host == "/127.0.0.1"
    assert (member.member_metadata, member.member_assignment) == (b"metadata", b"assignment")
    assert (unknown.group_state, unknown.members) == ("Dead", [])
    not_found = ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE
    assert unknown.error_code == not_found
    assert known.authorized_operations == (3400 if version >= 3 else -(2**31))


@pytest.mark.parametrize("version", range(6))
def test_list_groups(client: InProcessClient, version: int) -> None:
    start_consumer(client)
    (listed,) = client.request(ListGroupsRequest(), version).groups
    assert (listed.group_id, listed.protocol_type) == (GROUP, "consumer")
    assert listed.group_state == ("Stable" if version >= 4 else "")
    assert listed.group_type == ("classic" if version >= 5 else "")
    if version >= 4:
        assert client.request(ListGroupsRequest(["Empty"]), version).groups == []
    if version >= 5:
        assert client.request(ListGroupsRequest([], ["share"]), version).groups == []


@pytest.mark.parametrize("version", range(3))
def test_delete_groups(broker: InProcessBroker, client: InProcessClient, version: int) -> None:
    client.request(commit_request(broker, 9, 1), 9)
    request = DeleteGroupsRequest([GROUP, "nobody", GROUP])
    results = client.request(request, version).results
    assert [(one.group_id, one.error_code) for one in results] == [
        (GROUP, ErrorCode.NONE),
        ("nobody", ErrorCode.GROUP_ID_NOT_FOUND),
    ]
    assert client.request(ListGroupsRequest(), 5).groups == []


def test_offset_delete(broker: InProcessBroker, client: InProcessClient) -> None:
    wanted = [OffsetDeleteRequestPartition(0), OffsetDeleteRequestPartition(7)]
    request = OffsetDeleteRequest(GROUP, [OffsetDeleteRequestTopic("t", wanted)])
    refused = client.request(request, 0)
    assert (refused.error_code, refused.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])
    client.request(commit_request(broker, 9, 1), 9)
    deleted = client.request(request, 0)
    assert deleted.error_code == ErrorCode.NONE
    assert [one.error_code for one in deleted.topics[0].partitions] == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert client.request(ListGroupsRequest(), 5).groups == []


def test_a_group_goes_on_after_the_broker_was_killed(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    member_id = start_consumer(client)
    commit = commit_request(broker, 9, 17, member_id=member_id, generation=1)
    client.request(commit, 9)
    reborn = InProcessBroker(broker.disk, broker.clock)
    again = reborn.connect()
    assert again.request(HeartbeatRequest(GROUP, 1, member_id), 4).error_code == ErrorCode.NONE
    fetched = again.request(fetch_request(reborn, 9, stable=True), 9)
    assert fetched.groups[0].topics[0].partitions[0].committed_offset == 17


def test_a_rebalance_of_two_over_the_wire(broker: InProcessBroker, client: InProcessClient) -> None:
    leader = start_consumer(client)
    other = broker.connect()
    follower = other.request(join_request(), 9).member_id
    waiting = other.send(join_request(follower), 9)
    beat = client.request(HeartbeatRequest(GROUP, 1, leader), 4)
    assert beat.error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert not waiting.answered
    joined = client.request(join_request(leader), 9)
    assert {member.member_id for member in joined.members} == {leader, follower}
    assert waiting.answered
    parked = other.send(SyncGroupRequest(GROUP, 2, follower, None, "consumer", "range"), 5)
    broker.sync()
    assert not parked.answered
    shares = [
        SyncGroupRequestAssignment(leader, b"left"),
        SyncGroupRequestAssignment(follower, b"right"),
    ]
    leading = client.send(SyncGroupRequest(GROUP, 2, leader, None, "consumer", "range", shares), 5)
    assert not leading.answered, "the generation is not durable yet"
    broker.sync()
    assert leading.response is not None
    assert parked.response is not None
    assert (leading.response.assignment, parked.response.assignment) == (b"left", b"right")
