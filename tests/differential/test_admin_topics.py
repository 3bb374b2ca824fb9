"""Making, enlarging, describing and deleting topics: Ottla and Apache Kafka answer alike."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from ottla.wire.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.wire.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
)
from ottla.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.differential.both import (
    LIMIT_MS,
    NO_ID,
    Both,
)

pytestmark = pytest.mark.kafka

Unique = Callable[[str], str]


def test_how_many_partitions_and_replicas_a_topic_may_have(both: Both) -> None:
    for count in (3, -1, 0, -2, 10_001):
        both.create("new", count=count)
    for factor in (-1, 0, -2, 2, 3):
        both.create("new", factor=factor)
    for version in (2, 4, 5, 6):
        both.create("new", version)


@pytest.mark.parametrize(
    ("replicas", "refused"),
    [
        ([(0, [1]), (1, [1])], 0),
        ([(1, [1]), (0, [1])], 0),
        ([(1, [1])], 39),
        ([(0, [1]), (0, [1])], 39),
        ([(0, [])], 39),
        ([(0, [7])], 39),
        ([(0, [1, 1])], 39),
        ([(0, [1]), (1, [1, 2])], 39),
    ],
)
def test_replicas_assigned_by_hand(both: Both, replicas: Any, refused: int) -> None:
    assert both.create("new", count=-1, factor=-1, replicas=replicas)["error_code"] == refused
    assert both.create("new", count=2, factor=-1, replicas=replicas)["error_code"] == 42
    assert both.create("new", count=-1, factor=1, replicas=replicas)["error_code"] == 42


def test_names_that_topics_may_not_have(both: Both, topic: str, unique: Unique) -> None:
    for name in ("", ".", "..", "a b", "x" * 250, "ä", "__cluster_metadata", topic):
        assert both.create(name)["error_code"] != 0
    with_dot = unique("a.b")
    both.create(with_dot, make=True)
    assert both.create(with_dot.replace(".", "_"))["error_code"] == 17
    new = CreatableTopic("new", 1, 1, [], [])
    both.say(7, CreateTopicsRequest([new, CreatableTopic("x", 1, 1, [], []), new], 9_000, True))


def test_more_partitions(both: Both, topic: str) -> None:
    def ask(*wanted: tuple[str, int, list[list[int]] | None], make: bool = False) -> Any:
        topics = [
            CreatePartitionsTopic(
                name,
                count,
                None
                if assignments is None
                else [CreatePartitionsAssignment(ids) for ids in assignments],
            )
            for name, count, assignments in wanted
        ]
        return both.say(3, CreatePartitionsRequest(topics, LIMIT_MS, not make))

    for count in (3, 1, 0, -1):
        ask((topic, count, None))
    by_hand: list[tuple[int, list[list[int]]]] = [
        (2, [[1]]),
        (3, [[1]]),
        (2, [[1], [1]]),
        (2, []),
        (2, [[4]]),
        (2, [[]]),
        (2, [[1, 1]]),
    ]
    for count, assignments in by_hand:
        ask((topic, count, assignments))
    ask(("no-such-topic", 3, None))
    ask((topic, 2, None), (topic, 3, None))
    assert ask((topic, 3, [[1], [1]]), make=True)["results"][0]["error_code"] == 0
    described = both.see(12, MetadataRequest([MetadataRequestTopic(name=topic)], False))
    assert len(described["topics"][0]["partitions"]) == 3


def test_topics_that_are_deleted(both: Both, topic: str) -> None:
    unknown = UUID(int=77)
    for version in (1, 4, 5):
        both.say(version, DeleteTopicsRequest([], ["no-such-topic"], LIMIT_MS))
        both.say(version, DeleteTopicsRequest([], [topic, topic], LIMIT_MS))
    for wanted in (
        [("no-such-topic", NO_ID)],
        [("a b", NO_ID)],
        [(None, unknown)],
        [(None, NO_ID)],
        [(topic, unknown)],
        [(topic, NO_ID), (topic, NO_ID)],
        [(None, unknown), (None, unknown)],
    ):
        topics = [DeleteTopicState(*one) for one in wanted]
        answer = both.say(6, DeleteTopicsRequest(topics, [], LIMIT_MS))
        assert answer["responses"][0]["error_code"] != 0
    gone = both.say(6, DeleteTopicsRequest([DeleteTopicState(topic, NO_ID)], [], LIMIT_MS))
    assert gone["responses"][0]["error_code"] == 0


def test_topics_are_described_page_by_page(both: Both, unique: Unique) -> None:
    first, second = unique("a"), unique("b")
    both.create(first, count=3, make=True)
    both.create(second, count=2, make=True)

    def page(*names: str, limit: int = 2_000, cursor: tuple[str, int] | None = None) -> Any:
        topics = [TopicRequest(name) for name in names]
        after = None if cursor is None else Cursor(*cursor)
        return both.see(0, DescribeTopicPartitionsRequest(topics, limit, after))

    for limit in (1, 2, 3, 4, 5, 6, 0, -5):
        page(second, first, limit=limit)
    for cursor in ((first, 2), (first, 3), (second, 0), (second, 9), (first, -1), ("other", 0)):
        page(first, second, limit=2, cursor=cursor)
    page("no-such-topic", first)
    page("a b", first, first)
    seen: list[tuple[str, int]] = []
    at: tuple[str, int] | None = (first, 0)
    while at is not None:
        answer = page(first, second, limit=2, cursor=at)
        for topic in answer["topics"]:
            seen += [(topic["name"], one["partition_index"]) for one in topic["partitions"]]
        following = answer["next_cursor"]
        at = following and (following["topic_name"], following["partition_index"])
    assert seen == [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]


def test_metadata_of_topics_there_or_not(both: Both, topic: str) -> None:
    wanted = [MetadataRequestTopic(name=name) for name in (topic, "no-such-topic", topic)]
    for version in (4, 7, 8, 10, 11, 13):
        both.see(version, MetadataRequest(wanted, False, version < 11, version >= 8))
    both.see(12, MetadataRequest([MetadataRequestTopic(UUID(int=77), None)], False))
    both.see(12, MetadataRequest([], False))
