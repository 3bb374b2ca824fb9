"""Aggregations give what SQL gives, keep their values over crashes, and cannot be changed behind
the back of the state.

Method: the test driver; results read from the table itself, before and after the disk is lost.
"""

import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.streams import App, Count, Max, Mean, Min, Sum, TopologyError
from ottla.streams.dsl import Grouped, Table
from ottla.streams.testing import TopologyTestDriver


def table_of(aggregate: Any, *values: Any) -> Any:
    """The value of key "k" after these values, the same before and after the disk is lost."""
    app = App("test")
    grouped: Grouped[Any, Any] = app.stream("in").group_by_key()
    table: Table[Any, Any] = aggregate(grouped)
    table.current(every_update=True).to("out")
    with TopologyTestDriver(app) as driver:
        for value in values:
            driver.pipe("in", "k", value)
            driver.run()
        result = driver.query("t").get("k")
        driver.lose_disk()
        assert driver.query("t").get("k") == result
        return result


ALL = {
    "n": Count(),
    "known": Count("x"),
    "total": Sum("x"),
    "low": Min("x"),
    "high": Max("x"),
    "mean": Mean("x"),
}


def test_named_aggregations_together():
    rows = [{"x": 4}, {"x": None}, {"x": -2}, {"x": 0}]
    assert table_of(lambda g: g.agg("t", **ALL), *rows) == {
        "n": 4,
        "known": 3,
        "total": 2,
        "low": -2,
        "high": 4,
        "mean": 2 / 3,
    }


def test_of_nulls_alone_the_result_is_null():
    assert table_of(lambda g: g.agg("t", **ALL), {"x": None}) == {
        "n": 1,
        "known": 0,
        "total": None,
        "low": None,
        "high": None,
        "mean": None,
    }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=12))
def test_named_aggregations_against_python(numbers: list[int | None]):
    found = table_of(lambda g: g.agg("t", **ALL), *({"x": number} for number in numbers))
    known = [number for number in numbers if number is not None]
    assert found == {
        "n": len(numbers),
        "known": len(known),
        "total": sum(known) if known else None,
        "low": min(known, default=None),
        "high": max(known, default=None),
        "mean": statistics.fmean(known) if known else None,
    }


def test_a_field_can_be_a_function():
    found = table_of(lambda g: g.agg("t", total=Sum(lambda v: v["a"] * v["b"])), {"a": 2, "b": 3})
    assert found == {"total": 6}


def test_an_aggregation_without_a_field_is_refused():
    with pytest.raises(TopologyError, match="Sum needs a field"):
        Sum()


def test_count():
    assert table_of(lambda g: g.count("t"), 1, 2, 3) == 3


def test_reduce_begins_with_the_first_value():
    assert table_of(lambda g: g.reduce(lambda so_far, value: so_far + value, "t"), 1, 2, 3) == 6


def test_falsy_values_and_results_are_values():
    """Conformance 14: 0, "", {} and False are kept; only None deletes."""
    for value in (0, "", {}, [], False, 0.0):
        assert table_of(lambda g: g.reduce(lambda _, new: new, "t"), 1, value) == value
        assert table_of(lambda g: g.latest("t"), value) == value
    assert table_of(lambda g: g.reduce(lambda _, __: None, "t"), 1, 2) is None
    assert table_of(lambda g: g.latest("t"), 5, None) is None


def test_a_deleted_key_begins_anew():
    def fold(value: int, so_far: list[int]) -> list[int] | None:
        return None if value == 0 else [*so_far, value]

    assert table_of(lambda g: g.aggregate("t", list, fold), 1, 2, 0, 3) == [3]


def test_null_keys_and_values_are_skipped_and_counted():
    app = App("test")
    app.stream("in").group_by_key().count("t").current().to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", None, 1)
        driver.pipe("in", "k", None)
        driver.pipe("in", "k", 0)
        driver.run()
        assert dict(driver.query("t").all()) == {"k": 1}
        assert driver.metrics()["skipped:t"] == 2


def test_an_aggregate_changed_in_place_does_not_change_the_committed_state():
    """The value a function gets is its own: an abort takes back what it did to it."""

    def fold(value: int, so_far: dict[str, list[int]]) -> dict[str, list[int]]:
        so_far.setdefault("seen", []).append(value)
        return so_far

    app = App("test")
    app.stream("in").group_by_key().aggregate("t", dict, fold).current(every_update=True).peek(
        lambda value: value["seen"].append("changed by a later step")
    ).to("out")
    with TopologyTestDriver(app) as driver:
        driver.pipe("in", "k", 1)
        driver.run()
        driver.pipe("in", "k", 2)
        driver.step()
        driver.abort()
        assert driver.query("t").get("k") == {"seen": [1]}
        driver.run()
        assert driver.query("t").get("k") == {"seen": [1, 2]}


def test_floats_survive_exactly():
    for value in (float("inf"), float("-inf"), 0.1 + 0.2, 1e-320):
        assert table_of(lambda g, v=value: g.aggregate("t", int, lambda _, __: v), 1) == value
