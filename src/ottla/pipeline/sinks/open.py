"""Which class serves which URL."""

from ottla.pipeline.sinks.sink import Sink, SinkTarget
from ottla.pipeline.sinks.sqlite import SqliteSink


def open_sink(scheme: str, address: str, target: SinkTarget) -> Sink:
    """A sink that is not connected yet. PostgreSQL's driver is only needed by who uses it."""
    if scheme == "sqlite":
        return SqliteSink(address, target)
    from ottla.pipeline.sinks.postgres import PostgresSink

    return PostgresSink(address, target)
