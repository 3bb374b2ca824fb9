"""P3, P4 and P6 as clients see them: all or nothing, fenced zombies, no aborted record.

Each test runs with every client, on Ottla and on Apache Kafka.
"""

from collections.abc import Callable
from functools import partial

import pytest

from tests.clients.driver import ClientError, Consumer, Driver, Fenced
from tests.clients.reading import eventually, read, read_topic, values
from tests.clients.remote import RemoteDriver

Unique = Callable[[str], str]

# How each client's own API says "fenced".
FENCED_NAMES = {
    "_FENCED",
    "PRODUCER_FENCED",
    "ProducerFenced",
    "ProducerFencedError",
    "ProducerFencedException",
    # The produce path answers INVALID_PRODUCER_EPOCH, also for what PRODUCER_FENCED means elsewhere
    # (KIP-588).
    "INVALID_PRODUCER_EPOCH",
    "InvalidProducerEpoch",
    "InvalidProducerEpochError",
    "InvalidProducerEpochException",
}


def test_committed_transactions_are_seen_and_aborted_ones_are_not(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    with driver.producer(bootstrap, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        for transaction in range(20):
            producer.begin()
            for number in range(6):
                producer.send(topic, f"{transaction}.{number}".encode(), partition=number % 3)
            producer.flush()
            if transaction % 3 == 1:
                producer.abort()
            else:
                producer.commit()

    def expected(partition: int, *, aborted: bool) -> list[str]:
        return [
            f"{transaction}.{number}"
            for transaction in range(20)
            for number in (partition, partition + 3)
            if aborted or transaction % 3 != 1
        ]

    committed = read_topic(driver, bootstrap, topic, 78)
    everything = read_topic(driver, bootstrap, topic, 120, committed_only=False)
    for partition in range(3):
        mine = [record for record in committed if record.partition == partition]
        assert values(mine) == expected(partition, aborted=False)
        mine = [record for record in everything if record.partition == partition]
        assert values(mine) == expected(partition, aborted=True)
        # Every transaction is followed by its marker, which takes an offset.
        assert [r.offset for r in mine] == [3 * t + n for t in range(20) for n in range(2)]


def test_an_open_transaction_holds_back_what_comes_after_it(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    with (
        driver.producer(bootstrap, transactional_id=unique("id")) as transactional,
        driver.producer(bootstrap) as plain,
        driver.consumer(bootstrap) as committed,
        driver.consumer(bootstrap, committed_only=False) as uncommitted,
    ):
        plain.send(topic, b"before")
        plain.flush()
        transactional.init_transactions()
        transactional.begin()
        transactional.send(topic, b"open")
        transactional.flush()
        plain.send(topic, b"after")
        plain.flush()
        committed.assign([(topic, 0)])
        uncommitted.assign([(topic, 0)])
        assert values(read(committed, 1)) == ["before"]
        assert values(read(uncommitted, 3)) == ["before", "open", "after"]
        assert committed.end_offset((topic, 0)) == 1
        assert uncommitted.end_offset((topic, 0)) == 3
        transactional.commit()
        assert values(read(committed, 2)) == ["open", "after"]
        assert committed.end_offset((topic, 0)) == 4


def test_an_empty_transaction_and_one_aborted_before_it_sent(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    with driver.producer(bootstrap, transactional_id=unique("id")) as producer:
        producer.init_transactions()
        producer.begin()
        producer.commit()
        producer.begin()
        producer.abort()
        producer.begin()
        producer.send(topic, b"at last")
        producer.commit()
    (record,) = read_topic(driver, bootstrap, topic, 1)
    assert (record.value, record.offset) == (b"at last", 0)


def test_a_successor_fences_at_the_commit(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    transactional_id = unique("id")
    with (
        driver.producer(bootstrap, transactional_id=transactional_id) as zombie,
        driver.producer(bootstrap, transactional_id=transactional_id) as successor,
    ):
        zombie.init_transactions()
        zombie.begin()
        zombie.send(topic, b"zombie")
        zombie.flush()
        successor.init_transactions()
        successor.begin()
        successor.send(topic, b"successor")
        with pytest.raises(Fenced) as fenced:
            zombie.commit()
        successor.commit()
    assert fenced.value.native in FENCED_NAMES
    assert values(read_topic(driver, bootstrap, topic, 1)) == ["successor"]


def test_a_successor_fences_at_the_send(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    transactional_id = unique("id")
    with (
        driver.producer(bootstrap, transactional_id=transactional_id) as zombie,
        driver.producer(bootstrap, transactional_id=transactional_id) as successor,
    ):
        zombie.init_transactions()
        zombie.begin()
        zombie.send(topic, b"before")
        zombie.flush()
        successor.init_transactions()
        with pytest.raises(Fenced) as fenced:  # noqa: PT012 - each client notices at another step
            zombie.send(topic, b"after")
            zombie.flush()
            zombie.commit()
        successor.begin()
        successor.send(topic, b"successor")
        successor.commit()
    assert fenced.value.native in FENCED_NAMES
    assert values(read_topic(driver, bootstrap, topic, 1)) == ["successor"]


def test_consume_transform_produce_moves_offsets_with_the_records(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    group_id, output = unique("group"), unique("output")
    with driver.admin(bootstrap) as admin:
        admin.create_topic(output, 3)
    with driver.producer(bootstrap) as producer:
        for number in range(30):
            producer.send(topic, str(number).encode())
        producer.flush()

    with (
        driver.producer(bootstrap, transactional_id=unique("id")) as producer,
        driver.consumer(bootstrap, group_id=group_id) as consumer,
    ):
        producer.init_transactions()
        consumer.subscribe(topic)
        inputs = read(consumer, 30, quiet_s=0)
        for start in range(0, 30, 5):
            for attempt in ("abort", "commit"):
                producer.begin()
                for record in inputs[start : start + 5]:
                    doubled = 2 * int(record.value or b"")
                    producer.send(output, f"{doubled} {attempt}".encode())
                producer.send_offsets({(topic, 0): start + 5}, consumer.group())
                producer.flush()
                assert consumer.committed((topic, 1)) is None
                if attempt == "abort":
                    producer.abort()
                    assert consumer.committed((topic, 0)) == (start or None)
                else:
                    producer.commit()
                    # Kafka writes the markers after it has answered; a client that does not ask
                    # for stable offsets sees the old one for a moment.
                    eventually(partial(_is_committed, consumer, topic, start + 5), "the commit")
    records = read_topic(driver, bootstrap, output, 30)
    assert values(records) == [f"{2 * number} commit" for number in range(30)]


def _is_committed(consumer: Consumer, topic: str, offset: int) -> bool:
    return consumer.committed((topic, 0)) == offset


def test_a_member_that_left_the_group_cannot_commit_its_offsets(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    """KIP-447: the offsets carry the member and the generation they were read in."""
    if "group-metadata" in driver.limits:
        pytest.skip(f"{driver.name} does not send the group's metadata")
    group_id = unique("group")
    with (
        driver.producer(bootstrap) as plain,
        driver.producer(bootstrap, transactional_id=unique("id")) as producer,
        driver.consumer(bootstrap, group_id=group_id) as first,
        driver.consumer(bootstrap, group_id=group_id) as second,
    ):
        for number in range(10):
            plain.send(topic, str(number).encode())
        plain.flush()
        producer.init_transactions()
        first.subscribe(topic)
        read(first, 10, quiet_s=0)
        group = first.group()
        producer.begin()
        producer.send(topic, b"from a generation that is over", partition=2)
        producer.flush()
        first.close()
        second.subscribe(topic)
        read(second, 10, quiet_s=0)
        with pytest.raises(ClientError) as refused:  # noqa: PT012 - some say so at the commit
            producer.send_offsets({(topic, 0): 10}, group)
            producer.commit()
        assert not isinstance(refused.value, Fenced)
        producer.abort()
        assert second.committed((topic, 0)) is None


def test_java_bumps_the_epoch_with_every_transaction(
    java_driver: RemoteDriver, bootstrap: str, unique: Unique
) -> None:
    """KIP-890, part 2: with transaction.version=2 each transaction has an epoch of its own."""
    topic, transactional_id = unique("topic"), unique("id")
    with (
        java_driver.admin(bootstrap) as admin,
        java_driver.producer(bootstrap, transactional_id=transactional_id) as producer,
    ):
        admin.create_topic(topic, 1)
        producer.init_transactions()
        epochs = []
        for transaction in range(6):
            producer.begin()
            producer.send(topic, str(transaction).encode())
            producer.flush()
            ((producer_id, epoch, open_since),) = admin.producer_states((topic, 0))
            assert open_since == 2 * transaction
            assert admin.transaction(transactional_id) == ("Ongoing", producer_id, epoch, 1)
            epochs.append(epoch)
            if transaction % 2:
                producer.abort()
            else:
                producer.commit()
    assert epochs == list(range(epochs[0], epochs[0] + 6))


def test_franz_go_transforms_in_a_session_of_its_own(
    go_driver: RemoteDriver, bootstrap: str, unique: Unique
) -> None:
    """Its GroupTransactSession adds partitions and offsets implicitly, as KIP-890 has it."""
    source, output, group_id = unique("input"), unique("output"), unique("group")
    with go_driver.admin(bootstrap) as admin, go_driver.producer(bootstrap) as producer:
        for topic in (source, output):
            admin.create_topic(topic, 1)
        for number in range(60):
            producer.send(source, str(number).encode())
        producer.flush()
    session = go_driver.call(0, "session", bootstrap, unique("id"), group_id, source, output)
    transactions = go_driver.call(session, "transform", 60, 10)
    assert transactions >= 12  # every other one was aborted, and went back to where it began
    go_driver.call(session, "close")
    records = read_topic(go_driver, bootstrap, output, 60, partitions=1)
    assert values(records) == [str(number) for number in range(60)]
    with go_driver.consumer(bootstrap, group_id=group_id) as consumer:
        eventually(partial(_is_committed, consumer, source, 60), "the commit")
