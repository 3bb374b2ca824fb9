"""`ottla transactions`: what is open is shown, what hangs is found and ended."""

import time
from collections.abc import Callable, Iterator

import pytest

from ottla.client import Producer, ProducerFenced
from ottla.ports.errors import ErrorCode
from tests.cli.conftest import Cli
from tests.differential.raw import Raw, RawProducer

_LIMIT_S = 60.0


@pytest.fixture
def name(unique: Callable[[str], str]) -> str:
    return unique("id")


@pytest.fixture
def open_transaction(cli: Cli, topic: str, name: str) -> Iterator[Producer]:
    """A transaction with one record in partition 0."""
    producer = Producer(cli.bootstrap_servers, transactional_id=name)
    producer.begin()
    producer.send(topic, None, "open", partition=0)
    deadline = time.monotonic() + _LIMIT_S
    while not any(row[4] != "-" for row in cli("transactions", "producers", topic).table):
        assert time.monotonic() < deadline, "the record was not sent"
    yield producer
    producer.close()


def test_an_open_transaction_is_shown(
    cli: Cli, topic: str, name: str, open_transaction: Producer
) -> None:
    assert [name, "Ongoing"] in [
        row[:2] for row in cli("transactions", "list", "--state", "Ongoing").table
    ]
    assert name not in cli("transactions", "list", "--longer-than", "1h").out
    described = cli("transactions", "describe", name, "-o", "json").json
    assert (described["state"], described["timeout_ms"]) == ("Ongoing", 60_000)
    assert described["partitions"] == [{"topic": topic, "partition": 0}]
    shown = cli("transactions", "describe", name).out
    assert "open since" in shown
    assert f"{topic}-0" in shown
    (row,) = cli("transactions", "producers", f"{topic}:0", "-o", "json").json
    assert (row["transaction_start"], row["producer_id"]) == (0, described["producer_id"])
    assert "no producer" in cli("transactions", "producers", f"{topic}:1").err
    (partition, *_) = cli("topics", "describe", topic, "-o", "json").json[0]["partitions"]
    assert (partition["last_stable_offset"], partition["high_watermark"]) == (0, 1)
    assert cli("consume", topic, "-e").out == ""
    assert cli("consume", topic, "-e", "--isolation", "read_uncommitted").out == "open\n"
    open_transaction.commit()
    assert cli("consume", topic, "-e").out == "open\n"


def test_one_that_its_coordinator_knows_is_ended_by_its_id(
    cli: Cli, topic: str, name: str, open_transaction: Producer
) -> None:
    found = cli("transactions", "hanging", "-t", topic, "--longer-than", "0ms")
    assert "no transaction hangs" in found.err
    refusal = cli("transactions", "abort", f"{topic}:0", "--start-offset", "0", code=3).err
    assert "does not hang" in refusal
    assert f"--transactional-id {name}" in refusal
    cli("transactions", "abort", "--transactional-id", name, answer="n\n", code=3)
    done = cli("transactions", "abort", "--transactional-id", name, answer="y\n")
    assert f"abort the transaction of {name}" in done.err
    assert "is fenced" in done.err
    assert done.out.endswith(f"aborted the transaction of {name}\n")
    with pytest.raises(ProducerFenced):
        open_transaction.commit()
    assert cli("consume", topic, "-e").out == ""
    assert "no open transaction" in (
        cli("transactions", "abort", "--transactional-id", name, code=3).err
    )


def test_with_force_an_open_one_is_ended_in_one_partition(
    cli: Cli, topic: str, name: str, open_transaction: Producer
) -> None:
    command = ("transactions", "abort", f"{topic}:0", "--start-offset", "0", "--force")
    done = cli(*command, "--yes", "-o", "json")
    assert done.json["aborted"] == {"topic": topic, "partition": 0}
    cli("produce", topic, "-p", "0", answer="behind it\n")
    assert cli("consume", topic, "-e").out == "behind it\n"


def test_what_is_not_there(cli: Cli, topic: str, name: str) -> None:
    assert "TRANSACTIONAL_ID_NOT_FOUND" in cli("transactions", "describe", name, code=3).err
    assert "UNKNOWN_TOPIC_OR_PARTITION" in (
        cli("transactions", "producers", f"{topic}:9", code=3).err
    )
    refusal = cli("transactions", "abort", f"{topic}:0", "--start-offset", "0", code=3).err
    assert "no open transaction" in refusal
    assert "ottla transactions producers" in refusal
    cli("transactions", "list", "--state", "Odd", code=2)
    cli("transactions", "hanging", "--longer-than", "soon", code=2)
    cli("transactions", "abort", topic, code=2)


@pytest.fixture
def unverified(kafka_bootstrap: str) -> Iterator[Cli]:
    """Apache Kafka as before KIP-890: it takes what no coordinator was told of."""
    cli = Cli(kafka_bootstrap)
    setting = "transaction.partition.verification.enable"
    cli("configs", "set", "broker", "1", f"{setting}=false", "--yes")
    yield cli
    cli("configs", "unset", "broker", "1", setting, "--yes")


@pytest.mark.kafka
def test_a_hanging_transaction_is_found_and_ended(
    unverified: Cli, unique: Callable[[str], str]
) -> None:
    cli, topic, name = unverified, unique("topic"), unique("id")
    cli("topics", "create", topic)
    raw = Raw(cli.bootstrap_servers)
    raw.find_coordinator(1, name)
    producer = RawProducer(raw, name, topic)
    assert producer.init() == ErrorCode.NONE
    deadline = time.monotonic() + _LIMIT_S
    while producer.produce(0, version=9)[0] != ErrorCode.NONE:
        assert time.monotonic() < deadline, "the broker still verifies"
    raw.close()
    cli("produce", topic, answer="behind it\n")
    assert cli("consume", topic, "-e").out == ""
    # The record says of itself that it is from 2023.
    young = cli("transactions", "hanging", "-t", topic, "--longer-than", "20000d")
    assert "no transaction hangs" in young.err
    found = cli("transactions", "hanging", "-t", topic, "--longer-than", "0ms")
    assert found.table[0][:3] == [topic, "0", "0"]
    assert f"ottla transactions abort {topic}:0 --start-offset 0" in found.err
    (row,) = cli("transactions", "hanging", "--longer-than", "0ms", "-o", "json").json
    assert (row["producer_id"], row["transactional_id"]) == (producer.producer_id, name)
    done = cli("transactions", "abort", f"{topic}:0", "--start-offset", "0", "--yes")
    assert "write an abort marker" in done.err
    assert cli("consume", topic, "-e").out == "behind it\n"
    assert "no transaction hangs" in (
        cli("transactions", "hanging", "-t", topic, "--longer-than", "0ms").err
    )
