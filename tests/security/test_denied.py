"""Whoever has no right is told so, by every API, as Apache Kafka does: `questions` is the table.

Method: an administrator at 127.0.0.1 makes topics and ACLs; the same principal at 127.0.0.2, an
address that no ACL allows anything, asks. Every question is asked of Ottla and of Apache Kafka.
"""

import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ottla.broker import handlers
from ottla.broker.registry import REGISTRY
from ottla.broker.rules import RULES
from ottla.broker.rules.rule import anyone
from ottla.wire.message import Structure
from ottla.wire.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.wire.messages.describe_cluster import DescribeClusterRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.differential.raw import Raw
from tests.security.asking import CLOSED, DESCRIBED, GONE, OPEN, Ids
from tests.security.questions import QUESTIONS, Question

handlers.load()

TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID = 2, 3, 4, 5
LITERAL, PREFIXED = 3, 4
ALL, WRITE, DELETE, DESCRIBE = 2, 4, 6, 8
DENY, ALLOW = 2, 3
ME, SOMEBODY = "User:ANONYMOUS", "User:somebody"
HERE, THERE = "127.0.0.1", "127.0.0.2"
NOT_ASKED_FOR = -(1 << 31)
LIMIT_S = 20.0


class RawFrom(Raw):
    """A client at an address of its own."""

    def __init__(self, bootstrap_servers: str, source: str) -> None:
        super().__init__(bootstrap_servers)
        self._socket.close()
        host, _, port = bootstrap_servers.rpartition(":")
        self._socket = socket.create_connection(
            (host, int(port)), timeout=LIMIT_S, source_address=(source, 0)
        )


def codes(answer: object) -> Iterator[int]:
    """Every error code in an answer that is one."""
    if isinstance(answer, list):
        for one in answer:
            yield from codes(one)
    elif isinstance(answer, Structure):
        for name in answer.__slots__:
            value = getattr(answer, name)
            if name.endswith("error_code") and value:
                yield value
            yield from codes(value)


def texts(answer: object) -> Iterator[str]:
    """Every string in an answer."""
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, list):
        for one in answer:
            yield from texts(one)
    elif isinstance(answer, Structure):
        for name in answer.__slots__:
            yield from texts(getattr(answer, name))


def allow(admin: Raw, *rows: tuple[int, str, int, str, str, int, int]) -> None:
    answer = admin.ask(3, CreateAclsRequest([AclCreation(*row) for row in rows]))
    assert [one.error_code for one in answer.results] == [0] * len(rows)


def until(admin: Any, version: int, request: Any, wanted: list[int]) -> None:
    """Kafka answers CreateAcls before its broker part has heard of them."""
    deadline = time.monotonic() + LIMIT_S
    while list(codes(admin.ask(version, request))) != wanted:
        assert time.monotonic() < deadline, f"never {wanted}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def admin(authorizing: str) -> Iterator[Raw]:
    connection = Raw(authorizing)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def ids(authorizing: str, admin: Raw) -> Ids:
    """The topics, and what is shut; the ids by name."""
    for kind in (0, 1):
        admin.find_coordinator(kind, OPEN)
    topics = [CreatableTopic(name, 1, 1) for name in (OPEN, CLOSED)]
    made = {one.name: one.topic_id for one in admin.ask(7, CreateTopicsRequest(topics)).topics}
    kinds = (TOPIC, GROUP, TRANSACTIONAL_ID)
    allow(admin, (CLUSTER, "kafka-cluster", LITERAL, ME, HERE, ALL, ALLOW))
    allow(admin, *((kind, CLOSED, PREFIXED, SOMEBODY, "*", ALL, ALLOW) for kind in kinds))
    allow(admin, (TOPIC, DESCRIBED, LITERAL, ME, "*", DESCRIBE, ALLOW))
    by_name = MetadataRequest([MetadataRequestTopic(name=CLOSED)])
    until(admin, 9, by_name, [29])
    return {**made, GONE: UUID(int=7)}


