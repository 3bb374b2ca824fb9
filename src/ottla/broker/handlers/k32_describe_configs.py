"""DescribeConfigs: v1-4.

Behaviour: a topic's configs in full, defaults included: tools read some of them without looking
whether they are there. A broker's are those that BrokerConfig holds, under Kafka's names.
Versions: v1 sources and synonyms, v3 types and documentation.
"""

from typing import TYPE_CHECKING

from ottla.broker.configs import ConfigType
from ottla.broker.registry import api
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_RESOURCE_TOPIC, _RESOURCE_BROKER = 2, 4
_SOURCE_TOPIC, _SOURCE_STATIC_BROKER, _SOURCE_DEFAULT = 1, 4, 5


@api(32, 1, 4)
def handle(broker: "Broker", request: "Request[DescribeConfigsRequest]") -> None:
    results = []
    for resource in request.body.resources:
        result = DescribeConfigsResult(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            configs=[],
        )
        try:
            result.configs = _describe(broker, resource)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        results.append(result)
    request.respond_now(DescribeConfigsResponse(results=results))


def _describe(
    broker: "Broker", resource: DescribeConfigsResource
) -> list[DescribeConfigsResourceResult]:
    if resource.resource_type == _RESOURCE_TOPIC:
        entries = _topic_entries(broker, resource.resource_name)
    elif resource.resource_type == _RESOURCE_BROKER:
        entries = _broker_entries(broker, resource.resource_name)
    else:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"resource type {resource.resource_type} has no configs here"
        )
    wanted = resource.configuration_keys
    return [entry for entry in entries if wanted is None or entry.name in wanted]


def _topic_entries(broker: "Broker", name: str) -> list[DescribeConfigsResourceResult]:
    topic = broker.catalog.topic(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return [
        _entry(
            config,
            topic.configs.get(config, definition.default),
            definition.type,
            _SOURCE_TOPIC if config in topic.configs else _SOURCE_DEFAULT,
            read_only=False,
        )
        for config, definition in TOPIC_CONFIGS.items()
    ]


def _broker_entries(broker: "Broker", name: str) -> list[DescribeConfigsResourceResult]:
    if name not in ("", str(broker.node_id)):
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"this is broker {broker.node_id}, not {name}")
    config = broker.config
    settings = (
        ("broker.id", str(broker.node_id), ConfigType.INT),
        ("num.partitions", str(config.num_partitions), ConfigType.INT),
        ("default.replication.factor", "1", ConfigType.INT),
        ("auto.create.topics.enable", str(config.auto_create_topics).lower(), ConfigType.BOOLEAN),
        (
            "group.initial.rebalance.delay.ms",
            str(config.group_initial_rebalance_delay_ms),
            ConfigType.INT,
        ),
    )
    return [
        _entry(config_name, value, kind, _SOURCE_STATIC_BROKER, read_only=True)
        for config_name, value, kind in settings
    ]


def _entry(
    name: str, value: str, kind: ConfigType, source: int, *, read_only: bool
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        read_only=read_only,
        config_source=source,
        is_sensitive=False,
        synonyms=[],
        config_type=kind,
        documentation=None,
    )
