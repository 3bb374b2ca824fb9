"""An application with every kind of state, and what can be compared of two of its runs."""

from collections import defaultdict
from typing import Any

from ottla.streams import App, Count, Max, Sum, Tumbling
from ottla.streams.testing import TopologyTestDriver

EXACT = ("windows", "every", "seen", "latest", "by-city", "app-dead-letters", "late")
STORES = ("per-key", "windows", "sums", "latest", "cities")


def build() -> App:
    """Counts, windows, a reduce, a dedupe, a repartition, late records and dead letters."""
    app = App("app", errors="dead_letter")
    stream = app.stream("in", timestamp=lambda v: v["at"])
    good = stream.map_values(_check, name="check")
    by_key = good.group_by_key()
    by_key.count("per-key").current().to("counts")
    table = by_key.windowed(Tumbling(50, grace=20)).agg("windows", n=Count(), high=Max("x"))
    table.final().to("windows")
    table.late().to("late")
    by_key.aggregate("sums", dict, _sum).current(every_update=True).to("every")
    unique = good.dedupe("seen", key=lambda v: v["x"], window=200)
    unique.to("seen")
    unique.map_values(lambda v: None if v["x"] % 5 == 0 else v["x"]).group_by_key().latest(
        "latest"
    ).current(every_update=True).to("latest")
    cities = good.group_by(lambda v: v["city"], "city", partitions=2)
    cities.agg("cities", n=Count(), total=Sum("x")).current(every_update=True).to("by-city")
    return app


def _check(value: dict[str, Any]) -> dict[str, Any]:
    if value["x"] == 13:
        raise ValueError("thirteen")
    return value


def _sum(value: dict[str, Any], so_far: dict[str, Any]) -> dict[str, Any]:
    so_far["total"] = so_far.get("total", 0) + value["x"]
    so_far.setdefault("last", []).append(value["x"])
    del so_far["last"][:-3]
    return so_far


def result(driver: TopologyTestDriver) -> dict[str, Any]:
    """Committed outputs and state, as far as they do not depend on where transactions ended.

    Of a topic that gets the last update of each key in each transaction, the last one counts.
    """
    found: dict[str, Any] = {}
    for topic in EXACT:
        by_key = defaultdict(list)
        for each in driver.read(topic, key_serde="bytes"):
            by_key[each.key].append((each.value, each.timestamp_ms, each.headers))
        found[topic] = dict(by_key)
    found["counts"] = {each.key: each.value for each in driver.read("counts")}
    for store in STORES:
        found[f"state of {store}"] = list(driver.query(store).all())
    found["remembered"] = [
        sorted(key for key, _ in task.stores["seen"].committed(b"", None))
        for task in driver.engine.tasks.values()
        if "seen" in task.stores
    ]
    return found


def rows(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Records with times that go back now and then, some too late, some that fail."""
    return [
        (
            f"k{number * 7 % 5}",
            {
                "at": number * 9 + number % 4 * -25 % 90,
                "x": number * 11 % 17,
                "city": f"c{number % 3}",
            },
        )
        for number in range(count)
    ]
