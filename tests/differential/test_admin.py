"""Topics, configs and the admin APIs: Ottla and Apache Kafka give the same answers, word for word.

A test asks both brokers the same questions under the same names. What a broker was told a moment
ago Kafka may not show yet, so it is asked again until it gives Ottla's answer, or time is up.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from ottla.wire.message import Message, Structure
from ottla.wire.messages import alter_configs as replacing
from ottla.wire.messages import incremental_alter_configs as incremental
from ottla.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    RequestedPartition,
    RequestedTopic,
)
from ottla.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.wire.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.wire.messages.list_config_resources import ListConfigResourcesRequest
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.differential.comparing import differences
from tests.differential.raw import Raw

pytestmark = pytest.mark.kafka

Unique = Callable[[str], str]

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
NO_ID = UUID(int=0)
LIMIT_S = 20.0
# Each broker's own: where it is, what it hands out, where its log ends.
OWN = {"port", "cluster_id", "log_dir", "total_bytes", "usable_bytes", "leader_epoch"}
OWN |= {"high_watermark", "log_end_offset", "last_fetch_timestamp", "last_caught_up_timestamp"}
BY_ELR = "min.insync.replicas"  # which Kafka sets for the cluster by itself (KIP-966)
OWN |= {"documentation", "throttle_time_ms"}


def plain(value: Any, name: str = "") -> Any:
    """An answer without what is a broker's own and without the order of its lists."""
    if isinstance(value, Structure):
        fields = {field: plain(getattr(value, field), field) for field in value.__slots__}
        return {field: found for field, found in fields.items() if field not in OWN}
    if isinstance(value, list):
        items = [plain(item) for item in value if getattr(item, "name", "") != BY_ELR]
        return items if name == "synonyms" else sorted(items, key=repr)
    if isinstance(value, UUID):
        return value if value.int < 1_000 else "an id"
    return value


class Both:
    """Ottla and Apache Kafka, asked the same."""

    def __init__(self, ottla: Raw, kafka: Raw) -> None:
        self._ottla = ottla
        self._kafka = kafka

    def close(self) -> None:
        self._ottla.close()
        self._kafka.close()

    def say(self, version: int, request: Message) -> Any:
        """Have it done, once; the answer, which is the same."""
        ours, theirs = self.each(version, request)
        assert not list(differences(ours, theirs)), request
        return ours

    def see(self, version: int, request: Message) -> Any:
        """Look; the answer, which is the same after a while."""
        deadline = time.monotonic() + LIMIT_S
        ours, theirs = self.each(version, request)
        while ours != theirs and time.monotonic() < deadline:
            time.sleep(0.02)
            _, theirs = self.each(version, request)
        assert not list(differences(ours, theirs)), request
        return ours

    def each(self, version: int, request: Message) -> tuple[Any, Any]:
        """Both answers."""
        ours, theirs = self._ottla.ask(version, request), self._kafka.ask(version, request)
        return plain(ours), plain(theirs)

    # -- short ways ---------------------------------------------------------------------------

    def create(self, name: str, version: int = 7, *, count: int = 1, **more: Any) -> Any:
        """CreateTopics for one topic; validates only, unless told to `make` it."""
        configs = [CreatableTopicConfig(*item) for item in more.get("configs", ())]
        replicas = [CreatableReplicaAssignment(*item) for item in more.get("replicas", ())]
        topic = CreatableTopic(name, count, more.get("factor", 1), replicas, configs)
        make = more.get("make", False)
        request = CreateTopicsRequest([topic], LIMIT_MS, validate_only=not make)
        answer = self.say(version, request)["topics"][0]
        if make:
            wanted = MetadataRequest([MetadataRequestTopic(name=name)], False)
            self.see(12, wanted)
        return answer

    def alter(
        self, kind: int, name: str, *changes: tuple[str, int, str | None], make: bool = False
    ) -> Any:
        """IncrementalAlterConfigs for one resource; its error and the words."""
        configs = [incremental.AlterableConfig(*change) for change in changes]
        resource = incremental.AlterConfigsResource(kind, name, configs)
        request = incremental.IncrementalAlterConfigsRequest([resource], validate_only=not make)
        return _error(self.say(1, request))

    def replace(
        self, kind: int, name: str, *changes: tuple[str, str | None], make: bool = False
    ) -> Any:
        """AlterConfigs for one resource; its error and the words."""
        configs = [replacing.AlterableConfig(*change) for change in changes]
        resource = replacing.AlterConfigsResource(kind, name, configs)
        return _error(self.say(2, replacing.AlterConfigsRequest([resource], not make)))

    def configs(self, kind: int, name: str, *keys: str) -> dict[str, tuple[Any, int]]:
        """DescribeConfigs for one resource: value and source."""
        resource = DescribeConfigsResource(kind, name, list(keys) or None)
        answer = self.see(4, DescribeConfigsRequest([resource], True, True))
        return {
            one["name"]: (one["value"], one["config_source"])
            for one in answer["results"][0]["configs"]
        }


