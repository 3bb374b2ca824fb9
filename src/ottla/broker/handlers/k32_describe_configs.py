"""DescribeConfigs: v1-4.

Behaviour: the configs of a topic, a group or a subscription to client metrics in full, defaults
included: tools read some of them without looking whether they are there. Of this broker all that
`broker_configs` has; of the cluster ("") what was set on it. A name that the broker does not know
is shown without its value, for nobody can tell whether it is a secret.
Versions: v1 sources and synonyms, v3 types and documentation.
Divergences: the texts are our own. The levels of loggers are those of Python's logging.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ottla.broker import loggers
from ottla.broker.alter_configs import check_node_id
from ottla.broker.broker_configs import BROKER_CONFIGS
from ottla.broker.catalog import check_topic_name
from ottla.broker.configs import (
    ConfigDefinition,
    ConfigSource,
    ConfigType,
    ConfigValue,
    ResourceType,
    Synonym,
)
from ottla.broker.dynamic_configs import CLUSTER
from ottla.broker.group_configs import CLIENT_METRICS_CONFIGS, GROUP_CONFIGS
from ottla.broker.registry import api
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.ports.errors import ErrorCode, KafkaError, error_text
from ottla.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_Entry = DescribeConfigsResourceResult


@api(32, 1, 4)
def handle(broker: "Broker", request: "Request[DescribeConfigsRequest]") -> None:
    body, results = request.body, []
    for resource in body.resources:
        result = DescribeConfigsResult(
            error_message="",
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            configs=[],
        )
        try:
            entries = _describe(broker, resource.resource_type, resource.resource_name)
            wanted = set(resource.configuration_keys or ())
            result.configs = [one for one in entries if not wanted or one.name in wanted]
        except KafkaError as error:
            result.error_code = error.code
            result.error_message = error_text(error) or ""
        results.append(result)
    for result in results:
        for entry in result.configs:
            if not body.include_synonyms:
                entry.synonyms = []
            if not body.include_documentation:
                entry.documentation = None
    request.respond_now(DescribeConfigsResponse(results=results))


def _describe(broker: "Broker", kind: int, name: str) -> list[_Entry]:
    if kind == ResourceType.TOPIC:
        return _topic(broker, name)
    if kind == ResourceType.BROKER:
        return _cluster(broker) if name == CLUSTER else _node(broker, name)
    if kind == ResourceType.BROKER_LOGGER:
        unexpected = "Unexpected broker id, expected {} but received {}"
        check_node_id(name, broker.node_id, "Broker", unexpected)
        return [_level(logger, level) for logger, level in loggers.levels().items()]
    if kind == ResourceType.GROUP:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        configs = broker.catalog.configs
        return _entries(GROUP_CONFIGS.values(), lambda one: configs.group_value(one.name, name))
    if kind == ResourceType.CLIENT_METRICS:
        return _client_metrics(broker, name)
    raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}")


def _topic(broker: "Broker", name: str) -> list[_Entry]:
    check_topic_name(name)
    topic = broker.catalog.topic(name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    configs, own = broker.catalog.configs, topic.configs
    return _entries(TOPIC_CONFIGS.values(), lambda one: configs.topic_value(one.name, own))


def _node(broker: "Broker", name: str) -> list[_Entry]:
    unexpected = "Unexpected broker id, expected {} or empty string, but received {}"
    check_node_id(name, broker.node_id, "Broker", unexpected)
    configs = broker.catalog.configs
    entries = _entries(BROKER_CONFIGS.values(), lambda one: configs.broker_value(one.name))
    unknown = {
        one: source
        for resource, source in (
            (CLUSTER, ConfigSource.DYNAMIC_DEFAULT_BROKER),
            (name, ConfigSource.DYNAMIC_BROKER),
        )
        for one in configs.of(ResourceType.BROKER, resource)
        if one not in BROKER_CONFIGS
    }
    return entries + [_hidden(one, source) for one, source in unknown.items()]


def _cluster(broker: "Broker") -> list[_Entry]:
    """What was set for all brokers."""
    source, entries = ConfigSource.DYNAMIC_DEFAULT_BROKER, []
    for name, value in sorted(broker.catalog.configs.of(ResourceType.BROKER, CLUSTER).items()):
        definition = BROKER_CONFIGS.get(name)
        if definition is None:
            entries.append(_hidden(name, source))
        else:
            shown = ConfigValue(definition.show(value), source, [Synonym(name, value, source)])
            entries.append(_entry(definition, shown))
    return entries


def _client_metrics(broker: "Broker", name: str) -> list[_Entry]:
    if not name:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty"
        )
    own = broker.catalog.configs.of(ResourceType.CLIENT_METRICS, name)

    def value(definition: ConfigDefinition) -> ConfigValue:
        if definition.name not in own:
            return ConfigValue(definition.default, ConfigSource.DEFAULT, [])
        text, source = own[definition.name], ConfigSource.CLIENT_METRICS
        return ConfigValue(definition.show(text), source, [Synonym(definition.name, text, source)])

    return _entries(CLIENT_METRICS_CONFIGS.values(), value)


def _entries(
    definitions: Iterable[ConfigDefinition], value: Callable[[ConfigDefinition], ConfigValue]
) -> list[_Entry]:
    return [_entry(one, value(one)) for one in sorted(definitions, key=lambda one: one.name)]


def _entry(definition: ConfigDefinition, value: ConfigValue) -> _Entry:
    return _Entry(
        name=definition.name,
        value=value.value,
        read_only=definition.read_only,
        config_source=value.source,
        is_sensitive=False,
        synonyms=[DescribeConfigsSynonym(*synonym) for synonym in value.synonyms],
        config_type=definition.type,
        documentation=definition.documentation,
    )


def _level(logger: str, level: str) -> _Entry:
    return _Entry(
        name=logger,
        value=level,
        read_only=False,
        config_source=ConfigSource.BROKER_LOGGER,
        is_sensitive=False,
        synonyms=[],
        config_type=ConfigType.UNKNOWN,
        documentation=None,
    )


def _hidden(name: str, source: ConfigSource) -> _Entry:
    """A config that the broker does not know."""
    return _Entry(
        name=name,
        value=None,
        read_only=True,
        config_source=source,
        is_sensitive=True,
        synonyms=[DescribeConfigsSynonym(name, None, source)],
        config_type=ConfigType.UNKNOWN,
        documentation=None,
    )
