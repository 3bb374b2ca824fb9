"""Queries see committed state only, whole, in order; of running applications and of saved state."""

import threading
from pathlib import Path

import pytest

from ottla.streams import App, Count, StreamsError, Sum, Tumbling, Windowed
from ottla.streams.testing import TopologyTestDriver


def app() -> App:
    made = App("test")
    grouped = made.stream("in", timestamp=lambda v: v["at"]).group_by_key()
    grouped.agg("totals", n=Count(), total=Sum("x"))
    grouped.windowed(Tumbling(10, grace=100)).count("windows")
    return made


def fill(driver: TopologyTestDriver) -> None:
    for at, key in enumerate("abcabaz"):
        driver.pipe("in", key, {"at": at * 4, "x": at})


def test_a_table_by_key_and_by_range():
    with TopologyTestDriver(app(), partitions=3) as driver:
        fill(driver)
        driver.run()
        query = driver.query("totals")
        assert query.get("a") == {"n": 3, "total": 8}
        assert query.get("nobody") is None
        assert [key for key, _ in query.range("a", "b")] == ["a", "b"]
        assert [key for key, _ in query.range("b")] == ["b", "c", "z"]
        assert [key for key, _ in query.range(None, "b")] == ["a", "b"]
        assert len(list(query.all())) == 4


def test_windows_by_key_and_by_time():
    with TopologyTestDriver(app(), partitions=2) as driver:
        fill(driver)
        driver.run()
        query = driver.query("windows")
        assert query.window("a", 0) == [(Windowed("a", 0, 10), 1)]
        assert query.window("a", 0, 30) == [
            (Windowed("a", 0, 10), 1),
            (Windowed("a", 10, 20), 1),
            (Windowed("a", 20, 30), 1),
        ]
        assert [window for window, _ in query.windows(10, 20)] == [
            Windowed("a", 10, 20),
            Windowed("b", 10, 20),
        ]
        assert len(list(query.all())) == 7


def test_what_is_not_committed_is_not_there():
    with TopologyTestDriver(app()) as driver:
        fill(driver)
        driver.step()
        assert driver.query("totals").get("a") is None
        driver.commit()
        assert driver.query("totals").get("a") == {"n": 3, "total": 8}


@pytest.mark.parametrize("saved", [False, True])
def test_state_on_the_disk_and_not_yet_on_it_is_one(saved: bool):
    with TopologyTestDriver(app()) as driver:
        fill(driver)
        driver.run()
        if saved:
            driver.engine.save()
        driver.pipe("in", "a", {"at": 1, "x": 100})
        driver.run()
        assert driver.query("totals").get("a") == {"n": 4, "total": 108}
        assert driver.query("totals").get("b") == {"n": 2, "total": 5}


def test_the_wrong_question_is_answered_with_the_right_one():
    with TopologyTestDriver(app()) as driver:
        with pytest.raises(StreamsError, match="window"):
            driver.query("windows").get("a")
        with pytest.raises(StreamsError, match=r"get\(\) or range\(\)"):
            driver.query("totals").window("a", 0)
        with pytest.raises(StreamsError, match="there are totals, windows"):
            driver.query("other")


def test_an_application_that_does_not_run_is_read_from_what_it_saved(tmp_path: Path):
    asked = App("test", state_dir=tmp_path)
    grouped = asked.stream("in", timestamp=lambda v: v["at"]).group_by_key()
    grouped.agg("totals", n=Count(), total=Sum("x"))
    with TopologyTestDriver(app(), state_dir=tmp_path / "test", partitions=2) as driver:
        fill(driver)
        driver.run()
        driver.engine.save()
    assert asked.query("totals").get("a") == {"n": 3, "total": 8}
    with TopologyTestDriver(app(), state_dir=tmp_path / "test", cluster=driver.cluster):
        pass  # a question leaves the directory to whoever works there
    assert [key for key, _ in asked.query("totals").all()] == ["a", "b", "c", "z"]


def test_another_thread_sees_whole_commits():
    """Two keys that always move together are never seen apart."""
    made = App("test")
    made.stream("in").group_by_key().count("n")
    seen: list[tuple[int, int]] = []
    with TopologyTestDriver(made) as driver:
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                found = dict(driver.query("n").all())
                seen.append((found.get("a", 0), found.get("b", 0)))

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(60):
            driver.pipe("in", "a", 1)
            driver.pipe("in", "b", 1)
            driver.run()
            driver.engine.save()
        done.set()
        thread.join()
    assert all(a == b for a, b in seen)
