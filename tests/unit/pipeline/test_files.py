"""Promise: a file is read to the byte: every row once, every line that is no row a dead letter.

Method: the same content is read in chunks of many sizes, interrupted and continued, and compared
with what the csv module makes of the whole.
"""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.pipeline.dead_letters import DeadLetter
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.sources.files import FilePosition, FileReader, find_files, shown_path
from ottla.pipeline.urls import FileSource


def source(path: Path, kind: str = "csv", size: int = 1 << 20, infer: bool = True) -> FileSource:
    return FileSource(str(path), kind, infer, size, str(path))


def read(
    path: Path,
    position: FilePosition | None = None,
    *,
    finish: bool = True,
    batches: int | None = None,
    **how: Any,
) -> tuple[list[dict[str, Any]], list[DeadLetter], FilePosition]:
    """Read on from a position, all or a number of batches. The position went through bytes."""
    position = FilePosition.from_bytes((position or FilePosition(path.name)).to_bytes())
    reader = FileReader(str(path), source(path, **how), position)
    rows: list[dict[str, Any]] = []
    dead: list[DeadLetter] = []
    for number, parsed in enumerate(reader.batches(finish), 1):
        rows += map(orjson.loads, parsed.rows)
        dead += parsed.dead
        if number == batches:
            break
    reader.close()
    return rows, dead, reader.position


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, name: str = "in.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_types_are_found_and_rows_know_their_line(write: Callable[..., Path]) -> None:
    path = write("id,zip,price,ok,city\n1,01234,1.5,true,Oslo\n-2,99999,NA,false,\n")
    rows, dead, position = read(path)
    assert dead == []
    assert rows == [
        {"id": 1, "zip": "01234", "price": 1.5, "ok": True, "city": "Oslo", "_source": "in.csv:2"},
        {"id": -2, "zip": "99999", "price": None, "ok": False, "city": None, "_source": "in.csv:3"},
    ]
    assert position.state["types"] == ["integer", "text", "real", "boolean", "text"]
    assert (position.line, position.offset, position.rows) == (4, path.stat().st_size, 2)


def test_na_is_null_among_numbers_and_namibia_among_texts(write: Callable[..., Path]) -> None:
    rows, _, _ = read(write("n,country\nNA,NA\n7,DE\n"))
    assert [(row["n"], row["country"]) for row in rows] == [(None, "NA"), (7, "DE")]


def test_types_can_be_left_out(write: Callable[..., Path]) -> None:
    rows, _, _ = read(write("n\n1\n"), infer=False)
    assert rows[0]["n"] == "1"


@pytest.mark.parametrize("number", ["1_000", "0x10", "12.5", "１２", "9223372036854775808", "abc"])
def test_a_value_that_is_not_of_its_type_is_a_dead_letter(
    write: Callable[..., Path], number: str
) -> None:
    # A small chunk finds the types in the first rows only.
    path = write(f"n,s\n1,a\n2,b\n3,c\n{number},d\n5,e\n")
    rows, dead, _ = read(path, size=9)
    assert [row["n"] for row in rows] == [1, 2, 3, 5]
    assert [str(letter) for letter in dead] == [
        f"in.csv:5: column n: {number!r} is not of the column's type, integer"
    ]
    assert dead[0].raw == f"{number},d"


def test_a_row_with_too_few_or_too_many_columns_is_a_dead_letter(
    write: Callable[..., Path],
) -> None:
    rows, dead, position = read(write("a,b\n1,2\n3\n\n4,5,6\n7,8\n"))
    assert [(row["a"], row["_source"]) for row in rows] == [(1, "in.csv:2"), (7, "in.csv:6")]
    assert [(letter.source, letter.reason, letter.raw) for letter in dead] == [
        ("in.csv:3", "2 columns are named, the row has 1", "3"),
        ("in.csv:5", "2 columns are named, the row has 3", "4,5,6"),
    ]
    assert (position.rows, position.dead) == (2, 2)


def test_a_quote_that_is_never_closed_costs_only_its_line(write: Callable[..., Path]) -> None:
    path = write('a,b\n1,"x\n2,y\n3,"multi\nline"\n4,z\n')
    rows, dead, _ = read(path)
    assert [(row["a"], row["b"], row["_source"]) for row in rows] == [
        (2, "y", "in.csv:3"),
        (3, "multi\nline", "in.csv:4"),
        (4, "z", "in.csv:6"),
    ]
    assert [(letter.source, letter.raw) for letter in dead] == [("in.csv:2", '1,"x')]


def test_bytes_that_are_not_utf8_cost_only_their_row(write: Callable[..., Path]) -> None:
    rows, dead, _ = read(write(b"a,b\n1,\xff\xfe\n2,\xc3\xb8\n"))
    assert [(row["a"], row["b"]) for row in rows] == [(2, "ø")]
    assert [str(letter) for letter in dead] == ["in.csv:2: not UTF-8"]
    assert dead[0].raw == r"1,\xff\xfe"


