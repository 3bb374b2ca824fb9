"""PostgreSQL as a destination.

Rows go by COPY into a temporary table and from there with one INSERT ... ON CONFLICT, which is the
fastest way that can replace by key, and whose errors name the column. READ COMMITTED is enough: the
row lock of `_ottla_offsets` makes two writers take turns, and the second one looks at the WHERE of
its compare-and-set again after the first has committed.

A worker that was stopped in the middle of a transaction (SIGSTOP, a frozen machine) still holds its
locks. It cannot hold up its successor: claiming ends the predecessor's session, whose process id is
kept in the row, and every session of ours gives up by itself after it was idle in a transaction.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql

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
from ottla.pipeline.urls import redacted

_CONNECT_TIMEOUT_S = 5
_LOCK_TIMEOUT_MS = 2_000
_IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
_OF_TOPIC = "WHERE pipeline = %s AND topic = %s"
_ISO_TIME = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
_STAGE = sql.Identifier("_ottla_stage")
_TYPES: dict[str, LiteralString] = {
    "integer": "bigint",
    "real": "double precision",
    "text": "text",
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "json": "jsonb",
}
_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("float4", "float8", "numeric"), "real"),
    **dict.fromkeys(("text", "varchar", "bpchar"), "text"),
    **dict.fromkeys(("timestamp", "timestamptz"), "timestamp"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    "bool": "boolean",
}
# Waiting will not help against these; SQLSTATE classes and codes, or texts where libpq has no code.
_HOPELESS = ("42", "3D", "3F", "28", "0A", "25006")
_HOPELESS_TEXTS = (
    "authentication failed",
    "does not exist",
    "no password supplied",
    "not permitted",
)
_QUOTED = re.compile("""["']([^"']*)["']""")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_OUR_TABLES: LiteralString = f"""
CREATE TABLE IF NOT EXISTS {OFFSETS_TABLE} (
  pipeline text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
  topic_id text NOT NULL, epoch bigint NOT NULL, next_offset bigint NOT NULL,
  owner text NOT NULL, backend_pid integer, backend_start timestamptz,
  records_total bigint NOT NULL DEFAULT 0, batches_total bigint NOT NULL DEFAULT 0,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (pipeline, topic, partition)) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS {DEAD_LETTERS_TABLE} (
  pipeline text NOT NULL, topic text NOT NULL, partition integer NOT NULL, "offset" bigint NOT NULL,
  source text, "column" text, reason text NOT NULL, raw text NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (pipeline, topic, partition, "offset"))
