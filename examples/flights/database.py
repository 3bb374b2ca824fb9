"""Looking into the database the flights land in, with its own driver and nothing of Ottla's."""

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from examples.flights.data import Key

_TABLE = "ottla_demo_delays"


class Database:
    """An SQLite file in the demo's directory, or the PostgreSQL database of `url`.

    In PostgreSQL the results of an earlier demo are removed first: the table ottla_demo_delays and
    the pipeline's rows in Ottla's own tables. The new results stay there.
    """

    def __init__(self, url: str | None, directory: Path) -> None:
        self._connection: Any
        if url is None:
            path = directory / "flights.db"
            self.shown = "SQLite"
            self.pipeline_url = f"sqlite:{path}?table={_TABLE}"
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL").fetchall()
            return
        import psycopg

        parts = urlsplit(url)
        self.shown = f"PostgreSQL, table {_TABLE}"
        query = f"{parts.query}&table={_TABLE}".lstrip("&")
        self.pipeline_url = parts._replace(query=query).geturl()
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f"DROP TABLE IF EXISTS {_TABLE}")
        for table in ("_ottla_offsets", "_ottla_dead_letters"):
            if self._rows(f"SELECT to_regclass('{table}')") != [(None,)]:
                self._connection.execute(f"DELETE FROM {table} WHERE pipeline = 'flights'")

    def flights(self) -> int:
        """How many flights are counted in the results by now."""
        [(count,)] = self._if_there(f"SELECT sum(flights) FROM {_TABLE}", [(0,)])
        return int(count or 0)

    def results(self) -> dict[Key, tuple[int, int]]:
        """For each airline and day: flights, and the sum of their delays."""
        found = self._if_there(
            f"SELECT carrier, window_start, flights, coalesce(delay_sum, 0) FROM {_TABLE}", []
        )
        return {
            (carrier, str(start)[:10]): (int(flights), int(delay))
            for carrier, start, flights, delay in found
        }

    def transactions(self) -> int:
        """How many transactions have moved the sink's position."""
        [(count,)] = self._if_there("SELECT sum(batches_total) FROM _ottla_offsets", [(0,)])
        return int(count or 0)

    def close(self) -> None:
        self._connection.close()

    def _if_there(self, statement: str, otherwise: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows, or `otherwise` while the table is not made yet."""
        try:
            return self._rows(statement)
        except Exception as error:
            if "no such table" in str(error) or "does not exist" in str(error):
                return otherwise
            raise

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(statement).fetchall())
