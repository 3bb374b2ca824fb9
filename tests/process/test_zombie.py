"""P4: a producer that was paused in the middle of a transaction can write nothing more.

Method: a producer in a process of its own gets SIGSTOP while its transaction is open; a successor
takes its transactional id over; SIGCONT. With every client, on Ottla and on Apache Kafka.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.clients.confluent import ConfluentDriver
from tests.clients.driver import ClientError, Fenced
from tests.clients.reading import eventually, read, values
from tests.clients.remote import RemoteDriver, java_driver, python_driver

Unique = Callable[[str], str]
HERE = ConfluentDriver()  # the successor and the readers
TIMEOUT_MS = 4_000  # the few requests that must come before it take far less


@pytest.fixture(params=["confluent", "kafka-python", "aiokafka", "java"])
def zombie(request: pytest.FixtureRequest) -> Iterator[RemoteDriver]:
    """A client in a process of its own, to be paused."""
    if request.param == "java":
        driver = java_driver(*request.getfixturevalue("java_worker"))
    else:
        driver = python_driver(request.param)
    yield driver
    driver.kill()


@pytest.fixture
def topic(bootstrap: str, unique: Unique) -> str:
    name = unique("topic")
    with HERE.admin(bootstrap) as admin:
        admin.create_topic(name, 2)
    return name


def test_a_paused_producer_wakes_up_fenced(
    zombie: RemoteDriver, bootstrap: str, broker_name: str, topic: str, unique: Unique
) -> None:
    if zombie.name == "kafka-python" and broker_name == "kafka":
        # Its zombie tries InitProducerId with the old epoch, and Kafka aborts what is open before
        # it looks at the epoch. Ottla looks first.
        pytest.skip("on Apache Kafka, kafka-python's zombie may abort its successor's transaction")
    transactional_id = unique("id")
    producer = zombie.producer(bootstrap, transactional_id=transactional_id)
    producer.init_transactions()
    producer.begin()
    producer.send(topic, b"zombie before", partition=0)
    producer.send(topic, b"zombie before", partition=1)
    producer.flush()
    producer.send(topic, b"zombie in its buffer", partition=0)
    zombie.pause()
    with (
        HERE.producer(bootstrap, transactional_id=transactional_id) as successor,
        HERE.consumer(bootstrap) as committed,
        HERE.consumer(bootstrap, committed_only=False) as uncommitted,
    ):
        assert committed.end_offset((topic, 0)) == 0
        successor.init_transactions()
        # What the zombie left open is aborted before the successor's first send.
        for partition in (0, 1):
            end = uncommitted.end_offset((topic, partition))
            assert committed.end_offset((topic, partition)) == end
        successor.begin()
        successor.send(topic, b"successor before", partition=0)
        successor.flush()
        zombie.resume()
        with pytest.raises(Fenced):  # noqa: PT012 - each client notices at another step
            producer.flush()
            producer.commit()
        successor.send(topic, b"successor after", partition=0)
        successor.commit()
        successor.begin()
        successor.send(topic, b"successor again", partition=1)
        successor.commit()
        committed.assign([(topic, 0), (topic, 1)])
        records = read(committed, 3)
    assert sorted(values(records)) == ["successor after", "successor again", "successor before"]


def test_a_paused_producer_cannot_commit_offsets(
    zombie: RemoteDriver, bootstrap: str, topic: str, unique: Unique
) -> None:
    transactional_id, group_id = unique("id"), unique("group")
    producer = zombie.producer(bootstrap, transactional_id=transactional_id)
    consumer = zombie.consumer(bootstrap, group_id=group_id)
    consumer.assign([(topic, 0)])
    producer.init_transactions()
    producer.begin()
    producer.send_offsets({(topic, 0): 7}, consumer.group())
    zombie.pause()
    with (
        HERE.producer(bootstrap, transactional_id=transactional_id) as successor,
        HERE.consumer(bootstrap, group_id=group_id) as reader,
    ):
        successor.init_transactions()
        assert reader.committed((topic, 0)) is None
        reader.assign([(topic, 0)])
        successor.begin()
        successor.send_offsets({(topic, 0): 3}, reader.group())
        successor.commit()
        zombie.resume()
        with pytest.raises(Fenced):  # noqa: PT012 - each client notices at another step
            producer.send_offsets({(topic, 0): 8}, consumer.group())
            producer.commit()
        assert reader.committed((topic, 0)) == 3


def test_a_transaction_paused_past_its_timeout_is_aborted(
    zombie: RemoteDriver, bootstrap: str, topic: str, unique: Unique
) -> None:
    producer = zombie.producer(
        bootstrap, transactional_id=unique("id"), transaction_timeout_ms=TIMEOUT_MS
    )
    producer.init_transactions()
    with HERE.producer(bootstrap) as plain, HERE.consumer(bootstrap) as committed:
        # Both have met the broker before the transaction's time begins to run.
        plain.send(topic, b"elsewhere", partition=1)
        plain.flush()
        assert committed.end_offset((topic, 0)) == 0
        producer.begin()
        producer.send(topic, b"too slow", partition=0)
        producer.flush()
        zombie.pause()
        plain.send(topic, b"behind it", partition=0)
        plain.flush()
        assert committed.end_offset((topic, 0)) == 0
        eventually(lambda: committed.end_offset((topic, 0)) == 3, "the transaction times out")
        zombie.resume()
        # KIP-588: it was slow, and nobody took its place. Each client has its own name for that.
        with pytest.raises(ClientError):  # noqa: PT012 - each client notices at another step
            producer.send(topic, b"too late")
            producer.flush()
            producer.commit()
        time.sleep(0.2)
        committed.assign([(topic, 0)])
        assert values(read(committed, 1)) == ["behind it"]
