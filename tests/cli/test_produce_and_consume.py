"""`ottla produce` and `ottla consume`: what goes in comes out, on Ottla and on Apache Kafka."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def one(cli: Cli, unique: Callable[[str], str]) -> str:
    """A topic with one partition."""
    name = unique("one")
    cli("topics", "create", name, "-p", "1")
    return name


def test_lines_are_records(cli: Cli, one: str) -> None:
    cli("produce", one, answer="a\n\nb")
    assert cli("consume", one, "-e").out == "a\n\nb\n"


def test_files_are_read_in_order(cli: Cli, one: str, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"a\nb\n")
    (tmp_path / "2").write_bytes(b"\xff\x00\n")
    cli("produce", one, str(tmp_path / "1"), "-", str(tmp_path / "2"), answer="c\n")
    assert cli("consume", one, "-e").out_bytes == b"a\nb\nc\n\xff\x00\n"
    missing = cli("produce", one, str(tmp_path / "3"), code=2).err
    assert "No such file" in missing


def test_keys_headers_and_null(cli: Cli, one: str) -> None:
    cli("produce", one, "-K", ":", "-H", "a=1", "-H", "b=", "-Z", answer="k:v\nk2:\n:v3\nv4\n")
    shown = cli("consume", one, "-e", "-Z", "-f", r"%o|%k|%v|%K|%S|%h|%p|%t|100%%\n").lines
    assert shown == [
        f"0|k|v|1|1|a=1,b=|0|{one}|100%",
        f"1|k2|NULL|2|-1|a=1,b=|0|{one}|100%",
        f"2|NULL|v3|-1|2|a=1,b=|0|{one}|100%",
        f"3|NULL|v4|-1|2|a=1,b=|0|{one}|100%",
    ]
    cli("produce", one, "-k", "same", answer="x\n")
    assert cli("consume", one, "-e", "-o", "-1", "-K", "\\t").out == "same\tx\n"


def test_json_goes_round(cli: Cli, one: str, unique: Callable[[str], str]) -> None:
    copy = unique("copy")
    cli("topics", "create", copy)
    lines = [
        {"key": "k", "value": "v", "headers": [["h", "1"], ["h", None]]},
        {"key": None, "value": None},
        {"key": {"base64": "/wA="}, "value": {"base64": "gA=="}, "headers": {"x": "y"}},
        {"value": {"a": 1}},
    ]
    cli("produce", one, "-f", "json", answer=b"".join(orjson.dumps(each) + b"\n" for each in lines))
    first = cli("consume", one, "-f", "json", "-e")
    cli("produce", copy, "-f", "json", answer=first.out)
    for shown in (first, cli("consume", copy, "-f", "json", "-e")):
        found = [orjson.loads(line) for line in shown.lines]
        assert [(each["key"], each["value"]) for each in found] == [
            ("k", "v"),
            (None, None),
            ({"base64": "/wA="}, {"base64": "gA=="}),
            (None, '{"a":1}'),
        ]
        assert [each["headers"] for each in found] == [
            [["h", "1"], ["h", None]],
            [],
            [["x", "y"]],
            [],
        ]
        assert [each["offset"] for each in found] == [0, 1, 2, 3]
        assert found[0]["timestamp"] > 1_700_000_000_000


def test_compression_and_acks(cli: Cli, one: str) -> None:
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        cli("produce", one, "-z", codec, answer=f"{codec}\n" * 200)
    for acks in ("all", "1", "0"):
        cli("produce", one, "--acks", acks, answer=f"acks {acks}\n")
    found = cli("consume", one, "-c", "803").lines
    assert found[100:800:200] == ["gzip", "snappy", "lz4", "zstd"]
    assert found[800:] == ["acks all", "acks 1", "acks 0"]


def test_offsets(cli: Cli, one: str) -> None:
    cli("produce", one, answer="0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
    for where, expected in {
        "beginning": "0123456789",
        "end": "",
        "7": "789",
        "10": "",
        "-3": "789",
        "-99": "0123456789",
        "s@0": "0123456789",
        "s@-1h": "0123456789",
        "s@2100-01-01T00:00:00Z": "",
    }.items():
        assert cli("consume", one, "-e", "-o", where, "-f", "%v").out == expected, where


def test_an_offset_that_is_not_there(cli: Cli, one: str) -> None:
    refusal = cli("consume", one, "-e", "-o", "11", code=3).err
    assert f"cannot read {one}-0 from offset 11" in refusal
    assert "it holds offsets 0 to 0" in refusal


def test_partitions(cli: Cli, topic: str) -> None:
    for number in "012":
        cli("produce", topic, "-p", number, answer=f"in {number}\n")
    assert sorted(cli("consume", topic, "-e").lines) == ["in 0", "in 1", "in 2"]
    assert cli("consume", topic, "-e", "-p", "1").out == "in 1\n"
    assert cli("consume", topic, "-e", "-p", "0", "-p", "1", "-c", "1").out.startswith("in ")
    cli("consume", topic, "-e", "-p", "7", code=3)
    refusal = cli("produce", topic, "-p", "7", answer="x\n", code=3).err
    assert "the topic has 3 partitions" in refusal


def test_a_topic_that_is_not_there(cli: Cli, unique: Callable[[str], str]) -> None:
    name = unique("missing")
    assert "UNKNOWN_TOPIC_OR_PARTITION" in cli("consume", name, "-e", code=3).err
    cli("produce", name, answer="made at its first use\n")
    assert cli("consume", name, "-e").out == "made at its first use\n"


def test_a_group_goes_on_where_it_was(cli: Cli, one: str, unique: Callable[[str], str]) -> None:
    group = unique("group")
    cli("produce", one, answer="a\nb\n")
    cli("produce", one, "--transactional-id", unique("id"), answer="c\n")
    assert cli("consume", one, "-g", group, "-c", "1").out == "a\n"
    assert cli("consume", one, "-g", group, "-e").out == "b\nc\n"
    assert cli("consume", one, "-g", group, "-e").out == ""
    assert "lag 0" in cli("groups", "describe", group).lines[0]
    cli("produce", one, answer="d\n")
    assert cli("consume", one, "-g", group, "-e").out == "d\n"
    assert cli("consume", one, "-g", unique("late"), "-o", "end", "-e").out == ""


def test_a_transaction_is_all_or_nothing(cli: Cli, one: str, unique: Callable[[str], str]) -> None:
    name = unique("load")
    cli("produce", one, "--transactional-id", name, answer="a\nb\n")
    bad = b'{"value":"c"}\n' * 3 + b"no json\n"
    refusal = cli("produce", one, "--transactional-id", name, "-f", "json", answer=bad, code=2).err
    assert "standard input, line 4" in refusal
    assert "nothing was written" in refusal
    assert cli("consume", one, "-e").out == "a\nb\n"
    seen = cli("consume", one, "-e", "--isolation", "read_uncommitted").out
    assert seen in ("a\nb\n", "a\nb\nc\nc\nc\n")  # what was sent before the abort is there


def test_without_a_transaction_what_was_sent_stays(cli: Cli, one: str) -> None:
    refusal = cli("produce", one, "-f", "json", answer='{"value":"a"}\n{}\n', code=2).err
    assert "the 1 records before it were sent" in refusal
    assert cli("consume", one, "-e").out == "a\n"


def test_a_refused_record_is_told(cli: Cli, one: str) -> None:
    cli("configs", "set", "topic", one, "cleanup.policy=compact", "--yes")
    refusal = cli("produce", one, answer="without a key\n", code=3).err
    assert "INVALID_RECORD" in refusal
    assert "a compacted topic needs a key" in refusal
    too_long = cli("produce", one, "-k", "k", answer="x" * 2_000_000 + "\n", code=3).err
    assert "MSG_SIZE_TOO_LARGE" in too_long
