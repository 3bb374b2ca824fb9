"""Old data, on Ottla and on Apache Kafka: compaction, retention, DeleteRecords, times and codecs.

Every test that takes `address` runs on both brokers, with the same produces, and asserts the same
of both: what Java's and librdkafka's consumers read of a compacted topic, where a log begins, and
how a topic's demands on its batches are answered. Kafka's own DumpLogSegments reads what Ottla's
compaction has written.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

import ottla
from ottla.client.admin import Admin, TopicSpec
from ottla.client.types import Partition
from ottla.ports.errors import ErrorCode
from ottla.wire.compression import Compression
from ottla.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch, iterate_batches, read_records
from tests.clients import drivers
from tests.clients.driver import Driver
from tests.clients.reading import eventually
from tests.clients.remote import RemoteDriver
from tests.differential.raw import Raw
from tests.kafka_runner import run_class

Unique = Callable[[str], str]
HOUR_MS = 3_600_000
COMPACT = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "60000",
}


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def tidy_ottla() -> Iterator[ottla.Broker]:
    """Ottla that looks for old data all the time."""
    with ottla.Broker(cleaner_backoff_ms=200, retention_check_interval_ms=200) as broker:
        yield broker


@pytest.fixture(params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def address(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka":
        return str(request.getfixturevalue("kafka_bootstrap"))
    return str(request.getfixturevalue("tidy_ottla").bootstrap_servers)


@pytest.fixture
def raw(address: str) -> Iterator[Raw]:
    connection = Raw(address)
    yield connection
    connection.close()


def make(address: str, name: str, **configs: str) -> Partition:
    config = {key.replace("_", "."): value for key, value in configs.items()}
    Admin(address).create_topics([TopicSpec(name, 1, config)])
    return Partition(name, 0)


# -- compaction --------------------------------------------------------------------------------


class Written(NamedTuple):
    """A record as it was produced."""

    offset: int
    key: bytes
    value: bytes | None
    timestamp_ms: int


class Writer:
    """Produces one batch at a time and remembers it, with its offset."""

    def __init__(self, address: str, topic: str, transactional_id: str, *, age_ms: int = 0) -> None:
        settings = {"bootstrap.servers": address, "log_level": 0, "linger.ms": 5}
        self._topic = topic
        self._plain = Producer(settings | {"enable.idempotence": True})
        self._transactional = Producer(settings | {"transactional.id": transactional_id})
        self._transactional.init_transactions(30)
        self.now_ms = now_ms() - age_ms
        self.committed: list[Written] = []

    def batch(self, *pairs: tuple[str, str | None], producer: Producer | None = None) -> None:
        producer = producer or self._plain
        found: list[Written] = []

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            kind_and_time = message.timestamp()
            found.append(
                Written(message.offset(), message.key(), message.value(), kind_and_time[1])
            )

        for key, value in pairs:
            producer.produce(
                self._topic,
                None if value is None else value.encode(),
                key.encode(),
                partition=0,
                timestamp=self.now_ms,
                on_delivery=delivered,
            )
        assert producer.flush(30) == 0
        self.committed += found
        self.now_ms += 1

    def transaction(self, *pairs: tuple[str, str | None], commit: bool) -> None:
        known = list(self.committed)
        self._transactional.begin_transaction()
        self.batch(*pairs, producer=self._transactional)
        if commit:
            self._transactional.commit_transaction(30)
        else:
            self._transactional.abort_transaction(30)
            self.committed = known

    def roll(self, value: str) -> None:
        """Begin a segment: the ones before it may be compacted."""
        self.now_ms += 120_000
        self.batch(("active", value))


def fill(writer: Writer) -> None:
    for turn in range(6):
        writer.batch(*((f"k{number}", f"{turn}.{number}") for number in range(5)))
        writer.transaction((f"k{turn}", f"txn {turn}"), ("t", f"{turn}"), commit=turn % 2 == 0)
    writer.batch(("k0", None), ("k9", "once"))
    writer.roll("1")
    writer.batch(("k1", "again"))
    writer.transaction(("k2", "never"), ("z", "never"), commit=False)
    writer.roll("2")


def read(driver: Driver, address: str, topic: str, *, committed: bool) -> list[Written]:
    """All records from the beginning up to the one that was produced last."""
    found: list[Written] = []
    with driver.consumer(address, committed_only=committed) as consumer:
        consumer.assign([(topic, 0)])
        deadline = time.monotonic() + 30
        while not found or (found[-1].key, found[-1].value) != (b"active", b"2"):
            assert time.monotonic() < deadline, found
            found += [
                Written(one.offset, one.key or b"", one.value, one.timestamp_ms)
                for one in consumer.poll(0.5)
            ]
    return found


def test_consumers_read_the_same_of_a_compacted_topic(
    address: str, unique: Unique, java_driver: RemoteDriver
) -> None:
    partition = make(address, unique("table"), **COMPACT)
    writer = Writer(address, partition.topic, unique("id"))
    fill(writer)
    confluent = drivers.make("confluent")
    # The active segment is not compacted, and hides nothing that is.
    compacted = sorted({one.key: one for one in writer.committed[:-1]}.values())
    wanted = [*compacted, writer.committed[-1]]
    seen: list[Written] = []

    def is_compacted() -> bool:
        seen[:] = read(confluent, address, partition.topic, committed=True)
        return seen == wanted

    eventually(is_compacted, "the last record of each key, and no other")
    assert read(java_driver, address, partition.topic, committed=True) == wanted
    # Nothing of what was aborted is left: who reads uncommitted sees no more.
    assert read(java_driver, address, partition.topic, committed=False) == wanted
    assert Admin(address).start_offsets([partition]) == {partition: 0}


@pytest.mark.kafka
def test_kafka_s_own_tool_reads_compacted_segments(
    tidy_ottla: ottla.Broker, unique: Unique, kafka_bootstrap: str
) -> None:
    address = tidy_ottla.bootstrap_servers
    topic = unique("dumped")
    make(address, topic, **COMPACT, segment_bytes="1048576", delete_retention_ms="0")
    writer = Writer(address, topic, unique("id"))
    for number in range(300):
        writer.batch((f"filler {number}", "x" * 200))
    fill(writer)
    directory = Path(tidy_ottla.data_dir) / "topics"
    files: list[str] = []

    def is_compacted() -> bool:
        files[:] = map(str, directory.glob(f"{topic}-0.*/compacted-*/*"))
        return {Path(one).suffix for one in files} >= {".log", ".index", ".timeindex", ".txnindex"}

    eventually(is_compacted, "a compaction of all that is sealed")
    dumped = run_class(
        "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", ",".join(files)
    )
    text = dumped.stdout + dumped.stderr
    assert dumped.returncode == 0, text
    assert "isvalid: true" in text
    assert (
        re.search("isvalid: false|mismatch|Mismatch|non-consecutive|corrupt|Exception", text)
        is None
    )
    assert "baseSequence" in text


# -- where a log begins ------------------------------------------------------------------------


def test_records_that_are_too_old_go_with_the_active_segment(address: str, unique: Unique) -> None:
    partition = make(address, unique("old"), retention_ms="60000")
    writer = Writer(address, partition.topic, unique("id"), age_ms=HOUR_MS)
    for number in range(5):
        writer.batch((f"k{number}", "v"))
    admin = Admin(address)
    eventually(lambda: admin.start_offsets([partition])[partition] == 5, "retention")
    assert admin.end_offsets([partition])[partition] == 5
    writer.now_ms = now_ms()
    writer.batch(("k", "new"))
    assert writer.committed[-1].offset == 5


def delete_records(raw: Raw, topic: str, offset: int, partition: int = 0) -> tuple[int, int]:
    """Error code and low watermark."""
    wanted = DeleteRecordsPartition(partition_index=partition, offset=offset)
    topics = [DeleteRecordsTopic(name=topic, partitions=[wanted])]
    answer = raw.ask(2, DeleteRecordsRequest(topics=topics, timeout_ms=10_000))
    one = answer.topics[0].partitions[0]
    return one.error_code, one.low_watermark


def test_delete_records(address: str, raw: Raw, unique: Unique) -> None:
    partition = make(address, unique("deleted"))
    writer = Writer(address, partition.topic, unique("id"))
    for number in range(6):
        writer.batch((f"k{number}", "v"))
    topic, admin = partition.topic, Admin(address)
    assert delete_records(raw, topic, 7) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    assert delete_records(raw, topic, -2) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    assert delete_records(raw, topic, 1, 9) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
    assert delete_records(raw, topic, 4) == (ErrorCode.NONE, 4)
    assert delete_records(raw, topic, 2) == (ErrorCode.NONE, 4)
    assert admin.start_offsets([partition])[partition] == 4
    assert delete_records(raw, topic, -1) == (ErrorCode.NONE, 6)
    assert admin.start_offsets([partition])[partition] == 6


def test_delete_records_of_a_compacted_topic(address: str, raw: Raw, unique: Unique) -> None:
    for policy, code in (
        ("compact", ErrorCode.POLICY_VIOLATION),
        ("compact,delete", ErrorCode.NONE),
    ):
        partition = make(address, unique("policy"), cleanup_policy=policy)
        writer = Writer(address, partition.topic, unique("id"))
        writer.batch(("a", "1"), ("b", "1"))
        low = -1 if code else 1
        assert delete_records(raw, partition.topic, 1) == (code, low)


# -- what a topic demands of its batches -------------------------------------------------------


def produce(raw: Raw, topic: str, records: list[Record], codec: int = 0) -> Any:
    data = PartitionProduceData(index=0, records=build_batch(records, compression=codec))
    request = ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )
    deadline = time.monotonic() + 20
    while True:
        answer = raw.ask(9, request).responses[0].partition_responses[0]
        if answer.error_code != ErrorCode.NOT_LEADER_OR_FOLLOWER or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


def stored(raw: Raw, topic: str) -> list[tuple[Any, list[Record]]]:
    """The batches of a topic, as they are stored: header and records."""
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    request = FetchRequest(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=1 << 20,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )
    content = raw.ask(11, request).responses[0].partitions[0].records
    return [(header, read_records(batch)) for header, batch in iterate_batches(content)]


def test_log_append_time(address: str, raw: Raw, unique: Unique) -> None:
    topic = make(address, unique("stamped"), message_timestamp_type="LogAppendTime").topic
    began_ms = now_ms()
    for codec in (Compression.NONE, Compression.ZSTD):
        answer = produce(raw, topic, [Record(0, 5, b"a", b"1"), Record(0, 7, b"b", b"2")], codec)
        assert answer.error_code == ErrorCode.NONE
        assert began_ms <= answer.log_append_time_ms <= now_ms()
        header, records = stored(raw, topic)[-1]
        assert header.is_log_append_time
        assert header.compression == codec
        assert {one.timestamp for one in records} == {answer.log_append_time_ms}


def test_times_out_of_range_are_refused_record_by_record(
    address: str, raw: Raw, unique: Unique
) -> None:
    topic = make(
        address,
        unique("timed"),
        message_timestamp_before_max_ms="60000",
        message_timestamp_after_max_ms="60000",
    ).topic
    now = now_ms()
    times = [now, now - HOUR_MS, -1, now + HOUR_MS]
    answer = produce(raw, topic, [Record(0, one, b"k", b"v") for one in times])
    assert answer.error_code == ErrorCode.INVALID_TIMESTAMP
    assert [one.batch_index for one in answer.record_errors] == [1, 3]
    assert answer.log_append_time_ms == -1
    assert produce(raw, topic, [Record(0, now, b"k", b"v")]).error_code == ErrorCode.NONE


def test_a_compacted_topic_takes_no_record_without_a_key(
    address: str, raw: Raw, unique: Unique
) -> None:
    topic = make(address, unique("keyed"), **COMPACT).topic
    answer = produce(raw, topic, [Record(0, now_ms(), key, b"v") for key in (b"a", None)])
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert [one.batch_index for one in answer.record_errors] == [1]


def test_a_topic_s_codec(address: str, raw: Raw, unique: Unique) -> None:
    for wanted, sent, kept in (
        ("producer", Compression.LZ4, Compression.LZ4),
        ("gzip", Compression.NONE, Compression.GZIP),
        ("uncompressed", Compression.ZSTD, Compression.NONE),
        ("snappy", Compression.SNAPPY, Compression.SNAPPY),
    ):
        topic = make(address, unique("codec"), compression_type=wanted).topic
        records = [Record(0, now_ms(), b"k", b"v" * 100, (("h", b"1"),)) for _ in range(3)]
        assert produce(raw, topic, records, sent).error_code == ErrorCode.NONE
        header, found = stored(raw, topic)[0]
        assert header.compression == kept
        assert [one._replace(offset=0) for one in found] == records


def test_a_batch_larger_than_the_topic_takes(address: str, raw: Raw, unique: Unique) -> None:
    topic = make(address, unique("small"), max_message_bytes="500").topic
    large = [Record(0, now_ms(), b"k", b"v" * 600)]
    assert produce(raw, topic, large).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert produce(raw, topic, large, Compression.GZIP).error_code == ErrorCode.NONE