LIMIT_MS = int(LIMIT_S * 1_000)


def _error(answer: Any) -> tuple[int, str | None]:
    response = answer["responses"][0]
    return response["error_code"], response["error_message"]


@pytest.fixture
def both(ottla_broker_session: Any, kafka_bootstrap: str) -> Iterator[Both]:
    both = Both(Raw(ottla_broker_session.bootstrap_servers), Raw(kafka_bootstrap))
    yield both
    both.close()


@pytest.fixture
def topic(both: Both, unique: Unique) -> str:
    name = unique("topic")
    assert both.create(name, make=True, configs=[("cleanup.policy", "compact")])["error_code"] == 0
    return name


# -- topics ------------------------------------------------------------------------------------


def test_how_many_partitions_and_replicas_a_topic_may_have(both: Both) -> None:
    for count in (3, -1, 0, -2, 10_001):
        both.create("new", count=count)
    for factor in (-1, 0, -2, 2, 3):
        both.create("new", factor=factor)
    for version in (2, 4, 5, 6):
        both.create("new", version)


@pytest.mark.parametrize(
    ("replicas", "refused"),
    [
        ([(0, [1]), (1, [1])], 0),
        ([(1, [1]), (0, [1])], 0),
        ([(1, [1])], 39),
        ([(0, [1]), (0, [1])], 39),
        ([(0, [])], 39),
        ([(0, [7])], 39),
        ([(0, [1, 1])], 39),
        ([(0, [1]), (1, [1, 2])], 39),
    ],
)
def test_replicas_assigned_by_hand(both: Both, replicas: Any, refused: int) -> None:
    assert both.create("new", count=-1, factor=-1, replicas=replicas)["error_code"] == refused
    assert both.create("new", count=2, factor=-1, replicas=replicas)["error_code"] == 42
    assert both.create("new", count=-1, factor=1, replicas=replicas)["error_code"] == 42


def test_names_that_topics_may_not_have(both: Both, topic: str, unique: Unique) -> None:
    for name in ("", ".", "..", "a b", "x" * 250, "ä", "__cluster_metadata", topic):
        assert both.create(name)["error_code"] != 0
    with_dot = unique("a.b")
    both.create(with_dot, make=True)
    assert both.create(with_dot.replace(".", "_"))["error_code"] == 17
    new = CreatableTopic("new", 1, 1, [], [])
    both.say(7, CreateTopicsRequest([new, CreatableTopic("x", 1, 1, [], []), new], 9_000, True))


