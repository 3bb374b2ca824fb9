"""Two brokers with an authorizer: Ottla with its own, Apache Kafka with the StandardAuthorizer.

Both let everyone do what no ACL speaks of, so that a test with the one principal that a plain
listener has, User:ANONYMOUS, can take rights away from itself, one resource at a time.
"""

from collections.abc import Iterator

import pytest

from ottla import Broker
from tests import kafka_runner
from tests.conftest import unavailable

_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="session")
def kafka_authorizing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Apache Kafka broker with ACLs, started at first use."""
    broker = kafka_runner.Kafka(tmp_path_factory.mktemp("kafka-acls"), properties=_AUTHORIZER)
    try:
        broker.start()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    yield broker.bootstrap_servers
    broker.kill()


@pytest.fixture(scope="session")
def ottla_authorizing() -> Iterator[str]:
    with Broker(authorizer=True, allow_everyone_if_no_acl_found=True) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session", params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def authorizing(request: pytest.FixtureRequest) -> str:
    """The address of a broker with ACLs: Ottla's, then Apache Kafka's."""
    return str(request.getfixturevalue(f"{request.param}_authorizing"))
