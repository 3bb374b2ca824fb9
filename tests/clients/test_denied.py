"""A client without a right gets its own client's error for it, on Ottla and on Apache Kafka.

What begins with `private` has an ACL for somebody else. That it is made is still allowed: to make a
topic is a right on the cluster, which no ACL speaks of.
"""

import contextlib
import time

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.clients.driver import ClientError, Consumer, Driver, Producer
from tests.clients.drivers import make

TOPIC, GROUP, TRANSACTIONAL_ID = "private-topic", "private-group", "private-id"
PRINCIPAL = "User:somebody"
OPEN = "open-to-all"
WAIT_S = 30

# franz-go goes on trying, and kafkajs looks for another coordinator.
NAMES_THE_ERROR = pytest.mark.parametrize(
    "driver", ["confluent", "kafka-python", "aiokafka", "java"], indirect=True
)


def acl(kind: ResourceType, name: str = "private") -> AclBinding:
    return AclBinding(
        kind,
        name,
        ResourcePatternType.PREFIXED,
        PRINCIPAL,
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )


@pytest.fixture(scope="session")
def private(authorizing: str) -> str:
    """The broker, with topics and the ACLs. Made anew when the tests come back to the broker."""
    with make("confluent").admin(authorizing) as admin:
        for topic in (TOPIC, OPEN):
            with contextlib.suppress(ClientError):
                admin.create_topic(topic)
    kinds = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
    client = AdminClient({"bootstrap.servers": authorizing})
    for made in client.create_acls([acl(kind) for kind in kinds]).values():
        made.result(WAIT_S)
    return authorizing


def says(error: ClientError, kind: str) -> bool:
    """Whether it is the client's name for ..._AUTHORIZATION_FAILED of this kind."""
    return f"{kind}authorization" in f"{error.native}{error}".lower().replace("_", "").replace(
        " ", ""
    )


def send(producer: Producer) -> None:
    producer.send(TOPIC, b"value")
    producer.flush()


@NAMES_THE_ERROR
def test_a_producer_without_a_right(driver: Driver, private: str) -> None:
    with driver.producer(private) as producer, pytest.raises(ClientError) as refused:
        send(producer)
    assert says(refused.value, "topic"), refused.value


@NAMES_THE_ERROR
def test_a_transactional_id_without_a_right(driver: Driver, private: str) -> None:
    with (
        driver.producer(private, transactional_id=TRANSACTIONAL_ID) as producer,
        pytest.raises(ClientError) as refused,
    ):
        producer.init_transactions()
    assert says(refused.value, "transactionalid"), refused.value


def wait(consumer: Consumer) -> None:
    """Poll until the client raises."""
    consumer.subscribe(OPEN)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        consumer.poll(0.2)


@NAMES_THE_ERROR
def test_a_consumer_without_a_right_on_its_group(driver: Driver, private: str) -> None:
    with (
        driver.consumer(private, group_id=GROUP) as consumer,
        pytest.raises(ClientError) as refused,
    ):
        wait(consumer)
    assert says(refused.value, "group"), refused.value


def test_acls_made_told_and_deleted(authorizing: str) -> None:
    """confluent-kafka's AdminClient: what is made is told, by every filter, until deleted."""
    client = AdminClient({"bootstrap.servers": authorizing})
    kinds = (ResourceType.TOPIC, ResourceType.GROUP)
    made = [acl(kind, f"told-{number}") for kind in kinds for number in range(2)]
    for future in client.create_acls(made).values():
        assert future.result(WAIT_S) is None

    def told(kind: ResourceType, name: str | None, pattern: ResourcePatternType) -> set[AclBinding]:
        wanted = AclBindingFilter(
            kind, name, pattern, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        found = client.describe_acls(wanted).result(WAIT_S)
        return {one for one in found if one.name.startswith("told-")}

    by_any = ResourcePatternType.ANY
    assert told(ResourceType.ANY, None, by_any) == set(made)
    assert told(ResourceType.GROUP, None, by_any) == set(made[2:])
    assert told(ResourceType.TOPIC, "told-1", by_any) == {made[1]}
    assert told(ResourceType.TOPIC, "told-1-and-more", ResourcePatternType.MATCH) == {made[1]}
    assert told(ResourceType.TOPIC, "told-1", ResourcePatternType.LITERAL) == set()
    filters = [
        AclBindingFilter(
            ResourceType.ANY,
            f"told-{number}",
            by_any,
            PRINCIPAL,
            "*",
            AclOperation.ALL,
            AclPermissionType.ALLOW,
        )
        for number in range(2)
    ]
    deleted = [future.result(WAIT_S) for future in client.delete_acls(filters).values()]
    assert sorted(len(found) for found in deleted) == [2, 2]
    assert told(ResourceType.ANY, None, by_any) == set()
