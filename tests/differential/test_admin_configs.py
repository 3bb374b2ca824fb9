"""Configs of all kinds of resources: Ottla and Apache Kafka answer alike."""

from collections.abc import Callable

import pytest

from ottla.wire.messages import incremental_alter_configs as incremental
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.list_config_resources import ListConfigResourcesRequest
from tests.differential.both import (
    APPEND,
    BROKER,
    CLIENT_METRICS,
    DELETE,
    GROUP,
    LOGGER,
    SET,
    SUBTRACT,
    TOPIC,
    Both,
)

pytestmark = pytest.mark.kafka

Unique = Callable[[str], str]


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