BAD_CONFIGS = [
    ("nope", "1"),
    ("message.format.version", "3.0"),
    ("retention.ms", "x"),
    ("retention.ms", ""),
    ("retention.ms", "-2"),
    ("retention.ms", None),
    ("cleanup.policy", "delet"),
    ("cleanup.policy", "delete,"),
    ("compression.type", "zip"),
    ("compression.gzip.level", "0"),
    ("compression.gzip.level", "10"),
    ("compression.lz4.level", "18"),
    ("compression.zstd.level", "23"),
    ("compression.zstd.level", "-200000"),
    ("preallocate", "yes"),
    ("min.cleanable.dirty.ratio", "2"),
    ("min.cleanable.dirty.ratio", "-0.1"),
    ("min.cleanable.dirty.ratio", "x"),
    ("segment.bytes", "1048575"),
    ("segment.bytes", "99999999999"),
    ("segment.ms", "0"),
    ("segment.index.bytes", "3"),
    ("segment.jitter.ms", "-1"),
    ("max.message.bytes", "-1"),
    ("message.timestamp.type", "x"),
    ("message.timestamp.before.max.ms", "-1"),
    ("message.timestamp.after.max.ms", "-1"),
    ("min.insync.replicas", "0"),
    ("min.compaction.lag.ms", "-1"),
    ("max.compaction.lag.ms", "0"),
    ("delete.retention.ms", "-1"),
    ("file.delete.delay.ms", "-1"),
    ("flush.messages", "0"),
    ("flush.ms", "-1"),
    ("index.interval.bytes", "-1"),
    ("leader.replication.throttled.replicas", "x"),
    ("remote.storage.enable", "true"),
    ("local.retention.ms", "-3"),
    ("local.retention.bytes", "-3"),
]
GOOD_CONFIGS = [
    ("retention.ms", " 5 "),
    ("retention.bytes", "-5"),
    ("cleanup.policy", ""),
    ("cleanup.policy", "compact, delete"),
    ("cleanup.policy", "compact,compact"),
    ("preallocate", "TRUE"),
    ("segment.bytes", "+1048577"),
    ("compression.gzip.level", "9"),
    ("min.cleanable.dirty.ratio", "1"),
    ("unclean.leader.election.enable", "true"),
    ("leader.replication.throttled.replicas", "*"),
    ("follower.replication.throttled.replicas", "0:1,1:2"),
    ("local.retention.ms", "5"),
    ("remote.log.copy.disable", "true"),
]


