"""Exactly-once streaming for Python: a broker that speaks Kafka's protocol, streams, pipelines.

    with ottla.Broker() as broker:                  # a durable broker in a process of its own
        ...                                         # broker.bootstrap_servers, for any Kafka client

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.server.process import Broker as Broker
    from ottla.server.process import BrokerFailed as BrokerFailed

_HOMES = {
    "Broker": "ottla.server.process",
    "BrokerFailed": "ottla.server.process",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("ottla")
    if name not in _HOMES:
        raise AttributeError(f"module 'ottla' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
