"""The configs of groups and of client metrics, as in Apache Kafka 4.3.

Of a group's, those of `consumer.*` act, in the consumer groups of KIP-848. Share groups, streams
groups and client metrics (KIP-714) are not served: what is set for them is checked, kept and told.
"""

import re
from collections.abc import Mapping

from ottla.broker.configs import ConfigDefinition, ConfigType, by_name, check_all
from ottla.ports.errors import ErrorCode, KafkaError

_BOOLEAN, _STRING, _INT, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LIST,
)
_DURATION = re.compile(
    r"by_duration:-?P(?=.)(-?\d+D)?(T(?=.)(-?\d+H)?(-?\d+M)?(-?\d+(\.\d+)?S)?)?", re.IGNORECASE
)
_METRICS_INTERVAL_MS_MIN, _METRICS_INTERVAL_MS_MAX = 100, 3_600_000
_PATTERN_LENGTH_MAX = 1_000
_MATCHED = (
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)


def _offset_reset(value: str) -> str:
    if value in ("earliest", "latest") or _DURATION.fullmatch(value):
        return ""
    return (
        f"Invalid value `{value}` for configuration share.auto.offset.reset. The value must be "
        "either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
    )


def _timing(kind: str) -> tuple[ConfigDefinition, ...]:
    """What all kinds of groups with a heartbeat have."""
    return (
        ConfigDefinition(
            f"{kind}.session.timeout.ms",
            _INT,
            "45000",
            "After how long without a heartbeat a member is taken for dead.",
            minimum=1,
            synonyms=(f"group.{kind}.session.timeout.ms",),
        ),
        ConfigDefinition(
            f"{kind}.heartbeat.interval.ms",
            _INT,
            "5000",
            "How often members are told to send a heartbeat.",
            minimum=1,
            synonyms=(f"group.{kind}.heartbeat.interval.ms",),
        ),
        ConfigDefinition(
            f"{kind}.assignment.interval.ms",
            _INT,
            "1000",
            "How long at least a group keeps an assignment before it computes the next.",
            minimum=0,
            synonyms=(f"group.{kind}.assignment.interval.ms",),
        ),
    )


_DEFINITIONS = (
    *_timing("consumer"),
    *_timing("share"),
    ConfigDefinition(
        "share.auto.offset.reset",
        _STRING,
        "latest",
        "Where a share group begins to read.",
        refuses=_offset_reset,
        synonyms=("share.auto.offset.reset",),
    ),
    ConfigDefinition(
        "share.delivery.count.limit",
        _INT,
        "5",
        "How often a record is given to a share group at most.",
        minimum=2,
        synonyms=("group.share.delivery.count.limit",),
    ),
    ConfigDefinition(
        "share.isolation.level",
        _STRING,
        "read_uncommitted",
        "Whether a share group sees records of open transactions.",
        choices=("read_committed", "read_uncommitted"),
        synonyms=("share.isolation.level",),
    ),
    ConfigDefinition(
        "share.partition.max.record.locks",
        _INT,
        "2000",
        "How many records of a partition a share group may have in hand.",
        minimum=100,
        synonyms=("group.share.partition.max.record.locks",),
    ),
    ConfigDefinition(
        "share.record.lock.duration.ms",
        _INT,
        "30000",
        "How long a member of a share group keeps a record to itself.",
        minimum=1_000,
        synonyms=("group.share.record.lock.duration.ms",),
    ),
    ConfigDefinition(
        "share.renew.acknowledge.enable",
        _BOOLEAN,
        "true",
        "Whether a member of a share group may keep a record longer.",
        synonyms=("share.renew.acknowledge.enable",),
    ),
    *_timing("streams"),
    ConfigDefinition(
        "streams.initial.rebalance.delay.ms",
        _INT,
        "3000",
        "How long a new streams group waits for more members.",
        minimum=0,
        synonyms=("group.streams.initial.rebalance.delay.ms",),
    ),
    ConfigDefinition(
        "streams.num.standby.replicas",
        _INT,
        "0",
        "How many standby tasks a streams group has for each of its tasks.",
        minimum=0,
        synonyms=("group.streams.num.standby.replicas",),
    ),
)
GROUP_CONFIGS = by_name(_DEFINITIONS)

# A group's value lies between bounds of the broker, whose names follow from the config's.
_BOUNDS = {
    "session.timeout.ms": (45_000, 60_000),
    "heartbeat.interval.ms": (5_000, 15_000),
    "assignment.interval.ms": (0, 15_000),
    "record.lock.duration.ms": (15_000, 60_000),
    "delivery.count.limit": (2, 10),
    "partition.max.record.locks": (100, 10_000),
    "num.standby.replicas": (0, 2),
}
_BOUND_NAMES = {"streams.num.standby.replicas": "group.streams.max.standby.replicas"}

CLIENT_METRICS_CONFIGS = by_name(
    (
        ConfigDefinition("interval.ms", _INT, "300000", "How often clients send their metrics."),
        ConfigDefinition(
            "match", _LIST, "", "Which clients: attribute=pattern, attribute=pattern."
        ),
        ConfigDefinition("metrics", _LIST, "", "The prefixes of the metrics that are wanted."),
    )
)


def check_group_configs(configs: Mapping[str, str]) -> None:
    """Raise KafkaError(INVALID_CONFIG) unless a group can have these configs."""
    check_all(GROUP_CONFIGS, configs, "Unknown group config name")
    for name, text in configs.items():
        kind, _, rest = name.partition(".")
        if rest not in _BOUNDS:
            continue
        least, most = _BOUNDS[rest]
        value, bound = int(GROUP_CONFIGS[name].parse(text)), ""
        if value < least:
            bound = f"greater than or equal to group.{kind}.min.{rest}"
        elif value > most:
            largest = _BOUND_NAMES.get(name, f"group.{kind}.max.{rest}")
            bound = f"less than or equal to {largest}"
        if bound:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{name} must be {bound}")


def check_client_metrics_configs(name: str, configs: Mapping[str, str]) -> None:
    """Raise KafkaError unless the subscription to client metrics can have these configs."""
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
    for config in configs:
        if config not in CLIENT_METRICS_CONFIGS:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {config}"
            )
    if "interval.ms" in configs:
        interval_ms = CLIENT_METRICS_CONFIGS["interval.ms"].parse(configs["interval.ms"])
        if not _METRICS_INTERVAL_MS_MIN <= int(interval_ms) <= _METRICS_INTERVAL_MS_MAX:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"Invalid value {interval_ms} for interval.ms, interval must be between "
                f"{_METRICS_INTERVAL_MS_MIN} and {_METRICS_INTERVAL_MS_MAX} (1 hour)",
            )
    patterns = CLIENT_METRICS_CONFIGS["match"].parse(configs.get("match", ""))
    for pattern in filter(None, patterns.split(",")):
        attribute, _, expression = pattern.partition("=")
        if attribute.strip() not in _MATCHED or not _is_expression(expression.strip()):
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"Illegal client matching pattern: {pattern}"
            )


def _is_expression(text: str) -> bool:
    if not 0 < len(text) <= _PATTERN_LENGTH_MAX:
        return False
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
