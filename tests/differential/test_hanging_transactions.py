"""KIP-664 by Kafka's own tools: what is open, what hangs, and the way out.

Markers and filters get the same answers from Ottla and from Apache Kafka. Ottla lets no transaction
hang, so one is planted in a data directory, past the coordinator; then Kafka's TransactionsCommand
finds it and ends it, on an Ottla broker that was started there.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ottla.broker.broker import Broker as Core
from ottla.broker.config import BrokerConfig
from ottla.client.admin import Admin, TopicSpec
from ottla.ports.clock import RealClock
from ottla.ports.disk import RealDisk
from ottla.ports.errors import ErrorCode
from ottla.ports.rng import RealRng
from ottla.server.process import Broker
from ottla.wire.messages.list_transactions import ListTransactionsRequest
from ottla.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from ottla.wire.records import Record, build_batch, read_batch_header
from tests import kafka_runner
from tests.clients import drivers
from tests.clients.reading import eventually, read
from tests.conftest import unavailable
from tests.differential.raw import Raw, RawProducer

Unique = Callable[[str], str]

NONE, UNKNOWN = ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
INVALID_EPOCH = ErrorCode.INVALID_PRODUCER_EPOCH
COORDINATOR_FENCED = ErrorCode.TRANSACTION_COORDINATOR_FENCED
HANGING_ID = 4_711
COMMAND = "org.apache.kafka.tools.TransactionsCommand"


@pytest.fixture
def raw(bootstrap: str) -> Iterator[Raw]:
    connection = Raw(bootstrap)
    connection.find_coordinator(1, "anything")
    yield connection
    connection.close()


@pytest.fixture
def topic(bootstrap: str, unique: Unique) -> str:
    name = unique("topic")
    Admin(bootstrap).create_topics([TopicSpec(name, 2)])
    return name


# -- the same answers --------------------------------------------------------------------------


def _mark(
    raw: Raw, producer: RawProducer, topic: str, epoch: int, coordinator_epoch: int, version: int
) -> dict[tuple[str, int], ErrorCode]:
    """An abort by hand, for partition 0 and one that is not there."""
    where = WritableTxnMarkerTopic(topic, [0, 9])
    marker = WritableTxnMarker(
        producer.producer_id, epoch, False, [where], coordinator_epoch, version
    )
    (result,) = raw.ask(2, WriteTxnMarkersRequest([marker])).markers
    return {
        (found.name, one.partition_index): ErrorCode(one.error_code)
        for found in result.topics
        for one in found.partitions
    }


def test_a_marker_by_hand_gets_the_same_answer(raw: Raw, topic: str) -> None:
    producer = RawProducer(raw, None, topic)
    assert producer.init() is NONE
    assert producer.produce(0, epoch=3) == (NONE, 0)
    for epoch, coordinator_epoch, version, expected in (
        (2, 5, 0, INVALID_EPOCH),
        (3, 5, 0, NONE),
        (3, 4, 0, COORDINATOR_FENCED),
        (2, 4, 0, INVALID_EPOCH),
        (3, 5, 2, NONE),  # a retry (KAFKA-19999)
        (4, 6, 2, NONE),
        (3, 6, 2, INVALID_EPOCH),
    ):
        answer = _mark(raw, producer, topic, epoch, coordinator_epoch, version)
        assert answer == {(topic, 0): expected, (topic, 9): UNKNOWN}
    assert producer.produce(0, epoch=3) == (INVALID_EPOCH, -1)
    # Three markers stand between the record and the next one.
    assert producer.produce(0, epoch=4) == (NONE, 4)


def test_a_marker_of_a_producer_that_was_never_there(raw: Raw, topic: str) -> None:
    stranger = RawProducer(raw, None, topic)
    for producer_id, epoch, coordinator_epoch, expected in (
        (-1, 0, 0, ErrorCode.UNKNOWN_SERVER_ERROR),
        (10**12, -1, 0, ErrorCode.UNKNOWN_SERVER_ERROR),
        (10**12, -7, 0, INVALID_EPOCH),
        (10**12, 0, -5, COORDINATOR_FENCED),
        (10**12, 0, -1, NONE),
        (10**12, 0, -2, COORDINATOR_FENCED),
    ):
        stranger.producer_id = producer_id
        answer = _mark(raw, stranger, topic, epoch, coordinator_epoch, 0)
        assert answer[topic, 0] is expected


def test_transactions_are_listed_by_the_same_filters(raw: Raw, topic: str, unique: Unique) -> None:
    names = [unique(name) for name in ("apple", "pear")]
    producers = [RawProducer(raw, name, topic) for name in names]
    for producer in producers:
        assert producer.init() is NONE
    assert producers[0].add_partitions({topic: [0]}) == [NONE]

    def listed(version: int = 2, **filters: object) -> list[str]:
        answer = raw.ask(version, ListTransactionsRequest(**filters))  # type: ignore[arg-type]
        assert answer.error_code == NONE
        found = [one.transactional_id for one in answer.transaction_states]
        return [name for name in names if name in found]

    ids = [producer.producer_id for producer in producers]
    assert listed(0) == listed(1, duration_filter=-1) == names
    assert listed(producer_id_filters=[ids[1], 10**9]) == [names[1]]
    assert listed(state_filters=["Ongoing"], producer_id_filters=ids) == [names[0]]
    assert listed(state_filters=["Odd"]) == []
    assert listed(duration_filter=3_600_000, state_filters=["Ongoing"]) == []
    assert listed(duration_filter=3_600_000, state_filters=["Empty"]) == [names[1]]
    assert listed(transactional_id_pattern=f"{names[0][:5]}.*") == [names[0]]
    assert listed(transactional_id_pattern="apple") == []  # it must match the whole name
    assert listed(transactional_id_pattern=f"({re.escape(names[0])}|pea[r-z].+)") == names
    assert listed(transactional_id_pattern="") == names
    odd = raw.ask(1, ListTransactionsRequest(state_filters=["Odd", "Dead"]))
    assert odd.unknown_state_filters == ["Odd"]
    for pattern in ("(", "[", "a**", "(?=apple)", "\\1"):
        answer = raw.ask(2, ListTransactionsRequest(transactional_id_pattern=pattern))
        assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION, pattern
        assert answer.transaction_states == []
    assert producers[0].end(False) is NONE


# -- Kafka's tool ------------------------------------------------------------------------------


def _plant(directory: Path) -> None:
    """A broker's data with topic `t`, one record, and a transaction that no coordinator knows."""
    disk = RealDisk(str(directory))
    clock = RealClock()
    core = Core(disk, clock, RealRng(), BrokerConfig())
    core.commit([core.catalog.create("t", 1, {})])
    partition = core.catalog.partition("t", 0)
    assert partition is not None
    hours_ago_ms = clock.now_ms() - 7_200_000
    for identity in ({}, {"producer_id": HANGING_ID, "producer_epoch": 3, "base_sequence": 0}):
        batch = build_batch(
            [Record(timestamp=hours_ago_ms, value=b"v")], transactional=bool(identity), **identity
        )
        header = read_batch_header(batch)
        frame = core.new_frame()
        appended = partition.append(
            memoryview(batch), header, hours_ago_ms, must_start_at_zero=False
        )
        frame.add_batch(partition, appended.buffers, hours_ago_ms)
        core.append(frame)
    core.close()
    disk.close()


