"""A broker in this process with one topic, and short ways to talk to it."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch

Produce = Callable[..., Any]


@pytest.fixture
def broker() -> InProcessBroker:
    return InProcessBroker()


@pytest.fixture
def client(broker: InProcessBroker) -> InProcessClient:
    return broker.connect()


def create(client: InProcessClient, name: str, partitions: int = 1, **configs: str) -> Any:
    """CreateTopics v7 for one topic; returns its result."""
    topic = CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=1,
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in configs.items()
        ],
    )
    response: Any = client.request(CreateTopicsRequest(topics=[topic]), 7)
    return response.topics[0]


def batch(*values: str, **fields: Any) -> bytes:
    return build_batch(
        [Record(timestamp=1_700_000_000_000, value=value.encode()) for value in values], **fields
    )


def produce_request(topic: str, records: bytes, partition: int = 0, acks: int = -1) -> Any:
    data = PartitionProduceData(index=partition, records=records)
    return ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=1_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )


def produce(client: InProcessClient, topic: str, *values: str, partition: int = 0) -> Any:
    """Produce v9 with one batch; returns the partition's answer."""
    request = produce_request(topic, batch(*values), partition)
    response: Any = client.request(request, 9)
    return response.responses[0].partition_responses[0]
