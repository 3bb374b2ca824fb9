"""The same input gives byte-identical windows: however it is cut into batches and transactions,
however often the application crashes, aborts, or loses its disk, and however old the data is.

Method: Hypothesis draws the records and a plan of what happens; the run is compared, byte for byte,
with one run in a single transaction. (Conformance 8 and 22.)
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client import Partition
from ottla.streams import App, Count, Hopping, Max, Sum, Tumbling
from ottla.streams.testing import TopologyTestDriver

WEEK_MS = 7 * 24 * 3600 * 1000

records = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 300), st.integers(-5, 5)), max_size=40
)
plans = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(["commit", "commit", "save", "abort", "crash", "lose_disk", "wait"]),
    ),
    max_size=12,
)


@dataclass(frozen=True)
class Log:
    """What one topic holds in the end, as bytes."""

    topic: str
    records: tuple[tuple[bytes | None, bytes | None, int], ...]


def application() -> App:
    app = App("replay")
    stream = app.stream("in", timestamp=lambda v: v["at"])
    grouped = stream.group_by_key()
    tumbling = grouped.windowed(Tumbling(50, grace=20)).agg(
        "tumbling", n=Count(), total=Sum("x"), high=Max("x")
    )
    tumbling.final().to("tumbling")
    tumbling.late().to("late")
    hopping = grouped.windowed(Hopping(60, 20, grace=0)).aggregate(
        "hopping", list, lambda value, so_far: [*so_far, value["x"]]
    )
    hopping.final().to("hopping")
    stream.dedupe("seen", key=lambda v: v["x"], window=70).to("seen")
    return app


def logs(driver: TopologyTestDriver) -> list[Log]:
    found = []
    for topic in ("tumbling", "hopping", "late", "seen"):
        messages = driver.cluster.read(Partition(topic, 0), 0)
        rows = tuple((m.key(), m.value(), m.timestamp()[1]) for m in messages)
        found.append(Log(topic, rows))
    return found


def carry_out(driver: TopologyTestDriver, plan: list[tuple[int, str]]) -> None:
    for size, what in plan:
        driver.step(size)
        if what in ("commit", "save"):
            driver.commit()
        if what == "save":
            driver.engine.save()
        elif what == "abort":
            driver.abort()
        elif what == "crash":
            driver.crash()
        elif what == "lose_disk":
            driver.lose_disk()
        elif what == "wait":
            driver.advance(10 * WEEK_MS)
    driver.run()


def run(rows: list[tuple[str, int, int]], plan: list[tuple[int, str]], base_ms: int) -> list[Log]:
    with TopologyTestDriver(application()) as driver:
        for key, at, x in rows:
            driver.pipe("in", key, {"at": base_ms + at, "x": x})
        carry_out(driver, plan)
        return logs(driver)


@settings(max_examples=120, deadline=None)
@given(rows=records, plan=plans)
def test_windows_are_the_same_bytes_however_they_were_computed(
    rows: list[tuple[str, int, int]], plan: list[tuple[int, str]]
):
    assert run(rows, plan, 0) == run(rows, [], 0)


def test_a_week_of_history_is_replayed_by_the_time_in_the_data_alone():
    """Conformance 22: whole windows of years ago, none expired by today's clock."""
    rows = [("k", hour * 3_600_000, 1) for hour in range(7 * 24)]
    app = App("history")
    stream = app.stream("in", timestamp=lambda v: v["at"])
    daily = stream.group_by_key().windowed(Tumbling(24 * 3_600_000, grace=0)).count("daily")
    daily.final().map(lambda window, n: (window.key, n)).to("out")
    with TopologyTestDriver(app) as driver:
        long_ago = 24 * 3_600_000 * 365
        for key, at, x in rows:
            driver.pipe("in", key, {"at": long_ago + at, "x": x})
        while driver.step(5):
            driver.advance(WEEK_MS)
            driver.engine.save()
            driver.crash()
        assert [each.value for each in driver.read("out")] == [24] * 6
        assert [value for _, value in driver.query("daily").all()] == [24]


def test_fast_and_slow_and_after_a_restart_give_the_same():
    """Conformance 8, in the words of the peers' failure: at full speed, and record by record."""
    rows = [(key, at, at % 3) for at in range(0, 3000, 10) for key in "ab"]
    fast = run(rows, [], 0)
    slow_plan = [(1, "wait") for _ in rows]
    assert run(rows, slow_plan, 0) == fast
    assert run(rows, [(150, "save"), (150, "crash"), (100, "lose_disk")], 0) == fast


def _values(log: Log) -> list[Any]:
    return [value for _, value, _ in log.records]


def test_every_record_in_order_is_in_exactly_one_tumbling_window():
    rows = [("k", at, 1) for at in range(0, 1000, 10)]
    tumbling, _, late, _ = run([*rows, ("k", 5000, 1)], [], 0)
    assert _values(late) == []
    assert _values(tumbling) == [b'{"n":5,"total":5,"high":1}'] * 20
