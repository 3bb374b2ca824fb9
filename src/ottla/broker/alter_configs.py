"""Altering configs: what AlterConfigs and IncrementalAlterConfigs have in common.

A change of one resource is looked at as a whole, in Kafka's order: the request's own faults, then
the resource's name, then what its configs would be together, last whether a topic is there. The
result is what makes it so, mostly to commit a record, or the KafkaError that Kafka answers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from ottla.broker import loggers
from ottla.broker.broker_configs import BROKER_CONFIGS, check_broker_configs
from ottla.broker.catalog import CatalogRecord, check_topic_name
from ottla.broker.configs import (
    OPERATIONS,
    Change,
    ConfigDefinition,
    ConfigType,
    Operation,
    ResourceType,
)
from ottla.broker.dynamic_configs import CLUSTER, ConfigsRecord
from ottla.broker.group_configs import (
    GROUP_CONFIGS,
    check_client_metrics_configs,
    check_group_configs,
)
from ottla.broker.topic_configs import TOPIC_CONFIGS, check_topic_configs
from ottla.ports.errors import ErrorCode, KafkaError, error_code, error_text
from ottla.ports.limits import CONFIG_RESOURCES_MAX, CONFIG_VALUE_LENGTH_MAX, CONFIGS_MAX

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

_DEFINITIONS = {
    ResourceType.TOPIC: TOPIC_CONFIGS,
    ResourceType.BROKER: BROKER_CONFIGS,
    ResourceType.GROUP: GROUP_CONFIGS,
    # In Kafka neither APPEND nor SUBTRACT knows the configs of client metrics.
    ResourceType.CLIENT_METRICS: {},
}


class Resource(Protocol):
    """One resource of a request of either kind."""

    resource_type: int
    resource_name: str


R = TypeVar("R", bound=Resource)
A = TypeVar("A")
Alter = Callable[[], None]


def altered(
    broker: "Broker",
    resources: Sequence[R],
    look: Callable[[R], Alter],
    answer: Callable[..., A],
    *,
    validate_only: bool,
) -> list[A]:
    """Alter each resource as `look` has found that it can be; an `answer` for each, in order."""
    times = Counter((one.resource_type, one.resource_name) for one in resources)
    answers: list[A] = []
    for resource in resources:
        refused: KafkaError | None = None
        try:
            if times[resource.resource_type, resource.resource_name] > 1:
                raise _invalid("Each resource must appear at most once.")
            alter = look(resource)
            if not validate_only:
                alter()
        except KafkaError as error:
            refused = error
        answers.append(
            answer(
                error_code=error_code(refused),
                error_message=error_text(refused),
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return answers


def replaced(broker: "Broker", kind: int, name: str, changes: Sequence[Change]) -> Alter:
    """What gives a resource these configs and no others. Raises KafkaError."""
    if kind == ResourceType.BROKER_LOGGER:
        raise _unknown_type(kind)
    resource_type = _check_request(broker, kind, name, changes)
    configs = {change.name: change.value or "" for change in changes}
    return partial(_commit, broker, _record(broker, resource_type, name, configs, configs))


def incremented(
    broker: "Broker", kind: int, name: str, changes: Sequence[Change], operations: Sequence[int]
) -> Alter:
    """What changes these configs of a resource. Raises KafkaError."""
    values = [
        change
        for change, operation in zip(changes, operations, strict=True)
        if operation != Operation.DELETE
    ]
    resource_type = _check_request(broker, kind, name, changes, values)
    if resource_type is ResourceType.BROKER_LOGGER:
        loggers.check(changes, operations)
        return partial(loggers.alter, changes, operations)
    configs, changed = dict(_set_on(broker, resource_type, name)), dict[str, str | None]()
    for change, operation in zip(changes, operations, strict=True):
        if operation not in OPERATIONS:
            raise _unknown_operation(resource_type, operation)
        if operation == Operation.DELETE:
            configs.pop(change.name, None)
            changed[change.name] = None
            continue
        value = change.value or ""
        if operation != Operation.SET:
            value = _combined(resource_type, Operation(operation), change.name, configs, value)
        configs[change.name] = changed[change.name] = value
    return partial(_commit, broker, _record(broker, resource_type, name, configs, changed))


def _commit(broker: "Broker", record: CatalogRecord) -> None:
    broker.check_disk_space()
    broker.commit([record])


def _check_request(
    broker: "Broker",
    kind: int,
    name: str,
    changes: Sequence[Change],
    values: Sequence[Change] | None = None,
) -> ResourceType:
    """What is wrong whatever the resource holds; `values`: the changes that must have one."""
    if kind != ResourceType.BROKER_LOGGER and kind not in _DEFINITIONS:
        raise _unknown_type(kind)
    if len({change.name for change in changes}) < len(changes):
        raise _invalid("Error due to duplicate config keys")
    values = changes if values is None else values
    nulls = [change.name for change in values if change.value is None]
    if nulls:
        raise _invalid(f"Null value not supported for : {','.join(nulls)}")
    if kind == ResourceType.BROKER_LOGGER:
        unexpected = "Unexpected node id. Expected {}, but received {}"
        check_node_id(name, broker.node_id, "Node", unexpected)
    elif kind == ResourceType.BROKER and name != CLUSTER:
        unexpected = "Unexpected broker id, expected {}, but received {}"
        check_node_id(name, broker.node_id, "Node", unexpected)
    for change in values:
        if len(change.name) + len(change.value or "") > CONFIG_VALUE_LENGTH_MAX:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"A config is at most {CONFIG_VALUE_LENGTH_MAX} characters long",
            )
    return ResourceType(kind)


def check_node_id(name: str, node_id: int, what: str, unexpected: str) -> None:
    """Raise KafkaError, in Kafka's words of the occasion, unless `name` is this node's number."""
    try:
        number = int(name)
    except ValueError:
        raise _invalid(f"{what} id must be an integer, but it is: {name}") from None
    if number != node_id:
        raise _invalid(unexpected.format(node_id, name))


def _set_on(broker: "Broker", kind: ResourceType, name: str) -> Mapping[str, str]:
    if kind is ResourceType.TOPIC:
        topic = broker.catalog.topic(name)
        return topic.configs if topic is not None else {}
    return broker.catalog.configs.of(kind, name)


def _combined(
    kind: ResourceType, operation: Operation, name: str, configs: Mapping[str, str], value: str
) -> str:
    """A list with some words more, or less."""
    definition = _DEFINITIONS[kind].get(name)
    if definition is None or definition.type is not ConfigType.LIST:
        raise _not_a_list(kind, operation, name, definition)
    words = [word for word in configs.get(name, definition.default or "").split(",") if word]
    for word in value.split(","):
        if operation is Operation.APPEND and word not in words:
            words.append(word)
        elif operation is Operation.SUBTRACT and word in words:
            words.remove(word)
    return ",".join(words)


def _not_a_list(
    kind: ResourceType, operation: Operation, name: str, definition: ConfigDefinition | None
) -> KafkaError:
    if kind is not ResourceType.BROKER:
        text = f"Can't {operation.name} to key {name} because its type is not LIST."
    elif definition is None:
        text = f"Unknown config name: {name}"
    else:
        text = f"Config value {operation.name.lower()} is not allowed for config key: {name}"
    return KafkaError(ErrorCode.INVALID_CONFIG, text)


def _unknown_operation(kind: ResourceType, operation: int) -> KafkaError:
    """Which only the configs of brokers refuse in Kafka; for the others it fails on the number."""
    if kind is ResourceType.BROKER:
        return _invalid(f"Unknown operations type {operation}")
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)


def _record(
    broker: "Broker",
    kind: ResourceType,
    name: str,
    configs: dict[str, str],
    changed: Mapping[str, str | None],
) -> CatalogRecord:
    """The record of the resource with these configs, of which `changed` are new."""
    catalog = broker.catalog
    if kind is ResourceType.TOPIC:
        if not name:
            raise _invalid("Default topic resources are not allowed.")
        check_topic_name(name)
        check_topic_configs(configs)
        topic = catalog.topic(name)
        if topic is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist."
            )
        return catalog.alter(topic, configs=configs)
    if kind is ResourceType.BROKER:
        check_broker_configs(changed)
    elif kind is ResourceType.GROUP:
        if not name:
            raise _invalid("Default group resources are not allowed.")
        check_group_configs(configs)
    else:
        check_client_metrics_configs(name, configs)
    _check_room(broker, kind, name, configs)
    return ConfigsRecord(kind, name, configs)


def _check_room(
    broker: "Broker", kind: ResourceType, name: str, configs: Mapping[str, str]
) -> None:
    """Groups need not exist and a broker's names need not be known: their number is bounded."""
    configured = broker.catalog.configs.resources(kind)
    if len(configs) > CONFIGS_MAX or (
        name not in configured and len(configured) >= CONFIG_RESOURCES_MAX
    ):
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "There is no room for more configs.")


def _unknown_type(kind: int) -> KafkaError:
    return _invalid(f"Unknown resource type {kind}")


def _invalid(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, text)
