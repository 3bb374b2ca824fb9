"""Windows by event time close by the data alone: stream time of the partition, never the clock.

Method: the test driver; sizes in milliseconds so small that whole runs can be written out.
"""

from typing import Any

import pytest

from ottla.streams import App, Count, Hopping, Sum, TopologyError, Tumbling, Windowed
from ottla.streams.serdes import STR
from ottla.streams.testing import TopologyTestDriver
from ottla.streams.windows import Window, windowed_serde

WINDOWED = windowed_serde(STR, 10)


def windowed_app(window: Window, **options: Any) -> App:
    """Counts per key and window: final results, current ones, late records."""
    app = App("test", **options)
    table = app.stream("in").group_by_key().windowed(window).count("n")
    table.final().to("final")
    table.current(every_update=True).to("current")
    table.late().to("late")
    return app


def finals(driver: TopologyTestDriver, topic: str = "final") -> list[tuple[str, int, Any]]:
    found = driver.read(topic, key_serde=WINDOWED)
    return [(each.key.key, each.key.start_ms, each.value) for each in found]


def pipe_times(driver: TopologyTestDriver, *times: int, key: str = "k") -> None:
    for time in times:
        driver.pipe("in", key, {"at": time}, timestamp_ms=time)


def test_a_tumbling_window_is_final_when_stream_time_reaches_end_and_grace():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=5))) as driver:
        pipe_times(driver, 0, 9, 14)
        driver.run()
        assert finals(driver) == []
        pipe_times(driver, 15)
        driver.run()
        assert finals(driver) == [("k", 0, 2)]


def test_the_result_of_a_window_has_the_time_of_its_last_millisecond():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 3, 10)
        driver.run()
        assert [each.timestamp_ms for each in driver.read("final")] == [9]


def test_the_window_of_a_key_that_goes_silent_closes_by_the_time_of_the_partition():
    """Conformance 9: another key's records move the clock."""
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 1, key="silent")
        pipe_times(driver, 12, key="busy")
        driver.run()
        assert finals(driver) == [("silent", 0, 1)]


def test_no_clock_closes_a_window_by_event_time():
    """Conformance 9: an idle input does not move stream time, however long one waits."""
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 1)
        driver.run()
        driver.advance(365 * 24 * 3600 * 1000)
        driver.run()
        assert finals(driver) == []


def test_a_late_record_is_counted_and_a_stream_and_opens_no_closed_window():
    """Conformance 10."""
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=5))) as driver:
        pipe_times(driver, 0, 15, 9, 10)
        driver.run()
        assert finals(driver) == [("k", 0, 1)]
        assert [(each.value["at"], each.timestamp_ms) for each in driver.read("late")] == [(9, 9)]
        assert driver.metrics()["late:n"] == 1
        pipe_times(driver, 40)
        driver.run()
        assert finals(driver) == [("k", 10, 2)]


def test_within_grace_a_record_out_of_order_still_counts():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=5))) as driver:
        pipe_times(driver, 0, 14, 9, 15)
        driver.run()
        assert finals(driver) == [("k", 0, 2)]
        assert driver.read("late") == []


def test_hopping_windows_overlap():
    with TopologyTestDriver(windowed_app(Hopping(10, 5, grace=0))) as driver:
        pipe_times(driver, 7, 30)
        driver.run()
        assert finals(driver) == [("k", 0, 1), ("k", 5, 1)]


def test_a_record_late_for_one_hopping_window_still_counts_in_the_next():
    with TopologyTestDriver(windowed_app(Hopping(10, 5, grace=0))) as driver:
        pipe_times(driver, 11, 7, 40)
        driver.run()
        assert finals(driver) == [("k", 5, 2), ("k", 10, 1)]
        assert len(driver.read("late")) == 1


def test_final_results_come_in_order_of_window_and_key():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        for key in "cab":
            pipe_times(driver, 1, key=key)
        for key in "ba":
            pipe_times(driver, 12, key=key)
        pipe_times(driver, 50)
        driver.run()
        assert [found[:2] for found in finals(driver)] == [
            ("a", 0),
            ("b", 0),
            ("c", 0),
            ("a", 10),
            ("b", 10),
        ]


def test_current_gives_every_update_with_its_window():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 1, 2, 11)
        driver.run()
        assert finals(driver, "current") == [("k", 0, 1), ("k", 0, 2), ("k", 10, 1)]


def test_the_key_of_a_window_is_an_object_for_functions():
    app = App("test")
    table = app.stream("in").group_by_key().windowed(Tumbling(10, grace=0)).count("n")
    table.final().map(lambda window, n: (window.key, [window.start_ms, window.end_ms, n])).to("out")
    with TopologyTestDriver(app) as driver:
        pipe_times(driver, 13, 99)
        driver.run()
        assert [(each.key, each.value) for each in driver.read("out")] == [("k", [10, 20, 1])]


def test_windows_by_processing_time_close_by_the_clock():
    app = App("test")
    grouped = app.stream("in").group_by_key()
    table = grouped.windowed(Tumbling(1000, grace=0), by="processing_time").count("n")
    table.final().map(lambda window, n: (window.key, n)).to("out")
    with TopologyTestDriver(app) as driver:
        pipe_times(driver, 5, 1)
        driver.run()
        assert driver.read("out") == []
        driver.advance(999)
        assert driver.read("out") == []
        driver.crash()
        driver.advance(1)
        assert [each.value for each in driver.read("out")] == [2]


def test_a_closed_window_leaves_nothing_in_the_state():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 1, 12)
        driver.run()
        assert dict(driver.query("n").all()) == {Windowed("k", 10, 20): 1}
        driver.lose_disk()
        assert dict(driver.query("n").all()) == {Windowed("k", 10, 20): 1}


def test_a_window_that_opens_and_closes_in_one_transaction_needs_no_changelog():
    with TopologyTestDriver(windowed_app(Tumbling(10, grace=0))) as driver:
        pipe_times(driver, 1, 50)
        driver.run()
        changelog = driver.read("test-n-changelog", key_serde="bytes", value_serde="bytes")
        assert [int.from_bytes(each.key[:8], "big") for each in changelog] == [50]


def test_aggregations_over_windows():
    app = App("test")
    table = app.stream("in").group_by_key().windowed(Tumbling(10, grace=0))
    table.agg("n", n=Count(), total=Sum("at")).final().to("final")
    with TopologyTestDriver(app) as driver:
        pipe_times(driver, 1, 2, 12)
        driver.run()
        assert finals(driver) == [("k", 0, {"n": 2, "total": 3})]


@pytest.mark.parametrize(
    ("size", "advance", "grace"), [(0, 1, 0), (10, 0, 0), (10, 11, 0), (10, 5, -1)]
)
def test_windows_that_make_no_sense_are_refused(size: int, advance: int, grace: int):
    with pytest.raises(TopologyError, match="0 < advance <= size and grace >= 0"):
        Hopping(size, advance, grace=grace)


def test_final_and_late_need_a_window():
    table = App("test").stream("in").group_by_key().count("n")
    with pytest.raises(TopologyError, match="never final"):
        table.final()
    with pytest.raises(TopologyError, match="nothing is late"):
        table.late()


def test_windowed_keys_are_bytes_as_in_kafka():
    data = WINDOWED.serialize(Windowed("k", 20, 30))
    assert data == b"k\x00\x00\x00\x00\x00\x00\x00\x14"
    assert WINDOWED.deserialize(data) == Windowed("k", 20, 30)
