"""What a config is: a name, a type, a default, what its value may be, and what it means.

The tables are `topic_configs.py`, `broker_configs.py` and `group_configs.py`: names, types,
defaults and bounds of Apache Kafka 4.3. What was set is kept as the text that the client sent;
`ConfigDefinition.parse` gives the form in which Kafka shows it, or refuses it in Kafka's words.
`dynamic_configs.py` knows what was set where, and so which value is in force.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from ottla.ports.errors import ErrorCode, KafkaError

LONG_MAX = 9_223_372_036_854_775_807
INT_MAX = 2_147_483_647
_WHOLE = re.compile(r"[+-]?[0-9]+")
_COMMA = re.compile(r"\s*,\s*")


class ConfigType(IntEnum):
    """Types as DescribeConfigs numbers them."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


class ConfigSource(IntEnum):
    """Where a value comes from, as DescribeConfigs numbers it."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


class ResourceType(IntEnum):
    """What has configs, as the protocol numbers it."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class Operation(IntEnum):
    """What IncrementalAlterConfigs does to a config."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


OPERATIONS = frozenset(Operation)


class Change(Protocol):
    """One config of a request of either kind."""

    name: str
    value: str | None


class Synonym(NamedTuple):
    """One of the places that a value could come from."""

    name: str
    value: str
    source: ConfigSource


class ConfigValue(NamedTuple):
    """The value in force, and the places it was looked for in, the one that counts first."""

    value: str | None
    source: ConfigSource
    synonyms: list[Synonym]


@dataclass(frozen=True, slots=True)
class ConfigDefinition:
    """One config.

    `minimum` and `maximum` bound a number; `choices` are the words that it may be, or a list of
    them. `refuses` says what else is wrong with a value. `synonyms` are the broker's configs that
    give the default, the one that can be changed first. `read_only`: fixed when the broker starts.
    """

    name: str
    type: ConfigType
    default: str | None
    documentation: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    refuses: Callable[[str], str] | None = None
    synonyms: tuple[str, ...] = ()
    read_only: bool = False

    def parse(self, value: str) -> str:
        """The value as it is shown. Raises KafkaError(INVALID_CONFIG) if it cannot be one."""
        parsed = _PARSERS[self.type](value.strip())
        if parsed is None:
            raise self._refused(value, _NOT_PARSED[self.type])
        if self.minimum is not None and float(parsed) < self.minimum:
            raise self._refused(parsed, f"Value must be at least {self.minimum}")
        if self.maximum is not None and float(parsed) > self.maximum:
            raise self._refused(parsed, f"Value must be no more than {self.maximum}")
        if self.choices:
            self._check_words(parsed)
        reason = self.refuses(parsed) if self.refuses is not None else ""
        if reason:
            raise self._refused(f"[{parsed}]" if self.type is ConfigType.LIST else parsed, reason)
        return parsed

    def _check_words(self, value: str) -> None:
        if self.type is not ConfigType.LIST:
            words = [value]
        elif not value:
            return  # no word at all
        else:
            words = value.split(",")
            if "" in words:
                text = f"Configuration '{self.name}' values must not be empty."
                raise KafkaError(ErrorCode.INVALID_CONFIG, text)
        for word in words:
            if word not in self.choices:
                raise self._refused(word, f"String must be one of: {', '.join(self.choices)}")

    def _refused(self, value: str, reason: str) -> KafkaError:
        return KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"Invalid value {value} for configuration {self.name}: {reason}",
        )

    def show(self, value: str | None) -> str | None:
        """A value that was set, as it is shown; one that a release before let in, as it is."""
        try:
            return None if value is None else self.parse(value)
        except KafkaError:
            return value


def _parse_boolean(value: str) -> str | None:
    return value.lower() if value.lower() in ("true", "false") else None


def _parse_whole(value: str, largest: int) -> str | None:
    if _WHOLE.fullmatch(value) is None or len(value) > 20:
        return None
    number = int(value)
    return str(number) if -largest - 1 <= number <= largest else None


def _parse_double(value: str) -> str | None:
    try:
        return repr(float(value))
    except ValueError:
        return None


_PARSERS: dict[ConfigType, Callable[[str], str | None]] = {
    ConfigType.BOOLEAN: _parse_boolean,
    ConfigType.STRING: str,
    ConfigType.INT: lambda value: _parse_whole(value, INT_MAX),
    ConfigType.SHORT: lambda value: _parse_whole(value, 32_767),
    ConfigType.LONG: lambda value: _parse_whole(value, LONG_MAX),
    ConfigType.DOUBLE: _parse_double,
    ConfigType.LIST: lambda value: ",".join(_COMMA.split(value)),
}
_NOT_PARSED = {
    ConfigType.BOOLEAN: "Expected value to be either true or false",
    ConfigType.INT: "Not a number of type INT",
    ConfigType.SHORT: "Not a number of type SHORT",
    ConfigType.LONG: "Not a number of type LONG",
    ConfigType.DOUBLE: "Not a number of type DOUBLE",
}


def by_name(definitions: Iterable[ConfigDefinition]) -> dict[str, ConfigDefinition]:
    """The definitions as a table."""
    return {definition.name: definition for definition in definitions}


def check_all(
    definitions: Mapping[str, ConfigDefinition],
    configs: Mapping[str, str],
    unknown: str,
) -> None:
    """Raise KafkaError(INVALID_CONFIG) for a name that is `unknown`, then for a bad value."""
    for name in configs:
        if name not in definitions:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{unknown}: {name}")
    for name, definition in definitions.items():  # in the order in which Kafka looks at them
        if name in configs:
            definition.parse(configs[name])