"""


class PostgresSink(Sink):
    """A table of a PostgreSQL database."""

    def __init__(self, url: str, target: SinkTarget) -> None:
        super().__init__(target)
        self._url = url
        self._shown = redacted(url)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def connect(self) -> None:
        self.close()
        with self._errors():
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_TIMEOUT_S,
                application_name=f"ottla/{self.target.pipeline}",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
            self._db.execute(
                "SELECT set_config('lock_timeout', %s, false), "
                "set_config('idle_in_transaction_session_timeout', %s, false), "
                "set_config('client_min_messages', 'warning', false)",
                (str(_LOCK_TIMEOUT_MS), str(_IDLE_IN_TRANSACTION_TIMEOUT_MS)),
            )
            if self._fetch("SELECT to_regclass(%s), to_regclass(%s)", _OURS) != [_OURS]:
                # CREATE TABLE IF NOT EXISTS of two workers at once can fail on the catalogue.
                with self._db.transaction():
                    self._db.execute("SELECT pg_advisory_xact_lock(hashtext('ottla'))")
                    self._db.execute(_OUR_TABLES)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._columns = {}

    def recorded(self) -> dict[int, Position]:
        with self._errors():
            found = self._fetch(
                f"SELECT partition, epoch, next_offset FROM {OFFSETS_TABLE} {_OF_TOPIC}",
                (self.target.pipeline, self.target.topic),
            )
        return {partition: Position(epoch, offset) for partition, epoch, offset in found}

    def totals(self) -> Totals:
        key = (self.target.pipeline, self.target.topic)
        with self._errors():
            [(records,)] = self._fetch(
                f"SELECT coalesce(sum(records_total), 0)::bigint FROM {OFFSETS_TABLE} {_OF_TOPIC}",
                key,
            )
            [(dead,)] = self._fetch(f"SELECT count(*) FROM {DEAD_LETTERS_TABLE} {_OF_TOPIC}", key)
        return Totals(records, dead)

    def fetch(self, columns: Sequence[str], count: int | None = None) -> list[tuple[Any, ...]]:
        with self._transaction():
            kinds = self._table_columns()
            if not kinds:
                return []
            # Times as the text they were written from.
            shown = [
                sql.SQL("to_char({} AT TIME ZONE 'UTC', {})").format(
                    sql.Identifier(name), sql.Literal(_ISO_TIME)
                )
                if kinds[name] == "timestamp"
                else sql.Identifier(name)
                for name in columns
            ]
            # A literal and no parameter: with parameters, a % in the name of a column would be one.
            statement = sql.SQL("SELECT {} FROM {} LIMIT {}").format(
                sql.SQL(", ").join(shown), self._table(), sql.Literal(count)
            )
            return self._db.execute(statement).fetchall()

    def dead_letters(self) -> list[RefusedRow]:
        with self._errors():
            found = self._fetch(
                'SELECT partition, "offset", source, "column", reason, raw '
                f'FROM {DEAD_LETTERS_TABLE} {_OF_TOPIC} ORDER BY partition, "offset"',
                (self.target.pipeline, self.target.topic),
            )
        return [RefusedRow(*row) for row in found]

    def claim_one(self, partition: int, start_offset: int) -> tuple[Position, str]:
        key = (self.target.pipeline, self.target.topic, partition)
        with self._errors():
            try:
                return self._claim(key, start_offset)
            except psycopg.errors.LockNotAvailable:
                self._end_session_of_owner(key)
                return self._claim(key, start_offset)

    def _claim(self, key: tuple[str, str, int], start_offset: int) -> tuple[Position, str]:
        with self._db.transaction():
            self._db.execute(
                f"INSERT INTO {OFFSETS_TABLE} "
                "(pipeline, topic, partition, topic_id, epoch, next_offset, owner) "
                "VALUES (%s, %s, %s, %s, 0, %s, '') ON CONFLICT DO NOTHING",
                (*key, self.target.topic_id, start_offset),
            )
            # The lock first, so that what is read is after the fence.
            self._fetch(f"SELECT 1 FROM {OFFSETS_TABLE} {_OF_KEY} FOR UPDATE", key)
            self._end_session_of_owner(key)
            [(epoch, next_offset, topic_id)] = self._fetch(
                f"UPDATE {OFFSETS_TABLE} SET epoch = epoch + 1, owner = %s, "
                "backend_pid = pg_backend_pid(), backend_start = (SELECT a.backend_start FROM "
                f"pg_stat_activity a WHERE a.pid = pg_backend_pid()) {_OF_KEY} "
                "RETURNING epoch, next_offset, topic_id",
                (self.target.owner, *key),
            )
        return Position(epoch, next_offset), topic_id

    def _end_session_of_owner(self, key: tuple[str, str, int]) -> None:
        """End the session of the worker that owned the partition: it may be stopped, with locks."""
        self._fetch(
            f"SELECT pg_terminate_backend(a.pid, {_LOCK_TIMEOUT_MS}) FROM pg_stat_activity a "
            f"JOIN {OFFSETS_TABLE} o ON a.pid = o.backend_pid "
            "AND a.backend_start = o.backend_start WHERE o.pipeline = %s AND o.topic = %s "
            "AND o.partition = %s AND a.pid <> pg_backend_pid()",
            key,
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors(), self._db.transaction():
            yield

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        try:
            with self._db.transaction():
                yield
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RowRefused(_reason(error), _column(error)) from error
        except UnicodeEncodeError as error:
            raise RowRefused(f"the value does not fit: {error}") from error

    def _table_columns(self) -> dict[str, str]:
        found = self._fetch(
            "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped "
            "AND a.attgenerated = '' ORDER BY a.attnum",
            (self._table().as_string(self._db),),
        )
        columns = {name: _KINDS.get(kind, "any") for name, kind in found}
        if columns:
            self._check_key(columns)
        return columns

    def _create_table(self, columns: dict[str, str]) -> None:
        lines = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(_TYPES[kind]))
            for name, kind in columns.items()
        ]
        if self.target.options.key:
            lines.append(sql.SQL("PRIMARY KEY ({})").format(_names(self.target.options.key)))
        body = sql.SQL(", ").join(lines)
        self._db.execute(sql.SQL("CREATE TABLE {} ({})").format(self._table(), body))

    def _add_column(self, name: str, kind: str) -> None:
        statement = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
        column = sql.Identifier(name)
        self._db.execute(statement.format(self._table(), column, sql.SQL(_TYPES[kind])))
        self._db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_STAGE))

    def _insert(self, rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> None:
        names = _names(columns)
        key = self.target.options.key
        copy_into = _STAGE if key else self._table()
        if key:
            self._make_stage()
        copy = sql.SQL("COPY {} ({}) FROM STDIN").format(copy_into, names)
        with self._db.cursor() as cursor, cursor.copy(copy) as stream:
            stream.write(_copy_text(rows))
        if not key:
            return
        others = [sql.Identifier(name) for name in columns if name not in key]
        sets = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in others)
        action = sql.SQL("UPDATE SET {}").format(sets) if others else sql.SQL("NOTHING")
        self._db.execute(
            sql.SQL(
                "INSERT INTO {table} ({names}) SELECT {names} FROM {stage} "
                "ON CONFLICT ({key}) DO {action}"
            ).format(table=self._table(), names=names, stage=_STAGE, key=_names(key), action=action)
        )

    def _make_stage(self) -> None:
        """An empty temporary table like the table, for this session."""
        self._db.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS"
            ).format(_STAGE, self._table())
        )
        self._db.execute(sql.SQL("DELETE FROM {}").format(_STAGE))

    def _insert_refused(self, rows: Sequence[RefusedRow]) -> None:
        target = self.target
        with self._db.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {DEAD_LETTERS_TABLE} (pipeline, topic, partition, "
                '"offset", source, "column", reason, raw) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) '
                "ON CONFLICT DO NOTHING",
                [(target.pipeline, target.topic, *map(_storable, row)) for row in rows],
            )

    def _move(self, moves: Sequence[Move]) -> int:
        columns = list(zip(*moves, strict=True))
        return self._db.execute(
            f"UPDATE {OFFSETS_TABLE} o SET next_offset = v.new, updated_at = now(), "
            "batches_total = o.batches_total + 1, records_total = o.records_total + v.n "
            "FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
            "v(partition, epoch, old, new, n) WHERE o.pipeline = %s AND o.topic = %s AND "
            "o.partition = v.partition AND o.epoch = v.epoch AND o.next_offset = v.old",
            (*map(list, columns), self.target.pipeline, self.target.topic),
        ).rowcount

    @property
    def _db(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            raise SinkAway(f"{self._shown} is not connected")
        return self._connection

    def _fetch(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._db.execute(statement, values).fetchall()

    def _table(self) -> sql.Identifier:
        return sql.Identifier(*self.target.table.split("."))

    def _check_key(self, columns: dict[str, str]) -> None:
        """Replacing by key needs a unique index on just these columns."""
        key = sorted(self.target.options.key)
        if not key:
            return
        unique = self._fetch(
            "SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_index i "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
            "WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indpred IS NULL "
            "GROUP BY i.indexrelid",
            (self._table().as_string(self._db),),
        )
        if (key,) not in unique:
            names = ", ".join(key)
            raise PipelineStopped(
                f"table {self.target.table} in {self._shown} has no unique index on ({names}): "
                f"CREATE UNIQUE INDEX ON {self.target.table} ({names}) makes one"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The driver's errors in a pipeline's terms."""
        try:
            yield
        except psycopg.Error as error:
            reason = _reason(error)
            if error.sqlstate is None:  # libpq's or psycopg's own: they quote the address
                reason = _QUOTED.sub(self._known, reason)
            text = f"{self._shown}: {reason}"
            hopeless = (error.sqlstate or "").startswith(_HOPELESS) or (
                error.sqlstate is None and any(part in text for part in _HOPELESS_TEXTS)
            )
            if hopeless or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                raise PipelineStopped(text) from error
            raise SinkAway(text) from error

    def _known(self, quoted: re.Match[str]) -> str:
        """What is quoted, unless it could be a part of a password."""
        known = quoted[1] in self._shown or ".s.PGSQL." in quoted[1]
        return quoted[0] if known else "'…'"


