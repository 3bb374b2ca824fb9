"""A topology says what runs: sub-topologies, names, topics and their partitions, as frozen data."""

import dataclasses

import pytest

from ottla.client import TopicSpec
from ottla.streams import App, Count, TopologyError, Tumbling
from ottla.streams.testing import TopologyTestDriver
from ottla.streams.topics import topics_to_make

COMPACT = {"cleanup.policy": "compact", "delete.retention.ms": "1209600000"}
KEEP = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "message.timestamp.after.max.ms": "9223372036854775807",
}


def sales() -> App:
    app = App("sales")
    orders = app.stream("orders")
    orders.filter(lambda v: v, name="paid").group_by(lambda v: v["city"], "city").count(
        "per-city"
    ).current().to("counts")
    return app


def test_describe_is_in_the_format_of_kafka_streams():
    assert sales().describe() == (
        "Topologies:\n"
        "   Sub-topology: 0\n"
        "    Source: source-0 (topics: [orders])\n"
        "      --> paid\n"
        "    Processor: paid (stores: [])\n"
        "      --> city-key\n"
        "      <-- source-0\n"
        "    Processor: city-key (stores: [])\n"
        "      --> city-sink\n"
        "      <-- paid\n"
        "    Sink: city-sink (topic: sales-city-repartition)\n"
        "      <-- city-key\n"
        "   Sub-topology: 1\n"
        "    Source: city-source (topics: [sales-city-repartition])\n"
        "      --> per-city\n"
        "    Processor: per-city (stores: [per-city])\n"
        "      --> sink-6\n"
        "      <-- city-source\n"
        "    Sink: sink-6 (topic: counts)\n"
        "      <-- per-city\n"
    )


def test_a_topology_is_frozen():
    topology = sales().topology()
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.app = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.nodes[0].name = "other"  # type: ignore[misc]


def test_an_application_without_streams_is_refused():
    with pytest.raises(TopologyError, match="begin with app"):
        App("empty").describe()


@pytest.mark.parametrize("name", ["", "with space", "a/b", "x" * 200, None])
def test_a_name_that_no_topic_can_have_is_refused(name: str):
    with pytest.raises(TopologyError, match="needs a name"):
        App("test").stream("in").group_by_key().count(name)
    with pytest.raises(TopologyError, match="needs a name"):
        App(name)


def test_a_name_is_used_once():
    app = App("test")
    grouped = app.stream("in").group_by_key()
    grouped.count("n")
    with pytest.raises(TopologyError, match="names are the identity"):
        grouped.agg("n", n=Count())
    with pytest.raises(TopologyError, match="names are the identity"):
        app.stream("in").dedupe("n", window=5)


@pytest.mark.parametrize(("option", "value"), [("guarantee", "at_most_once"), ("errors", "ignore")])
def test_an_unknown_option_is_refused(option: str, value: str):
    with pytest.raises(TopologyError, match=value):
        App("test", **{option: value})  # type: ignore[arg-type]


def test_the_topics_of_an_application():
    app = sales()
    assert topics_to_make(app.topology(), {"orders": 6}, app.dead_letters()) == [
        TopicSpec("sales-city-repartition", 6, KEEP),
        TopicSpec("sales-per-city-changelog", 6, COMPACT),
        TopicSpec("counts", 6, KEEP),
        TopicSpec("sales-dead-letters", 1, KEEP),
    ]


def test_topics_that_are_there_stay_as_they_are():
    existing = {"orders": 2, "counts": 1, "sales-city-repartition": 2}
    made = topics_to_make(sales().topology(), existing, None)
    assert [each.name for each in made] == ["sales-per-city-changelog"]


def test_a_repartition_has_the_partitions_it_was_given():
    app = App("test")
    app.stream("in").group_by(lambda v: v, "k", partitions=3).count("n")
    made = {each.name: each.partitions for each in topics_to_make(app.topology(), {"in": 8}, None)}
    assert made == {"test-k-repartition": 3, "test-n-changelog": 3}


def test_a_missing_source_is_refused():
    with pytest.raises(TopologyError, match="reads orders, which does not exist"):
        topics_to_make(sales().topology(), {}, None)


def test_topics_that_feed_one_state_need_as_many_partitions():
    app = App("test")
    app.stream("a").merge(app.stream("b")).group_by_key().count("n")
    with pytest.raises(TopologyError, match=r"'a': 2, 'b': 3"):
        topics_to_make(app.topology(), {"a": 2, "b": 3}, None)


def test_a_merge_without_state_takes_topics_as_they_are():
    app = App("test")
    app.stream("a").merge(app.stream("b")).to("out")
    with TopologyTestDriver(app, topics={"a": 1, "b": 3}) as driver:
        driver.pipe("a", "k", 1, partition=0)
        driver.pipe("b", "k", 2, partition=2)
        driver.run()
        assert sorted(each.value for each in driver.read("out")) == [1, 2]


def test_state_does_not_follow_a_change_of_partitions():
    changed = {"orders": 6, "sales-city-repartition": 6, "sales-per-city-changelog": 2}
    with pytest.raises(TopologyError, match="2 partitions for 6 tasks"):
        topics_to_make(sales().topology(), changed, None)


def test_a_repartition_of_another_size_is_refused():
    app = App("test")
    app.stream("in").repartition("r", partitions=4)
    with pytest.raises(TopologyError, match="has 2 partitions, not 4"):
        topics_to_make(app.topology(), {"in": 1, "test-r-repartition": 2}, None)


def test_streams_of_one_topic_are_one_task():
    app = App("test")
    app.stream("in").filter(lambda v: v > 1).to("large")
    app.stream("in").group_by_key().windowed(Tumbling(5, grace=0)).count("n")
    assert len(app.topology().subtopologies()) == 1


def test_what_was_compiled_can_be_read():
    source = sales().source()
    assert "def run_0(task, messages, now_ms):" in source
    assert source.count("for m in messages:") == 2
