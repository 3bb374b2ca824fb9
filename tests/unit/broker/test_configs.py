"""Configs: the tables, what is set where, and that a change acts at once and survives a restart."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ottla.broker.broker_configs import BROKER_CONFIGS
from ottla.broker.catalog import Topic
from ottla.broker.config import BrokerConfig
from ottla.broker.configs import ConfigDefinition
from ottla.broker.group_configs import CLIENT_METRICS_CONFIGS, GROUP_CONFIGS
from ottla.broker.topic_configs import TOPIC_CONFIGS, check_topic_configs
from ottla.log.config import log_config
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import CONFIG_RESOURCES_MAX, CONFIG_VALUE_LENGTH_MAX, CONFIGS_MAX
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.incremental_alter_configs import AlterableConfig as Change
from ottla.wire.messages.incremental_alter_configs import (
    AlterConfigsResource as ChangedResource,
)
from ottla.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests.unit.broker.conftest import batch, create, produce_request

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE = 0, 1


def alter(client: InProcessClient, kind: int, name: str, **configs: str | None) -> Any:
    """IncrementalAlterConfigs v1: sets configs, or (None) deletes them; the answer."""
    changes = [
        Change(key.replace("_", "."), DELETE if value is None else SET, value)
        for key, value in configs.items()
    ]
    resource = ChangedResource(kind, name, changes)
    response: Any = client.request(IncrementalAlterConfigsRequest([resource]), 1)
    return response.responses[0]


def describe(client: InProcessClient, kind: int, name: str, *keys: str) -> dict[str, Any]:
    resource = DescribeConfigsResource(kind, name, list(keys) or None)
    response: Any = client.request(DescribeConfigsRequest([resource], True, True), 4)
    assert response.results[0].error_code == ErrorCode.NONE
    return {one.name: one for one in response.results[0].configs}


def topic_of(broker: InProcessBroker, name: str) -> Topic:
    topic = broker.core.catalog.topic(name)
    assert topic is not None
    return topic


class TestTables:
    @pytest.mark.parametrize(
        "table", [TOPIC_CONFIGS, BROKER_CONFIGS, GROUP_CONFIGS, CLIENT_METRICS_CONFIGS]
    )
    def test_every_default_can_be_set_and_every_config_is_explained(
        self, table: dict[str, ConfigDefinition]
    ) -> None:
        for name, definition in table.items():
            assert definition.name == name
            assert definition.documentation.endswith(".")
            if definition.default is not None:
                assert definition.parse(definition.default) == definition.default

    def test_the_log_has_the_defaults_that_are_told(self) -> None:
        defaults = {name: one.default or "" for name, one in TOPIC_CONFIGS.items()}
        assert log_config(defaults) == log_config({})

    def test_a_topics_default_can_be_set_on_the_broker_with_the_same_bounds(self) -> None:
        for definition in TOPIC_CONFIGS.values():
            if definition.synonyms:
                broker_default = BROKER_CONFIGS[definition.synonyms[0]]
                assert broker_default.type is definition.type
                assert not broker_default.read_only

    @pytest.mark.parametrize("value", ["9" * 5_000, "1_000", "١", "0x10", "1e3", "", "-"])
    def test_what_is_no_number(self, value: str) -> None:
        with pytest.raises(KafkaError, match="Not a number of type LONG"):
            check_topic_configs({"retention.ms": value})

    def test_a_duration_for_share_groups(self) -> None:
        definition = GROUP_CONFIGS["share.auto.offset.reset"]
        for value in ("by_duration:P1DT2H", "by_duration:PT0.5S", "by_duration:pt1m"):
            assert definition.parse(value) == value
        for value in ("by_duration:P", "by_duration:PT", "by_duration:1h", "never"):
            with pytest.raises(KafkaError):
                definition.parse(value)


class TestTopics:
    def test_a_change_acts_at_once(self, broker: InProcessBroker, client: InProcessClient) -> None:
        create(client, "t", 2)
        answer = alter(client, TOPIC, "t", max_message_bytes="90", segment_bytes="2000000")
        assert answer.error_code == ErrorCode.NONE
        topic = topic_of(broker, "t")
        assert [one.segment_bytes for one in topic.partitions] == [2_000_000] * 2
        response: Any = client.request(produce_request("t", batch("x" * 90)), 9)
        refused = response.responses[0].partition_responses[0]
        assert refused.error_code == ErrorCode.MESSAGE_TOO_LARGE
        alter(client, TOPIC, "t", max_message_bytes=None, segment_bytes=None)
        response = client.request(produce_request("t", batch("x" * 90)), 9)
        assert response.responses[0].partition_responses[0].error_code == ErrorCode.NONE
        assert topic.partitions[0].segment_bytes == 1_073_741_824

    def test_a_partition_that_is_added_has_the_topics_configs(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "t", segment_bytes="2000000")
        topic = topic_of(broker, "t")
        broker.core.commit([broker.core.catalog.alter(topic, partition_count=3)])
        assert [one.segment_bytes for one in topic.partitions] == [2_000_000] * 3

    def test_a_restart_keeps_configs_and_partitions(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "t", cleanup_policy="compact")
        alter(client, TOPIC, "t", retention_ms="7")
        topic = topic_of(broker, "t")
        broker.core.commit([broker.core.catalog.alter(topic, partition_count=3)])
        for _ in range(2):  # from the journal, then from a checkpoint
            broker.sync()
            broker = InProcessBroker(broker.disk, broker.clock)
            again = topic_of(broker, "t")
            assert again.configs == {"cleanup.policy": "compact", "retention.ms": "7"}
            assert len(again.partitions) == 3
            assert again.topic_id == topic.topic_id

    def test_a_refused_change_changes_nothing(self, client: InProcessClient) -> None:
        create(client, "t")
        answer = alter(client, TOPIC, "t", retention_ms="7", segment_ms="0")
        assert answer.error_code == ErrorCode.INVALID_CONFIG
        assert describe(client, TOPIC, "t", "retention.ms")["retention.ms"].config_source == 5

    def test_a_value_is_shown_in_its_plain_form(self, client: InProcessClient) -> None:
        create(client, "t", preallocate=" TRUE ", cleanup_policy="compact , delete")
        configs = describe(client, TOPIC, "t")
        assert configs["preallocate"].value == "true"
        assert configs["cleanup.policy"].value == "compact,delete"
        assert configs["retention.ms"].documentation.startswith("How long records are kept")


class TestBroker:
    def test_a_default_for_all_topics_acts_at_once_and_survives(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "old")
        create(client, "own", segment_bytes="3000000")
        alter(client, BROKER, "", log_segment_bytes="2000000")
        create(client, "new")
        for _ in range(2):
            for name, segment_bytes in (("old", 2e6), ("own", 3e6), ("new", 2e6)):
                assert topic_of(broker, name).partitions[0].segment_bytes == segment_bytes
            broker.sync()
            broker = InProcessBroker(broker.disk, broker.clock)
        client = broker.connect()
        alter(client, BROKER, "1", log_segment_bytes="4000000")
        assert topic_of(broker, "old").partitions[0].segment_bytes == 4_000_000
        alter(client, BROKER, "1", log_segment_bytes=None)
        alter(client, BROKER, "", log_segment_bytes=None)
        assert topic_of(broker, "old").partitions[0].segment_bytes == 1_073_741_824

    def test_how_the_broker_was_started_is_told(self) -> None:
        config = BrokerConfig(
            host="h", port=1, num_partitions=4, segment_bytes=2_000_000, journal_allocate_bytes=0
        )
        client = InProcessBroker(SimulatedDisk(), config=config).connect()
        configs = describe(client, BROKER, "1")
        told = {name: configs[name].value for name in ("num.partitions", "advertised.listeners")}
        assert told == {"num.partitions": "4", "advertised.listeners": "PLAINTEXT://h:1"}
        assert (configs["num.partitions"].config_source, configs["num.partitions"].read_only) == (
            4,
            True,
        )
        create(client, "t")
        told_of_topic = describe(client, TOPIC, "t", "segment.bytes")["segment.bytes"]
        assert (told_of_topic.value, told_of_topic.config_source) == ("2000000", 4)

    def test_a_name_that_nobody_knows_is_kept_and_hidden(self, client: InProcessClient) -> None:
        assert alter(client, BROKER, "1", password="s3cret").error_code == ErrorCode.NONE
        hidden = describe(client, BROKER, "1", "password")["password"]
        assert (hidden.value, hidden.is_sensitive, hidden.read_only) == (None, True, True)
        assert "s3cret" not in repr(hidden)


class TestGroups:
    def test_what_a_coordinator_asks_for(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        configs, name = broker.core.catalog.configs, "consumer.session.timeout.ms"
        assert configs.group_number(name, "g") == 45_000
        alter(client, GROUP, "g", consumer_session_timeout_ms="50000")
        assert configs.group_number(name, "g") == 50_000
        assert configs.group_number(name, "other") == 45_000
        broker.sync()
        again = InProcessBroker(broker.disk, broker.clock).core.catalog.configs
        assert again.group_number(name, "g") == 50_000
        alter(client, GROUP, "g", consumer_session_timeout_ms=None)
        assert configs.snapshot() == []


class TestBounds:
    def test_a_value_has_a_length(self, client: InProcessClient) -> None:
        value = "0:1," * CONFIG_VALUE_LENGTH_MAX + "0:1"
        create(client, "t")
        answer = alter(client, TOPIC, "t", leader_replication_throttled_replicas=value)
        assert answer.error_code == ErrorCode.INVALID_CONFIG

    def test_names_that_nobody_knows_are_few(self, client: InProcessClient) -> None:
        many = {f"x{number}": "1" for number in range(CONFIGS_MAX + 1)}
        assert alter(client, BROKER, "", **many).error_code == ErrorCode.POLICY_VIOLATION
        del many["x0"]
        assert alter(client, BROKER, "", **many).error_code == ErrorCode.NONE

    def test_groups_that_need_not_exist_are_few(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        changes = [Change("metrics", SET, "a")]
        resources = [
            ChangedResource(CLIENT_METRICS, str(number), changes)
            for number in range(CONFIG_RESOURCES_MAX + 1)
        ]
        response: Any = client.request(IncrementalAlterConfigsRequest(resources), 1)
        codes = [one.error_code for one in response.responses]
        assert codes == [ErrorCode.NONE] * CONFIG_RESOURCES_MAX + [ErrorCode.POLICY_VIOLATION]
        assert alter(client, CLIENT_METRICS, "7", metrics="b").error_code == ErrorCode.NONE

    @pytest.mark.parametrize("pattern", ["(" * 500, "a{99999999999}", "x" * 2_000, "[", "*"])
    def test_hostile_patterns(self, client: InProcessClient, pattern: str) -> None:
        answer = alter(client, CLIENT_METRICS, "m", match=f"client_id={pattern}")
        assert answer.error_code == ErrorCode.INVALID_CONFIG


def test_a_full_disk_takes_no_changes() -> None:
    disk = SimulatedDisk()
    broker = InProcessBroker(disk)
    client = broker.connect()
    create(client, "t")
    disk.free = 0
    broker = InProcessBroker(disk, broker.clock)
    client = broker.connect()
    assert alter(client, TOPIC, "t", retention_ms="7").error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_alter_configs_replaces_all_of_them(client: InProcessClient) -> None:
    create(client, "t", retention_ms="7", segment_ms="8")
    resource = AlterConfigsResource(TOPIC, "t", [AlterableConfig("segment.ms", "9")])
    for validate_only, segment_ms, retention_ms in ((True, "8", "7"), (False, "9", "604800000")):
        response: Any = client.request(AlterConfigsRequest([resource], validate_only), 2)
        assert response.responses[0].error_code == ErrorCode.NONE
        configs = describe(client, TOPIC, "t", "segment.ms", "retention.ms")
        assert configs["segment.ms"].value == segment_ms
        assert configs["retention.ms"].value == retention_ms


class TestLoggers:
    NAME = "ottla.broker.broker"

    @pytest.fixture(autouse=True)
    def levels_as_before(self) -> Iterator[None]:
        loggers = [logging.root, logging.getLogger(self.NAME)]
        before = [logger.level for logger in loggers]
        yield
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

    def alter(self, client: InProcessClient, name: str, operation: int, value: str | None) -> Any:
        resource = ChangedResource(LOGGER, "1", [Change(name, operation, value)])
        response: Any = client.request(IncrementalAlterConfigsRequest([resource]), 1)
        return response.responses[0]

    def test_a_level_is_changed_and_given_back(self, client: InProcessClient) -> None:
        logger = logging.getLogger(self.NAME)
        for word, level in (("TRACE", 5), ("DEBUG", 10), ("WARN", 30), ("FATAL", 50)):
            assert self.alter(client, self.NAME, SET, word).error_code == ErrorCode.NONE
            assert logger.getEffectiveLevel() == level
            assert describe(client, LOGGER, "1")[self.NAME].value == word
        assert self.alter(client, "root", SET, "ERROR").error_code == ErrorCode.NONE
        assert self.alter(client, self.NAME, DELETE, None).error_code == ErrorCode.NONE
        levels = describe(client, LOGGER, "1")
        assert levels["root"].value == levels[self.NAME].value == "ERROR"

    def test_what_is_refused(self, client: InProcessClient) -> None:
        before = describe(client, LOGGER, "1")
        for name, operation, value, code in (
            ("root", SET, "LOUD", ErrorCode.INVALID_CONFIG),
            ("no.such.logger", SET, "INFO", ErrorCode.INVALID_CONFIG),
            ("asyncio", SET, "INFO", ErrorCode.INVALID_CONFIG),
            ("root", DELETE, None, ErrorCode.INVALID_REQUEST),
            ("root", 2, "INFO", ErrorCode.INVALID_REQUEST),
            ("root", 9, "INFO", ErrorCode.UNKNOWN_SERVER_ERROR),
        ):
            assert self.alter(client, name, operation, value).error_code == code
        assert describe(client, LOGGER, "1") == before