def test_what_the_configs_of_a_topic_may_be(both: Both, topic: str) -> None:
    for name, value in BAD_CONFIGS:
        assert both.create("new", configs=[(name, value)])["error_code"] == 40, (name, value)
        assert both.alter(TOPIC, topic, (name, SET, value))[0] in (40, 42), (name, value)
    for name, value in GOOD_CONFIGS:
        both.alter(TOPIC, topic, (name, SET, value))
    for together in (
        [("retention.ms", "x"), ("nope", "1")],
        [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
        [("flush.ms", "x"), ("segment.bytes", "x")],
    ):
        assert both.create("new", configs=together)["error_code"] == 40
    assert both.create("new", configs=[("retention.ms", "x")], factor=5)["error_code"] == 40


def test_more_partitions(both: Both, topic: str) -> None:
    def ask(*wanted: tuple[str, int, list[list[int]] | None], make: bool = False) -> Any:
        topics = [
            CreatePartitionsTopic(
                name,
                count,
                None
                if assignments is None
                else [CreatePartitionsAssignment(ids) for ids in assignments],
            )
            for name, count, assignments in wanted
        ]
        return both.say(3, CreatePartitionsRequest(topics, LIMIT_MS, not make))

    for count in (3, 1, 0, -1):
        ask((topic, count, None))
    by_hand: list[tuple[int, list[list[int]]]] = [
        (2, [[1]]),
        (3, [[1]]),
        (2, [[1], [1]]),
        (2, []),
        (2, [[4]]),
        (2, [[]]),
        (2, [[1, 1]]),
    ]
    for count, assignments in by_hand:
        ask((topic, count, assignments))
    ask(("no-such-topic", 3, None))
    ask((topic, 2, None), (topic, 3, None))
    assert ask((topic, 3, [[1], [1]]), make=True)["results"][0]["error_code"] == 0
    described = both.see(12, MetadataRequest([MetadataRequestTopic(name=topic)], False))
    assert len(described["topics"][0]["partitions"]) == 3


def test_topics_that_are_deleted(both: Both, topic: str) -> None:
    unknown = UUID(int=77)
    for version in (1, 4, 5):
        both.say(version, DeleteTopicsRequest([], ["no-such-topic"], LIMIT_MS))
        both.say(version, DeleteTopicsRequest([], [topic, topic], LIMIT_MS))
    for wanted in (
        [("no-such-topic", NO_ID)],
        [("a b", NO_ID)],
        [(None, unknown)],
        [(None, NO_ID)],
        [(topic, unknown)],
        [(topic, NO_ID), (topic, NO_ID)],
        [(None, unknown), (None, unknown)],
    ):
        topics = [DeleteTopicState(*one) for one in wanted]
        answer = both.say(6, DeleteTopicsRequest(topics, [], LIMIT_MS))
        assert answer["responses"][0]["error_code"] != 0
    gone = both.say(6, DeleteTopicsRequest([DeleteTopicState(topic, NO_ID)], [], LIMIT_MS))
    assert gone["responses"][0]["error_code"] == 0


def test_topics_are_described_page_by_page(both: Both, unique: Unique) -> None:
    first, second = unique("a"), unique("b")
    both.create(first, count=3, make=True)
    both.create(second, count=2, make=True)

    def page(*names: str, limit: int = 2_000, cursor: tuple[str, int] | None = None) -> Any:
        topics = [TopicRequest(name) for name in names]
        after = None if cursor is None else Cursor(*cursor)
        return both.see(0, DescribeTopicPartitionsRequest(topics, limit, after))

    for limit in (1, 2, 3, 4, 5, 6, 0, -5):
        page(second, first, limit=limit)
    for cursor in ((first, 2), (first, 3), (second, 0), (second, 9), (first, -1), ("other", 0)):
        page(first, second, limit=2, cursor=cursor)
    page("no-such-topic", first)
    page("a b", first, first)
    seen: list[tuple[str, int]] = []
    at: tuple[str, int] | None = (first, 0)
    while at is not None:
        answer = page(first, second, limit=2, cursor=at)
        for topic in answer["topics"]:
            seen += [(topic["name"], one["partition_index"]) for one in topic["partitions"]]
        following = answer["next_cursor"]
        at = following and (following["topic_name"], following["partition_index"])
    assert seen == [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]


def test_metadata_of_topics_there_or_not(both: Both, topic: str) -> None:
    wanted = [MetadataRequestTopic(name=name) for name in (topic, "no-such-topic", topic)]
    for version in (4, 7, 8, 10, 11, 13):
        both.see(version, MetadataRequest(wanted, False, version < 11, version >= 8))
    both.see(12, MetadataRequest([MetadataRequestTopic(UUID(int=77), None)], False))
    both.see(12, MetadataRequest([], False))


# -- configs -----------------------------------------------------------------------------------


def test_all_configs_of_a_topic(both: Both, topic: str) -> None:
    configs = both.configs(TOPIC, topic)
    assert configs["cleanup.policy"] == ("compact", 1)
    assert configs["retention.ms"] == ("604800000", 5)
    assert len(configs) == 32
    for name in ("no-such-topic", "", "a b"):
        both.see(4, DescribeConfigsRequest([DescribeConfigsResource(TOPIC, name, None)]))


def test_the_configs_of_the_broker_that_ottla_has(both: Both) -> None:
    """Names, types, defaults and where else a value is looked for."""
    started_with = {"broker.id", "node.id", "listeners", "advertised.listeners", "log.dirs"}
    started_with |= {"group.initial.rebalance.delay.ms", "num.partitions"}
    limits_here = {"producer.id.expiration.ms", "max.connections", "group.max.size"}
    request = DescribeConfigsRequest([DescribeConfigsResource(BROKER, "1", None)], True, False)
    ours, theirs = (
        {one["name"]: one for one in answer["results"][0]["configs"]}
        for answer in both.each(4, request)
    )
    assert len(ours) > 60
    assert ours.keys() <= theirs.keys()
    for name in ours.keys() - started_with - limits_here:
        assert ours[name] == theirs[name]


def test_the_operations_of_incremental_alter_configs(both: Both, topic: str) -> None:
    for operation, words, result in (
        (APPEND, "delete", "compact,delete"),
        (APPEND, "delete,compact", "compact,delete"),
        (SUBTRACT, "compact", "delete"),
        (SUBTRACT, "delete", ""),
        (DELETE, None, "delete"),
        (APPEND, "compact", "delete,compact"),
        (SET, " compact , delete ", "compact,delete"),
    ):
        change = ("cleanup.policy", operation, words)
        assert both.alter(TOPIC, topic, change, make=True) == (0, None)
        assert both.configs(TOPIC, topic, "cleanup.policy")["cleanup.policy"][0] == result
    both.alter(TOPIC, topic, ("segment.ms", SET, "77"))  # only looked at
    assert both.configs(TOPIC, topic, "segment.ms")["segment.ms"][0] == "604800000"
    for changes in (
        [("retention.ms", APPEND, "5")],
        [("retention.ms", SUBTRACT, "5")],
        [("nope", APPEND, "5")],
        [("nope", DELETE, "")],
        [("segment.ms", DELETE, None)],
        [("retention.ms", SET, None)],
        [("cleanup.policy", APPEND, None)],
        [("retention.ms", SET, "5"), ("retention.ms", SET, "6")],
        [("retention.ms", 7, "5")],
        [],
    ):
        both.alter(TOPIC, topic, *changes)


def test_alter_configs_replaces_all(both: Both, topic: str) -> None:
    assert both.replace(TOPIC, topic, ("segment.ms", "77"), make=True) == (0, None)
    assert both.configs(TOPIC, topic, "segment.ms", "cleanup.policy") == {
        "cleanup.policy": ("delete", 5),
        "segment.ms": ("77", 1),
    }
    for changes in (
        [("segment.ms", None)],
        [("nope", "1")],
        [("segment.ms", "1"), ("segment.ms", "2")],
        [],
    ):
        both.replace(TOPIC, topic, *changes)


def test_resources_that_cannot_be_altered(both: Both, topic: str) -> None:
    change = ("retention.ms", SET, "5")
    for kind, name in ((TOPIC, "no-such-topic"), (TOPIC, ""), (TOPIC, "a b"), (0, "x"), (99, "x")):
        assert both.alter(kind, name, change)[0] != 0
        assert both.replace(kind, name, ("retention.ms", "5"))[0] != 0
    one = incremental.AlterConfigsResource(TOPIC, topic, [])
    both.say(1, incremental.IncrementalAlterConfigsRequest([one, one], True))
    for name in ("1", "", "5", "x", "-1"):
        for changed in (
            ("log.retention.ms", SET, "100000000"),
            ("log.retention.ms", SET, "x"),
            ("log.retention.ms", SET, "0"),
            ("log.roll.ms", SET, "0"),
            ("log.roll.jitter.ms", SET, "-1"),
            ("message.max.bytes", SET, "-5"),
            ("log.cleanup.policy", APPEND, "compact"),
            ("log.cleanup.policy", SET, "x"),
            ("log.segment.bytes", SET, "10"),
            ("log.retention.ms", APPEND, "1"),
            ("nope", APPEND, "1"),
            ("nope", SET, "1"),
            ("num.partitions", SET, "3"),
            ("log.retention.hours", SET, "3"),
            ("broker.id", DELETE, None),
            ("log.retention.ms", 9, "1"),
            ("log.retention.ms", SET, None),
        ):
            both.alter(BROKER, name, changed)


def test_what_is_set_on_the_broker_holds_for_topics_that_do_not_say(both: Both, topic: str) -> None:
    names = ("retention.ms", "max.message.bytes")
    both.alter(BROKER, "", ("log.retention.ms", SET, "100000000"), make=True)
    try:
        assert both.configs(TOPIC, topic, *names)["retention.ms"] == ("100000000", 3)
        both.alter(
            BROKER,
            "1",
            ("log.retention.ms", SET, "200000000"),
            ("message.max.bytes", SET, "2000000"),
            ("secret", SET, "s"),
            make=True,
        )
        assert both.configs(BROKER, "") == {"log.retention.ms": ("100000000", 3)}
        named = ("log.retention.ms", "log.retention.hours", "secret", "message.max.bytes")
        assert both.configs(BROKER, "1", *named)["secret"] == (None, 2)
        assert both.configs(TOPIC, topic, *names) == {
            "retention.ms": ("200000000", 2),
            "max.message.bytes": ("2000000", 2),
        }
        both.alter(TOPIC, topic, ("retention.ms", SET, "7"), make=True)
        assert both.configs(TOPIC, topic, *names)["retention.ms"] == ("7", 1)
    finally:
        taken_back = [("log.retention.ms", DELETE, None), ("message.max.bytes", DELETE, None)]
        both.alter(BROKER, "1", *taken_back, ("secret", DELETE, None), make=True)
        both.alter(BROKER, "", *taken_back, make=True)
    assert both.configs(BROKER, "") == {}
    assert both.configs(TOPIC, topic, *names)["max.message.bytes"] == ("1048588", 5)


def test_the_configs_of_groups(both: Both, unique: Unique) -> None:
    group = unique("group")
    assert len(both.configs(GROUP, group)) == 17
    for name, values in {
        "consumer.session.timeout.ms": ("50000", "44999", "60001", "0", "x"),
        "consumer.heartbeat.interval.ms": ("5000", "4999", "15001", "0"),
        "consumer.assignment.interval.ms": ("0", "-1", "15001"),
        "share.delivery.count.limit": ("5", "1", "11"),
        "share.record.lock.duration.ms": ("30000", "999", "14999", "60001"),
        "share.partition.max.record.locks": ("99", "10001"),
        "share.auto.offset.reset": ("earliest", "by_duration:PT1H30M", "by_duration:x", "x"),
        "share.isolation.level": ("read_committed", "x"),
        "share.renew.acknowledge.enable": ("x",),
        "streams.num.standby.replicas": ("2", "3", "-1"),
        "streams.initial.rebalance.delay.ms": ("999999", "-1"),
        "nope": ("1",),
    }.items():
        for value in values:
            both.alter(GROUP, group, (name, SET, value))
    both.alter(GROUP, "", ("consumer.session.timeout.ms", SET, "50000"))
    both.alter(GROUP, group, ("consumer.session.timeout.ms", APPEND, "50000"))
    both.alter(GROUP, group, ("consumer.session.timeout.ms", SET, "50000"), make=True)
    assert both.configs(GROUP, group)["consumer.session.timeout.ms"] == ("50000", 8)
    both.see(1, ListConfigResourcesRequest([GROUP]))
    both.alter(GROUP, group, ("consumer.session.timeout.ms", DELETE, None), make=True)
    both.see(4, DescribeConfigsRequest([DescribeConfigsResource(GROUP, "", None)]))


def test_the_configs_of_client_metrics(both: Both, unique: Unique) -> None:
    name = unique("metrics")
    for config, values in {
        "interval.ms": ("1000", "99", "3600001", "x"),
        "match": ("client_id=a, client_software_name=b.*", "x", "other=x", "client_id=[", "=x"),
        "metrics": ("*", "", "a,b"),
        "nope": ("1",),
    }.items():
        for value in values:
            both.alter(CLIENT_METRICS, name, (config, SET, value))
    both.alter(CLIENT_METRICS, "", ("metrics", SET, "a"))
    both.alter(CLIENT_METRICS, name, ("metrics", APPEND, "a"))
    both.alter(CLIENT_METRICS, name, ("metrics", SET, "a,b"), make=True)
    assert both.configs(CLIENT_METRICS, name)["metrics"] == ("a,b", 7)
    assert both.see(0, ListConfigResourcesRequest())["config_resources"] != []
    both.alter(CLIENT_METRICS, name, ("metrics", DELETE, None), make=True)
    assert both.see(0, ListConfigResourcesRequest())["config_resources"] == []
    both.see(1, ListConfigResourcesRequest([BROKER, CLIENT_METRICS]))
    both.see(1, ListConfigResourcesRequest([0]))
    both.see(1, ListConfigResourcesRequest([99]))


def test_the_levels_of_loggers(both: Both) -> None:
    for name in ("1", "", "5", "x"):
        for change in (
            ("root", SET, "ERROR"),
            ("root", SET, "LOUD"),
            ("root", SET, None),
            ("root", DELETE, None),
            ("root", APPEND, "ERROR"),
            ("root", 9, "ERROR"),
            ("no.such.logger", SET, "INFO"),
            ("no.such.logger", DELETE, None),
        ):
            both.alter(LOGGER, name, change)
        both.replace(LOGGER, name, ("root", "INFO"))
    for kind in (BROKER, LOGGER):
        for name in ("5", "x", "-1"):
            both.see(4, DescribeConfigsRequest([DescribeConfigsResource(kind, name, None)]))
    request = DescribeConfigsRequest([DescribeConfigsResource(LOGGER, "1", ["root"])], True, True)
    told = [answer["results"][0]["configs"][0] for answer in both.each(4, request)]
    assert {one.pop("value") for one in told} <= {"WARN", "ERROR"}  # as each was started
    assert told[0] == told[1]


# -- the node ----------------------------------------------------------------------------------


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
