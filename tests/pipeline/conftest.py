"""Destinations to test against: SQLite files and databases of one PostgreSQL server."""

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ottla.pipeline.model import SinkOptions
from ottla.pipeline.sinks.open import open_sink
from ottla.pipeline.sinks.sink import Sink, SinkTarget
from tests.postgres_runner import PostgresServer, running_postgres

_numbers = itertools.count()


@dataclass
class Destination:
    """A database that sinks write to and tests look into."""

    scheme: str
    address: str

    def sink(self, options: SinkOptions | None = None, **changes: str) -> Sink:
        """A connected sink into table `t` of the records of topic `records`."""
        target = SinkTarget(
            pipeline="p",
            topic="records",
            topic_id=changes.get("topic_id", "id-1"),
            table=changes.get("table", "t"),
            options=options or SinkOptions(),
            owner=changes.get("owner", "test"),
        )
        sink = open_sink(self.scheme, self.address, target)
        sink.connect()
        return sink

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, committed at once, and fetch what it gives."""
        if self.scheme == "sqlite":
            connection = sqlite3.connect(self.address, isolation_level=None)
            try:
                return connection.execute(statement).fetchall()
            finally:
                connection.close()
        with psycopg.connect(self.address, autocommit=True) as postgres:
            cursor = postgres.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests that need one."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    name = f"test{next(_numbers)}"
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_server.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Each kind of database in turn, empty."""
    if request.param == "sqlite":
        return Destination("sqlite", str(tmp_path / "data.db"))
    return Destination("postgresql", request.getfixturevalue("postgres_url"))
