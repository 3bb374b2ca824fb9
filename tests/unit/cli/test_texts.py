"""Formats, times and sizes of the command line, without a cluster."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.cli.cluster import Mistake
from ottla.cli.progress import Progress
from ottla.cli.record_format import formatter, record_of, unescaped
from ottla.cli.times import duration, parse_duration_ms, parse_time_ms, shown_time
from ottla.ports.printable import printable

NOW_MS = 1_800_000_000_000


class Message:
    """A consumed record."""

    def __init__(self, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        self._key, self._value, self._headers = key, value, headers

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 42

    def timestamp(self) -> tuple[int, int]:
        return 1, NOW_MS

    def headers(self) -> Any:
        return self._headers

    def error(self) -> None:
        return None


BYTES = st.none() | st.binary(max_size=20)


@given(BYTES, BYTES, st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=3))
def test_what_is_printed_as_json_is_read_again(key: Any, value: Any, headers: Any) -> None:
    line = formatter("json")(Message(key, value, headers))
    assert line.endswith(b"\n")
    found = record_of(line)
    assert (found.key, found.value, found.headers) == (key, value, headers)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"value":{"base64":"?"}}',
        b'{"value":{"base64":5}}',
        b'{"value":"v","headers":[["a"]]}',
        b'{"value":"v","headers":[1]}',
        b'{"value":"v","headers":5}',
    ],
)
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        record_of(line)


def test_format_strings() -> None:
    message = Message(b"k", None, [("h", b"1"), ("n", None)])
    for template, expected in {
        "%v": b"",
        "%k=%s;": b"k=;",
        r"%t-%p@%o %T\t%K %S\n": b"t-3@42 1800000000000\t1 -1\n",
        "%h": b"h=1,n=",
        r"100%%\x00\xff\\\q": b"100%\x00\xff\\\\q",
    }.items():
        assert formatter(template)(message) == expected
    assert formatter("%k%v", null=b"NULL")(message) == b"kNULL"
    for wrong in ("%x", "%", "%%%"):
        with pytest.raises(Mistake):
            formatter(wrong)


@given(st.text())
def test_every_text_stands_for_bytes(text: str) -> None:
    assert isinstance(unescaped(text), bytes)
    if "\\" not in text:
        assert unescaped(text) == text.encode()


def test_times() -> None:
    assert parse_time_ms("1700000000000", now_ms=NOW_MS) == 1_700_000_000_000
    assert parse_time_ms("1970-01-02", now_ms=NOW_MS) == 86_400_000
    assert parse_time_ms("1970-01-01T00:00:01", now_ms=NOW_MS) == 1_000
    assert parse_time_ms("1970-01-01T01:00:00+01:00", now_ms=NOW_MS) == 0
    assert parse_time_ms("-90m", now_ms=NOW_MS) == NOW_MS - 5_400_000
    for wrong in ("", "yesterday", "-5", "1.5"):
        with pytest.raises(Mistake):
            parse_time_ms(wrong, now_ms=NOW_MS)
    assert shown_time(0) == "1970-01-01T00:00:00Z"
    assert shown_time(-1) == "-"
    assert shown_time(1 << 62) == str(1 << 62)


def test_lengths_of_time() -> None:
    shown = {
        -5: "0ms",
        999: "999ms",
        1_000: "1s",
        61_000: "1m 01s",
        3_600_000: "1h 00m",
        172_800_000: "2d 0h",
    }
    assert {ms: duration(ms) for ms in shown} == shown
    assert [parse_duration_ms(text) for text in ("5ms", "5s", "5m", "5h", "5d")] == [
        *(5, 5_000, 300_000, 18_000_000, 432_000_000)
    ]
    for wrong in ("", "5", "m", "-5m", "5 m"):
        with pytest.raises(Mistake):
            parse_duration_ms(wrong)


def test_a_name_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"


def test_a_record_cannot_move_the_cursor() -> None:
    """On a terminal; elsewhere its bytes are its bytes."""
    value = "é\t1\n\x1b]0;x\x07\x9b2J\r".encode() + b"\xff"
    message = Message(b"k\x1b[2J", value, [("\x1b", b"\x08")])
    hostile = formatter("%k|%v|%h")
    assert hostile(message) == b"k\x1b[2J|" + value + b"|\x1b=\x08"
    safe = formatter("%k|%v|%h", terminal=True)
    assert safe(message).decode() == ("k\\x1b[2J|é\t1\n\\x1b]0;x\\x07\\x9b2J\\r\\xff|\\x1b=\\x08")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_goes_to_a_terminal_only() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream, shown in ((terminal, True), (file, True)):
        progress = Progress("read", shown=shown, stream=stream)
        progress.add(3, 2_000_000)
        progress.close()
    assert "read 3 records, 2.0 MB" in terminal.getvalue()
    assert file.getvalue() == ""
