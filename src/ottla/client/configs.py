"""Configuration of topics, brokers and groups: what is set, where it comes from, set and unset."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    ResourceType as AdminResourceType,
)

from ottla.client.cluster import Cluster

_KINDS = {
    "topic": AdminResourceType.TOPIC,
    "broker": AdminResourceType.BROKER,
    "group": AdminResourceType.GROUP,
}
KINDS = tuple(_KINDS)
_SET = {
    "topic": ("DYNAMIC_TOPIC_CONFIG",),
    "broker": ("DYNAMIC_BROKER_CONFIG", "DYNAMIC_DEFAULT_BROKER_CONFIG"),
    "group": ("GROUP_CONFIG",),
}


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration entry. `value` is None where the broker keeps it to itself."""

    name: str
    value: str | None
    source: str
    is_read_only: bool
    is_sensitive: bool
    is_set: bool  # by somebody for this resource, or at run time for all brokers


def describe_configs(cluster: Cluster, kind: str, names: list[str]) -> dict[str, list[Config]]:
    """All entries of resources of one kind, by name. Raises Refused, TimedOut."""
    resources = [ConfigResource(_KINDS[kind], name) for name in names]
    found = {}
    if not resources:
        return {}
    asked = cluster.admin.describe_configs(resources, request_timeout=cluster.timeout_s)
    for resource, entries in cluster.wait(
        lambda resource: f"describe the configuration of {kind} {resource.name}", asked
    ):
        found[resource.name] = [
            Config(
                name,
                None if entry.is_sensitive else entry.value,
                _source(entry.source),
                entry.is_read_only,
                entry.is_sensitive,
                _source(entry.source) in _SET[kind],
            )
            for name, entry in sorted(entries.items())
        ]
    return found


def _source(number: int) -> str:
    try:
        return str(ConfigSource(number).name)
    except ValueError:
        return str(number)


def alter_configs(cluster: Cluster, kind: str, name: str, values: Mapping[str, str | None]) -> None:
    """Set entries, and unset those whose value is None; the others stay. Raises Refused."""
    entries = [
        ConfigEntry(
            key,
            value,
            incremental_operation=AlterConfigOpType.DELETE
            if value is None
            else AlterConfigOpType.SET,
        )
        for key, value in values.items()
    ]
    resource = ConfigResource(_KINDS[kind], name, incremental_configs=entries)
    asked = cluster.admin.incremental_alter_configs([resource], request_timeout=cluster.timeout_s)
    for _ in cluster.wait(lambda _: f"alter the configuration of {kind} {name}", asked):
        pass
