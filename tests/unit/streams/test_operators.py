"""Every stateless step does what its documentation says, through the compiled loop.

Method: the test driver, one partition; a topology of the one step, its input, its whole output.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.streams import App, Count, StepFailed, TopologyError
from ottla.streams.dsl import Stream
from ottla.streams.testing import Output, TopologyTestDriver

Build = Callable[[Stream[Any, Any]], None]


def outputs(build: Build, *values: Any, key: str | None = "k") -> list[tuple[Any, Any]]:
    """Key and value of all that a topology writes to "out" for these values."""
    app = App("test")
    build(app.stream("in"))
    with TopologyTestDriver(app) as driver:
        for value in values:
            driver.pipe("in", key, value, timestamp_ms=5)
        driver.run()
        return [(each.key, each.value) for each in driver.read("out")]


def test_filter_keeps_what_is_true_also_falsy_values():
    found = outputs(lambda s: s.filter(lambda v: v != 1).to("out"), 0, 1, "", {}, False)
    assert found == [("k", 0), ("k", ""), ("k", {}), ("k", False)]


def test_a_function_of_two_parameters_gets_the_key():
    assert outputs(lambda s: s.filter(lambda key, _: key == "k").to("out"), 1) == [("k", 1)]
    assert outputs(lambda s: s.map_values(lambda key, value: [key, value]).to("out"), 1) == [
        ("k", ["k", 1])
    ]


def test_a_builtin_without_a_signature_gets_the_value():
    assert outputs(lambda s: s.map_values(str).to("out"), 7) == [("k", "7")]


def test_map_replaces_key_and_value():
    found = outputs(lambda s: s.map(lambda v: (v["id"], v["n"])).to("out"), {"id": "a", "n": 1})
    assert found == [("a", 1)]


def test_flat_map_gives_any_number_in_order():
    def pairs(value: int) -> list[tuple[str, int]]:
        return [(str(n), n) for n in range(value)]

    assert outputs(lambda s: s.flat_map(pairs).to("out"), 2, 0, 1) == [
        ("0", 0),
        ("1", 1),
        ("0", 0),
    ]


def test_flat_map_values_keeps_the_key():
    found = outputs(lambda s: s.flat_map_values(str.split).to("out"), "to be", "")
    assert found == [("k", "to"), ("k", "be")]


def test_select_key_changes_the_key_alone():
    assert outputs(lambda s: s.select_key(lambda v: v["id"]).to("out"), {"id": "a"}) == [
        ("a", {"id": "a"})
    ]


def test_peek_sees_every_value_and_changes_nothing():
    seen: list[int] = []
    assert outputs(lambda s: s.peek(seen.append).to("out"), 1, 2) == [("k", 1), ("k", 2)]
    assert seen == [1, 2]


def test_branch_sends_each_record_one_way():
    def build(stream: Stream[Any, Any]) -> None:
        small, even, rest = stream.branch(lambda v: v < 3, lambda v: v % 2 == 0)
        small.map_values(lambda v: ["small", v]).to("out")
        even.map_values(lambda v: ["even", v]).to("out")
        rest.map_values(lambda v: ["rest", v]).to("out")

    assert [value for _, value in outputs(build, 2, 4, 5)] == [
        ["small", 2],
        ["even", 4],
        ["rest", 5],
    ]


def test_branches_may_want_the_key():
    def build(stream: Stream[Any, Any]) -> None:
        mine, others = stream.branch(lambda key, _: key == "k")
        mine.to("out")
        others.filter(lambda key, _: key == "never").to("out")

    assert outputs(build, 1) == [("k", 1)]


def test_merge_joins_streams():
    app = App("test")
    app.stream("left").merge(app.stream("right").map_values(lambda v: -v)).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("left", "a", 1)
        driver.pipe("right", "b", 2)
        driver.run()
        assert sorted((each.key, each.value) for each in driver.read("out")) == [
            ("a", 1),
            ("b", -2),
        ]


def test_merge_of_different_keys_is_refused():
    app = App("test")
    with pytest.raises(TopologyError, match="same key serde"):
        app.stream("left").merge(app.stream("right", key_serde="int64"))


def test_a_merge_of_two_branches_of_one_stream_sees_records_once_each():
    def build(stream: Stream[Any, Any]) -> None:
        stream.filter(lambda v: v > 1).merge(stream.filter(lambda v: v < 1)).to("out")

    assert outputs(build, 0, 1, 2) == [("k", 0), ("k", 2)]


def test_to_takes_another_key_and_other_serdes():
    def build(stream: Stream[Any, Any]) -> None:
        stream.to("out", key=lambda v: v["id"], key_serde="json", value_serde="json")

    app = App("test")
    build(app.stream("in"))
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", {"id": [1, 2]})
        driver.run()
        assert driver.read("out", key_serde="json") == [Output([1, 2], {"id": [1, 2]}, 0)]


def test_a_tombstone_passes_through_as_none():
    found = outputs(lambda s: s.map_values(lambda v: v if v is None else v + 1).to("out"), 1, None)
    assert found == [("k", 2), ("k", None)]


def test_a_null_key_passes_through():
    assert outputs(lambda s: s.to("out"), 1, key=None) == [(None, 1)]


def test_timestamps_go_through_and_can_come_from_the_value():
    app = App("test")
    app.stream("in").to("by-record")
    app.stream("in", timestamp=lambda v: v["at"]).to("by-value")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", {"at": 77}, timestamp_ms=5)
        driver.run()
        assert [each.timestamp_ms for each in driver.read("by-record")] == [5]
        assert [each.timestamp_ms for each in driver.read("by-value")] == [77]


@pytest.mark.parametrize("time", ["soon", 1.5, -1, None])
def test_a_timestamp_that_is_none_is_refused(time: object):
    app = App("test")
    app.stream("in", timestamp=lambda v: time).to("out")  # type: ignore[arg-type, return-value]
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 1)
        with pytest.raises(StepFailed, match="milliseconds since 1970"):
            driver.run()


@pytest.mark.parametrize("of_the_value", [True, False])
def test_a_timestamp_after_the_year_9999_is_refused(of_the_value: bool):
    """Where windows and stores count on from it, 64 bits would not do."""
    app = App("test")
    app.stream("in", timestamp=(lambda v: v) if of_the_value else None).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 2**63 - 1, timestamp_ms=2**63 - 1)
        with pytest.raises(StepFailed, match="after the year 9999"):
            driver.run()


def test_a_repartition_brings_equal_keys_together():
    app = App("test")
    keyed = app.stream("in").select_key(lambda v: v["city"])
    keyed.repartition("by-city", partitions=3).to("out")
    with TopologyTestDriver(app, partitions=2) as driver:
        for number in range(12):
            driver.pipe("in", str(number), {"city": f"c{number % 4}"})
        driver.run()
        homes: dict[str, set[int]] = {}
        for each in driver.read("out"):
            homes.setdefault(each.key, set()).add(each.partition)
        assert sorted(homes) == ["c0", "c1", "c2", "c3"]
        assert all(len(partitions) == 1 for partitions in homes.values())


def test_group_by_aggregates_over_partitions():
    app = App("test")
    app.stream("in").group_by(lambda v: v["city"], "city").count("n").current().to("out")
    with TopologyTestDriver(app, partitions=3) as driver:
        for number in range(30):
            driver.pipe("in", str(number), {"city": f"c{number % 2}"})
        driver.run()
        assert dict(driver.query("n").all()) == {"c0": 15, "c1": 15}


def test_a_value_that_the_serde_cannot_write_says_so():
    app = App("test")
    app.stream("in").select_key(lambda v: v, name="by-number").to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 5)
        with pytest.raises(StepFailed, match="serde 'str' was given 5") as failure:
            driver.run()
        assert (failure.value.topic, failure.value.partition, failure.value.offset) == ("in", 0, 0)


@pytest.mark.parametrize(
    ("serde", "value"),
    [("json", {"a": [1, None]}), ("str", "grüße"), ("bytes", b"\x00\xff"), ("int64", -5)],
)
def test_serdes_by_name(serde: str, value: object):
    app = App("test")
    app.stream("in", value_serde="json").map_values(lambda _: value).to("out", value_serde=serde)
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 1)
        driver.run()
        assert driver.read("out", value_serde=serde) == [Output("k", value, 0)]


def test_an_unknown_serde_is_refused():
    with pytest.raises(TopologyError, match="no serde 'avro'"):
        App("test").stream("in", value_serde="avro")


def test_steps_after_a_table_see_every_update():
    app = App("test")
    counts = app.stream("in").group_by_key().agg("n", n=Count()).current(every_update=True)
    counts.filter(lambda v: v["n"] % 2 == 0).to("out")
    with TopologyTestDriver(app) as driver:
        for _ in range(4):
            driver.pipe("in", "k", 1)
        driver.run()
        assert [each.value for each in driver.read("out")] == [{"n": 2}, {"n": 4}]


def test_updates_are_written_once_per_key_and_transaction():
    app = App("test")
    app.stream("in").group_by_key().count("n").current().to("out")
    with TopologyTestDriver(app) as driver:
        for _ in range(2):
            for key in "aab":
                driver.pipe("in", key, 1)
            driver.run()
        assert [(each.key, each.value) for each in driver.read("out")] == [
            ("a", 2),
            ("b", 1),
            ("a", 4),
            ("b", 2),
        ]
