"""Groups of the new protocol (KIP-848) through real clients: Java's and librdkafka's.

What the two can do on Apache Kafka they can do on Ottla, and a kill of Ottla in the middle costs
neither a record nor a member its partitions.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from ottla import Broker
from ottla.client.admin import Admin, TopicSpec
from ottla.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from tests import kafka_runner
from tests.clients import drivers
from tests.clients.driver import Consumer, TopicPartition
from tests.clients.new_protocol import CLIENTS, Members
from tests.clients.reading import eventually
from tests.conftest import QUICK_GROUPS
from tests.differential.raw import Raw

Unique = Callable[[str], str]
PARTITIONS = 3


@pytest.fixture(params=CLIENTS)
def members(request: pytest.FixtureRequest) -> Members:
    return Members(request.param, lambda: request.getfixturevalue("java_driver"))


@pytest.fixture
def make_topic(unique: Unique) -> Callable[[str, str], str]:
    def make(bootstrap_servers: str, base: str) -> str:
        name = unique(base)
        Admin(bootstrap_servers).create_topics([TopicSpec(name, PARTITIONS)])
        return name

    return make


MakeTopic = Callable[[str, str], str]


class Reader:
    """A member that commits what it has seen after every poll."""

    def __init__(self, consumer: Consumer, seen: Counter[str]) -> None:
        self.consumer = consumer
        self._seen = seen

    def step(self) -> None:
        positions: dict[TopicPartition, int] = {}
        for record in self.consumer.poll(0.1):
            self._seen[(record.value or b"").decode()] += 1
            positions[record.topic, record.partition] = record.offset + 1
        if positions:
            self.consumer.commit(positions)


class Sender:
    """Sends numbers, round the partitions of a topic."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = drivers.make("confluent").producer(bootstrap_servers)
        self._topic = topic
        self.sent = 0

    def send(self, count: int) -> None:
        for number in range(self.sent, self.sent + count):
            value = str(number).encode()
            self._producer.send(self._topic, value, partition=number % PARTITIONS)
        self._producer.flush()
        self.sent += count


def share(*readers: Reader) -> None:
    """Wait until the readers have all partitions between them, and each of them some."""

    def shared() -> bool:
        for reader in readers:
            reader.step()
        parts = [reader.consumer.assignment() for reader in readers]
        together: set[TopicPartition] = set().union(*parts)
        return all(parts) and len(together) == sum(map(len, parts)) == PARTITIONS

    eventually(shared, "the members share the partitions")


def test_members_come_and_go(
    members: Members, quick_groups: str, make_topic: MakeTopic, unique: Unique
) -> None:
    """Nothing is lost and nothing doubled, and nobody stops while the others move."""
    topic, group_id, seen = make_topic(quick_groups, "topic"), unique("group"), Counter[str]()
    sender = Sender(quick_groups, topic)

    def all_read(*readers: Reader) -> bool:
        for reader in readers:
            reader.step()
        return len(seen) == sender.sent

    with members.join(quick_groups, group_id, topic) as a:
        first = Reader(a, seen)
        sender.send(30)
        eventually(lambda: all_read(first), "the first member reads all")
        with members.join(quick_groups, group_id, topic) as b:
            second = Reader(b, seen)
            share(first, second)
            sender.send(30)
            eventually(lambda: all_read(first, second), "both read")
        sender.send(30)
        eventually(lambda: all_read(first), "the first one takes over")
        assert len(a.assignment()) == PARTITIONS
    assert seen == Counter(str(number) for number in range(sender.sent))


def test_a_pattern_is_matched_by_the_broker(
    request: pytest.FixtureRequest,
    members: Members,
    quick_groups: str,
    make_topic: MakeTopic,
    unique: Unique,
) -> None:
    one, two = make_topic(quick_groups, "pattern-x"), make_topic(quick_groups, "pattern-y")
    make_topic(quick_groups, "other")
    test = one.rpartition("-0-")[2]
    pattern = f"pattern-[xyz]-[0-9]+-{test}"
    with members.join(quick_groups, unique("group"), pattern=pattern) as consumer:
        reader = Reader(consumer, Counter())

        def found() -> set[str]:
            reader.step()
            return {topic for topic, _ in consumer.assignment()}

        eventually(lambda: found() == {one, two}, "the topics are found")
        if request.node.callspec.params["quick_groups"] == "ottla":  # Kafka looks every ten seconds
            three = make_topic(quick_groups, "pattern-z")
            eventually(lambda: found() == {one, two, three}, "a new topic is found")


