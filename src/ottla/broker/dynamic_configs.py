"""Which configs were set where, and so which value is in force.

A topic's value is its own, or the broker's default: set for this node, else for the cluster, else
as the broker was started, else Kafka's. A group's is its own or the broker's. What was set on
topics is part of the topic (`catalog.py`); all else is here, rebuilt by replaying ConfigsRecords.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ottla.broker.broker_configs import BROKER_CONFIGS
from ottla.broker.configs import (
    ConfigDefinition,
    ConfigSource,
    ConfigValue,
    ResourceType,
    Synonym,
)
from ottla.broker.group_configs import GROUP_CONFIGS
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.coordinator.consumer_groups import ConsumerGroupConfig

CLUSTER = ""  # the name of the broker resource that stands for all brokers


class ConfigsRecord(msgspec.Struct, tag="configs", frozen=True, array_like=True):
    """All that is set on a broker, a group or a subscription to client metrics from here on."""

    resource_type: int
    resource_name: str
    configs: dict[str, str]


class DynamicConfigs:
    """The configs of brokers, groups and client metrics."""

    def __init__(self, static: Mapping[str, str]) -> None:
        """`static`: how the broker was started, `broker.id` included."""
        self.node = static.get("broker.id", "")
        self._static = static
        self._set: dict[int, dict[str, dict[str, str]]] = {}
        self._topic_defaults: dict[str, str] = {}

    def of(self, kind: ResourceType, name: str) -> dict[str, str]:
        """What is set on a resource."""
        return self.resources(kind).get(name, {})

    def resources(self, kind: ResourceType) -> Mapping[str, dict[str, str]]:
        """The resources of a kind on which something is set, by name."""
        return self._set.get(kind, {})

    def apply(self, record: ConfigsRecord) -> None:
        of_kind = self._set.setdefault(record.resource_type, {})
        if record.configs:
            of_kind[record.resource_name] = record.configs
        else:
            of_kind.pop(record.resource_name, None)
        if record.resource_type == ResourceType.BROKER:
            self._topic_defaults = self._find_topic_defaults()

    def snapshot(self) -> list[ConfigsRecord]:
        """The records that rebuild this state."""
        return [
            ConfigsRecord(kind, name, configs)
            for kind, of_kind in self._set.items()
            for name, configs in of_kind.items()
        ]

    # -- which value is in force --------------------------------------------------------------

    def topic_value(self, name: str, configs: Mapping[str, str]) -> ConfigValue:
        """The value of a topic's config, for a topic with these configs."""
        return self._value(TOPIC_CONFIGS[name], configs, ConfigSource.TOPIC)

    def group_value(self, name: str, group_id: str) -> ConfigValue:
        """The value of a group's config."""
        configs = self.of(ResourceType.GROUP, group_id)
        return self._value(GROUP_CONFIGS[name], configs, ConfigSource.GROUP)

    def group_number(self, name: str, group_id: str) -> int:
        """The value of a group's config that is a number: `consumer.session.timeout.ms`."""
        return int(self.group_value(name, group_id).value or 0)

    def consumer_group(self, group_id: str) -> ConsumerGroupConfig:
        """The settings of a group of the new protocol."""
        return ConsumerGroupConfig(
            self.group_number("consumer.session.timeout.ms", group_id),
            self.group_number("consumer.heartbeat.interval.ms", group_id),
            self.group_number("consumer.assignment.interval.ms", group_id),
        )

    def broker_value(self, name: str) -> ConfigValue:
        """The value of this broker's config."""
        return self._value(BROKER_CONFIGS[name], {}, ConfigSource.DEFAULT)

    def _value(
        self, definition: ConfigDefinition, configs: Mapping[str, str], source: ConfigSource
    ) -> ConfigValue:
        synonyms = self.synonyms(definition.synonyms)
        default = definition.default
        if not synonyms and default is not None and definition.name in definition.synonyms:
            synonyms.append(Synonym(definition.name, default, ConfigSource.DEFAULT))
        if definition.name in configs:
            value = definition.show(configs[definition.name])
            synonyms.insert(0, Synonym(definition.name, value or "", source))
        if not synonyms:
            return ConfigValue(default, ConfigSource.DEFAULT, [])
        return ConfigValue(definition.show(synonyms[0].value), synonyms[0].source, synonyms)

    def synonyms(self, names: Iterable[str]) -> list[Synonym]:
        """The places in the broker's configs where a value is looked for under these names.

        As in Kafka they begin with the first name: log.retention.hours is not told while nobody
        has set log.retention.ms.
        """
        names = list(names)
        defaults = {name: BROKER_CONFIGS[name].default for name in names if name in BROKER_CONFIGS}
        places: tuple[tuple[ConfigSource, Mapping[str, str | None]], ...] = (
            (ConfigSource.DYNAMIC_BROKER, dict(self.of(ResourceType.BROKER, self.node))),
            (ConfigSource.DYNAMIC_DEFAULT_BROKER, dict(self.of(ResourceType.BROKER, CLUSTER))),
            (ConfigSource.STATIC_BROKER, dict(self._static)),
            (ConfigSource.DEFAULT, defaults),
        )
        found = [
            Synonym(name, value, source)
            for source, configs in places
            for name in names
            if (value := configs.get(name)) is not None
        ]
        while found and found[0].name != names[0]:
            del found[0]
        return found

    def in_force(self, configs: Mapping[str, str]) -> Mapping[str, str]:
        """What a topic with these configs goes by, as far as anybody has set it."""
        shown = {name: TOPIC_CONFIGS[name].show(value) or "" for name, value in configs.items()}
        return self._topic_defaults | shown

    def _find_topic_defaults(self) -> dict[str, str]:
        """What was set on this node, or on the cluster, for topics that do not say."""
        found = {name: self.topic_value(name, {}) for name in TOPIC_CONFIGS}
        return {
            name: one.value
            for name, one in found.items()
            if one.value is not None
            and one.source in (ConfigSource.DYNAMIC_BROKER, ConfigSource.DYNAMIC_DEFAULT_BROKER)
        }
