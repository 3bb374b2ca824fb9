"""A record that fails leaves nothing behind: state and outputs are rolled back as one, and its dead
letter is in the same transaction (conformance 15).

Method: the test driver; the failing step is put behind every kind of step that writes something.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.ports.errors import StorageFailed
from ottla.streams import App, Count, StepFailed, Sum, Tumbling
from ottla.streams.dsl import Stream
from ottla.streams.testing import TopologyTestDriver

Build = Callable[[Stream[Any, Any]], Stream[Any, Any]]


def refuse_two(value: Any) -> Any:
    """Fails for the record that says so."""
    number = value["n"] if isinstance(value, dict) and "n" in value else value
    if number == 2:
        raise ValueError("two is not wanted")
    return value


WRITERS: dict[str, Build] = {
    "output": lambda s: s.peek(lambda v: None),
    "sum": lambda s: s.group_by_key().agg("t", n=Sum("n")).current(every_update=True),
    "count": lambda s: s.group_by_key().count("t").current(every_update=True),
    "reduce": lambda s: (
        s.map_values(lambda v: v["n"])
        .group_by_key()
        .reduce(lambda a, b: a + b, "t")
        .current(every_update=True)
    ),
    "window": lambda s: (
        s.group_by_key().windowed(Tumbling(10, grace=0)).count("t").current(every_update=True)
    ),
    "dedupe": lambda s: s.dedupe("t", key=lambda v: v["n"], window=100),
    "flat": lambda s: s.flat_map_values(lambda v: [v, v]).group_by_key().count("t").current(),
}


def run(writer: str, numbers: list[int], fail_at: int | None) -> dict[str, Any]:
    """What is committed in the end; the record at `fail_at` fails behind the writer."""
    offset = [-1]

    def next_offset(value: Any) -> None:
        offset[0] += 1

    def fail(value: Any) -> Any:
        if offset[0] == fail_at:
            raise ValueError("not this one")
        return value

    app = App("test", errors="dead_letter")
    stream = app.stream("in").peek(next_offset)
    stream.to("before")
    written = WRITERS[writer](stream)
    written.to("middle")
    written.map_values(fail, name="check").to("after")
    with TopologyTestDriver(app) as driver:
        for number in numbers:
            driver.pipe("in", "k", {"n": number}, timestamp_ms=1)
        driver.run()
        store = next(iter(driver.engine.tasks.values())).stores.get("t")
        return {
            "before": driver.read("before"),
            "middle": driver.read("middle", key_serde="bytes"),
            "after": driver.read("after", key_serde="bytes"),
            "state": None if store is None else store.committed(b"", None),
            "dead": [(each.value, dict(each.headers)) for each in driver.read("test-dead-letters")],
        }


@pytest.mark.parametrize("writer", WRITERS)
def test_a_record_that_fails_is_as_if_it_had_never_been(writer: str):
    numbers = [1, 2, 3, 4]
    without = run(writer, [1, 3, 4], fail_at=None)
    found = run(writer, numbers, fail_at=1)
    for where in ("before", "middle", "after"):
        assert found[where] == without[where], where
    if writer == "dedupe":  # its values tell the offset of the first record
        assert [key for key, _ in found["state"]] == [key for key, _ in without["state"]]
    else:
        assert found["state"] == without["state"]
    ((value, headers),) = found["dead"]
    assert value == {"n": 2}
    assert headers == {
        "ottla.topic": b"in",
        "ottla.partition": b"0",
        "ottla.offset": b"1",
        "ottla.step": b"check",
        "ottla.error": b"ValueError",
        "ottla.reason": b"not this one",
    }


def test_totals_are_those_of_the_records_that_did_not_fail():
    """The sums that peers report as [1, 3, 6] for 1, 2 (fails), 3."""
    app = App("test", errors="dead_letter")
    sums = app.stream("in").group_by_key().agg("t", total=Sum("n")).current(every_update=True)
    sums.map_values(lambda v: refuse_two({"n": v["total"] - 1}) and v).to("out")
    with TopologyTestDriver(app) as driver:
        for number in (1, 2, 3):
            driver.pipe("in", "k", {"n": number})
        driver.run()
        assert [each.value["total"] for each in driver.read("out")] == [1, 4]
        assert driver.metrics()["dead_letters"] == 1


def test_the_dead_letter_is_in_the_transaction_of_its_record():
    app = App("test", errors="dead_letter")
    app.stream("in").map_values(refuse_two).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", {"n": 2})
        driver.step()
        assert driver.read("test-dead-letters") == []
        driver.abort()
        assert driver.read("test-dead-letters") == []
        driver.run()
        assert len(driver.read("test-dead-letters")) == 1


def test_a_value_that_cannot_be_read_is_a_dead_letter_as_it_was():
    app = App("test")
    app.dead_letters("bad")
    app.stream("in").group_by_key().count("t").current().to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", b"{not json", headers=[("trace", b"7")])
        driver.pipe("in", "k", b"1")
        driver.run()
        (letter,) = driver.read("bad", value_serde="bytes")
        assert letter.value == b"{not json"
        assert letter.headers[0] == ("trace", b"7")
        assert dict(letter.headers)["ottla.step"] == b"source-0"
        assert driver.query("t").get("k") == 1


def test_a_failing_record_does_not_move_stream_time():
    app = App("test", errors="dead_letter")
    checked = app.stream("in", timestamp=lambda v: v["at"]).map_values(refuse_two)
    checked.group_by_key().windowed(Tumbling(10, grace=0)).count("t").final().to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", {"n": 1, "at": 5})
        driver.pipe("in", "k", {"n": 2, "at": 500_000})
        driver.pipe("in", "k", {"n": 3, "at": 6})
        driver.run()
        assert driver.read("out", key_serde="bytes") == []
        assert driver.metrics().get("late:t", 0) == 0


def test_without_dead_letters_the_first_failure_stops_the_application_and_tells_where():
    app = App("test")
    app.stream("in").map_values(refuse_two, name="no-twos").to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", {"n": 1})
        driver.pipe("in", "k", {"n": 2})
        with pytest.raises(StepFailed, match=r"'no-twos' failed on in-0 at offset 1: ValueError"):
            driver.step()
        driver.abort()
        assert driver.read("out") == []


def test_a_result_of_a_window_that_fails_is_a_dead_letter_with_window_and_result():
    app = App("test", errors="dead_letter")
    table = app.stream("in").group_by_key().windowed(Tumbling(10, grace=0)).agg("t", n=Count())
    table.final().map_values(refuse_two, name="check").to("out")
    with TopologyTestDriver(app) as driver:
        for key, at in (("a", 1), ("b", 1), ("b", 2), ("a", 30)):
            driver.pipe("in", key, {}, timestamp_ms=at)
        driver.run()
        assert [each.value for each in driver.read("out", key_serde="bytes")] == [{"n": 1}]
        (letter,) = driver.read("test-dead-letters", key_serde="bytes")
        assert letter.key == b"b" + bytes(8)
        assert letter.value == {"n": 2}
        assert dict(letter.headers)["ottla.offset"] == b"3"


def test_a_failing_disk_is_not_the_fault_of_the_record():
    def full(value: Any) -> Any:
        raise StorageFailed("no space left")

    app = App("test", errors="dead_letter")
    app.stream("in").map_values(full).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 1)
        with pytest.raises(StorageFailed):
            driver.run()
        driver.abort()
        assert driver.read("test-dead-letters") == []