def test_a_static_member_comes_back_to_its_place(
    members: Members, quick_groups: str, make_topic: MakeTopic, unique: Unique
) -> None:
    topic, group_id = make_topic(quick_groups, "topic"), unique("group")
    seen = Counter[str]()
    with members.join(quick_groups, group_id, topic, instance_id="one") as a:
        b = members.join(quick_groups, group_id, topic, instance_id="two")
        first, second = Reader(a, seen), Reader(b, seen)
        share(first, second)
        before = a.assignment(), b.assignment()
        b.close()
        first.step()
        with members.join(quick_groups, group_id, topic, instance_id="two") as again:
            share(first, Reader(again, seen))
            assert (a.assignment(), again.assignment()) == before


def test_offsets_are_part_of_a_transaction(
    members: Members, quick_groups: str, make_topic: MakeTopic, unique: Unique, java_driver: object
) -> None:
    """KIP-447 with a member's epoch: committed with the transaction, dropped with its abort."""
    topic, group_id = make_topic(quick_groups, "topic"), unique("group")
    Sender(quick_groups, topic).send(30)
    driver = java_driver if members.client == "java" else drivers.make("confluent")
    with (
        members.join(quick_groups, group_id, topic) as consumer,
        driver.producer(quick_groups, transactional_id=unique("id")) as producer,  # type: ignore[attr-defined]
    ):
        reader = Reader(consumer, Counter())
        share(reader)
        producer.init_transactions()
        for commit, offset in ((True, 5), (False, 7)):
            producer.begin()
            producer.send(topic, b"out")
            producer.send_offsets({(topic, 0): offset}, consumer.group())
            producer.commit() if commit else producer.abort()
        assert consumer.committed((topic, 0)) == 5


@pytest.mark.kafka
def test_a_kill_of_the_broker_costs_nothing(
    java_driver: object, unique: Unique, make_topic: MakeTopic
) -> None:
    """One group of both clients: after kill -9 and a restart each has what it had, in its epoch."""
    seen = Counter[str]()
    with Broker(consumer_groups=QUICK_GROUPS) as broker:
        address = broker.bootstrap_servers
        topic, group_id = make_topic(address, "topic"), unique("group")
        sender = Sender(address, topic)
        java = Members("java", lambda: java_driver)  # type: ignore[arg-type, return-value]
        confluent = Members("confluent", java._java)
        with (
            java.join(address, group_id, topic) as a,
            confluent.join(address, group_id, topic) as b,
        ):
            readers = Reader(a, seen), Reader(b, seen)
            share(*readers)
            sender.send(30)
            before = a.assignment(), b.assignment()
            group = _described(address, group_id)
            broker.kill()
            broker.start()
            sender.send(30)

            def all_read() -> bool:
                for reader in readers:
                    reader.step()
                return len(seen) == sender.sent

            eventually(all_read, "the members read on")
            assert (a.assignment(), b.assignment()) == before
            assert _described(address, group_id) == group, "there was no rebalance"
            told = _told_by_kafkas_tool(address)
            assert len(told) == 2
            assert all(line.startswith(group_id) and topic in line for line in told)


def _described(address: str, group_id: str) -> tuple[str, int, int, dict[str, int]]:
    """The group's state and epochs, and its members' epochs."""
    raw = Raw(address)
    (group,) = raw.ask(1, ConsumerGroupDescribeRequest(group_ids=[group_id])).groups
    raw.close()
    epochs = {member.member_id: member.member_epoch for member in group.members}
    return group.group_state, group.group_epoch, group.assignment_epoch, epochs


def _told_by_kafkas_tool(address: str) -> list[str]:
    """A line for each member of each group, from kafka-consumer-groups.sh."""
    ran = kafka_runner.run_class(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        *("--bootstrap-server", address),
        *("--describe", "--all-groups", "--members", "--verbose"),
    )
    head, *lines = ran.stdout.strip().splitlines()
    assert head.split()[:2] == ["GROUP", "CONSUMER-ID"]
    return lines
