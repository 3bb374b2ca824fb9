"""The command line in this process, on the brokers of the run: Ottla's, then Apache Kafka's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from ottla.cli.main import app


@dataclass(frozen=True)
class Ran:
    """What a command printed."""

    code: int
    out: str
    err: str
    out_bytes: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.out_bytes)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def table(self) -> list[list[str]]:
        """The cells of a table without its head."""
        return [line.split() for line in self.lines[1:]]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it does: Apache Kafka's brokers learn a little later what its controller did."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class Cli:
    """`cli("topics", "list")` runs `ottla topics list` on one cluster."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def __call__(
        self, *arguments: str, answer: str | bytes | None = None, code: int | None = 0
    ) -> Ran:
        """`answer` is what is typed, or piped in; `code` the exit code that there has to be; None
        is any.
        """
        done = CliRunner().invoke(
            app,
            list(arguments),
            input=answer,
            env={"OTTLA_BOOTSTRAP_SERVERS": self.bootstrap_servers, "OTTLA_CLIENT_CONFIG": None},
            catch_exceptions=False,
            prog_name="ottla",
        )
        as_wanted = code in (None, done.exit_code)
        assert as_wanted, (arguments, done.exit_code, done.stdout, done.stderr)
        return Ran(done.exit_code, done.stdout, done.stderr, done.stdout_bytes)


@pytest.fixture
def cli(bootstrap: str) -> Cli:
    return Cli(bootstrap)


@pytest.fixture
def ottla_cli(request: pytest.FixtureRequest) -> Cli:
    """On Ottla alone."""
    return Cli(request.getfixturevalue("ottla_broker_session").bootstrap_servers)


@pytest.fixture
def topic(cli: Cli, unique: Callable[[str], str]) -> str:
    """A topic with three partitions."""
    name = unique("topic")
    cli("topics", "create", name, "--partitions", "3")
    return name
