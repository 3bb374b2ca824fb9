"""The broker's loggers as Kafka's tools see them: resources of the type BROKER_LOGGER (KIP-412).

They are those of Python's logging in this process: "root", and each of Ottla's by its module. A
level that is set acts at once and, as in Kafka, is forgotten with the process.
"""

import logging
from collections.abc import Sequence

from ottla.broker.configs import OPERATIONS, Change, Operation
from ottla.ports.errors import ErrorCode, KafkaError

ROOT = "root"
_LEVELS = {
    "DEBUG": logging.DEBUG,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "INFO": logging.INFO,
    "TRACE": logging.DEBUG // 2,
    "WARN": logging.WARNING,
}
_DESCENDING = sorted(_LEVELS.items(), key=lambda item: -item[1])


def levels() -> dict[str, str]:
    """Each logger's level in Kafka's word for it, its parents' if it has none."""
    return {name: _word(_logger(name).getEffectiveLevel()) for name in _names()}


def check(changes: Sequence[Change], operations: Sequence[int]) -> None:
    """Raise KafkaError unless the levels can be changed like this."""
    known = _names()
    for change, operation in zip(changes, operations, strict=True):
        if operation == Operation.SET:
            if change.value not in _LEVELS:
                raise KafkaError(
                    ErrorCode.INVALID_CONFIG,
                    f"Cannot set the log level of {change.name} to {change.value} as it is not a "
                    f"supported log level. Valid log levels are {', '.join(_LEVELS)}",
                )
        elif operation != Operation.DELETE:
            if operation not in OPERATIONS:
                raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)  # as Kafka, by a fault of its own
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"{Operation(operation).name} operation is not allowed for the BROKER_LOGGER "
                "resource",
            )
        elif change.name == ROOT:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                "Removing the log level of the root logger is not allowed",
            )
        if change.name not in known:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Logger {change.name} does not exist!")


def alter(changes: Sequence[Change], operations: Sequence[int]) -> None:
    """Change levels that were checked; a level that is deleted is that of the logger's parent."""
    for change, operation in zip(changes, operations, strict=True):
        level = _LEVELS[change.value or ""] if operation == Operation.SET else logging.NOTSET
        _logger(change.name).setLevel(level)


def _names() -> list[str]:
    package = __name__.partition(".")[0]
    loggers = logging.root.manager.loggerDict.items()
    ours = [
        name
        for name, logger in loggers
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == package
    ]
    return [ROOT, *sorted(ours)]


def _logger(name: str) -> logging.Logger:
    return logging.root if name == ROOT else logging.getLogger(name)


def _word(level: int) -> str:
    """The word for the least severe level that is at least this one's."""
    return next((word for word, least in _DESCENDING if level >= least), "TRACE")
