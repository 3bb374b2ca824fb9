"""Consumer groups through real clients: members come and go, nothing is lost and nothing doubled.

Each test runs with every client, on Ottla and on Apache Kafka.
"""

from collections import Counter
from collections.abc import Callable

from tests.clients.driver import Consumer, Driver, TopicPartition
from tests.clients.reading import eventually

Unique = Callable[[str], str]
PARTITIONS = 3


class Member:
    """A consumer that commits what it has seen after every poll, as a careful application does."""

    def __init__(self, consumer: Consumer, topic: str, seen: Counter[str]) -> None:
        self.consumer = consumer
        self._seen = seen
        consumer.subscribe(topic)

    def step(self) -> None:
        """Poll once, and commit."""
        positions: dict[TopicPartition, int] = {}
        for record in self.consumer.poll(0.1):
            self._seen[(record.value or b"").decode()] += 1
            positions[record.topic, record.partition] = record.offset + 1
        if positions:
            self.consumer.commit(positions)


def test_a_rebalance_loses_and_doubles_nothing(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    group_id = unique("group")
    seen: Counter[str] = Counter()
    sent = 0
    with driver.producer(bootstrap) as producer, driver.consumer(bootstrap, group_id=group_id) as a:

        def send(count: int) -> None:
            nonlocal sent
            for number in range(sent, sent + count):
                producer.send(topic, str(number).encode(), partition=number % PARTITIONS)
            producer.flush()
            sent += count

        first = Member(a, topic, seen)
        send(60)
        eventually(lambda: bool(first.step() or len(seen) == sent), "the first member reads all")
        with driver.consumer(bootstrap, group_id=group_id) as b:
            second = Member(b, topic, seen)

            def both_have_some() -> bool:
                first.step()
                second.step()
                return bool(a.assignment() and b.assignment())

            eventually(
                lambda: both_have_some() and not a.assignment() & b.assignment(),
                "the members share the partitions, and both have heard of it",
            )
            assert len(a.assignment() | b.assignment()) == PARTITIONS
            send(60)
            eventually(lambda: both_have_some() and len(seen) == sent, "the members read all")
        # The second one has left: the first takes its partitions over where it stopped.
        send(60)
        eventually(lambda: bool(first.step() or len(seen) == sent), "the first one takes over")
        assert len(a.assignment()) == PARTITIONS
        first.step()
    assert seen == Counter(str(number) for number in range(sent))
    with driver.consumer(bootstrap, group_id=group_id) as later:
        committed = [later.committed((topic, partition)) for partition in range(PARTITIONS)]
    assert committed == [sent // PARTITIONS] * PARTITIONS


def test_a_group_goes_on_where_it_has_committed(
    driver: Driver, bootstrap: str, topic: str, unique: Unique
) -> None:
    group_id = unique("group")
    with driver.producer(bootstrap) as producer:
        for number in range(30):
            producer.send(topic, str(number).encode())
        producer.flush()
    for committed in (10, 25):
        with driver.consumer(bootstrap, group_id=group_id) as consumer:
            consumer.subscribe(topic)
            offsets: list[int] = []

            def enough(
                consumer: Consumer = consumer,
                offsets: list[int] = offsets,
                committed: int = committed,
            ) -> bool:
                offsets += [record.offset for record in consumer.poll(0.1)]
                return len(offsets) >= 30 - (0 if committed == 10 else 10)

            eventually(enough, "the group reads to the end")
            assert offsets[0] == (0 if committed == 10 else 10)
            consumer.commit({(topic, 0): committed})
    with driver.consumer(bootstrap, group_id=group_id) as consumer:
        assert consumer.committed((topic, 0)) == 25
        assert consumer.committed((topic, 1)) is None
