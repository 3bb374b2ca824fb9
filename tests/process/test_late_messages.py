"""P2, P3 and P5 over a network at its worst: requests late, answers lost, requests cut short.

Method: clients talk to the broker through a proxy that knows the frames (proxy.py). Runs on Ottla
and on Apache Kafka. Where Kafka is known to fail (KAFKA-17754, clients before transaction version
2), the test on Kafka is left out, and says so.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ottla import Broker
from tests import kafka_runner
from tests.clients import drivers
from tests.clients.confluent import ConfluentDriver
from tests.clients.driver import Driver
from tests.clients.reading import read, read_topic, values
from tests.conftest import unavailable
from tests.process.proxy import Proxy

Unique = Callable[[str], str]
PRODUCE, END_TXN, TXN_OFFSET_COMMIT, ADD_PARTITIONS, INIT_PRODUCER_ID = 0, 26, 28, 24, 22
DIRECT = ConfluentDriver()


class Network:
    """A broker, and the proxy before it. `proxied` goes through the proxy as every client does."""

    def __init__(self, name: str, proxy: Proxy) -> None:
        self.broker_name = name
        self.proxy = proxy
        self.proxied = proxy.address


@pytest.fixture(scope="module", params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    proxy = Proxy()
    if request.param == "ottla":
        with Broker(advertise=proxy.address) as broker:
            proxy.broker_port = broker.port
            yield Network("ottla", proxy)
    else:
        with _kafka_behind(proxy, tmp_path_factory.mktemp("kafka")) as kafka:
            proxy.broker_port = kafka.port
            yield Network("kafka", proxy)
    proxy.close()


def _kafka_behind(proxy: Proxy, directory: Path) -> kafka_runner.Kafka:
    advertised = {"advertised.listeners": f"PLAINTEXT://{proxy.address}"}
    try:
        kafka_runner.class_path()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    return kafka_runner.Kafka(directory, properties=advertised)


@pytest.fixture(scope="module", params=["confluent", "kafka-python", "aiokafka", "java"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    if request.param == "java":
        from tests.clients.remote import java_driver

        found: Driver = java_driver(*request.getfixturevalue("java_worker"))
    else:
        found = drivers.make(request.param)
    yield found
    found.close()


@pytest.fixture
def topic(network: Network, unique: Unique) -> str:
    name = unique("topic")
    with DIRECT.admin(network.proxied) as admin:
        admin.create_topic(name, 3)
    return name


def test_an_end_that_comes_late_does_not_end_the_next_transaction(
    driver: Driver, network: Network, topic: str, unique: Unique
) -> None:
    """P5. The first copy of EndTxn(commit) is slow; the client repeats it, and goes on."""
    if network.broker_name == "kafka" and driver.name != "java":
        pytest.skip("KAFKA-17754: on Apache Kafka a late EndTxn ends the next transaction (TV1)")
    with driver.producer(network.proxied, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"first", partition=0)
        producer.flush()
        late = network.proxy.hold(END_TXN)
        producer.commit()
        late.wait()

        producer.begin()
        producer.send(topic, b"second a", partition=0)
        producer.send(topic, b"second b", partition=1)
        producer.flush()
        late.release()
        assert values(read_topic(DIRECT, network.proxied, topic, 1)) == ["first"]
        producer.abort()

        producer.begin()
        producer.send(topic, b"third", partition=1)
        producer.commit()
    assert values(read_topic(DIRECT, network.proxied, topic, 2)) == ["first", "third"]


def test_an_abort_that_comes_late_does_not_abort_the_next_transaction(
    driver: Driver, network: Network, topic: str, unique: Unique
) -> None:
    """P5, the other way round: half of the next transaction would be lost."""
    if network.broker_name == "kafka" and driver.name != "java":
        pytest.skip("KAFKA-17754: on Apache Kafka a late EndTxn ends the next transaction (TV1)")
    with driver.producer(network.proxied, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"first", partition=0)
        producer.flush()
        late = network.proxy.hold(END_TXN)
        producer.abort()
        late.wait()

        producer.begin()
        producer.send(topic, b"second a", partition=0)
        producer.flush()
        late.release()
        producer.send(topic, b"second b", partition=1)
        producer.commit()
    assert values(read_topic(DIRECT, network.proxied, topic, 2)) == ["second a", "second b"]


def test_a_record_that_comes_late_does_not_enter_a_later_transaction(
    driver: Driver, network: Network, topic: str, unique: Unique
) -> None:
    """P5 for Produce: the sequence number, or the epoch, gives the late copy away."""
    with driver.producer(network.proxied, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        producer.begin()
        late = network.proxy.hold(PRODUCE)
        producer.send(topic, b"first", partition=0)
        producer.flush()
        late.wait()
        producer.commit()

        producer.begin()
        producer.send(topic, b"second", partition=0)
        producer.flush()
        late.release()
        producer.commit()
    assert values(read_topic(DIRECT, network.proxied, topic, 2)) == ["first", "second"]


@pytest.mark.parametrize("api_key", [PRODUCE, END_TXN, INIT_PRODUCER_ID])
def test_a_lost_answer_changes_nothing(
    driver: Driver, network: Network, topic: str, unique: Unique, api_key: int
) -> None:
    """P2 and P3: what the client repeats was done already, and is not done twice."""
    dropped = network.proxy.drop_response(api_key)
    with driver.producer(network.proxied, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        for number in range(3):
            producer.begin()
            producer.send(topic, f"{number} a".encode(), partition=0)
            producer.send(topic, f"{number} b".encode(), partition=1)
            producer.commit()
    dropped.wait()
    assert values(read_topic(DIRECT, network.proxied, topic, 6)) == [
        *("0 a", "1 a", "2 a"),
        *("0 b", "1 b", "2 b"),
    ]


def test_a_lost_answer_to_an_offset_commit(
    driver: Driver, network: Network, topic: str, unique: Unique
) -> None:
    dropped = network.proxy.drop_response(TXN_OFFSET_COMMIT)
    group_id = unique("group")
    with (
        driver.producer(network.proxied, transactional_id=unique("id")) as producer,
        driver.consumer(network.proxied, group_id=group_id) as consumer,
    ):
        consumer.assign([(topic, 0)])
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"with offsets", partition=1)
        producer.send_offsets({(topic, 0): 5}, consumer.group())
        producer.commit()
    dropped.wait()
    with DIRECT.consumer(network.proxied, group_id=group_id) as reader:
        assert reader.committed((topic, 0)) == 5
        reader.assign([(topic, 1)])
        assert values(read(reader, 1)) == ["with offsets"]


@pytest.mark.parametrize("length", [3, 12, 60, 150])
def test_a_request_that_is_cut_short_does_nothing(
    driver: Driver, network: Network, topic: str, length: int
) -> None:
    """P2: half a Produce is none; its repetition is the first."""
    with driver.producer(network.proxied) as producer:
        producer.send(topic, b"first")
        producer.flush()
        cut = network.proxy.cut(PRODUCE, length)
        producer.send(topic, b"second " + bytes(1000))
        producer.send(topic, b"third")
        assert producer.flush() == [1, 2]
    cut.wait()
    found = values(read_topic(DIRECT, network.proxied, topic, 3))
    assert [value[:6].strip() for value in found] == ["first", "second", "third"]
