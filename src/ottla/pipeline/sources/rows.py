"""From the bytes of a file to rows: CSV and JSON lines.

A format is handed a chunk that ends at the end of a line, and gives back how much of it it could
use: a row whose quotes are still open at the end is left for the next, larger chunk. A line that is
not a row becomes a dead letter and the rest of the chunk goes on; after a quote that is never
closed, only the line it is on is given up, not everything behind it.

Every row gets a column `_source` with its file and line, so that whatever happens to it later can
name where it came from.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from ottla.pipeline.dead_letters import SOURCE_COLUMN, DeadLetter
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.sources.columns import column_to_json, infer_types, value_to_json

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Parsed:
    """What a chunk gave: rows as JSON, dead letters, how many bytes and lines were used."""

    rows: list[bytes] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    used_bytes: int = 0
    used_lines: int = 0


class RowFormat(Protocol):
    """A format of files. One instance reads one file; `state` goes into its position."""

    state: dict[str, Any]

    def parse(self, chunk: bytes, line: int, last: bool) -> Parsed:
        """The rows of a chunk whose first line has the number `line`, counted from 1.

        With `last` there is no more behind the chunk, so all of it is used.
        """
        ...


class JsonLines:
    """One JSON object a line."""

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self._name = name
        self.state = state

    def parse(self, chunk: bytes, line: int, last: bool) -> Parsed:
        if line == 1:
            chunk, mark = _without_mark(chunk)
        else:
            mark = 0
        lines = chunk.split(b"\n")
        if not lines[-1]:
            lines.pop()
        parsed = Parsed(used_bytes=len(chunk) + mark, used_lines=len(lines))
        prefix = f'{{"{SOURCE_COLUMN}":"{_json_text(self._name)}:'.encode()
        for number, text in enumerate(lines, line):
            text = text.strip()
            if not text:
                continue
            try:
                row = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                parsed.dead.append(_dead(self._name, number, f"not JSON: {error}", text))
                continue
            if not isinstance(row, dict):
                parsed.dead.append(_dead(self._name, number, "JSON, but not an object", text))
            elif row:
                parsed.rows.append(b'%b%d",%b' % (prefix, number, text[1:]))
            else:
                parsed.rows.append(b'%b%d"}' % (prefix, number))
        return parsed


class Csv:
    """Comma or tab separated values with a line of names."""

    def __init__(self, name: str, state: dict[str, Any], delimiter: str, infer: bool) -> None:
        self._name = name
        self._delimiter = delimiter
        self._infer = infer
        self.state = state

    def parse(self, chunk: bytes, line: int, last: bool) -> Parsed:
        mark = 0
        if line == 1:
            chunk, mark = _without_mark(chunk)
        try:
            text, plain = chunk.decode(), True
        except UnicodeDecodeError:
            # Bytes that are not UTF-8 become lone surrogates, and are found row by row.
            text, plain = chunk.decode("utf-8", "surrogateescape"), False
        skipped = 0
        if "names" not in self.state:
            skipped = self._read_names(text, last)
            if skipped == 0:
                return Parsed()
        rest = _Lines(text, skipped)
        parsed = self._parse_plainly(rest, line) if plain else None
        if parsed is None:
            parsed = self._parse_carefully(rest, line, last)
        unused = rest.rest()
        parsed.used_bytes = mark + len(chunk) - len(unused.encode("utf-8", "surrogateescape"))
        parsed.used_lines = rest.number
        return parsed

    def _read_names(self, text: str, last: bool) -> int:
        """Find the names, and the types from the rows behind them; how many lines names take."""
        lines = _Lines(text)
        try:
            names = next(csv.reader(lines, delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            if not last:
                return 0
            raise PipelineStopped(
                f"{self._name}:1: the line of names cannot be read: {error}"
            ) from error
        names = [name.strip() for name in names]
        if not names or not all(names) or len(set(names)) != len(names) or SOURCE_COLUMN in names:
            raise PipelineStopped(
                f"{self._name}:1: the first line must name the columns, each once and none "
                f"{SOURCE_COLUMN!r}; it has {', '.join(map(repr, names)) or 'nothing'}"
            )
        if not "".join(names).isprintable():  # lone surrogates stand for bytes that are not UTF-8
            raise PipelineStopped(
                f"{self._name}:1: the names of the columns are not printable UTF-8: "
                f"{', '.join(map(ascii, names))}"
            )
        types = ["text"] * len(names)
        if self._infer and not last and lines.exhausted:
            return 0  # no row yet to find the types from
        if self._infer:
            types = infer_types(list(self._rows_leniently(lines.rest())), len(names))
        self.state["names"], self.state["types"] = names, types
        return lines.number

    def _rows_leniently(self, text: str) -> Iterator[list[str]]:
        reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=self._delimiter)
        try:
            yield from reader
        except csv.Error:
            return

    def _parse_plainly(self, lines: "_Lines", line: int) -> Parsed | None:
        """All lines at once; None if there is anything unusual in them."""
        text = io.StringIO(lines.rest(), newline="\n")
        reader = csv.reader(text, delimiter=self._delimiter, strict=True)
        try:
            rows = list(reader)
        except csv.Error:
            return None
        if reader.line_num != len(rows) or set(map(len, rows)) - {len(self.state["names"])}:
            return None
        parsed = Parsed()
        first = line + lines.number
        self._convert(rows, range(first, first + len(rows)), parsed)
        lines.to_end(len(rows))
        return parsed

    def _parse_carefully(self, lines: "_Lines", line: int, last: bool) -> Parsed:
        """Row by row."""
        parsed = Parsed()
        rows: list[list[str]] = []
        numbers: list[int] = []
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while not lines.exhausted:
            start = lines.number
            try:
                row = next(reader)
            except csv.Error as error:
                open_at_end = lines.exhausted and "end of data" in str(error)
                lines.back_to(start)
                if open_at_end and not last:
                    break
                raw = next(lines)
                parsed.dead.append(_dead(self._name, line + start, f"not CSV: {error}", raw))
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                continue
            reason = self._wrong(row, lines.between(start))
            if reason is not None:
                raw = lines.between(start)
                parsed.dead.append(_dead(self._name, line + start, reason, raw))
            elif row:
                rows.append(row)
                numbers.append(line + start)
        self._convert(rows, numbers, parsed)
        return parsed

    def _wrong(self, row: list[str], raw: str) -> str | None:
        """Why this is no row of the file; an empty line is none and nothing wrong."""
        try:
            raw.encode()
        except UnicodeEncodeError:
            return "not UTF-8"
        count = len(self.state["names"])
        if row and len(row) != count:
            return f"{count} columns are named, the row has {len(row)}"
        return None

    def _convert(self, rows: list[list[str]], numbers: Sequence[int], parsed: Parsed) -> None:
        """Turn rows of texts into JSON; those with a value not of its type into dead letters."""
        try:
            parsed.rows += self._to_json(rows, numbers)
        except ValueError:
            good = [i for i, row in enumerate(rows) if self._check(row, numbers[i], parsed)]
            parsed.rows += self._to_json([rows[i] for i in good], [numbers[i] for i in good])

    def _to_json(self, rows: list[list[str]], numbers: Sequence[int]) -> list[bytes]:
        if not rows:
            return []
        prefixes = ["," + text for text in self._prefixes()]
        prefixes[0] = "{" + prefixes[0][1:]
        columns = list(map(column_to_json, self.state["types"], zip(*rows, strict=True), prefixes))
        source = f',"{SOURCE_COLUMN}":"{_json_text(self._name)}:'
        columns.append([f'{source}{number}"}}' for number in numbers])
        # There is no line feed in JSON like this, so all rows can be encoded at once.
        return "\n".join(map("".join, zip(*columns, strict=True))).encode().split(b"\n")

    def _prefixes(self) -> list[str]:
        return [orjson.dumps(name).decode() + ":" for name in self.state["names"]]

    def _check(self, row: list[str], number: int, parsed: Parsed) -> bool:
        """Whether the values of a row are of their types; if not it becomes a dead letter."""
        names = self.state["names"]
        for name, kind, value in zip(names, self.state["types"], row, strict=True):
            try:
                value_to_json(kind, value)
            except ValueError as error:
                raw = self._delimiter.join(row)
                parsed.dead.append(_dead(self._name, number, str(error), raw, name))
                return False
        return True


class _Lines:
    """An iterator over the lines of a text that knows where it is and can go back."""

    def __init__(self, text: str, number: int = 0) -> None:
        self._text = text
        self.number = 0  # of the next line, counted from 0
        self._positions = [0]  # where each line that was given out starts, and the next one
        for _ in range(number):
            next(self)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        start = self._positions[-1]
        if start == len(self._text):
            raise StopIteration
        end = self._text.find("\n", start) + 1 or len(self._text)
        self._positions.append(end)
        self.number += 1
        return self._text[start:end]

    @property
    def exhausted(self) -> bool:
        return self._positions[-1] == len(self._text)

    def back_to(self, number: int) -> None:
        """The next line is line `number` again."""
        del self._positions[number + 1 :]
        self.number = number

    def between(self, number: int) -> str:
        """The text from line `number` up to the next line."""
        return self._text[self._positions[number] : self._positions[-1]]

    def rest(self) -> str:
        """What was not given out yet."""
        return self._text[self._positions[-1] :]

    def to_end(self, count: int) -> None:
        """The `count` lines that are left were read by other means."""
        self.number += count
        self._positions.append(len(self._text))


def row_format(kind: str, name: str, state: dict[str, Any], infer: bool) -> RowFormat:
    """A reader of files of this kind: csv, tsv or jsonl."""
    if kind == "jsonl":
        return JsonLines(name, state)
    return Csv(name, state, "\t" if kind == "tsv" else ",", infer)


def _without_mark(chunk: bytes) -> tuple[bytes, int]:
    if chunk.startswith(_BYTE_ORDER_MARK):
        return chunk[len(_BYTE_ORDER_MARK) :], len(_BYTE_ORDER_MARK)
    return chunk, 0


def _json_text(text: str) -> str:
    """The text as it stands between the quotes of JSON."""
    return orjson.dumps(text).decode()[1:-1]


def _dead(
    name: str, line: int, reason: str, raw: str | bytes, column: str | None = None
) -> DeadLetter:
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    text = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
    return DeadLetter("source", f"{name}:{line}", column, reason, text)
