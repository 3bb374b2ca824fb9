"""Exactly-once streaming for Python: a broker that speaks Kafka's protocol, streams, pipelines.

    with ottla.Broker() as broker:                  # a durable broker in a process of its own
        ...                                         # broker.bootstrap_servers, for any Kafka client

`Producer` and `Consumer` are a client with transactions as blocks, `App` is streams, `Pipeline` is
from a source to a database. The rest are the errors to act on. The names are loaded when they are
first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client.consumer import Consumer as Consumer
    from ottla.client.errors import Abortable as Abortable
    from ottla.client.errors import ClientError as ClientError
    from ottla.client.errors import Fatal as Fatal
    from ottla.client.errors import NotLetIn as NotLetIn
    from ottla.client.errors import OutcomeUnknown as OutcomeUnknown
    from ottla.client.errors import ProducerFenced as ProducerFenced
    from ottla.client.producer import Producer as Producer
    from ottla.client.two_phase import PreparedTransaction as PreparedTransaction
    from ottla.client.two_phase import TwoPhaseProducer as TwoPhaseProducer
    from ottla.pipeline.api import Pipeline as Pipeline
    from ottla.pipeline.errors import PipelineError as PipelineError
    from ottla.server.process import Broker as Broker
    from ottla.server.process import BrokerFailed as BrokerFailed
    from ottla.streams.app import App as App
    from ottla.streams.errors import StreamsError as StreamsError

_HOMES = {
    "Abortable": "ottla.client.errors",
    "App": "ottla.streams.app",
    "Broker": "ottla.server.process",
    "BrokerFailed": "ottla.server.process",
    "ClientError": "ottla.client.errors",
    "Consumer": "ottla.client.consumer",
    "Fatal": "ottla.client.errors",
    "NotLetIn": "ottla.client.errors",
    "OutcomeUnknown": "ottla.client.errors",
    "Pipeline": "ottla.pipeline.api",
    "PipelineError": "ottla.pipeline.errors",
    "PreparedTransaction": "ottla.client.two_phase",
    "Producer": "ottla.client.producer",
    "ProducerFenced": "ottla.client.errors",
    "StreamsError": "ottla.streams.errors",
    "TwoPhaseProducer": "ottla.client.two_phase",
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
