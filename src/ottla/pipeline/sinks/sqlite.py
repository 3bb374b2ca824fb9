"""SQLite as a destination.

WAL with synchronous=FULL: a committed batch survives a power cut, and readers are never blocked.
BEGIN IMMEDIATE takes the write lock first, so the compare-and-set at the end cannot meet a stale
snapshot. Tables of ours are STRICT: SQLite would otherwise store a text in an INTEGER column.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from ottla.pipeline.errors import PipelineStopped, SinkAway
from ottla.pipeline.sinks.sink import (
    DEAD_LETTERS_TABLE,
    OFFSETS_TABLE,
    Move,
    Position,
    RefusedRow,
    RowRefused,
    Sink,
    SinkTarget,
    Totals,
)

_LOCK_TIMEOUT_MS = 5_000
_OF_TOPIC = "WHERE pipeline = ? AND topic = ?"
_TYPES = {
    "integer": "INTEGER",
    "real": "REAL",
    "text": "TEXT",
    "boolean": "INTEGER",
    "timestamp": "TEXT",
    "json": "TEXT",
}
_OUR_TABLES = f"""
CREATE TABLE IF NOT EXISTS {OFFSETS_TABLE} (
  pipeline TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  topic_id TEXT NOT NULL, epoch INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  owner TEXT NOT NULL, records_total INTEGER NOT NULL DEFAULT 0,
  batches_total INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (pipeline, topic, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {DEAD_LETTERS_TABLE} (
  pipeline TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  "offset" INTEGER NOT NULL, source TEXT, "column" TEXT, reason TEXT NOT NULL,
  raw TEXT NOT NULL, failed_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (pipeline, topic, partition, "offset")) STRICT, WITHOUT ROWID;
"""


class SqliteSink(Sink):
    """A table of an SQLite database."""

    column_name_bytes_max = 1_000

    def __init__(self, path: str, target: SinkTarget) -> None:
        super().__init__(target)
        self._path = Path(path)
        self._database: sqlite3.Connection | None = None

    def connect(self) -> None:
        self.close()
        if not self._path.parent.is_dir():
            raise PipelineStopped(f"there is no directory {self._path.parent} for {self._path}")
        with self._errors():
            self._database = sqlite3.connect(
                self._path, timeout=_LOCK_TIMEOUT_MS / 1000, isolation_level=None
            )
            self._db.execute("PRAGMA journal_mode=WAL").fetchall()
            self._db.execute("PRAGMA synchronous=FULL")
            for statement in _OUR_TABLES.split(";"):
                self._db.execute(statement)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._columns = {}

    def recorded(self) -> dict[int, Position]:
        with self._errors():
            found = self._db.execute(
                f"SELECT partition, epoch, next_offset FROM {OFFSETS_TABLE} {_OF_TOPIC}",
                (self.target.pipeline, self.target.topic),
            ).fetchall()
        return {partition: Position(epoch, offset) for partition, epoch, offset in found}

    def totals(self) -> Totals:
        key = (self.target.pipeline, self.target.topic)
        with self._errors():
            [(records,)] = self._db.execute(
                f"SELECT coalesce(sum(records_total), 0) FROM {OFFSETS_TABLE} {_OF_TOPIC}", key
            ).fetchall()
            [(dead,)] = self._db.execute(
                f"SELECT count(*) FROM {DEAD_LETTERS_TABLE} {_OF_TOPIC}", key
            ).fetchall()
        return Totals(records, dead)

    def fetch(self, columns: Sequence[str], count: int | None = None) -> list[tuple[Any, ...]]:
        with self._reading():
            if not self._table_columns():
                return []
            names = ", ".join(map(_quoted, columns))
            return self._db.execute(
                f"SELECT {names} FROM {self._table()} LIMIT ?", (-1 if count is None else count,)
            ).fetchall()

    def dead_letters(self) -> list[RefusedRow]:
        with self._errors():
            found = self._db.execute(
                'SELECT partition, "offset", source, "column", reason, raw '
                f'FROM {DEAD_LETTERS_TABLE} {_OF_TOPIC} ORDER BY partition, "offset"',
                (self.target.pipeline, self.target.topic),
            ).fetchall()
        return [RefusedRow(*row) for row in found]

    def claim_one(self, partition: int, start_offset: int) -> tuple[Position, str]:
        target = self.target
        with self._transaction():
            epoch, next_offset, topic_id = self._db.execute(
                f"INSERT INTO {OFFSETS_TABLE} "
                "(pipeline, topic, partition, topic_id, epoch, next_offset, owner) "
                "VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT (pipeline, topic, partition) "
                "DO UPDATE SET epoch = epoch + 1, owner = excluded.owner "
                "RETURNING epoch, next_offset, topic_id",
                (
                    target.pipeline,
                    target.topic,
                    partition,
                    target.topic_id,
                    start_offset,
                    target.owner,
                ),
            ).fetchone()
        return Position(epoch, next_offset), topic_id

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise

    def _reading(self) -> AbstractContextManager[None]:
        return self._errors()  # without the write lock, which belongs to the sink at work

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            self._undo_part()
            raise RowRefused(str(error), _column_in(str(error), self.target.table)) from error
        except (OverflowError, UnicodeEncodeError) as error:
            self._undo_part()
            raise RowRefused(f"the value does not fit: {error}") from error
        self._db.execute("RELEASE part")

    def _table_columns(self) -> dict[str, str]:
        schema, table = self._names()
        found = self._db.execute(
            "SELECT name, type FROM pragma_table_info(?, ?)", (table, schema)
        ).fetchall()
        columns = {name: _kind(declared) for name, declared in found}
        if columns:
            self._check_key(columns)
        return columns

    def _told_apart(self, name: str) -> str:
        return name.encode().lower().decode()  # only A to Z, as SQLite does

    def _create_table(self, columns: dict[str, str]) -> None:
        key = self.target.options.key
        lines = [
            f"{_quoted(name)} {_TYPES[kind]}{' NOT NULL' if name in key else ''}"
            for name, kind in columns.items()
        ]
        if key:
            lines.append(f"PRIMARY KEY ({', '.join(map(_quoted, key))})")
        self._db.execute(f"CREATE TABLE {self._table()} ({', '.join(lines)}) STRICT")

    def _add_column(self, name: str, kind: str) -> None:
        self._db.execute(f"ALTER TABLE {self._table()} ADD COLUMN {_quoted(name)} {_TYPES[kind]}")

    def _insert(self, rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> None:
        key = self.target.options.key
        marks = ", ".join("?" * len(columns))
        names = ", ".join(map(_quoted, columns))
        statement = f"INSERT INTO {self._table()} ({names}) VALUES ({marks})"
        if key:
            others = [_quoted(name) for name in columns if name not in key]
            action = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others)
            statement += f" ON CONFLICT ({', '.join(map(_quoted, key))}) DO "
            statement += action if others else "NOTHING"
        self._db.executemany(statement, rows)

    def _insert_refused(self, rows: Sequence[RefusedRow]) -> None:
        target = self.target
        self._db.executemany(
            f"INSERT OR REPLACE INTO {DEAD_LETTERS_TABLE} (pipeline, topic, partition, "
            '"offset", source, "column", reason, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
            [(target.pipeline, target.topic, *row) for row in rows],
        )

    def _move(self, moves: Sequence[Move]) -> int:
        moved = 0
        for move in moves:
            moved += self._db.execute(
                f"UPDATE {OFFSETS_TABLE} SET next_offset = ?, updated_at = CURRENT_TIMESTAMP, "
                "batches_total = batches_total + 1, records_total = records_total + ? "
                "WHERE pipeline = ? AND topic = ? AND partition = ? "
                "AND epoch = ? AND next_offset = ?",
                (
                    move.new,
                    move.rows,
                    self.target.pipeline,
                    self.target.topic,
                    move.partition,
                    move.epoch,
                    move.old,
                ),
            ).rowcount
        return moved

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise SinkAway(f"{self._path} is not open")
        return self._database

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _undo_part(self) -> None:
        self._db.execute("ROLLBACK TO part")
        self._db.execute("RELEASE part")

    def _names(self) -> tuple[str, str]:
        schema, _, table = self.target.table.rpartition(".")
        return schema or "main", table

    def _table(self) -> str:
        return ".".join(map(_quoted, self._names()))

    def _check_key(self, columns: dict[str, str]) -> None:
        """Replacing by key needs a unique index on just these columns."""
        key = set(self.target.options.key)
        if not key:
            return
        schema, table = self._names()
        primary = self._db.execute(
            "SELECT name FROM pragma_table_info(?, ?) WHERE pk > 0", (table, schema)
        ).fetchall()
        unique = [{name for (name,) in primary}]
        for (index,) in self._db.execute(
            'SELECT name FROM pragma_index_list(?, ?) WHERE "unique" AND NOT partial',
            (table, schema),
        ).fetchall():
            info = self._db.execute("SELECT name FROM pragma_index_info(?, ?)", (index, schema))
            unique.append({name for (name,) in info.fetchall()})
        if not key <= columns.keys() or key not in unique:
            names = ", ".join(sorted(key))
            raise PipelineStopped(
                f"table {self.target.table} in {self._path} has no unique index on ({names}): "
                f"CREATE UNIQUE INDEX ... ON {self.target.table} ({names}) makes one"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors in a pipeline's terms."""
        try:
            yield
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise SinkAway(f"{self._path} is locked by another process") from error
            if name.startswith("SQLITE_FULL"):
                raise PipelineStopped(
                    f"no space left for {self._path}: the disk under {self._path.parent} is full. "
                    "Nothing was lost: free some space and run again"
                ) from error
            raise PipelineStopped(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise PipelineStopped(f"{self._path}: {error}") from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _kind(declared: str) -> str:
    """Our name for a declared type, by SQLite's own rules of affinity; "any" if it takes all."""
    upper = declared.upper()
    if "INT" in upper:
        return "integer"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if any(word in upper for word in ("REAL", "FLOA", "DOUB")):
        return "real"
    return "any"


def _column_in(message: str, table: str) -> str | None:
    """The column an error names: "cannot store TEXT value in INTEGER column delays.flights"."""
    _, found, rest = message.rpartition(f"{table.rpartition('.')[2]}.")
    return rest.split()[0].strip(",") if found and rest else None
