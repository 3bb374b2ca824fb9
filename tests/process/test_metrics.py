"""What Prometheus is told is what happened: a life with a bit of everything, and then a look."""

import time
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

import ottla
from ottla.client.access import Access
from ottla.client.raw import Brokers
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch

Samples = dict[tuple[str, str], float]  # by name, and the value of its only label


@pytest.fixture
def broker() -> Iterator[ottla.Broker]:
    with ottla.Broker(metrics="127.0.0.1:0") as running:
        yield running


def scrape(broker: ottla.Broker) -> Samples:
    with urlopen(str(broker.started["metrics"]), timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_transactions_and_their_times_are_shown(broker: ottla.Broker) -> None:
    servers = broker.bootstrap_servers
    with ottla.Producer(servers, transactional_id="t") as producer:
        with producer.transaction() as transaction:
            transaction.send("a", key=b"k", value=b"v")
        producer.begin()
        producer.send("a", b"k", b"left open")
        producer.flush()
        time.sleep(0.01)
        seen = scrape(broker)
        assert seen["ottla_open_transactions", ""] == 1
        assert seen["ottla_oldest_open_transaction_seconds", ""] > 0
        assert seen["ottla_last_stable_offset_lag_records", "a"] == 1
        assert seen["ottla_transactions_ended_total", "committed"] == 1
        with ottla.Producer(servers, transactional_id="t"), pytest.raises(ottla.ProducerFenced):
            producer.commit()
    seen = scrape(broker)
    assert seen["ottla_open_transactions", ""] == 0
    assert seen["ottla_oldest_open_transaction_seconds", ""] == 0
    assert seen["ottla_last_stable_offset_lag_records", "a"] == 0
    assert seen["ottla_transactions_ended_total", "taken over"] == 1
    assert seen["ottla_transactions_ended_total", "aborted"] == 0
    assert seen["ottla_fenced_total", ""] >= 1
    assert seen["ottla_request_seconds_count", "EndTxn"] >= 1
    assert seen["ottla_request_seconds_sum", "EndTxn"] > 0
    assert seen["ottla_request_seconds_count", "Produce"] >= 2
    assert seen["ottla_fsync_seconds_count", ""] >= 3
    assert seen["ottla_partitions", "a"] == 1
    assert seen["ottla_high_watermark_records", "a"] == 4  # two records, two markers
    assert seen["ottla_journal_bytes_total", ""] > 300


def test_what_came_twice_or_too_early_is_counted(broker: ottla.Broker) -> None:
    with ottla.Producer(broker.bootstrap_servers) as producer:
        producer.send("a", None, b"makes the topic")
    with Brokers(Access(broker.bootstrap_servers)) as brokers:
        topic = brokers.metadata(["a"]).topics[0]
        connection = brokers.broker(brokers.nodes()[0])
        producer_id = connection.ask(InitProducerIdRequest(None, 60_000)).producer_id
        for sequence in (0, 0, 0, 7):
            batch = build_batch(
                [Record(0, int(time.time() * 1000), None, b"v", [])],
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=sequence,
            )
            data = TopicProduceData(
                name="a",
                topic_id=topic.topic_id,
                partition_data=[PartitionProduceData(index=0, records=batch)],
            )
            connection.ask(ProduceRequest(acks=-1, timeout_ms=5_000, topic_data=[data]))
        seen = scrape(broker)
        assert seen["ottla_connections", ""] >= 1
    assert seen["ottla_duplicates_total", ""] == 2
    assert seen["ottla_out_of_order_total", ""] == 1
    assert seen["ottla_fenced_total", ""] == 0


def test_an_address_in_use_is_explained(broker: ottla.Broker) -> None:
    address = str(broker.started["metrics"]).removeprefix("http://").removesuffix("/metrics")
    with (
        pytest.raises(ottla.BrokerFailed, match="metrics cannot be served"),
        ottla.Broker(metrics=address),
    ):
        pass