def test_a_byte_order_mark_and_windows_line_ends_are_taken(write: Callable[..., Path]) -> None:
    path = write(b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n")
    rows, dead, position = read(path, size=8)
    assert [(row["a"], row["b"]) for row in rows] == [(1, "x"), (2, "y")]
    assert dead == []
    assert position.offset == path.stat().st_size


@pytest.mark.parametrize("header", ["a,a\n1,2\n", "a,\n1,2\n", "\n1,2\n", "a,_source\n1,2\n"])
def test_a_first_line_that_does_not_name_the_columns_is_refused(
    write: Callable[..., Path], header: str
) -> None:
    with pytest.raises(PipelineStopped, match=r"in.csv:1: the first line must name the columns"):
        read(write(header))


def test_json_lines(write: Callable[..., Path]) -> None:
    path = write('{"a": 1}\n\n{"a": \n[1]\n{}\n  {"a": {"b": 2}}  \n{"a": 3}', "in.jsonl")
    rows, dead, _ = read(path, kind="jsonl")
    assert rows == [
        {"_source": "in.jsonl:1", "a": 1},
        {"_source": "in.jsonl:5"},
        {"_source": "in.jsonl:6", "a": {"b": 2}},
        {"_source": "in.jsonl:7", "a": 3},
    ]
    assert [letter.source for letter in dead] == ["in.jsonl:3", "in.jsonl:4"]
    assert dead[1].reason == "JSON, but not an object"


def test_an_unfinished_last_line_is_left_until_it_is_finished(write: Callable[..., Path]) -> None:
    path = write("a\n1\n2")
    rows, _, position = read(path, finish=False)
    assert [row["a"] for row in rows] == [1]
    with path.open("a") as file:
        file.write("3\n4\n")
    rows, _, _ = read(path, position, finish=False)
    assert [(row["a"], row["_source"]) for row in rows] == [(23, "in.csv:3"), (4, "in.csv:4")]


def test_a_file_that_has_grown_is_continued(write: Callable[..., Path]) -> None:
    path = write("a\n1\n2")
    _, _, position = read(path)
    with path.open("a") as file:
        file.write("\n3\n")
    rows, _, position = read(path, position)
    assert [(row["a"], row["_source"]) for row in rows] == [(3, "in.csv:4")]
    assert read(path, position)[0] == []


def test_a_last_line_that_was_taken_and_then_grew_is_refused(write: Callable[..., Path]) -> None:
    path = write("a\n1\n2")
    _, _, position = read(path)
    with path.open("a") as file:
        file.write("3\n")
    with pytest.raises(PipelineStopped, match="its last line, 3, was taken as complete"):
        read(path, position)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("a\n1\n", "only 4 bytes"), ("b\n1\n2\n", "its beginning"), ("a\n1\n3\n4\n", "before byte 6")],
)
def test_a_file_that_was_changed_is_refused(
    write: Callable[..., Path], content: str, reason: str
) -> None:
    # The first 4096 bytes are compared too, so the changed place is put behind them.
    filler = "0\n" * 3000 if "before" in reason else ""
    path = write(f"a\n{filler}1\n2\n")
    _, _, position = read(path)
    path.write_text(f"{content[:2]}{filler}{content[2:]}")
    reason = reason.replace("byte 6", f"byte {position.offset}")
    with pytest.raises(PipelineStopped, match=rf"was changed, not appended to.*{reason}"):
        read(path, position)


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n2\n3\n"))
    rows, _, position = read(path, batches=1, size=5)
    assert [row["a"] for row in rows] == [1]
    assert [row["a"] for row in read(path, position, size=5)[0]] == [2, 3]


def test_files_come_by_name_and_are_called_by_it(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", ".d.csv"):
        (tmp_path / name).touch()
    (tmp_path / "e.csv").mkdir()
    found = find_files(source(tmp_path / "*.csv"))
    assert [shown_path(path, tmp_path) for path in found] == ["a.csv", "b.csv"]
    assert shown_path("/elsewhere/x.csv", tmp_path) == "/elsewhere/x.csv"


_cells = st.lists(
    st.sampled_from(["a", "ø", ",", '"', "\n", "\r\n", " ", "1", "\u2028"]), max_size=6
).map("".join)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(_cells, _cells), max_size=12),
    size=st.integers(1, 60),
    stops=st.lists(st.integers(1, 3), max_size=4),
)
def test_any_rows_in_any_chunks_with_any_interruptions(
    rows: list[tuple[str, str]], size: int, stops: list[int], tmp_path_factory: Any
) -> None:
    """What the csv module wrote comes back, however the file is cut up, each row once."""
    path = tmp_path_factory.mktemp("any") / "in.csv"
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("x", "y"), *rows])
    path.write_bytes(text.getvalue().encode())
    found: list[dict[str, Any]] = []
    position: FilePosition | None = None
    for batches in [*stops, None]:
        more, dead, position = read(path, position, batches=batches, size=size, infer=False)
        assert dead == []
        found += more
    assert [(row["x"], row["y"]) for row in found] == [(x or None, y or None) for x, y in rows]
    lines = [int(row["_source"].split(":")[1]) for row in found]
    assert lines == sorted(set(lines))


@settings(deadline=None)
@given(content=st.binary(max_size=200), size=st.integers(1, 64))
def test_any_bytes_are_rows_or_dead_letters_and_all_are_used(
    content: bytes, size: int, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "in.csv"
    path.write_bytes(b"x,y\n" + content)
    rows, dead, position = read(path, size=size)
    assert position.offset == 4 + len(content)
    assert position.rows == len(rows)
    assert position.dead == len(dead)
    assert all(letter.raw.encode() is not None and letter.headers() for letter in dead)
