"""What every sink does, whatever the database: rows and position in one transaction, fenced.

The position of a partition lives in the destination, in `_ottla_offsets`, beside an epoch:

    claim   epoch = epoch + 1, and only then read next_offset: the fence comes first
    write   BEGIN
              the rows; the rows the database refuses go to _ottla_dead_letters
              UPDATE _ottla_offsets SET next_offset = new
               WHERE ... AND epoch = mine AND next_offset = old     -- last, its row count checked
            COMMIT

So a row is in the table if and only if the position has passed it, and of two workers that believe
they own a partition only one can move it: the other finds no row to update and rolls back. The
epoch is needed besides the old offset because a person may set a position back, and the old owner
must not find "its" offset again afterwards. Kafka's own group offsets are never read back.

When COMMIT is interrupted nobody knows its outcome, so nobody guesses: the worker connects again
and reads `recorded()`, which says on which side of the commit it is.

A batch is tried whole, in a savepoint. If the database refuses it, it is halved until the rows it
refuses are found; each becomes a dead letter, the others go in, in order, in the same transaction.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ottla.pipeline.errors import Fenced, PipelineStopped
from ottla.pipeline.model import SinkOptions
from ottla.pipeline.sinks.values import first_value, infer_type, stored_as_is, to_stored
from ottla.ports.failpoints import failpoint

OFFSETS_TABLE = "_ottla_offsets"
DEAD_LETTERS_TABLE = "_ottla_dead_letters"
_COLUMNS_MAX = 1_000


class Position(NamedTuple):
    """Where a partition stands in the destination."""

    epoch: int
    next_offset: int


class SinkRow(NamedTuple):
    """A record on its way into the table. `source` says where it came from: flights.csv:17."""

    partition: int
    offset: int
    values: dict[str, Any]
    source: str | None


class RefusedRow(NamedTuple):
    """A record that did not go in, and why. `raw` is what was read."""

    partition: int
    offset: int
    source: str | None
    column: str | None
    reason: str
    raw: str


class Move(NamedTuple):
    """A partition's step: from `old` to `new` with `rows` records between, as owner `epoch`."""

    partition: int
    epoch: int
    old: int
    new: int
    rows: int


@dataclass(slots=True)
class Batch:
    """What goes into the destination in one transaction."""

    rows: list[SinkRow]
    refused: list[RefusedRow]
    moves: list[Move]


class Written(NamedTuple):
    """What a transaction put in: rows into the table, rows into the dead letters."""

    rows: int
    dead: int


class Totals(NamedTuple):
    """What a destination has taken: records, and how many of them as dead letters."""

    records: int
    dead: int


