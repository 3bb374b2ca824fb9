"""Promise: a dead letter names where its row came from and why it failed."""

from typing import Any

import pytest

from ottla.pipeline.dead_letters import DeadLetter, dead_letter_of


class Message:
    """A consumed record, as far as a dead letter looks at it."""

    def __init__(self, value: bytes | None, headers: dict[str, str]) -> None:
        self._value = value
        self._headers = [(name, text.encode()) for name, text in headers.items()]

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def topic(self) -> str:
        return "p-dead-letters"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


def of(value: bytes | None, **headers: str) -> DeadLetter:
    named = {f"ottla.{name}": text for name, text in headers.items()}
    return dead_letter_of(Message(value, {"other": "x", **named}))  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [None, "n"])
def test_what_the_source_writes_is_read_again(column: str | None) -> None:
    letter = DeadLetter("source", "in.csv:3", column, "not CSV", '1,"x')
    written = {name: text.decode() for name, text in letter.headers() if text is not None}
    again = dead_letter_of(Message(letter.raw.encode(), written))  # type: ignore[arg-type]
    assert again == letter


def test_a_failed_step_names_the_line_its_row_came_from() -> None:
    letter = of(b'{"_source":"in.csv:9","n":1}', step="set-2", error="TypeError", reason="no")
    assert str(letter) == "in.csv:9: TypeError: no"
    assert letter.step == "set-2"


def test_without_a_line_the_record_is_named() -> None:
    place = {"topic": "t", "partition": "2", "offset": "5", "step": "filter-1"}
    assert of(b"[1]", reason="r", **place).source == "t-2@5"
    assert of(None, reason="r", **place).source == "t-2@5"


def test_a_row_that_came_too_late_has_no_headers_of_ours() -> None:
    letter = of(b'{"_source":"in.csv:2"}')
    assert (letter.step, letter.source) == ("aggregate", "in.csv:2")
    assert "after its window of time had closed" in letter.reason
