"""`ottla topics` and `ottla configs` say and do the same on Ottla and on Apache Kafka."""

from collections.abc import Callable

from tests.cli.conftest import Cli, eventually


def test_a_topic_from_its_making_to_its_end(cli: Cli, unique: Callable[[str], str]) -> None:
    name = unique("t")
    made = cli("topics", "create", name, "-p", "3", "-c", "retention.ms=86400000")
    assert made.out == f"created topic {name}\n"
    listed = {each["name"]: each for each in cli("topics", "list", "-o", "json").json}
    assert listed[name]["partitions"] == 3
    assert listed[name]["replicas"] == 1
    assert [name, "3", "1"] in cli("topics", "list").table
    cli("topics", "add-partitions", name, "4", "--yes")
    (described,) = cli("topics", "describe", name, "-o", "json").json
    assert described["topic_id"] == listed[name]["topic_id"]
    assert described["config"] == {"retention.ms": "86400000"}
    assert [each["partition"] for each in described["partitions"]] == [0, 1, 2, 3]
    gone = cli("topics", "delete", name, "-o", "json", "--yes")
    assert gone.json == {"deleted": name}
    assert gone.err == f"delete topic {name}: 4 partitions, 0 offsets in use\n"


def test_internal_topics_are_shown_when_asked_for(cli: Cli) -> None:
    assert "__consumer_offsets" not in cli("topics", "list").out
    cli("topics", "list", "--internal")


def test_records_are_deleted_up_to_an_offset(cli: Cli, topic: str) -> None:
    cli("produce", topic, "-p", "1", answer="a\nb\nc\n")
    done = cli("topics", "delete-records", f"{topic}:1", "--before", "2", "--yes")
    assert done.table == [[topic, "1", "2"]]
    assert "delete offsets 0 up to 2" in done.err
    assert cli("consume", topic, "-e").out == "c\n"
    cli("topics", "delete-records", topic, "--before", "end", "--yes")
    assert cli("consume", topic, "-e").out == ""
    (described,) = cli("topics", "describe", topic, "-o", "json").json
    assert [each["start_offset"] for each in described["partitions"]] == [0, 3, 0]


def test_nothing_is_deleted_that_was_not_wanted(cli: Cli, topic: str) -> None:
    for command in (
        ("topics", "delete", topic),
        ("topics", "delete-records", topic, "--before", "end"),
        ("topics", "add-partitions", topic, "9"),
        ("configs", "set", "topic", topic, "retention.ms=1"),
    ):
        assert "nothing was done" in cli(*command, answer="n\n", code=3).err
        assert "--yes does not ask" in cli(*command, answer="", code=3).err
    (described,) = cli("topics", "describe", topic, "-o", "json").json
    assert (len(described["partitions"]), described["config"]) == (3, {})
    cli("topics", "delete", topic, answer="y\n")
    assert topic not in cli("topics", "list").out


def test_refusals_say_what_why_and_what_next(cli: Cli, topic: str) -> None:
    def refused(*command: str) -> tuple[str, str, str]:
        what, why, next_step = cli(*command, code=3).err.splitlines()[-3:]
        assert what.startswith("ottla: ")
        assert why.startswith("  why:  ")
        assert next_step.startswith("  next: ")
        return what, why, next_step

    what, why, next_step = refused("topics", "create", topic)
    assert what == f"ottla: cannot create topic {topic}"
    assert why.endswith("(TOPIC_ALREADY_EXISTS)")
    assert "ottla topics describe" in next_step
    for command in (("describe", "nope"), ("delete", "nope"), ("add-partitions", "nope", "2")):
        _, why, next_step = refused("topics", *command)
        assert why.endswith("(UNKNOWN_TOPIC_OR_PARTITION)")
        assert "ottla topics list" in next_step
    _, why, _ = refused("topics", "delete-records", f"{topic}:9", "--before", "1")
    assert why.endswith("(UNKNOWN_TOPIC_OR_PARTITION)")
    _, why, _ = refused("topics", "delete-records", f"{topic}:0", "--before", "9", "--yes")
    assert why.endswith("(OFFSET_OUT_OF_RANGE)")
    _, why, _ = refused("topics", "add-partitions", topic, "2", "--yes")
    assert why.endswith("(INVALID_PARTITIONS)")
    _, why, _ = refused("topics", "create", "a/b")
    assert why.endswith("(INVALID_TOPIC_EXCEPTION)")
    _, why, _ = refused("configs", "set", "topic", topic, "no.such=1", "--yes")
    assert why.endswith("(INVALID_CONFIG)")
    _, why, _ = refused("configs", "describe", "topic", "nope")
    assert why.endswith("(UNKNOWN_TOPIC_OR_PARTITION)")


def test_configs_are_set_and_unset(cli: Cli, topic: str) -> None:
    done = cli("configs", "set", "topic", topic, "retention.ms=7200000", "--yes")
    assert f"topic {topic}: retention.ms: 604800000 becomes 7200000" in done.err
    assert done.out == f"changed retention.ms of topic {topic}\n"
    cli("configs", "set", "topic", topic, "cleanup.policy=compact", "--yes")
    eventually(
        lambda: (
            [row[:2] for row in cli("configs", "describe", "topic", topic).table]
            == [["cleanup.policy", "compact"], ["retention.ms", "7200000"]]
        )
    )
    everything = cli("configs", "describe", "topic", topic, "--all", "-o", "json").json
    assert {each["name"] for each in everything} > {"retention.bytes", "min.insync.replicas"}
    listed = cli("configs", "list", "-o", "json").json
    assert {"kind": "topic", "of": topic, "name": "cleanup.policy", "value": "compact"} in listed
    cli("configs", "unset", "topic", topic, "cleanup.policy", "retention.ms", "--yes")
    eventually(lambda: "nothing was set" in cli("configs", "describe", "topic", topic).err)


def test_brokers_have_configs_too(cli: Cli) -> None:
    found = cli("configs", "describe", "broker", "1", "--all", "-o", "json").json
    assert {each["name"] for each in found} > {"num.partitions", "log.retention.ms"}
