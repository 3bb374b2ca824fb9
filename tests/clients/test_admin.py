"""Administration by the clients' own admin interfaces, on Ottla and on Apache Kafka.

confluent-kafka, kafka-python and aiokafka each make a topic, enlarge it, alter its configs and
delete it; what only one of them can ask is asked by that one. Kafka's Java tools are in
tests/differential.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin import NewPartitions as AioNewPartitions
from aiokafka.admin import NewTopic as AioNewTopic
from aiokafka.admin.config_resource import ConfigResource as AioConfigResource
from aiokafka.admin.config_resource import ConfigResourceType as AioConfigResourceType
from confluent_kafka import ElectionType, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)
from kafka.admin import ConfigResource as PyConfigResource
from kafka.admin import ConfigResourceType, KafkaAdminClient, UpdateFeatureType
from kafka.admin import NewPartitions as PyNewPartitions
from kafka.admin import NewTopic as PyNewTopic

Unique = Callable[[str], str]
T = TypeVar("T")

LIMIT_S = 30.0


def until(expected: T, look: Callable[[], T]) -> None:
    """Look until it is as expected: Kafka's brokers learn of a change a moment later."""
    deadline = time.monotonic() + LIMIT_S
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == expected


# -- confluent-kafka ---------------------------------------------------------------------------


