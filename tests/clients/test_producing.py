"""P2 and the shape of records: what a client sends is what is read, once and in order.

Each test runs with every client, on Ottla and on Apache Kafka.
"""

import time

import pytest

from tests.clients.driver import ClientError, Driver
from tests.clients.reading import read, read_topic, values

RECORDS = 900


def test_idempotent_records_arrive_once_and_in_order(
    driver: Driver, bootstrap: str, topic: str
) -> None:
    with driver.producer(bootstrap) as producer:
        for number in range(RECORDS):
            producer.send(topic, str(number).encode(), partition=number % 3)
        offsets = producer.flush()
    assert offsets == [number // 3 for number in range(RECORDS)]
    records = read_topic(driver, bootstrap, topic, RECORDS)
    assert [(int(r.value or b""), r.offset) for r in records] == [
        (number, number // 3) for partition in range(3) for number in range(partition, RECORDS, 3)
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches(driver: Driver, bootstrap: str, topic: str, codec: str) -> None:
    if codec in driver.limits:
        pytest.skip(f"{driver.name} is installed without {codec}")
    sent = [f"{number} " + "squeeze me " * 50 for number in range(100)]
    with driver.producer(bootstrap, compression=codec) as producer:
        for value in sent:
            producer.send(topic, value.encode())
        producer.flush()
    assert values(read_topic(driver, bootstrap, topic, len(sent))) == sent


def test_headers_tombstones_and_timestamps(driver: Driver, bootstrap: str, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    headers: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff"), ("trace", b"again")]
    if "null-header" not in driver.limits:
        headers.append(("nothing", None))
    with driver.producer(bootstrap) as producer:
        producer.send(topic, b"", key=b"empty", headers=headers, timestamp_ms=now_ms - 5000)
        producer.send(topic, None, key=b"tombstone", timestamp_ms=now_ms - 4000)
        producer.send(topic, b"no key")
        producer.flush()
    empty, tombstone, no_key = read_topic(driver, bootstrap, topic, 3)
    assert (empty.key, empty.value) == (b"empty", b"")
    assert (empty.headers, empty.timestamp_ms) == (headers, now_ms - 5000)
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"tombstone", None, [])
    assert tombstone.timestamp_ms == now_ms - 4000
    assert (no_key.key, no_key.value) == (None, b"no key")
    assert no_key.timestamp_ms >= now_ms


def test_a_record_as_big_as_the_topic_allows(driver: Driver, bootstrap: str, topic: str) -> None:
    big = bytes(range(256)) * 4000
    with driver.producer(bootstrap) as producer:
        producer.send(topic, big)
        producer.send(topic, b"small")
        producer.flush()
    assert [r.value for r in read_topic(driver, bootstrap, topic, 2)] == [big, b"small"]


def test_a_record_bigger_than_the_topic_allows_is_refused(
    driver: Driver, bootstrap: str, topic: str
) -> None:
    with driver.producer(bootstrap) as producer:
        producer.send(topic, bytes(3_000_000))
        with pytest.raises(ClientError) as refused:
            producer.flush()
    assert refused.value.native in {
        "MSG_SIZE_TOO_LARGE",
        "MessageSizeTooLargeError",
        "RecordTooLargeException",
        "MESSAGE_TOO_LARGE",
    }
    with driver.producer(bootstrap) as producer:
        producer.send(topic, b"small")
        assert producer.flush() == [0]


def test_seek_and_offsets_for_times(driver: Driver, bootstrap: str, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    with driver.producer(bootstrap) as producer:
        for number in range(100):
            at = now_ms - 100_000 + number * 1000
            producer.send(topic, str(number).encode(), partition=1, timestamp_ms=at)
            if number % 10 == 9:
                producer.flush()
    with driver.consumer(bootstrap) as consumer:
        where = (topic, 1)
        consumer.assign([where])
        assert len(read(consumer, 100, quiet_s=0)) == 100
        consumer.seek(where, 90)
        assert values(read(consumer, 10)) == [str(number) for number in range(90, 100)]
        assert consumer.offset_for_time(where, now_ms - 100_000 + 42 * 1000) == 42
        assert consumer.offset_for_time(where, now_ms - 100_000 + 42 * 1000 + 1) == 43
        assert consumer.offset_for_time(where, 0) == 0
        assert consumer.offset_for_time(where, now_ms + 100_000) in (None, 100)
        assert consumer.end_offset(where) == 100
        assert consumer.end_offset((topic, 2)) == 0


def test_topics_are_made_described_and_deleted(driver: Driver, bootstrap: str, topic: str) -> None:
    name = topic + "-compacted"
    with driver.admin(bootstrap) as admin:
        admin.create_topic(name, 5, {"cleanup.policy": "compact", "segment.bytes": "1048576"})
        with pytest.raises(ClientError) as twice:
            admin.create_topic(name, 5)
        assert "EXISTS" in twice.value.native.upper()
        assert admin.partitions(name) == 5
        config = admin.topic_config(name)
        assert config["cleanup.policy"] == "compact"
        assert config["segment.bytes"] == "1048576"
        assert config["max.message.bytes"] == "1048588"
        admin.delete_topic(name)
        deadline = time.monotonic() + 10
        while admin.partitions(name) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert admin.partitions(name) is None
        with pytest.raises(ClientError) as gone:
            admin.delete_topic(name)
        assert "UNKNOWN" in gone.value.native.upper()
