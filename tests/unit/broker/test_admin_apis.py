"""Partitions that are added, log directories, features, and the other APIs for administrators."""

from typing import Any

import pytest

from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages.api_versions import ApiVersionsRequest
from ottla.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from ottla.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
)
from ottla.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from ottla.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    RequestedPartition,
    RequestedTopic,
)
from ottla.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.wire.messages.list_config_resources import ListConfigResourcesRequest
from ottla.wire.messages.metadata import MetadataRequest
from ottla.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.unit.broker.conftest import create, produce

UPGRADE, SAFE_DOWNGRADE = 1, 2


def enlarge(client: InProcessClient, name: str, count: int, *, validate_only: bool = False) -> Any:
    """CreatePartitions v3; the topic's result."""
    topics = [CreatePartitionsTopic(name, count, None)]
    response: Any = client.request(CreatePartitionsRequest(topics, 1_000, validate_only), 3)
    return response.results[0]


class TestCreatePartitions:
    def test_new_partitions_can_be_written_at_once_and_survive(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "t")
        produce(client, "t", "old")
        assert produce(client, "t", "new", partition=2).error_code == 3
        assert enlarge(client, "t", 3).error_code == ErrorCode.NONE
        assert produce(client, "t", "new", partition=2).base_offset == 0
        assert produce(client, "t", "old").base_offset == 1
        again = InProcessBroker(broker.disk, broker.clock).connect()
        assert produce(again, "t", "new", partition=2).base_offset == 1

    def test_validate_only_adds_nothing(self, client: InProcessClient) -> None:
        create(client, "t")
        assert enlarge(client, "t", 3, validate_only=True).error_code == ErrorCode.NONE
        assert produce(client, "t", "new", partition=2).error_code == 3

    @pytest.mark.parametrize("count", [-1, 0, 1, 2])
    def test_it_must_be_more(self, client: InProcessClient, count: int) -> None:
        create(client, "t", 2)
        assert enlarge(client, "t", count).error_code == ErrorCode.INVALID_PARTITIONS

    def test_it_must_not_be_too_many(self, client: InProcessClient) -> None:
        create(client, "t")
        assert enlarge(client, "t", 2**31 - 1).error_code == ErrorCode.POLICY_VIOLATION


def test_a_topic_with_replicas_assigned_by_hand(client: InProcessClient) -> None:
    replicas = [CreatableReplicaAssignment(1, [1]), CreatableReplicaAssignment(0, [1])]
    topic = CreatableTopic("t", -1, -1, replicas, [])
    response: Any = client.request(CreateTopicsRequest([topic]), 7)
    assert (response.topics[0].error_code, response.topics[0].num_partitions) == (0, 2)


def test_a_topic_is_deleted_once_however_often_it_is_named(client: InProcessClient) -> None:
    topic_id = create(client, "t").topic_id
    by_id = DeleteTopicsRequest([DeleteTopicState(None, topic_id)] * 2, [], 1_000)
    response: Any = client.request(by_id, 6)
    assert [one.error_code for one in response.responses] == [ErrorCode.INVALID_REQUEST]
    response = client.request(DeleteTopicsRequest([DeleteTopicState(None, topic_id)], [], 1_000), 6)
    assert [one.error_code for one in response.responses] == [ErrorCode.NONE]


def test_the_size_of_a_log(client: InProcessClient) -> None:
    create(client, "t", 2)
    produce(client, "t", "x" * 1_000)
    response: Any = client.request(DescribeLogDirsRequest(None), 5)
    directory = response.results[0]
    sizes = [one.partition_size for one in directory.topics[0].partitions]
    assert 1_000 < sizes[0] < 1_200
    assert sizes[1] == 0
    assert directory.usable_bytes <= directory.total_bytes