class Confluent:
    """The AdminClient, with each future's result at once."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.client = AdminClient({"bootstrap.servers": bootstrap_servers})

    def create(self, topic: NewTopic, **more: Any) -> None:
        self.client.create_topics([topic], **more)[topic.topic].result(LIMIT_S)

    def enlarge(self, name: str, count: int, **more: Any) -> None:
        wanted = NewPartitions(name, count, **more)
        self.client.create_partitions([wanted])[name].result(LIMIT_S)

    def alter(self, kind: ResourceType, name: str, *entries: ConfigEntry, **more: Any) -> None:
        resource = ConfigResource(kind, name, incremental_configs=list(entries))
        self.client.incremental_alter_configs([resource], **more)[resource].result(LIMIT_S)

    def config(self, kind: ResourceType, name: str, key: str) -> Any:
        resource = ConfigResource(kind, name)
        return self.client.describe_configs([resource])[resource].result(LIMIT_S)[key]

    def partitions(self, name: str) -> int:
        found = self.client.list_topics(name, timeout=LIMIT_S).topics[name]
        return len(found.partitions)


@pytest.fixture
def confluent(bootstrap: str) -> Confluent:
    return Confluent(bootstrap)


def change(name: str, operation: AlterConfigOpType, value: str | None) -> ConfigEntry:
    return ConfigEntry(name, value, incremental_operation=operation)


def refused(what: Callable[[], object]) -> str:
    """The name of the error that it is refused with."""
    with pytest.raises(KafkaException) as raised:
        what()
    return str(raised.value.args[0].name())


def test_confluent_kafka_makes_and_enlarges_topics(confluent: Confluent, unique: Unique) -> None:
    name = unique("topic")
    confluent.create(NewTopic(name, 2, replica_assignment=[[1], [1]]))
    until(2, lambda: confluent.partitions(name))
    assert refused(lambda: confluent.create(NewTopic(name, 1, 1))) == "TOPIC_ALREADY_EXISTS"
    confluent.create(NewTopic(unique("only-looked-at"), 1, 1), validate_only=True)
    for count, factor, config, error in (
        (1, 3, {}, "INVALID_REPLICATION_FACTOR"),
        (1, 1, {"segment.ms": "0"}, "INVALID_CONFIG"),
        (1, 1, {"no.such.config": "0"}, "INVALID_CONFIG"),
    ):
        wanted = NewTopic(unique("refused"), count, factor, config=config)
        assert refused(lambda wanted=wanted: confluent.create(wanted)) == error
    confluent.enlarge(name, 4)
    confluent.enlarge(name, 5, replica_assignment=[[1]])
    assert refused(lambda: confluent.enlarge(name, 5)) == "INVALID_PARTITIONS"
    until(5, lambda: confluent.partitions(name))
    described = confluent.client.describe_topics(TopicCollection([name]))[name].result(LIMIT_S)
    assert [one.leader.id for one in described.partitions] == [1] * 5
    partition = TopicPartition(name, 0)
    elected = confluent.client.elect_leaders(ElectionType.PREFERRED, [partition]).result(LIMIT_S)
    assert elected[partition].name() == "ELECTION_NOT_NEEDED"
    confluent.client.delete_topics([name])[name].result(LIMIT_S)


def test_confluent_kafka_alters_configs(confluent: Confluent, unique: Unique) -> None:
    topic, name, key = ResourceType.TOPIC, unique("topic"), "cleanup.policy"
    confluent.create(NewTopic(name, 1, 1, config={key: "compact"}))
    until(1, lambda: confluent.partitions(name))
    until("compact", lambda: confluent.config(topic, name, key).value)
    for operation, value, result in (
        (AlterConfigOpType.APPEND, "delete", "compact,delete"),
        (AlterConfigOpType.SUBTRACT, "compact", "delete"),
        (AlterConfigOpType.SET, "compact", "compact"),
        (AlterConfigOpType.DELETE, None, "delete"),
    ):
        confluent.alter(topic, name, change(key, operation, value))
        until(result, lambda: confluent.config(topic, name, key).value)
    assert confluent.config(topic, name, key).is_default
    wrong = change("retention.ms", AlterConfigOpType.SET, "-5")
    assert refused(lambda: confluent.alter(topic, name, wrong)) == "INVALID_CONFIG"
    right = change("retention.ms", AlterConfigOpType.SET, "5")
    confluent.alter(topic, name, right, validate_only=True)
    assert confluent.config(topic, name, "retention.ms").value == "604800000"
    gone = unique("no-such-topic")
    assert refused(lambda: confluent.alter(topic, gone, right)) == "UNKNOWN_TOPIC_OR_PART"
    of_broker = confluent.config(ResourceType.BROKER, "1", "log.cleaner.delete.retention.ms")
    assert (of_broker.value, of_broker.is_read_only) == ("86400000", False)
    fixed = change("num.partitions", AlterConfigOpType.SET, "5")
    assert refused(lambda: confluent.alter(ResourceType.BROKER, "1", fixed)) == "INVALID_REQUEST"


# -- kafka-python ------------------------------------------------------------------------------


@pytest.fixture
def python(bootstrap: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    yield client
    client.close()


def test_kafka_python_administers(python: KafkaAdminClient, unique: Unique) -> None:
    name = unique("topic")
    python.create_topics([PyNewTopic(name, 2, 1, topic_configs={"retention.ms": "77"})])
    python.create_partitions({name: PyNewPartitions(total_count=4)})
    until(
        [0, 1, 2, 3],
        lambda: [
            one["partition_index"]
            for one in python.describe_topic_partitions([name])["topics"][0]["partitions"]
        ],
    )
    elected = python.elect_leaders(0, {name: [0]}, raise_errors=False)
    assert elected.replica_election_results[0].partition_result[0].error_code == 84
    python.wait_for_topics([name])
    topic = PyConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "88"})

    def retention() -> str:
        configs = python.describe_configs([topic], config_filter="all")["topic"][name]
        return str(configs["retention.ms"]["value"])

    for incremental, value in ((True, "88"), (False, "99")):
        topic.configs["retention.ms"] = value
        python.alter_configs([topic], incremental=incremental)
        until(value, retention)
    python.reset_configs([topic])
    until("604800000", retention)
    assert name in python.list_config_resources()["topic"]

    def logs() -> int:
        (directory,) = python.describe_log_dirs()[0]["log_dirs"]
        return sum(len(one["partitions"]) for one in directory["topics"] if one["name"] == name)

    until(4, logs)
    python.delete_topics([name])


def test_kafka_python_looks_at_the_node(python: KafkaAdminClient) -> None:
    features = python.describe_features()
    assert features["transaction.version"]["finalized"] == (2, 2)
    assert features["group.version"]["supported"] == (0, 1)
    downgrade = {"transaction.version": (UpdateFeatureType.SAFE_DOWNGRADE, 1)}
    assert python.update_features(downgrade, validate_only=True) == {"transaction.version": "OK"}
    quorum = python.describe_metadata_quorum()
    (partition,) = quorum["topics"][0]["partitions"]
    assert partition["leader_id"] == partition["current_voters"][0]["replica_id"] == 1


# -- aiokafka ----------------------------------------------------------------------------------


def test_aiokafka_administers(bootstrap: str, unique: Unique) -> None:
    name = unique("topic")

    async def administer() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await client.start()
        try:
            configs = {"retention.ms": "77"}
            made = await client.create_topics([AioNewTopic(name, 2, 1, topic_configs=configs)])
            assert made.topic_errors[0][1] == 0
            grown = await client.create_partitions({name: AioNewPartitions(3)})
            assert grown.topic_errors[0][1] == 0
            resource = AioConfigResource(
                AioConfigResourceType.TOPIC, name, configs={"segment.ms": "88"}
            )
            (altered,) = await client.alter_configs([resource])
            assert altered.resources[0][0] == 0
            deadline, wanted = time.monotonic() + LIMIT_S, {"retention.ms": "604800000"}
            wanted["segment.ms"] = "88"  # AlterConfigs takes back all that it does not name
            while True:
                asked = AioConfigResource(AioConfigResourceType.TOPIC, name)
                (described,) = await client.describe_configs([asked])
                told = {one[0]: one[1] for one in described.resources[0][4]}
                if wanted.items() <= told.items() or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
            assert wanted.items() <= told.items()
            gone = await client.delete_topics([name])
            assert gone.topic_error_codes[0][1] == 0
        finally:
            await client.close()

    asyncio.run(administer())