def _run(bootstrap: str, *arguments: str) -> list[dict[str, str]]:
    """Run the tool; the rows of the table that it prints."""
    try:
        done = kafka_runner.run_class(COMMAND, "--bootstrap-server", bootstrap, *arguments)
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.strip()]
    if not lines:
        return []
    heads = [head.strip() for head in lines[0]]
    return [dict(zip(heads, map(str.strip, line), strict=False)) for line in lines[1:]]


@pytest.mark.kafka
def test_kafkas_tool_finds_a_hanging_transaction_and_ends_it(tmp_path: Path) -> None:
    _plant(tmp_path)
    with Broker(tmp_path) as broker:
        bootstrap = broker.bootstrap_servers
        raw = Raw(bootstrap)
        sound = RawProducer(raw, "sound", "t")
        assert sound.init() is NONE
        assert sound.add_partitions({"t": [0]}) == [NONE]
        assert sound.produce(0) == (NONE, 2)

        (listed,) = _run(bootstrap, "list")
        assert (listed["TransactionalId"], listed["TransactionState"]) == ("sound", "Ongoing")
        (described,) = _run(bootstrap, "describe", "--transactional-id", "sound")
        assert described["ProducerId"] == str(sound.producer_id)
        assert described["TopicPartitions"] == "t-0"
        where = ("--topic", "t", "--partition", "0")
        producers = {
            row["ProducerId"]: row for row in _run(bootstrap, "describe-producers", *where)
        }
        assert set(producers) == {str(HANGING_ID), str(sound.producer_id)}
        assert producers[str(HANGING_ID)]["CurrentTransactionStartOffset"] == "1"

        (hanging,) = _run(bootstrap, "find-hanging", *where[:2])
        assert (hanging["Topic"], hanging["Partition"]) == ("t", "0")
        assert (hanging["ProducerId"], hanging["StartOffset"]) == (str(HANGING_ID), "1")
        assert _run(bootstrap, "abort", *where, "--start-offset", "1") == []
        assert sound.end(True) is NONE
        raw.close()
        with drivers.make("confluent").consumer(bootstrap) as consumer:
            consumer.assign([("t", 0)])
            assert [record.offset for record in read(consumer, 2)] == [0, 2]
            eventually(lambda: consumer.end_offset(("t", 0)) == 5, "nothing is open")
