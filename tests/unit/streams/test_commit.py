"""P7: a task's state, output and input position move together or not at all.

Method: an application with every kind of state runs in small transactions; for every numbered step
of the commit protocol and every time it is reached, a run crashes there once, loses its memory or
its whole disk, and starts again. Outputs and state must be those of the run that never crashed.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ottla.ports.failpoints import FailpointHit, armed
from ottla.streams import App, StepFailed
from ottla.streams.commit import STEPS, OffsetMetadata
from ottla.streams.testing import TopologyTestDriver
from tests.unit.streams.everything import build, result, rows

RECORDS, BATCH = 40, 7
FAILPOINTS = [f"commit.{step}" for step in STEPS]


def fill(driver: TopologyTestDriver) -> None:
    for key, value in rows(RECORDS):
        driver.pipe("in", key, value)


def work(driver: TopologyTestDriver, crash: Callable[[], None]) -> None:
    """Run to the end in small transactions, saving after each; on a failpoint, `crash`."""
    while True:
        try:
            if not driver.step(BATCH) and not driver.engine.in_transaction:
                return
            driver.commit()
            driver.engine.save()
        except FailpointHit:
            crash()


@cache
def uncrashed() -> dict[str, Any]:
    with TopologyTestDriver(build(), partitions=2) as driver:
        fill(driver)
        work(driver, crash=lambda: pytest.fail("nothing was armed"))
        return result(driver)


def hit_at(count: int) -> Callable[[], None]:
    """An action that fails the n-th time it is called."""
    left = [count]

    def act() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise FailpointHit(f"number {count}")

    return act


@pytest.mark.parametrize("lose", ["memory", "disk"])
@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_crash_at_any_step_changes_nothing(failpoint: str, lose: str):
    """Conformance 1, every step, every time it is reached."""
    crashes = 0
    for count in range(1, 100):
        with TopologyTestDriver(build(), partitions=2) as driver:
            fill(driver)
            crashed: list[bool] = []

            def crash(driver: TopologyTestDriver = driver, crashed: list[bool] = crashed) -> None:
                crashed.append(True)
                driver.crash() if lose == "memory" else driver.lose_disk()

            with armed(failpoint, hit_at(count)):
                work(driver, crash)
            assert result(driver) == uncrashed(), f"{failpoint} at time {count}"
        if not crashed:
            break
        crashes += 1
    assert crashes >= 4


@pytest.mark.parametrize("failpoint", FAILPOINTS[:5])
def test_an_abort_at_any_step_before_the_commit_changes_nothing(failpoint: str):
    for count in range(1, 5):
        with TopologyTestDriver(build(), partitions=2) as driver:
            fill(driver)
            with armed(failpoint, hit_at(count)):
                work(driver, crash=driver.abort)
            assert result(driver) == uncrashed()


def test_nothing_is_read_before_the_commit_and_all_of_it_after():
    with TopologyTestDriver(build()) as driver:
        fill(driver)
        driver.step()
        with armed("commit.5.commit", hit_at(1)), pytest.raises(FailpointHit):
            driver.commit()
        assert driver.read("seen") == driver.read("app-dead-letters") == []
        assert driver.read("app-per-key-changelog", key_serde="bytes", value_serde="bytes") == []
        assert driver.cluster.committed == {}
        driver.abort()
        driver.run()
        assert driver.read("seen")
        assert {p.topic for p in driver.cluster.committed} == {"in", "app-city-repartition"}


def test_each_changed_key_is_written_once_to_the_changelog_in_a_transaction():
    with TopologyTestDriver(build()) as driver:
        fill(driver)
        driver.step()
        driver.commit()
        changelog = driver.read("app-per-key-changelog", key_serde="str", value_serde="bytes")
        assert len(changelog) == len({each.key for each in changelog}) == 5


def test_the_offsets_carry_the_clocks_and_what_the_state_is():
    with TopologyTestDriver(build()) as driver:
        fill(driver)
        driver.step()
        driver.commit()
        ((partition, position),) = driver.cluster.committed.items()
        metadata = OffsetMetadata.parse(position.metadata)
        assert (partition.topic, position.offset) == ("in", RECORDS)
        failed = 13
        assert metadata.stream_time_ms == max(v["at"] for _, v in rows(RECORDS) if v["x"] != failed)
        assert set(metadata.stores) == {"per-key", "windows", "sums", "seen", "latest"}
        assert len(position.metadata) < 4096


@pytest.mark.parametrize("text", ["", "not json", "[1]", '{"stream_time_ms": "x"}'])
def test_metadata_of_others_is_no_metadata(text: str):
    assert OffsetMetadata.parse(text) == OffsetMetadata()


fail_at = [0]  # the value that fails


def counting() -> App:
    app = App("app")
    copied = app.stream("in")
    copied.to("copies")
    copied.map_values(_check).group_by_key().count("n").current().to("counts")
    return app


def _check(value: int) -> int:
    if value == fail_at[0] != 0:
        raise ValueError("only this time")
    return value


def test_an_abort_leaves_no_output_for_the_next_transaction():
    with TopologyTestDriver(counting()) as driver:
        for number in range(10):
            driver.pipe("in", "k", number)
        driver.step()
        driver.abort()
        driver.step(5)
        driver.commit()
        assert [each.value for each in driver.read("counts")] == [5]
        assert [each.value for each in driver.read("copies")] == [0, 1, 2, 3, 4]


def test_a_failed_batch_leaves_no_output_for_the_next_transaction():
    with TopologyTestDriver(counting()) as driver:
        driver.pipe("in", "k", 1)
        driver.pipe("in", "k", 2)
        fail_at[0] = 2
        with pytest.raises(StepFailed):
            driver.step()
        fail_at[0] = 0
        driver.abort()
        driver.run()
        assert [each.value for each in driver.read("counts")] == [2]
        assert [each.value for each in driver.read("copies")] == [1, 2]
