"""Finding a pipeline's state and its broker, running or not.

The embedded broker of a pipeline lives in `.ottla/<name>/broker` beside its description. While the
pipeline runs, `.ottla/<name>/running.json` says where that broker listens; at other times it is
started for as long as somebody looks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from ottla.client import Admin, ClientError
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.server.process import Broker

_ANSWER_TIMEOUT_MS = 3_000
RUNNING_FILE = "running.json"


def state_directory(spec: PipelineSpec) -> Path:
    """Where a pipeline keeps what it needs on this machine."""
    return spec.base / ".ottla" / spec.name


@contextmanager
def broker_of(spec: PipelineSpec, bootstrap_servers: str | None = None) -> Iterator[str]:
    """The address of the broker that has the pipeline's topics.

    Raises PipelineStopped if the pipeline has never run, BrokerFailed if its broker cannot start.
    """
    given = bootstrap_servers or spec.broker or _running(spec)
    if given:
        yield given
        return
    data = state_directory(spec) / "broker"
    if not data.is_dir():
        raise PipelineStopped(f"pipeline {spec.name} has not run yet: there is no {data}")
    with Broker(data) as broker:
        yield broker.bootstrap_servers


def _running(spec: PipelineSpec) -> str | None:
    """The address of the embedded broker, if the pipeline runs now."""
    try:
        content = orjson.loads((state_directory(spec) / RUNNING_FILE).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    address = str(content["bootstrap_servers"])
    try:
        Admin(address, timeout_ms=_ANSWER_TIMEOUT_MS).partition_counts([])
    except ClientError:
        return None  # left behind by a run that was killed
    return address