@pytest.fixture
def nobody(authorizing: str, ids: Ids) -> Iterator[Raw]:
    """A client without rights."""
    connection = RawFrom(authorizing, THERE)
    yield connection
    connection.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_api_refuses_as_kafka_does(question: Question, nobody: Raw, ids: Ids) -> None:
    request = question.make(ids)
    answer = nobody.ask(question.version, request)
    assert sorted(codes(answer)) == question.codes
    if not question.codes:
        assert not [text for text in texts(answer) if text.startswith(CLOSED)]


def test_every_api_that_needs_a_right_is_asked_without_one() -> None:
    """Served, and not in the table of questions: only what everybody may ask."""
    asked = {
        question.make(dict.fromkeys((OPEN, CLOSED, GONE), UUID(int=1))).API_KEY
        for question in QUESTIONS
    }
    left = {key for key in REGISTRY if RULES[key] is not anyone} - asked
    assert left <= {50}  # Kafka's own answer to DescribeUserScramCredentials is a closed connection


def test_the_operations_that_are_told_are_those_that_are_allowed(
    nobody: Raw, admin: Raw, ids: Ids
) -> None:
    topics = [MetadataRequestTopic(name=OPEN), MetadataRequestTopic(name=CLOSED)]
    asking = MetadataRequest(topics, True, True, True)
    answer = nobody.ask(9, asking)
    told = {one.name: one.topic_authorized_operations for one in answer.topics}
    everything = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
    assert told == {OPEN: everything, CLOSED: NOT_ASKED_FOR}
    assert answer.cluster_authorized_operations == 0
    answer = nobody.ask(1, DescribeClusterRequest(True))
    assert answer.cluster_authorized_operations == 0
    answer = admin.ask(1, DescribeClusterRequest(True))
    of_the_cluster = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))
    assert answer.cluster_authorized_operations == of_the_cluster
    assert admin.ask(1, DescribeClusterRequest()).cluster_authorized_operations == NOT_ASKED_FOR


NUMBERS = itertools.count()


def test_one_deny_wins_over_every_allow(nobody: Raw, admin: Raw, ids: Ids) -> None:
    name = f"denied-{next(NUMBERS)}"
    question = MetadataRequest([MetadataRequestTopic(name=name)], False)
    until(nobody, 9, question, [3])
    allow(admin, (TOPIC, name, LITERAL, ME, "*", ALL, ALLOW))
    allow(admin, (TOPIC, name[:6], PREFIXED, "User:*", THERE, DESCRIBE, DENY))
    until(nobody, 9, question, [29])
    assert list(codes(admin.ask(9, question))) == [3]  # from elsewhere it is allowed


def test_to_write_allows_to_describe(nobody: Raw, admin: Raw, ids: Ids) -> None:
    """An ALLOW to WRITE implies DESCRIBE, and not DELETE."""
    name = f"implied-{next(NUMBERS)}"
    question = MetadataRequest([MetadataRequestTopic(name=name)], False)
    allow(admin, (TOPIC, name, LITERAL, SOMEBODY, "*", ALL, ALLOW))
    until(nobody, 9, question, [29])
    allow(admin, (TOPIC, name, LITERAL, ME, THERE, WRITE, ALLOW))
    until(nobody, 9, question, [3])
    made = admin.ask(7, CreateTopicsRequest([CreatableTopic(name, 1, 1)])).topics[0]
    assert (made.error_code, made.topic_config_error_code) == (0, 29)  # made, its configs not told
    answer = nobody.ask(6, DeleteTopicsRequest([DeleteTopicState(name)], timeout_ms=30_000))
    assert list(codes(answer)) == [29]


def test_an_idempotent_producer_needs_a_topic_that_it_may_write_to(
    nobody: Raw, admin: Raw, ids: Ids
) -> None:
    """KIP-679: no right on the cluster, but there is a topic; then no topic is left."""
    asking = InitProducerIdRequest(None, 60_000)
    until(nobody, 4, asking, [])
    allow(admin, (TOPIC, "*", LITERAL, ME, THERE, WRITE, DENY))
    until(nobody, 4, asking, [31])