class RowRefused(Exception):  # noqa: N818 - says what happened
    """The database does not take some row of those it was given."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.column = column


@dataclass(slots=True)
class SinkTarget:
    """Which records go where: the pipeline and topic (with its id), the table and its options."""

    pipeline: str
    topic: str
    topic_id: str
    table: str
    options: SinkOptions = field(default_factory=SinkOptions)
    owner: str = ""


class Sink(ABC):
    """A table of a database as the destination of a topic. One worker, one thread."""

    column_name_bytes_max = 63

    def __init__(self, target: SinkTarget) -> None:
        self.target = target
        self._given = dict(target.options.columns)
        self._columns: dict[str, str] = {}  # of the table: name to type, empty if it is not there

    # What a database has to provide.

    @abstractmethod
    def connect(self) -> None:
        """Connect and make our two tables. Raises SinkAway, or PipelineStopped."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; a transaction that is open is rolled back."""

    @abstractmethod
    def recorded(self) -> dict[int, Position]:
        """The positions as they are in the destination now, by partition."""

    @abstractmethod
    def totals(self) -> "Totals":
        """What came in over all time, for an audit."""

    @abstractmethod
    def fetch(self, columns: Sequence[str], count: int | None = None) -> list[tuple[Any, ...]]:
        """These columns of the table's rows, all or `count`, times as text; none if no table."""

    @abstractmethod
    def dead_letters(self) -> list[RefusedRow]:
        """The rows of the pipeline's topic that the database refused."""

    @abstractmethod
    def claim_one(self, partition: int, start_offset: int) -> tuple[Position, str]:
        """Become the owner of a partition: the position after the fence, and its topic id."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """BEGIN; COMMIT at the end, ROLLBACK on an exception. Translates the driver's errors."""

    def _reading(self) -> AbstractContextManager[None]:
        """A part that only reads."""
        return self._transaction()

    @abstractmethod
    def _savepoint(self) -> AbstractContextManager[None]:
        """A part that is undone alone on an exception. Raises RowRefused for a refused row."""

    @abstractmethod
    def _table_columns(self) -> dict[str, str]:
        """The table's columns and their types, empty if there is no table."""

    @abstractmethod
    def _create_table(self, columns: dict[str, str]) -> None: ...

    @abstractmethod
    def _add_column(self, name: str, kind: str) -> None: ...

    @abstractmethod
    def _insert(self, rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> None:
        """Insert the rows, or replace those with the same key. No key occurs twice in them."""

    @abstractmethod
    def _insert_refused(self, rows: Sequence[RefusedRow]) -> None: ...

    @abstractmethod
    def _move(self, moves: Sequence[Move]) -> int:
        """Compare and set the positions; how many of them moved."""

    # What is the same for all.

    def claim(self, start_offsets: dict[int, int]) -> dict[int, Position]:
        """Become the owner of the partitions; `start_offsets` is for those never claimed before.

        Raises SinkAway, or PipelineStopped if the topic is not the one the positions are about.
        """
        positions: dict[int, Position] = {}
        for partition, start_offset in sorted(start_offsets.items()):
            positions[partition], topic_id = self.claim_one(partition, start_offset)
            if topic_id != self.target.topic_id:
                raise PipelineStopped(
                    f"topic {self.target.topic} was deleted and made anew since its records last "
                    f"went into {self.target.table} (its id was {topic_id}, now it is "
                    f"{self.target.topic_id}): the position {positions[partition].next_offset} of "
                    "partition "
                    f"{partition} means nothing in it. To load the new topic from its start, "
                    f"delete the pipeline's rows from {OFFSETS_TABLE}"
                )
        return positions

    def check_table(self) -> None:
        """See whether the table, if it is there, can be written to by key. Raises PipelineStopped,
        SinkAway."""
        with self._reading():
            self._table_columns()

    def sample(self, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of the table's columns, and up to `count` of its rows."""
        with self._reading():
            columns = list(self._table_columns())
        return columns, self.fetch(columns, count) if columns else []

    def write(self, batch: Batch) -> Written:
        """Put a batch in, whole or not at all.

        Raises Fenced if another worker owns a partition of it, SinkAway if the outcome is not
        known or the database does not answer, PipelineStopped if a person has to act.
        """
        refused = list(batch.refused)
        try:
            with self._transaction():
                rows = self._fit(batch.rows, refused)
                self._apply(rows, refused)
                if refused:
                    self._insert_refused(refused)
                failpoint("sink.before_positions")
                moved = self._move(batch.moves)
                if moved != len(batch.moves):
                    raise Fenced(
                        f"another worker has taken over {self.target.topic} into "
                        f"{self.target.table}: {len(batch.moves) - moved} of {len(batch.moves)} "
                        "partitions had moved. Nothing of this batch was written"
                    )
                failpoint("sink.before_commit")
        except BaseException:
            self._columns = {}  # a column that was added may be gone again
            raise
        failpoint("sink.after_commit")
        return Written(len(batch.rows) + len(batch.refused) - len(refused), len(refused))

    def _fit(self, rows: list[SinkRow], refused: list[RefusedRow]) -> list[SinkRow]:
        """Make the table fit the rows; take out the rows that do not fit the table."""
        if not rows:
            return rows
        if not self._columns:
            self._columns = self._table_columns()
        rows = self._with_possible_columns(rows, refused)
        values = [row.values for row in rows]
        known = self._columns
        new = {name: None for row in values for name in row if name not in known}
        found = {name: first_value(values, name) for name in new}
        kinds = {
            name: self._given.get(name) or infer_type(value)
            for name, value in found.items()
            if value is not None or name in self._given or name in self.target.options.key
        }
        if not known:
            for name in self.target.options.key:
                kinds.setdefault(name, self._given.get(name, "text"))
            if kinds:
                self._create_table(kinds)
                self._columns = self._table_columns()
        elif kinds and self.target.options.schema == "evolve":
            for name, kind in kinds.items():
                self._add_column(name, kind)
            self._columns = self._table_columns()
        elif kinds:
            rows = _without_unknown(rows, kinds, self.target.table, refused)
        if not self._columns:
            reason = f"the row has no value at all, and there is no table {self.target.table} yet"
            refused.extend(refuse(row, reason, None) for row in rows)
            return []
        return self._checked(rows, refused)

    def _with_possible_columns(
        self, rows: list[SinkRow], refused: list[RefusedRow]
    ) -> list[SinkRow]:
        """The rows whose columns are in the table, or can be.

        The names come with the data: one that no database takes must not end the pipeline.
        """
        known = set(self._columns)
        if all(known.issuperset(row.values) for row in rows):
            return rows
        taken = {self._told_apart(name) for name in known}
        good = []
        for row in rows:
            new = {name for name, v in row.values.items() if name not in known and v is not None}
            wrong = self._wrong_name(new, taken)
            if wrong is not None:
                refused.append(refuse(row, *wrong))
                continue
            known |= new
            taken |= {self._told_apart(name) for name in new}
            good.append(row)
        return good

    def _wrong_name(self, new: set[str], taken: set[str]) -> tuple[str, str] | None:
        """Why a row's new columns cannot be made, and which of them."""
        seen = set(taken)
        for name in sorted(new):
            size_bytes = len(name.encode())
            if not name or not name.isprintable():
                return "this is no name for a column: it is empty or not printable", ascii(name)
            if size_bytes > self.column_name_bytes_max:
                most = self.column_name_bytes_max
                return f"the name has {size_bytes} bytes, and a column {most} at most", name
            if self._told_apart(name) in seen:
                return "there is a column already that the database takes for the same", name
            if len(seen) >= _COLUMNS_MAX:
                return f"the table has {_COLUMNS_MAX} columns already", name
            seen.add(self._told_apart(name))
        return None

    def _told_apart(self, name: str) -> str:
        """What the database compares names by."""
        return name

    def _checked(self, rows: list[SinkRow], refused: list[RefusedRow]) -> list[SinkRow]:
        """The rows that have a key and whose values the columns take."""
        for name in self.target.options.key:
            # SQLite would make up a value for a NULL in an INTEGER PRIMARY KEY.
            if any(row.values.get(name) is None for row in rows):
                keyless = [row for row in rows if row.values.get(name) is None]
                refused.extend(refuse(row, "the key has no value", name) for row in keyless)
                rows = [row for row in rows if row.values.get(name) is not None]
        unusual = [
            (name, kind)
            for name, kind in self._columns.items()
            if not stored_as_is(kind, (row.values.get(name) for row in rows))
        ]
        if not unusual:
            return rows
        good = []
        for row in rows:
            values = dict(row.values)
            try:
                for name, kind in unusual:
                    values[name] = to_stored(kind, values.get(name))
            except ValueError as error:
                refused.append(refuse(row, str(error), name))
            else:
                good.append(row._replace(values=values))
        return good

    def _apply(self, rows: list[SinkRow], refused: list[RefusedRow]) -> None:
        """Put the rows in; find those that the database refuses by halving."""
        if not rows:
            return
        try:
            with self._savepoint():
                columns = list(self._columns)
                self._insert(self._collapse(rows, columns), columns)
        except RowRefused as error:
            if len(rows) == 1:
                refused.append(refuse(rows[0], str(error), error.column))
                return
            middle = len(rows) // 2
            self._apply(rows[:middle], refused)
            self._apply(rows[middle:], refused)

    def _collapse(self, rows: list[SinkRow], columns: list[str]) -> list[tuple[Any, ...]]:
        """The values in the order of the columns; of several rows with one key only the last.

        Databases differ in what they make of a key twice in one statement: PostgreSQL refuses,
        SQLite keeps the last, DuckDB the first.
        """
        key = self.target.options.key
        picked = [tuple(map(row.values.get, columns)) for row in rows]
        if not key:
            return picked
        places = [columns.index(name) for name in key]
        return list({tuple(row[i] for i in places): row for row in picked}.values())


def refuse(row: SinkRow, reason: str, column: str | None) -> RefusedRow:
    """A row as a dead letter."""
    raw = json.dumps(row.values, default=str, ensure_ascii=False, separators=(",", ":"))
    return RefusedRow(row.partition, row.offset, row.source, column, reason, raw)


def _without_unknown(
    rows: list[SinkRow], unknown: dict[str, str], table: str, refused: list[RefusedRow]
) -> list[SinkRow]:
    good = []
    for row in rows:
        name = next((name for name in unknown if row.values.get(name) is not None), None)
        if name is None:
            good.append(row)
        else:
            reason = f"table {table} has no such column, and its schema is frozen"
            refused.append(refuse(row, reason, name))
    return good
