"""`ottla groups`: members, offsets, lag and resets, on Ottla and on Apache Kafka."""

from collections.abc import Callable

import pytest

from ottla.client import Consumer
from tests.cli.conftest import Cli


@pytest.fixture
def group(cli: Cli, topic: str, unique: Callable[[str], str]) -> str:
    """A group that has read two of three records of partition 0, and has no members."""
    name = unique("group")
    cli("produce", topic, "-p", "0", answer="a\nb\nc\n")
    cli("consume", topic, "-g", name, "-c", "2")
    return name


def offsets(cli: Cli, group: str) -> dict[int, int]:
    listed = cli("groups", "offsets", group, "-o", "json").json
    return {each["partition"]: each["offset"] for each in listed}


def test_a_group_is_listed_and_described(cli: Cli, topic: str, group: str) -> None:
    assert [group, "Empty", "Classic"] in cli("groups", "list").table
    assert cli("groups", "describe", group).lines[0] == (
        f"{group}  Empty  Classic  0 members  lag 1"
    )
    (row,) = [each for each in cli("groups", "offsets", group).table if each[1] == "0"]
    assert row == [topic, "0", "2", "3", "1"]
    described = cli("groups", "describe", group, "-o", "json").json
    assert (described["state"], described["members"]) == ("Empty", [])
    assert "has no members now" in cli("groups", "members", group).err


def test_members_are_shown_with_what_they_read(
    cli: Cli, topic: str, unique: Callable[[str], str]
) -> None:
    name = unique("group")
    with Consumer(
        cli.bootstrap_servers, name, instance_id="first", config={"client.id": "reader"}
    ) as consumer:
        consumer.subscribe([topic])
        while not consumer.assignment():
            consumer.consume(1, 0.1)
        (row,) = cli("groups", "members", name, "-o", "json").json
        assert (row["client_id"], row["instance_id"]) == ("reader", "first")
        assert row["partitions"] == f"{topic}-0 {topic}-1 {topic}-2"
        refusal = cli("groups", "delete", name, "--yes", code=3).err
        assert "NON_EMPTY_GROUP" in refusal
        assert "ottla groups members" in refusal
        cli("groups", "reset-offsets", name, "-t", topic, "--to", "latest", "--yes", code=3)


RESETS = {
    "earliest": 0,
    "latest": 3,
    "1": 1,
    "99": 3,
    "-1": 1,
    "+1": 3,
    "-99": 0,
    "@0": 0,
    "@-1h": 0,
    "@2100-01-01": 3,
}


def test_offsets_are_reset(cli: Cli, topic: str, group: str) -> None:
    command = ("groups", "reset-offsets", group, "--topic", f"{topic}:0", "--to")
    for to, expected in RESETS.items():
        dry = cli(*command, to, "--dry-run", "-o", "json")
        (row,) = dry.json
        assert (row["old_offset"], row["new_offset"]) == (2, expected), to
        assert "nothing was changed" in dry.err
    assert offsets(cli, group)[0] == 2
    done = cli(*command, "-1", "--yes")
    assert f"{topic}-0: 2 becomes 1" in done.err
    assert offsets(cli, group)[0] == 1


def test_a_reset_asks(cli: Cli, topic: str, group: str) -> None:
    cli("groups", "reset-offsets", group, "--to", "earliest", answer="n\n", code=3)
    assert offsets(cli, group)[0] == 2
    cli("groups", "reset-offsets", group, "--to", "earliest", answer="y\n")
    assert offsets(cli, group)[0] == 0
    assert cli("consume", topic, "-g", group, "-e").out == "a\nb\nc\n"


def test_a_group_goes_with_its_offsets(cli: Cli, group: str) -> None:
    assert cli("groups", "delete", group, "--yes", "-o", "json").json == {"deleted": group}
    assert group not in cli("groups", "list").out
    for command in ("describe", "members", "delete"):
        refusal = cli("groups", command, group, *["--yes"] * (command == "delete"), code=3).err
        assert "GROUP_ID_NOT_FOUND" in refusal
    assert "nothing to reset" in cli("groups", "reset-offsets", group, "--to", "1", code=3).err
