"""Two-phase commit with a database (KIP-939), and the kill -9 of everything in between.

Method: a broker in a process of its own, SQLite as the system that decides. The producer is lost at
each point of the protocol (its object is dropped: whatever it knew is gone), the broker is killed,
and the next instance asks the database. Kafka and the database must say the same afterwards.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import ottla
from ottla import PreparedTransaction, TwoPhaseProducer
from ottla.client.admin import Admin, TopicSpec
from tests.clients import drivers
from tests.clients.reading import read, values

TOPIC, NAME = "orders", "orders-writer"


class Database:
    """Orders, and the note of the Kafka transaction that the last of them belong to."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        self._connection.executescript(
            "create table orders (name text); create table note (name text)"
        )

    def commit(self, order: str, prepared: PreparedTransaction) -> None:
        with self._connection:
            self._connection.execute("insert into orders values (?)", (order,))
            self._connection.execute("delete from note")
            self._connection.execute("insert into note values (?)", (str(prepared),))

    def note(self) -> str | None:
        row = self._connection.execute("select name from note").fetchone()
        return None if row is None else str(row[0])

    def orders(self) -> list[str]:
        return [str(row[0]) for row in self._connection.execute("select name from orders")]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "orders.db")
    yield found
    found.close()


@pytest.fixture
def broker() -> Iterator[ottla.Broker]:
    with ottla.Broker(two_phase_commit=True) as started:
        Admin(started.bootstrap_servers).create_topics([TopicSpec(TOPIC, 2)])
        yield started


def committed(broker: ottla.Broker, count: int) -> list[str]:
    """What a read_committed consumer sees, and nothing is left open behind it."""
    with drivers.make("confluent").consumer(broker.bootstrap_servers) as consumer:
        consumer.assign([(TOPIC, 0), (TOPIC, 1)])
        return sorted(values(read(consumer, count)))


def send(producer: TwoPhaseProducer, order: str) -> None:
    producer.begin()
    for partition in (0, 1):
        producer.send(TOPIC, order.encode(), partition=partition)


@pytest.mark.parametrize("lost", ["in the middle", "once prepared", "once decided", "never"])
def test_kafka_and_the_database_agree_after_every_crash(
    broker: ottla.Broker, database: Database, lost: str
) -> None:
    bootstrap = broker.bootstrap_servers
    producer = TwoPhaseProducer(bootstrap, NAME)
    assert producer.prepared is None
    send(producer, "first")
    database.commit("first", producer.prepare())
    producer.commit()

    send(producer, "second")
    if lost != "in the middle":
        prepared = producer.prepare()
        if lost != "once prepared":
            database.commit("second", prepared)
        if lost == "never":
            producer.commit()
    producer.close()
    broker.kill()
    broker.restart()

    with TwoPhaseProducer(bootstrap, NAME) as successor:
        is_committed = successor.complete(database.note())
        assert is_committed == (lost == "once decided")
        assert committed(broker, 2 * len(database.orders())) == sorted(2 * database.orders())
        send(successor, "third")
        database.commit("third", successor.prepare())
        successor.commit()
    assert committed(broker, 2 * len(database.orders())) == sorted(2 * database.orders())


def test_the_outcome_of_a_commit_may_be_asked_for_again(
    broker: ottla.Broker, database: Database
) -> None:
    """The crash hits the recovery, too: several instances, the last of them ends it."""
    bootstrap = broker.bootstrap_servers
    with TwoPhaseProducer(bootstrap, NAME) as first:
        send(first, "order")
        database.commit("order", first.prepare())
    for _ in range(3):
        with TwoPhaseProducer(bootstrap, NAME) as instance:
            assert str(instance.prepared) == database.note()
        broker.kill()
        broker.restart()
    with TwoPhaseProducer(bootstrap, NAME) as last:
        assert last.complete(PreparedTransaction.parse(database.note() or ""))
        assert not last.complete(database.note())
    assert committed(broker, 2) == ["order", "order"]


def test_an_instance_that_was_replaced_ends_nothing(broker: ottla.Broker) -> None:
    bootstrap = broker.bootstrap_servers
    with TwoPhaseProducer(bootstrap, NAME) as zombie:
        send(zombie, "zombie's")
        zombie.prepare()
        with TwoPhaseProducer(bootstrap, NAME) as successor:
            with pytest.raises(ottla.ProducerFenced):
                zombie.commit()
            with pytest.raises(ottla.Fatal, match="prepared"):
                successor.begin()
            assert not successor.complete(None)
            send(successor, "successor's")
            successor.prepare()
            successor.commit()
    assert committed(broker, 2) == ["successor's"] * 2


def test_a_broker_that_restarts_is_asked_again(broker: ottla.Broker) -> None:
    with TwoPhaseProducer(broker.bootstrap_servers, NAME) as producer:
        producer.begin()
        for number in range(3):
            for _ in range(8):
                producer.send(TOPIC, bytes([65 + number]) * 100_000)
            broker.kill()
            broker.restart()
        producer.prepare()
        broker.kill()
        broker.restart()
        producer.commit()
        producer.begin()
        producer.prepare()
        producer.commit()  # of nothing
        producer.begin()
        producer.send(TOPIC, b"aborted")
        producer.abort()
    found = committed(broker, 24)
    assert [value[0] for value in found] == sorted("ABC" * 8)


def test_it_has_to_be_allowed() -> None:
    with ottla.Broker() as broker, pytest.raises(ottla.Fatal, match="--two-phase-commit"):
        TwoPhaseProducer(broker.bootstrap_servers, NAME)


@pytest.mark.parametrize("note", ["", "4711", "4711:", ":3", "4711:-3", "a:b"])
def test_a_note_that_is_none_is_refused(note: str) -> None:
    with pytest.raises(ottla.Fatal, match="no note"):
        PreparedTransaction.parse(note)
    assert PreparedTransaction.parse(str(PreparedTransaction(4711, 3))) == (4711, 3)
