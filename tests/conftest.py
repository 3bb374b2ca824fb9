"""What all tests may use: Apache Kafka, and a broker that is Ottla first and then Kafka.

A test that takes `bootstrap` runs twice, on Ottla and on Apache Kafka: what it asserts is how Kafka
behaves, and that Ottla behaves the same. Both brokers serve the whole run, so such tests use topic,
group and transactional ids of their own (`unique`).

`make test` shares the files out to two processes, each with such brokers of its own; the tests of a
file stay together. What both make for the machine, they make under a lock (kafka_runner.alone).

Without Java or Maven the tests on Apache Kafka are skipped; with OTTLA_REQUIRE_ALL=1 they fail.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests import kafka_runner
from tests.security.brokers import KafkaListeners
from tests.security.certificates import Authority, Pair

# The files that take longest. Where several processes share the files out, each taking the next
# one when it has done with another, these come first: none is left for the end.
_LONG = (
    "streams/test_exactly_once.py",
    "process/test_late_messages.py",
    "process/test_kill_nine.py",
    "crash/test_power_cut.py",
    "pipeline/test_runs.py",
    "clients/test_transactions.py",
    "clients/test_producing.py",
    "process/test_zombie.py",
    "differential/test_transactions_cases.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs on Apache Kafka gets a second try, which is shown: its pauses are not ours.

    It is there to tell whether a test asks for Kafka's behaviour; no test of Ottla is repeated.
    """
    for item in items:
        if item.get_closest_marker("kafka") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
    if hasattr(config, "workerinput"):  # one of several processes (pytest-xdist)
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    name = f"{item.path.parent.name}/{item.path.name}"
    return _LONG.index(name) if name in _LONG else len(_LONG)


def unavailable(reason: Exception) -> NoReturn:
    """Skip the test, or fail it when everything is required."""
    if os.environ.get("OTTLA_REQUIRE_ALL") == "1":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def kafka_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_runner.Kafka]:
    """One Apache Kafka broker, started at first use."""
    # Look twice a second for transactions that have timed out and for old data: tests wait for it.
    quick = {
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        "log.cleaner.backoff.ms": "500",
        "log.retention.check.interval.ms": "500",
        "log.initial.task.delay.ms": "500",
    }
    broker = kafka_runner.Kafka(tmp_path_factory.mktemp("kafka"), properties=quick)
    try:
        broker.start()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_session: kafka_runner.Kafka) -> str:
    """The address of one Apache Kafka broker, started at first use."""
    return kafka_session.bootstrap_servers


@pytest.fixture(params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a broker: Ottla's, then Apache Kafka's."""
    if request.param == "kafka":
        return str(request.getfixturevalue("kafka_bootstrap"))
    return str(request.getfixturevalue("ottla_broker_session").bootstrap_servers)


@pytest.fixture
def broker_name(request: pytest.FixtureRequest) -> str:
    """Which broker `bootstrap` is in this run of the test: "ottla" or "kafka"."""
    return str(request.node.callspec.params["bootstrap"])


@pytest.fixture
def broker_pid(request: pytest.FixtureRequest, broker_name: str) -> int:
    """The process of the broker that `bootstrap` is; to pause it, not to end it."""
    session = "kafka_session" if broker_name == "kafka" else "ottla_broker_session"
    return int(request.getfixturevalue(session).pid)


_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of this run."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("alice")


@pytest.fixture(scope="session")
def ca(authority: Authority) -> Path:
    return authority.ca


@pytest.fixture(scope="session")
def kafka_listeners(
    tmp_path_factory: pytest.TempPathFactory, server_pair: Pair, ca: Path
) -> KafkaListeners:
    """The listeners with TLS and SASL of `kafka_authorizing`."""
    return KafkaListeners(tmp_path_factory.mktemp("keystore"), server_pair, ca)


@pytest.fixture(scope="session")
def kafka_authorizing(
    tmp_path_factory: pytest.TempPathFactory, kafka_listeners: KafkaListeners
) -> Iterator[str]:
    """The address of an Apache Kafka broker with ACLs, started at first use."""
    broker = kafka_runner.Kafka(
        tmp_path_factory.mktemp("kafka-acls"), properties=_AUTHORIZER | kafka_listeners.properties
    )
    try:
        broker.start()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    yield broker.bootstrap_servers
    broker.kill()


@pytest.fixture(scope="session")
def ottla_authorizing() -> Iterator[str]:
    from ottla import Broker

    with Broker(authorizer=True, allow_everyone_if_no_acl_found=True) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session", params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def authorizing(request: pytest.FixtureRequest) -> str:
    """A broker with ACLs: Ottla, then Apache Kafka with its StandardAuthorizer.

    Everyone may do what no ACL speaks of, so that a test with the one principal that a plain
    listener has, User:ANONYMOUS, can take rights away from itself, one resource at a time.
    """
    return str(request.getfixturevalue(f"{request.param}_authorizing"))


# Members of groups of the new protocol are to be heard of often, and never wait for a target.
_QUICK_GROUPS_KAFKA = {
    "group.consumer.heartbeat.interval.ms": "300",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "group.consumer.assignment.interval.ms": "0",
}
QUICK_GROUPS = {"heartbeat_interval_ms": 300, "assignment_interval_ms": 0}


@pytest.fixture(scope="session")
def quick_groups_ottla() -> Iterator[str]:
    from ottla import Broker

    with Broker(consumer_groups=QUICK_GROUPS) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def quick_groups_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("kafka-quick-groups")
    broker = kafka_runner.Kafka(directory, properties=_QUICK_GROUPS_KAFKA)
    try:
        broker.start()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    yield broker.bootstrap_servers
    broker.kill()


@pytest.fixture(params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def quick_groups(request: pytest.FixtureRequest) -> str:
    """A broker with quick groups of the new protocol: Ottla, then Apache Kafka."""
    return str(request.getfixturevalue(f"quick_groups_{request.param}"))


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names that no other test uses, nor the first try of this one: `unique("orders")`."""
    numbers = itertools.count()
    test = "".join(c if c.isalnum() else "-" for c in request.node.name)
    tries = getattr(request.node, "execution_count", 1)  # by pytest-rerunfailures
    if tries > 1:
        test += f"-try-{tries}"

    def name(base: str) -> str:
        return f"{base}-{next(numbers)}-{test}"

    return name


@pytest.fixture(scope="session")
def java_worker(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The java program, and the class path with tests/clients/java compiled."""
    from tests.clients.remote import JAVA_SOURCES

    try:
        classes = kafka_runner.compile_java(JAVA_SOURCES, tmp_path_factory.mktemp("classes"))
        return kafka_runner.java(), classes
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
