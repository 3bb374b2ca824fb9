"""Groups of the new protocol in the broker's core: its clock, its topics, its configs, its disk."""

import random
from typing import Any

import pytest

from ottla.broker.config import BrokerConfig
from ottla.broker.configs import ResourceType
from ottla.broker.dynamic_configs import ConfigsRecord
from ottla.coordinator.consumer_groups import ConsumerGroupConfig
from ottla.ports.clock import SimulatedClock
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import POLICIES, PowerCutPolicy, SimulatedDisk
from ottla.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_topics import DeleteTopicsRequest

CONFIG = BrokerConfig(
    journal_allocate_bytes=0, consumer_groups=ConsumerGroupConfig(10_000, 2_000, 0)
)


def create(client: InProcessClient, name: str, partitions: int = 2) -> None:
    topic = CreatableTopic(name, num_partitions=partitions, replication_factor=1)
    client.request(CreateTopicsRequest(topics=[topic]), 7)


def join(member_id: str = "a", group_id: str = "g") -> ConsumerGroupHeartbeatRequest:
    return ConsumerGroupHeartbeatRequest(
        group_id, member_id, 0, None, None, 60_000, ["t"], None, None, []
    )


def beat(epoch: int) -> ConsumerGroupHeartbeatRequest:
    return ConsumerGroupHeartbeatRequest("g", "a", epoch)


def partitions(answer: Any) -> int:
    """How many partitions an answer names."""
    return sum(len(topic.partitions) for topic in answer.assignment.topic_partitions)


@pytest.fixture
def broker() -> InProcessBroker:
    return InProcessBroker(config=CONFIG)


@pytest.fixture
def client(broker: InProcessBroker) -> InProcessClient:
    client = broker.connect()
    create(client, "t")
    return client


def test_an_answer_waits_for_the_disk(broker: InProcessBroker, client: InProcessClient) -> None:
    pending = client.send(join(), 1)
    assert not pending.answered
    broker.sync()
    answer: Any = pending.response
    assert (answer.member_epoch, answer.heartbeat_interval_ms) == (2, 2_000)
    assert partitions(answer) == 2
    assert client.send(beat(2), 1).answered, "with nothing new there is nothing to wait for"


def test_the_broker_makes_an_id_for_old_clients(client: InProcessClient) -> None:
    first, second = (client.request(join("", group), 0) for group in ("g", "h"))
    assert isinstance(first, ConsumerGroupHeartbeatResponse)
    assert isinstance(second, ConsumerGroupHeartbeatResponse)
    assert first.member_id
    assert first.member_id != second.member_id
    refused: Any = client.request(join(""), 1)
    assert refused.error_code == ErrorCode.INVALID_REQUEST


def test_silence_is_measured_by_the_brokers_clock(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    client.request(join(), 1)
    broker.advance(9_999)
    answer: Any = client.request(beat(2), 1)
    assert answer.error_code == ErrorCode.NONE
    broker.advance(10_000)
    answer = client.request(beat(2), 1)
    assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_topics_that_come_and_go_reach_the_group(client: InProcessClient) -> None:
    client.request(join(), 1)
    client.request(DeleteTopicsRequest(topic_names=["t"]), 5)
    answer: Any = client.request(beat(2), 1)
    assert partitions(answer) == 0
    (group,) = _described(client)
    (member,) = group.members
    assert member.assignment.topic_partitions == [], "what is gone has no name to be told by"
    create(client, "t", 3)
    request = beat(2)
    request.topic_partitions = []
    answer = client.request(request, 1)
    assert (answer.member_epoch, partitions(answer)) == (4, 3)


def test_a_group_has_configs_of_its_own(broker: InProcessBroker, client: InProcessClient) -> None:
    configs = {"consumer.heartbeat.interval.ms": "7000", "consumer.session.timeout.ms": "50000"}
    broker.core.commit([ConfigsRecord(ResourceType.GROUP, "g", configs)])
    answer: Any = client.request(join(), 1)
    assert answer.heartbeat_interval_ms == 7_000
    broker.advance(49_999)
    answer = client.request(beat(2), 1)
    assert answer.error_code == ErrorCode.NONE


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_members_survive_a_power_cut(policy: PowerCutPolicy) -> None:
    disk, clock = SimulatedDisk(), SimulatedClock()
    client = InProcessBroker(disk, clock, CONFIG).connect()
    create(client, "t")
    client.request(join(), 1)
    again = InProcessBroker(disk.after_power_cut(policy, random.Random(1)), clock, CONFIG).connect()
    answer: Any = again.request(beat(2), 1)
    assert (answer.error_code, answer.member_epoch, answer.assignment) == (ErrorCode.NONE, 2, None)
    (group,) = _described(again)
    assert (group.group_state, group.group_epoch) == ("Stable", 2)


def _described(client: InProcessClient) -> list[Any]:
    answer: Any = client.request(ConsumerGroupDescribeRequest(group_ids=["g"]), 1)
    return list(answer.groups)
