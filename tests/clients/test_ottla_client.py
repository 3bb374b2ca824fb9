"""P3 and P4 through Ottla's own client: transactions as blocks, on Ottla and on Apache Kafka."""

import os
import signal
import time
from collections.abc import Callable

import pytest

import ottla
from ottla.client.admin import Admin, TopicSpec
from ottla.client.types import Partition
from tests.clients.confluent import ConfluentDriver
from tests.clients.reading import read_topic, values

Unique = Callable[[str], str]
READER = ConfluentDriver()


class ApplicationFailed(Exception):  # noqa: N818 - says what happened
    """What an application raises inside a transaction."""


@pytest.fixture
def topic(bootstrap: str, unique: Unique) -> str:
    name = unique("topic")
    Admin(bootstrap).create_topics([TopicSpec(name, 3)])
    return name


def consume(consumer: ottla.Consumer, count: int) -> list[str]:
    """The values of the next `count` messages."""
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages after 30 s"
        for _, messages in consumer.consume(count - len(found), 0.2):
            found += [(message.value() or b"").decode() for message in messages]
    return found


def test_a_block_commits_and_an_exception_aborts(
    bootstrap: str, topic: str, unique: Unique
) -> None:
    with ottla.Producer(bootstrap, transactional_id=unique("id")) as producer:
        with producer.transaction() as transaction:
            transaction.send(topic, None, "one", partition=0)
            transaction.send(topic, None, "two", partition=1)
        with pytest.raises(ApplicationFailed), producer.transaction() as transaction:  # noqa: PT012
            transaction.send(topic, None, "half of it", partition=0)
            raise ApplicationFailed
        with producer.transaction() as transaction:
            transaction.send(topic, None, "three", partition=0)
    assert values(read_topic(READER, bootstrap, topic, 3)) == ["one", "three", "two"]


def test_a_successor_fences(bootstrap: str, topic: str, unique: Unique) -> None:
    transactional_id = unique("id")
    with ottla.Producer(bootstrap, transactional_id=transactional_id) as zombie:
        zombie.begin()
        zombie.send(topic, None, "zombie", partition=0)
        with ottla.Producer(bootstrap, transactional_id=transactional_id) as successor:
            with pytest.raises(ottla.ProducerFenced):
                zombie.commit()
            with pytest.raises(ottla.Fatal):
                zombie.send(topic, None, "again", partition=0)
            with successor.transaction() as transaction:
                transaction.send(topic, None, "successor", partition=0)
    assert values(read_topic(READER, bootstrap, topic, 1)) == ["successor"]


def test_an_aborted_block_gives_its_input_back(bootstrap: str, topic: str, unique: Unique) -> None:
    group_id, source, output = unique("group"), Partition(topic, 0), unique("output")
    Admin(bootstrap).create_topics([TopicSpec(output)])
    with ottla.Producer(bootstrap) as plain:
        for number in range(10):
            plain.send(topic, None, str(number), partition=0)
        plain.flush()
    with (
        ottla.Producer(bootstrap, transactional_id=unique("id")) as producer,
        ottla.Consumer(bootstrap, group_id) as consumer,
    ):
        consumer.subscribe([topic])
        with producer.transaction(consumer) as transaction:
            for value in consume(consumer, 4):
                transaction.send(output, None, f"{value} done")
        with pytest.raises(ApplicationFailed), producer.transaction(consumer) as transaction:  # noqa: PT012
            for value in consume(consumer, 6):
                transaction.send(output, None, f"{value} undone")
            raise ApplicationFailed
        assert consumer.committed([source])[source].offset == 4
        with producer.transaction(consumer) as transaction:
            again = consume(consumer, 6)
            for value in again:
                transaction.send(output, None, f"{value} done")
        assert again == [str(number) for number in range(4, 10)]
        assert consumer.committed([source])[source].offset == 10
    records = read_topic(READER, bootstrap, output, 10, partitions=1)
    assert values(records) == [f"{number} done" for number in range(10)]


def test_a_commit_without_an_answer_is_unknown_until_it_is_repeated(unique: Unique) -> None:
    """The broker is stopped in the middle of it, and goes on afterwards."""
    topic = unique("topic")
    with (
        ottla.Broker(auto_create_topics=True) as broker,
        ottla.Producer(
            broker.bootstrap_servers, transactional_id=unique("id"), timeout_ms=2_000
        ) as producer,
    ):
        producer.begin()
        producer.send(topic, None, "once", partition=0)
        producer.flush()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ottla.OutcomeUnknown):
                producer.commit()
            with pytest.raises(ottla.Fatal):
                producer.abort()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        producer.commit()
        with producer.transaction() as transaction:
            transaction.send(topic, None, "and on", partition=0)
        found = read_topic(READER, broker.bootstrap_servers, topic, 2, partitions=1)
    assert values(found) == ["once", "and on"]
