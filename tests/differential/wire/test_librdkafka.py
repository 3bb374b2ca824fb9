"""librdkafka, the client under most others, takes our bytes and we take its.

Method: a scripted broker, made of the wire alone, collects what librdkafka's producer sends with
each codec, and feeds its consumer, which checks CRCs, batches that we built.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ottla.wire.api import ApiKey
from ottla.wire.compression import Compression
from ottla.wire.records import (
    Record,
    build_batch,
    build_marker,
    check_crc,
    iterate_batches,
    read_records,
)
from tests.differential.wire.scripted_broker import PRODUCER_ID, TOPIC, ScriptedBroker

FIRST_MS = 1_700_000_000_000
PATIENCE_S = 30


@contextmanager
def scripted_broker(batches: list[bytes] | None = None) -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker(batches)
    try:
        yield broker
    finally:
        broker.close()


@pytest.mark.parametrize("codec", Compression)
def test_what_librdkafka_produces(codec: Compression):
    with scripted_broker() as broker:
        producer = Producer(
            {
                "bootstrap.servers": f"127.0.0.1:{broker.port}",
                "enable.idempotence": True,
                "compression.type": codec.name.lower(),
                "linger.ms": 50,
            }
        )
        for number in range(200):
            producer.produce(
                TOPIC,
                value=b"value" * 20 if number else None,
                key=b"key %d" % number,
                headers=[("header", b"x"), ("null", None)],
                timestamp=FIRST_MS + number,
            )
        assert producer.flush(PATIENCE_S) == 0

    assert broker.versions_seen[ApiKey.PRODUCE] >= 10
    assert broker.versions_seen[ApiKey.INIT_PRODUCER_ID] >= 4
    read = []
    for header, batch in iterate_batches(b"".join(broker.produced)):
        assert check_crc(batch)
        assert header.compression == codec
        assert (header.producer_id, header.base_sequence) == (PRODUCER_ID, len(read))
        read += read_records(batch)
    assert [(r.timestamp, r.key, r.value, r.headers) for r in read] == [
        (
            FIRST_MS + number,
            b"key %d" % number,
            b"value" * 20 if number else None,
            (("header", b"x"), ("null", None)),
        )
        for number in range(200)
    ]


def test_what_librdkafka_fetches():
    sent = []
    batches = []
    for codec in Compression:
        record = Record(len(batches), FIRST_MS, b"key", b"value " * codec, (("h", None),))
        sent.append(record)
        batches.append(build_batch([record], base_offset=record.offset, compression=codec))
        # A marker takes an offset, and no consumer sees it.
        batches.append(build_marker(True, PRODUCER_ID, 0, FIRST_MS, base_offset=len(batches)))

    with scripted_broker(batches) as broker, consumer_of(broker) as consumer:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        read = []
        while len(read) < len(sent):
            message = consumer.poll(PATIENCE_S)
            assert message is not None, "no message came"
            assert message.error() is None
            read.append(
                Record(
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(message.headers()),
                )
            )
    assert read == sent
    assert broker.versions_seen[ApiKey.FETCH] >= 13


@contextmanager
def consumer_of(broker: ScriptedBroker) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{broker.port}",
            "group.id": "none",
            "enable.auto.commit": False,
            "check.crcs": True,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
