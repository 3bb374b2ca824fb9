"""The APIs that ask for a node and its replicas: Ottla and Apache Kafka answer alike."""

from collections.abc import Callable

import pytest

from ottla.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    RequestedPartition,
    RequestedTopic,
)
from ottla.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.differential.both import (
    LIMIT_MS,
    Both,
)

pytestmark = pytest.mark.kafka

Unique = Callable[[str], str]


def test_elections(both: Both, topic: str) -> None:
    for kind in (0, 1, 7):
        for partitions in ({topic: [0, 0]}, {topic: [9]}, {"no-such-topic": [0]}, {}):
            named = [TopicPartitions(*item) for item in partitions.items()]
            both.say(2, ElectLeadersRequest(kind, named, LIMIT_MS))
    both.say(1, ElectLeadersRequest(1, [TopicPartitions(topic, [0])], LIMIT_MS))
    both.say(0, ElectLeadersRequest(0, [TopicPartitions(topic, [0])], LIMIT_MS))


def test_the_log_directory(both: Both, topic: str) -> None:
    for version in (1, 4, 5):
        both.see(version, DescribeLogDirsRequest([DescribableLogDirTopic(topic, [0, 7])]))
    for wanted in ([], [DescribableLogDirTopic("no-such-topic", [0])]):
        both.see(5, DescribeLogDirsRequest(wanted))
    for name in (topic, "no-such-topic"):
        moved = AlterReplicaLogDir("/nowhere", [AlterReplicaLogDirTopic(name, [0, 7])])
        both.see(2, AlterReplicaLogDirsRequest([moved]))
    both.see(1, AlterReplicaLogDirsRequest([]))


def test_the_quorum(both: Both, topic: str) -> None:
    for name, index in (("__cluster_metadata", 0), ("__cluster_metadata", 1), (topic, 0)):
        asked = [RequestedTopic(name, [RequestedPartition(index)])]
        for version in (0, 1, 2):
            both.see(version, DescribeQuorumRequest(asked))
    both.see(2, DescribeQuorumRequest([]))


def test_features_that_cannot_be_updated(both: Both) -> None:
    for name, level, upgrade_type in (
        ("transaction.version", 2, 1),
        ("transaction.version", 3, 1),
        ("transaction.version", 1, 1),
        ("transaction.version", 1, 2),
        ("transaction.version", 0, 3),
        ("transaction.version", -1, 1),
        ("transaction.version", 2, 9),
        ("group.version", 2, 1),
        ("nope", 1, 1),
        ("nope", 0, 2),
        ("metadata.version", 100, 1),
        ("metadata.version", 6, 2),
        ("metadata.version", 20, 2),
        ("metadata.version", 20, 1),
    ):
        update = FeatureUpdateKey(name, level, upgrade_type=upgrade_type)
        for version in (1, 2):
            both.say(version, UpdateFeaturesRequest(LIMIT_MS, [update], validate_only=True))