def test_the_quorum_is_this_node_and_its_journal(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    create(client, "t")
    asked = [RequestedTopic("__cluster_metadata", [RequestedPartition(0)])]
    response: Any = client.request(DescribeQuorumRequest(asked), 2)
    quorum = response.topics[0].partitions[0]
    assert quorum.leader_id == quorum.current_voters[0].replica_id == broker.core.node_id
    assert 0 < quorum.high_watermark <= quorum.current_voters[0].log_end_offset


def test_no_election_is_needed(client: InProcessClient) -> None:
    create(client, "t")
    response: Any = client.request(ElectLeadersRequest(0, [TopicPartitions("t", [0, 1])], 1_000), 2)
    results = response.replica_election_results[0].partition_result
    assert [one.error_code for one in results] == [84, 3]
    everything: Any = client.request(ElectLeadersRequest(0, None, 1_000), 2)
    assert everything.replica_election_results == []


def test_ten_thousand_partitions_are_described_in_pages(client: InProcessClient) -> None:
    create(client, "a", 1_999)
    create(client, "b", 10_000)
    seen, cursor = 0, None
    pages = 0
    while pages == 0 or cursor is not None:
        request = DescribeTopicPartitionsRequest([], 1_000_000, cursor)
        response: Any = client.request(request, 0)
        here = sum(len(topic.partitions) for topic in response.topics)
        assert here <= 2_000
        seen, cursor, pages = seen + here, response.next_cursor, pages + 1
    assert (seen, pages) == (11_999, 6)
    one: Any = client.request(DescribeTopicPartitionsRequest([TopicRequest("b")], 3, None), 0)
    assert (one.next_cursor.topic_name, one.next_cursor.partition_index) == ("b", 3)


def test_internal_names_are_told(client: InProcessClient) -> None:
    create(client, "__consumer_offsets")
    create(client, "t")
    response: Any = client.request(MetadataRequest(None), 12)
    assert {one.name: one.is_internal for one in response.topics} == {
        "__consumer_offsets": True,
        "t": False,
    }


def test_what_has_configs(client: InProcessClient) -> None:
    create(client, "t")
    response: Any = client.request(ListConfigResourcesRequest([]), 1)
    listed = {(one.resource_type, one.resource_name) for one in response.config_resources}
    assert listed == {(2, "t"), (4, "1"), (8, "1")}


class TestFeatures:
    def update(
        self, client: InProcessClient, name: str, level: int, kind: int, **more: bool
    ) -> Any:
        update = FeatureUpdateKey(name, level, upgrade_type=kind)
        return client.request(UpdateFeaturesRequest(1_000, [update], **more), 1)

    def finalized(self, client: InProcessClient) -> tuple[dict[str, int], int]:
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        response: Any = client.request(request, 4)
        levels = {one.name: one.max_version_level for one in response.finalized_features}
        assert levels.keys() <= {one.name for one in response.supported_features}
        return levels, response.finalized_features_epoch

    def test_clients_are_told_a_changed_level_after_a_restart_too(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        levels, epoch = self.finalized(client)
        assert (levels["transaction.version"], levels["metadata.version"]) == (2, 30)
        answer = self.update(client, "transaction.version", 1, SAFE_DOWNGRADE)
        assert (answer.error_code, answer.results[0].error_code) == (0, 0)
        for _ in range(2):
            levels, risen = self.finalized(client)
            assert (levels["transaction.version"], risen) == (1, epoch + 1)
            broker.sync()
            broker = InProcessBroker(broker.disk, broker.clock)
            client = broker.connect()
        self.update(client, "transaction.version", 2, UPGRADE)
        assert self.finalized(client)[0]["transaction.version"] == 2

    def test_level_0_means_not_in_use(self, client: InProcessClient) -> None:
        self.update(client, "transaction.version", 0, SAFE_DOWNGRADE)
        assert "transaction.version" not in self.finalized(client)[0]

    def test_without_group_version_there_are_no_groups_of_the_new_protocol(
        self, client: InProcessClient
    ) -> None:
        heartbeat = ConsumerGroupHeartbeatRequest("g", "m", 0, rebalance_timeout_ms=1_000)
        heartbeat.subscribed_topic_names, heartbeat.topic_partitions = ["t"], []
        for level, kind, code in ((0, SAFE_DOWNGRADE, 35), (1, UPGRADE, 0)):
            self.update(client, "group.version", level, kind)
            assert ("group.version" in self.finalized(client)[0]) is (level > 0)
            beaten: Any = client.request(heartbeat, 0)
            described: Any = client.request(ConsumerGroupDescribeRequest(["g"]), 0)
            assert (beaten.error_code, described.groups[0].error_code) == (code, code)

    def test_nothing_is_changed_by_a_look_or_to_the_same_level(
        self, client: InProcessClient
    ) -> None:
        before = self.finalized(client)
        self.update(client, "transaction.version", 1, SAFE_DOWNGRADE, validate_only=True)
        self.update(client, "transaction.version", 2, UPGRADE)
        assert self.finalized(client) == before

    def test_all_of_them_or_none(self, client: InProcessClient) -> None:
        before = self.finalized(client)
        updates = [
            FeatureUpdateKey("transaction.version", 1, upgrade_type=SAFE_DOWNGRADE),
            FeatureUpdateKey("nope", 1, upgrade_type=UPGRADE),
        ]
        response: Any = client.request(UpdateFeaturesRequest(1_000, updates), 2)
        assert response.error_code == ErrorCode.INVALID_UPDATE_VERSION
        assert self.finalized(client) == before

    def test_version_0_says_whether_it_may_be_a_downgrade(self, client: InProcessClient) -> None:
        for allowed, code in ((False, ErrorCode.INVALID_UPDATE_VERSION), (True, ErrorCode.NONE)):
            update = FeatureUpdateKey("transaction.version", 1, allow_downgrade=allowed)
            response: Any = client.request(UpdateFeaturesRequest(1_000, [update]), 0)
            assert response.error_code == code
