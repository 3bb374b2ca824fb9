"""What Apache Kafka's own integration tests ask of transactions, asked anew, of Ottla and of Kafka.

The cases are those of Kafka's TransactionsTest, TransactionsWithMaxInFlightOneTest and
AdminFenceProducersTest. Where Kafka's tests kill brokers of a cluster of three, a broker of one is
paused (SIGSTOP) and goes on: its clients see time-outs, and late requests after that. Those of
fencing are in test_transactions_fencing.py.

`client` is confluent-kafka (transaction version 1) and Java's (version 2, KIP-890); where the
version changes nothing, confluent-kafka alone.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from ottla.client.admin import Admin, TopicSpec
from tests.clients import remote
from tests.clients.confluent import ConfluentProducer
from tests.clients.driver import ClientError, Producer, Record
from tests.clients.reading import eventually, read, values
from tests.differential.scene import FENCED, PARTITIONS, Scene

Unique = Callable[[str], str]

IMPATIENT_S = 0.4


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The broker does not move: connections stay, and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while not all(_has_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()):
            time.sleep(0.001)  # a thread on another core goes on for a moment
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _has_stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return True  # it has ended


# -- what is seen ------------------------------------------------------------------------------


def test_basic_transactions(confluent: Scene) -> None:
    first, second = confluent.topics
    with confluent.producer() as producer:
        producer.init_transactions()
        producer.begin()
        producer.send(second, b"2", partition=2)
        producer.send(first, b"4", partition=1)
        producer.flush()
        producer.abort()
        producer.begin()
        producer.send(first, b"1", partition=1)
        producer.send(second, b"3", partition=2)
        producer.commit()
    assert sorted(values(confluent.everything(2))) == ["1", "3"]
    assert sorted(values(confluent.everything(4, committed_only=False))) == ["1", "2", "3", "4"]


def test_a_committed_reader_does_not_see_undecided_data(confluent: Scene, unique: Unique) -> None:
    first, second = confluent.topics
    visible_ms = int(time.time() * 1000)
    written_ms = visible_ms + 1
    with confluent.producer() as undecided, confluent.producer(unique("other")) as decided:
        for producer in (undecided, decided):
            producer.init_transactions()
            producer.begin()
        for topic in confluent.topics:
            decided.send(topic, b"1", timestamp_ms=visible_ms)
        decided.flush()
        for topic in confluent.topics:
            undecided.send(topic, b"undecided", timestamp_ms=written_ms)
            undecided.send(topic, b"undecided", timestamp_ms=written_ms)
        undecided.flush()
        for topic in confluent.topics:
            decided.send(topic, b"2", timestamp_ms=written_ms)
        decided.commit()
        for topic in (first, second):
            assert len(confluent.everything(4, committed_only=False, topics=[topic])) == 4
            _assert_stable_to(confluent, topic, written_ms, committed_only=False, offset=1)
            assert values(confluent.everything(1, topics=[topic])) == ["1"]
            _assert_stable_to(confluent, topic, written_ms, committed_only=True, offset=None)
        undecided.abort()


def _assert_stable_to(
    scene: Scene, topic: str, timestamp_ms: int, *, committed_only: bool, offset: int | None
) -> None:
    """What is not decided can be found neither by time nor at the end."""
    where = (topic, 0)
    with scene.client.consumer(scene.bootstrap, committed_only=committed_only) as consumer:
        consumer.assign([where])
        assert consumer.offset_for_time(where, timestamp_ms) == offset
        if committed_only:
            assert consumer.end_offset(where) == 1


def test_a_fetch_that_waits_is_told_of_aborted_transactions(
    confluent: Scene, unique: Unique
) -> None:
    topic, _ = confluent.topics
    with confluent.producer() as first, confluent.producer(unique("other")) as second:
        for producer in (first, second):
            producer.init_transactions()
            producer.begin()
        second.send(topic, b"x1")
        second.flush()
        first.send(topic, b"y1")
        first.send(topic, b"y2")
        first.flush()
        second.send(topic, b"x2")
        second.flush()
        first.abort()
        second.commit()
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": confluent.bootstrap,
            "group.id": "no-group",
            "isolation.level": "read_committed",
            "fetch.min.bytes": 100_000,
            "fetch.wait.max.ms": 100,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    found: list[Any] = []
    deadline = time.monotonic() + 30
    while len(found) < 2 and time.monotonic() < deadline:
        found += consumer.consume(2, 0.5)
    consumer.close()
    assert [(one.value(), one.offset()) for one in found] == [(b"x1", 0), (b"x2", 3)]


def test_many_markers_of_one_transaction(confluent: Scene, unique: Unique) -> None:
    topics = (unique("large"), unique("larger"))
    admin = Admin(confluent.bootstrap)
    admin.create_topics([TopicSpec(name, 10) for name in topics])
    with confluent.producer() as producer:
        producer.init_transactions()
        producer.begin()
        for number in range(10_000):
            producer.send(topics[number // 5_000], str(number).encode(), partition=number % 10)
        producer.flush()
        producer.abort()
        producer.begin()
        for number in range(10_000, 11_000):
            producer.send(topics[0], str(number).encode(), partition=number % 10)
        producer.commit()
    for committed_only, count in ((True, 1_000), (False, 11_000)):
        with confluent.client.consumer(
            confluent.bootstrap, committed_only=committed_only
        ) as consumer:
            consumer.assign([(topic, number) for topic in topics for number in range(10)])
            found = sorted(map(int, values(read(consumer, count, quiet_s=0.2))))
        assert found == list(range(11_000 - count, 11_000))


def test_transactions_with_one_request_in_flight(bootstrap: str, confluent: Scene) -> None:
    first, second = confluent.topics
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": confluent.transactional_id,
            "max.in.flight.requests.per.connection": 1,
        }
    )
    producer.init_transactions(30)
    for is_committed in (False, True):
        producer.begin_transaction()
        for number in range(20):
            value = f"{is_committed} {number}"
            producer.produce((first, second)[number % 2], value, partition=number % PARTITIONS)
        producer.flush(30)
        if is_committed:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    found = values(confluent.everything(20))
    assert sorted(found) == sorted(f"True {number}" for number in range(20))


# -- offsets in transactions -------------------------------------------------------------------


def test_offsets_sent_with_the_groups_metadata(confluent: Scene, unique: Unique) -> None:
    source, target = confluent.topics
    count, group_id = 500, unique("group")
    with confluent.client.producer(confluent.bootstrap) as seed:
        for number in range(count):
            seed.send(source, str(number).encode(), partition=number % PARTITIONS)
        seed.flush()
    with (
        confluent.producer() as producer,
        confluent.client.consumer(confluent.bootstrap, group_id=group_id) as consumer,
    ):
        producer.init_transactions()
        consumer.subscribe(source)
        left: dict[tuple[str, int], list[Record]] = {}
        for record in read(consumer, count, quiet_s=0):
            left.setdefault((record.topic, record.partition), []).append(record)
        is_committed = False
        while left:
            is_committed = not is_committed
            producer.begin()
            where, records = next(iter(left.items()))
            taken = records[:50]
            for record in taken:
                producer.send(target, record.value, partition=record.partition)
            producer.send_offsets({where: taken[-1].offset + 1}, consumer.group())
            if not is_committed:
                producer.abort()
                continue
            producer.commit()
            del records[:50]
            if not records:
                del left[where]
    found = confluent.everything(count, topics=[target])
    assert sorted(int(value) for value in values(found)) == list(range(count))


def test_offsets_keep_their_metadata(confluent: Scene, unique: Unique) -> None:
    topic, _ = confluent.topics
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": confluent.bootstrap, "group.id": unique("group")}
    )
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": confluent.bootstrap,
            "transactional.id": confluent.transactional_id,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    where = confluent_kafka.TopicPartition(topic, 0, 110, "some metadata", 15)
    producer.send_offsets_to_transaction([where], consumer.consumer_group_metadata(), 30)
    producer.commit_transaction(30)

    def is_committed() -> bool:
        (found,) = consumer.committed([confluent_kafka.TopicPartition(topic, 0)], 30)
        return (found.offset, found.metadata, found.leader_epoch) == (110, "some metadata", 15)

    eventually(is_committed, "the offset with its metadata")
    consumer.close()


# -- time-outs ---------------------------------------------------------------------------------


def _initialised(bootstrap: str, transactional_id: str, topic: str) -> confluent_kafka.Producer:
    producer = _impatient(bootstrap, transactional_id)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"foo", partition=0)
    producer.flush(30)
    return producer


def _impatient(bootstrap: str, transactional_id: str, **config: Any) -> confluent_kafka.Producer:
    settings = {
        "bootstrap.servers": bootstrap,
        "transactional.id": transactional_id,
        "socket.timeout.ms": 1_000,  # sending offsets waits so long, whatever its caller asks for
        "log_level": 0,
    }
    return confluent_kafka.Producer(settings | config)


@pytest.mark.parametrize("call", ["init", "send offsets", "commit", "abort"])
def test_a_call_that_times_out_can_be_made_again(
    confluent: Scene, broker_pid: int, unique: Unique, call: str
) -> None:
    """InitTransactionsTimeout, SendOffsetsToTransaction-, Commit- and AbortTransactionTimeout."""
    topic, _ = confluent.topics
    bootstrap, transactional_id = confluent.bootstrap, confluent.transactional_id
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": unique("group")}
    )
    if call == "init":
        producer = _impatient(bootstrap, transactional_id)
        producer.list_topics(topic, 30)
    else:
        producer = _initialised(bootstrap, transactional_id, topic)
    where = confluent_kafka.TopicPartition(topic, 0, 1)
    run = {
        "init": producer.init_transactions,
        "send offsets": partial(
            producer.send_offsets_to_transaction, [where], consumer.consumer_group_metadata()
        ),
        "commit": producer.commit_transaction,
        "abort": producer.abort_transaction,
    }[call]
    with paused(broker_pid):
        with pytest.raises(confluent_kafka.KafkaException) as refused:
            run(IMPATIENT_S)
        assert refused.value.args[0].code() == confluent_kafka.KafkaError._TIMED_OUT
        assert refused.value.args[0].retriable()
    run(30)
    if call == "send offsets":
        producer.commit_transaction(30)
    consumer.close()
    expected = ["foo"] if call in ("send offsets", "commit") else []
    assert values(confluent.everything(len(expected), topics=[topic])) == expected


def test_the_epoch_is_raised_after_a_record_that_timed_out(
    scene: Scene, java: remote.RemoteDriver, broker_pid: int
) -> None:
    """BumpTransactionalEpochWithTV2Disabled and -Enabled: what was given up cannot come back."""
    first, second = scene.topics
    producer: Any = _with_little_patience(scene)
    with java.admin(scene.bootstrap) as admin:
        producer.init_transactions()
        producer.begin()
        producer.send(first, b"1")
        producer.flush()
        ((producer_id, epoch, _),) = admin.producer_states((first, 0))
        producer.commit()
        producer.begin()
        producer.send(second, b"aborted")
        producer.flush()
        with paused(broker_pid):
            producer.send(first, b"given up")
            with pytest.raises(ClientError):
                producer.flush()
        producer.abort()
        producer.begin()
        for topic in scene.topics:
            producer.send(topic, b"2")
        producer.commit()
        producer.close()
        (found,) = [one for one in admin.producer_states((first, 0)) if one[0] == producer_id]
        assert found[1] > epoch
    assert sorted(values(scene.everything(3))) == ["1", "2", "2"]


def _with_little_patience(scene: Scene) -> Producer:
    """A producer that gives a record up soon."""
    if isinstance(scene.client, remote.RemoteDriver):
        return scene.client.producer(
            scene.bootstrap,
            transactional_id=scene.transactional_id,
            delivery_timeout_ms=1_500,
            request_timeout_ms=1_400,
            linger_ms=0,
        )
    return ConfluentProducer(
        {
            "bootstrap.servers": scene.bootstrap,
            "transactional.id": scene.transactional_id,
            "message.timeout.ms": 1_500,
            "log_level": 0,
        }
    )


def test_a_fence_that_nobody_knows_the_outcome_of(confluent: Scene, broker_pid: int) -> None:
    """FailureToFenceEpoch: whatever became of it, the next producer fences all before it."""
    topic, _ = confluent.topics
    bootstrap, transactional_id = confluent.bootstrap, confluent.transactional_id
    first = _initialised(bootstrap, transactional_id, topic)
    first.commit_transaction(30)
    second = _impatient(bootstrap, transactional_id)
    second.list_topics(topic, 30)
    with paused(broker_pid), pytest.raises(confluent_kafka.KafkaException):
        second.init_transactions(IMPATIENT_S)
    third = _initialised(bootstrap, transactional_id, topic)
    with pytest.raises(confluent_kafka.KafkaException) as refused:  # noqa: PT012
        first.begin_transaction()
        first.produce(topic, b"zombie", partition=0)
        first.commit_transaction(30)
    assert refused.value.args[0].name() in FENCED
    with suppress(confluent_kafka.KafkaException):
        first.flush(1)
    third.commit_transaction(30)
    assert values(confluent.everything(2, topics=[topic])) == ["foo", "foo"]


# -- the client's own rules --------------------------------------------------------------------


def test_transactions_are_initialised_once(scene: Scene) -> None:
    with scene.producer() as producer:
        producer.init_transactions()
        with pytest.raises(ClientError) as refused:
            producer.init_transactions()
        assert refused.value.native in {"_STATE", "IllegalStateException"}


def test_an_empty_abort_after_a_commit(scene: Scene) -> None:
    topic, _ = scene.topics
    with scene.producer() as producer:
        producer.init_transactions()
        for number in range(3):
            producer.begin()
            producer.send(topic, str(number).encode())
            producer.commit()
            producer.begin()
            producer.abort()
    assert values(scene.everything(3, topics=[topic])) == ["0", "1", "2"]