_OURS = (OFFSETS_TABLE, DEAD_LETTERS_TABLE)
_OF_KEY = "WHERE pipeline = %s AND topic = %s AND partition = %s"


def _copy_text(rows: Sequence[tuple[Any, ...]]) -> str:
    """The rows in the text format of COPY."""
    columns = map(_copy_column, zip(*rows, strict=True))
    return "\n".join(map("\t".join, zip(*columns, strict=True))) + "\n"


def _copy_column(values: Sequence[object]) -> Iterable[str]:
    """Columns repeat themselves: each distinct value is written once, the rest is a look-up."""
    if len(set(map(type, values)) - {type(None)}) > 1:  # 1, 1.0 and True would be one value
        return map(_copy_value, values)
    return map({value: _copy_value(value) for value in set(values)}.__getitem__, values)


def _copy_value(value: object) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    return str(value)


def _storable(value: object) -> object:
    """PostgreSQL's text has no NUL."""
    return value.replace("\0", "\\0") if isinstance(value, str) else value


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _reason(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    return primary or " ".join(str(error).split()) or type(error).__name__


def _column(error: psycopg.Error) -> str | None:
    """The column an error is about: told outright, or in the context of COPY."""
    if error.diag.column_name:
        return error.diag.column_name
    _, found, rest = (error.diag.context or "").partition(", column ")
    return rest.partition(":")[0] if found else None
