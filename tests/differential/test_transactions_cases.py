"""What Apache Kafka's own integration tests ask of transactions, asked anew, of Ottla and of Kafka.

The cases are those of Kafka's TransactionsTest, TransactionsWithMaxInFlightOneTest and
AdminFenceProducersTest. Where Kafka's tests kill brokers of a cluster of three, a broker of one is
paused (SIGSTOP) and goes on: its clients see time-outs, and late requests after that.

`client` is confluent-kafka (transaction version 1) and Java's (version 2, KIP-890); where the
version changes nothing, confluent-kafka alone.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import confluent_kafka
import pytest

from ottla.client.admin import Admin, TopicSpec
from ottla.ports.errors import ErrorCode
from tests.clients import drivers, remote
from tests.clients.driver import ClientError, Driver, Fenced, Producer, Record
from tests.clients.reading import eventually, read, values
from tests.differential.raw import Raw, RawProducer

Unique = Callable[[str], str]

PARTITIONS = 4
IMPATIENT_S = 0.4
FENCED = {
    *("_FENCED", "INVALID_PRODUCER_EPOCH"),
    *("ProducerFencedException", "InvalidProducerEpochException"),
}


class Scene(NamedTuple):
    """Two topics of four partitions, and a client."""

    client: Driver
    bootstrap: str
    topics: tuple[str, str]
    transactional_id: str

    def producer(self, transactional_id: str = "", **settings: Any) -> Producer:
        name = transactional_id or self.transactional_id
        return self.client.producer(self.bootstrap, transactional_id=name, **settings)

    def everything(
        self, count: int, *, committed_only: bool = True, topics: Iterable[str] = ()
    ) -> list[Record]:
        """All records of the topics: `count`, and not one more."""
        with self.client.consumer(self.bootstrap, committed_only=committed_only) as consumer:
            where = [(topic, n) for topic in topics or self.topics for n in range(PARTITIONS)]
            consumer.assign(where)
            return read(consumer, count, quiet_s=0.2)


@pytest.fixture(scope="module")
def java(java_worker: tuple[str, str]) -> Iterator[remote.RemoteDriver]:
    driver = remote.java_driver(*java_worker)
    yield driver
    driver.close()


@pytest.fixture(params=["confluent", "java"])
def client(request: pytest.FixtureRequest) -> Driver:
    """Both versions of transactions."""
    if request.param == "java":
        found: Driver = request.getfixturevalue("java")
        return found
    return drivers.make("confluent")


@pytest.fixture
def scene(client: Driver, bootstrap: str, unique: Unique) -> Scene:
    return _scene(client, bootstrap, unique)


@pytest.fixture
def confluent(bootstrap: str, unique: Unique) -> Scene:
    """A scene with confluent-kafka alone, where the version of transactions changes nothing."""
    return _scene(drivers.make("confluent"), bootstrap, unique)


def _scene(client: Driver, bootstrap: str, unique: Unique) -> Scene:
    first, second = unique("first"), unique("second")
    Admin(bootstrap).create_topics([TopicSpec(first, PARTITIONS), TopicSpec(second, PARTITIONS)])
    return Scene(client, bootstrap, (first, second), unique("id"))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The broker does not move: connections stay, and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def assert_fenced(refused: pytest.ExceptionInfo[ClientError]) -> None:
    assert isinstance(refused.value, Fenced), refused.value
    assert refused.value.native in FENCED


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


# -- fencing -----------------------------------------------------------------------------------


def _zombie_and_successor(scene: Scene) -> tuple[Producer, Producer]:
    """A producer with a transaction open, and one that has come after it, with one open too."""
    zombie, successor = scene.producer(), scene.producer()
    zombie.init_transactions()
    zombie.begin()
    for topic in scene.topics:
        zombie.send(topic, b"zombie")
    zombie.flush()
    successor.init_transactions()
    successor.begin()
    for topic in scene.topics:
        successor.send(topic, b"successor")
    return zombie, successor


def _end(scene: Scene, zombie: Producer, successor: Producer) -> None:
    successor.commit()
    zombie.close()
    successor.close()
    assert values(scene.everything(2)) == ["successor", "successor"]


def test_fencing_on_commit(scene: Scene) -> None:
    zombie, successor = _zombie_and_successor(scene)
    with pytest.raises(ClientError) as refused:
        zombie.commit()
    assert_fenced(refused)
    _end(scene, zombie, successor)


def test_fencing_on_send_offsets(scene: Scene, unique: Unique) -> None:
    zombie, successor = _zombie_and_successor(scene)
    group_id = unique("group")
    with scene.client.consumer(scene.bootstrap, group_id=group_id) as consumer:
        with pytest.raises(ClientError) as refused:
            zombie.send_offsets({(scene.topics[0], 0): 110}, consumer.group())
        assert consumer.committed((scene.topics[0], 0)) is None
    assert_fenced(refused)
    _end(scene, zombie, successor)


def test_fencing_on_send(scene: Scene) -> None:
    zombie, successor = _zombie_and_successor(scene)
    successor.flush()
    with pytest.raises(ClientError) as refused:  # noqa: PT012 - clients notice at other steps
        zombie.send(scene.topics[0], b"zombie")
        zombie.flush()
        zombie.commit()
    assert_fenced(refused)
    _end(scene, zombie, successor)


def test_fencing_on_add_partitions(scene: Scene) -> None:
    zombie, successor = scene.producer(), scene.producer()
    zombie.init_transactions()
    zombie.begin()
    for topic in scene.topics:
        zombie.send(topic, b"zombie")
    zombie.flush()
    zombie.abort()
    successor.init_transactions()
    successor.begin()
    for topic in scene.topics:
        successor.send(topic, b"successor")
    successor.flush()
    with pytest.raises(ClientError) as refused:  # noqa: PT012 - clients notice at other steps
        zombie.begin()
        zombie.send(scene.topics[0], b"zombie")
        zombie.flush()
        zombie.commit()
    assert_fenced(refused)
    _end(scene, zombie, successor)


def test_fencing_on_transaction_expiration(scene: Scene) -> None:
    topic, _ = scene.topics
    with (
        scene.producer(transaction_timeout_ms=1_500) as producer,
        scene.client.consumer(scene.bootstrap) as consumer,
    ):
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"1")
        assert producer.flush() == [0]
        consumer.assign([(topic, 0)])
        eventually(lambda: consumer.end_offset((topic, 0)) == 2, "the abort that is due")
        with pytest.raises(ClientError) as refused:  # noqa: PT012 - clients notice at other steps
            producer.send(topic, b"2")
            producer.flush()
            producer.commit()
        assert refused.value.native in FENCED
    assert values(scene.everything(1, committed_only=False, topics=[topic])) == ["1"]
    assert scene.everything(0, topics=[topic]) == []


@pytest.mark.parametrize("is_open", [True, False])
def test_an_administrator_fences_producers(
    scene: Scene, java: remote.RemoteDriver, is_open: bool
) -> None:
    topic, _ = scene.topics
    with scene.producer() as producer, java.admin(scene.bootstrap) as admin:
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"1")
        producer.flush()
        if not is_open:
            producer.commit()
        admin.fence(scene.transactional_id)
        with pytest.raises(ClientError) as refused:  # noqa: PT012 - clients notice at other steps
            if not is_open:
                producer.begin()
            producer.send(topic, b"2")
            producer.flush()
            producer.commit()
        assert_fenced(refused)
    expected = [] if is_open else ["1"]
    assert values(scene.everything(len(expected), topics=[topic])) == expected


def test_init_producer_id_fences_as_the_administrator_does(confluent: Scene) -> None:
    topic, _ = confluent.topics
    with confluent.producer() as producer:
        producer.init_transactions()
        producer.begin()
        producer.send(topic, b"1")
        producer.flush()
        raw = Raw(confluent.bootstrap)
        raw.find_coordinator(1, confluent.transactional_id)
        successor = RawProducer(raw, confluent.transactional_id, topic)
        assert successor.init(timeout_ms=1) is ErrorCode.NONE
        raw.close()
        with pytest.raises(ClientError) as refused:
            producer.commit()
        assert_fenced(refused)
    assert confluent.everything(0, topics=[topic]) == []


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
    from tests.clients.confluent import ConfluentProducer

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
