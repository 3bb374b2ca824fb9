"""Where the cases of Kafka's own tests of transactions take place."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from ottla.client.admin import Admin, TopicSpec
from tests.clients.driver import ClientError, Driver, Fenced, Producer, Record
from tests.clients.reading import read

Unique = Callable[[str], str]

PARTITIONS = 4
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


def make_scene(client: Driver, bootstrap: str, unique: Unique) -> Scene:
    first, second = unique("first"), unique("second")
    Admin(bootstrap).create_topics([TopicSpec(first, PARTITIONS), TopicSpec(second, PARTITIONS)])
    return Scene(client, bootstrap, (first, second), unique("id"))


def assert_fenced(refused: pytest.ExceptionInfo[ClientError]) -> None:
    assert isinstance(refused.value, Fenced), refused.value
    assert refused.value.native in FENCED
