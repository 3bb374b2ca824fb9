"""The cases of fencing of Kafka's own tests, asked anew, of Ottla and of Kafka.

They are those of TransactionsTest and AdminFenceProducersTest, see test_transactions_cases.py.
"""

from collections.abc import Callable

import pytest

from ottla.ports.errors import ErrorCode
from tests.clients import remote
from tests.clients.driver import ClientError, Producer
from tests.clients.reading import eventually, values
from tests.differential.raw import Raw, RawProducer
from tests.differential.scene import FENCED, Scene, assert_fenced

Unique = Callable[[str], str]


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
