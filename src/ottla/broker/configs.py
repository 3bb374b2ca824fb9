"""Topic configs: names, types and defaults as in Apache Kafka 4.3 (TopicConfig).

Values are kept as the text that the client sent. `max.message.bytes` and `segment.bytes` act;
the others are stored, checked and told, so that tools find what they set.
"""

from dataclasses import dataclass
from enum import IntEnum

from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import MESSAGE_BYTES_MAX

_LONG_MAX = 9_223_372_036_854_775_807
_INT_MAX = 2_147_483_647


class ConfigType(IntEnum):
    """Types as DescribeConfigs numbers them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True, slots=True)
class ConfigDefinition:
    """One config: `minimum` and `maximum` bound a number, `choices` a word or a list of words."""

    name: str
    type: ConfigType
    default: str
    minimum: int = -_LONG_MAX
    maximum: int = _LONG_MAX
    choices: tuple[str, ...] = ()

    def check(self, value: str) -> None:
        """Raise KafkaError(INVALID_CONFIG) unless `value` can be the config's."""
        reason = self._refusal(value)
        if reason:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"Invalid value {value} for configuration {self.name}: {reason}",
            )

    def _refusal(self, value: str) -> str:
        if self.type in (ConfigType.INT, ConfigType.LONG):
            if not value.strip().lstrip("-").isdecimal():
                return f"Not a number of type {self.type.name}"
            if not self.minimum <= int(value) <= self.maximum:
                return f"Value must be between {self.minimum} and {self.maximum}"
        if self.type is ConfigType.BOOLEAN and value.lower() not in ("true", "false"):
            return "Expected value to be either true or false"
        if self.type is ConfigType.DOUBLE:
            return _double_refusal(value)
        if self.choices:
            words = value.split(",") if self.type is ConfigType.LIST else [value]
            if not all(word.strip() in self.choices for word in words):
                return f"String must be one of: {', '.join(self.choices)}"
        return ""


def _double_refusal(value: str) -> str:
    try:
        return "" if 0 <= float(value) <= 1 else "Value must be between 0 and 1"
    except ValueError:
        return "Not a number of type DOUBLE"


def _int(name: str, default: int, minimum: int = 0) -> ConfigDefinition:
    return ConfigDefinition(name, ConfigType.INT, str(default), minimum, _INT_MAX)


def _long(name: str, default: int, minimum: int = 0) -> ConfigDefinition:
    return ConfigDefinition(name, ConfigType.LONG, str(default), minimum)


def _choice(name: str, default: str, *choices: str) -> ConfigDefinition:
    return ConfigDefinition(name, ConfigType.STRING, default, choices=choices)


def _boolean(name: str) -> ConfigDefinition:
    return ConfigDefinition(name, ConfigType.BOOLEAN, "false")


_DEFINITIONS = (
    ConfigDefinition(
        "cleanup.policy", ConfigType.LIST, "delete", choices=("delete", "compact", "")
    ),
    _int("compression.gzip.level", -1, -1),
    _int("compression.lz4.level", 9, 1),
    _choice(
        "compression.type",
        "producer",
        *("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    ),
    _int("compression.zstd.level", 3, -131_072),
    _long("delete.retention.ms", 86_400_000),
    _long("file.delete.delay.ms", 60_000),
    _long("flush.messages", _LONG_MAX, 1),
    _long("flush.ms", _LONG_MAX),
    _int("index.interval.bytes", 4_096),
    _long("max.compaction.lag.ms", _LONG_MAX, 1),
    _int("max.message.bytes", MESSAGE_BYTES_MAX),
    _long("message.timestamp.after.max.ms", 3_600_000),
    _long("message.timestamp.before.max.ms", _LONG_MAX),
    _choice("message.timestamp.type", "CreateTime", "CreateTime", "LogAppendTime"),
    ConfigDefinition("min.cleanable.dirty.ratio", ConfigType.DOUBLE, "0.5"),
    _long("min.compaction.lag.ms", 0),
    _int("min.insync.replicas", 1, 1),
    _boolean("preallocate"),
    _long("retention.bytes", -1, -1),
    _long("retention.ms", 604_800_000, -1),
    _int("segment.bytes", 1_073_741_824, 1_048_576),
    _int("segment.index.bytes", 10_485_760, 4),
    _long("segment.jitter.ms", 0),
    _long("segment.ms", 604_800_000, 1),
    _boolean("unclean.leader.election.enable"),
)
TOPIC_CONFIGS = {definition.name: definition for definition in _DEFINITIONS}


def check_topic_configs(configs: dict[str, str]) -> None:
    """Raise KafkaError(INVALID_CONFIG) for a name that is not known or a value that cannot be."""
    for name, value in configs.items():
        definition = TOPIC_CONFIGS.get(name)
        if definition is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
        definition.check(value)
