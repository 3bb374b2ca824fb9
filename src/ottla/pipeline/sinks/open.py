"""Which class serves which URL."""

from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.sinks.sink import Sink, SinkTarget
from ottla.pipeline.sinks.sqlite import SqliteSink
from ottla.pipeline.urls import DatabaseSink
from ottla.ports.errors import InvariantBroken


def open_sink(scheme: str, address: str, target: SinkTarget) -> Sink:
    """A sink that is not connected yet. PostgreSQL's driver is only needed by who uses it.

    Raises PipelineStopped if it is not installed.
    """
    if scheme == "sqlite":
        return SqliteSink(address, target)
    try:
        from ottla.pipeline.sinks.postgres import PostgresSink
    except ImportError as error:
        raise PipelineStopped(
            f"PostgreSQL needs its driver: pip install 'ottla[postgres]' ({error})"
        ) from error
    return PostgresSink(address, target)


def open_for(spec: PipelineSpec, topic_id: str, owner: str) -> Sink:
    """The sink of a pipeline, not connected yet."""
    if not isinstance(spec.sink, DatabaseSink):
        raise InvariantBroken(f"pipeline {spec.name} has no database as its destination")
    database = spec.sink
    target = SinkTarget(
        pipeline=spec.name,
        topic=spec.output_topic,
        topic_id=topic_id,
        table=database.table,
        options=spec.sink_options,
        owner=owner,
    )
    return open_sink(database.scheme, database.address, target)
