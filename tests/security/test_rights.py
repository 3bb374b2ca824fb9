"""Users with passwords and rights: what each may do depends on who it has proved to be.

One broker as it is meant to be run: SASL, an authorizer, one super user. Nobody else may do
anything until the super user allows it.
"""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from ottla import Broker

USERS = {"admin": "admin-secret", "alice": "alice-secret"}
WAIT_S = 30


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(
        security_protocol="sasl_plaintext",
        allow_plaintext_passwords=True,
        users=USERS,
        authorizer=True,
        super_users=["User:admin"],
    ) as broker:
        yield broker


def settings(broker: Broker, user: str) -> dict[str, str]:
    return {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": user,
        "sasl.password": USERS[user],
    }


def allow(admin: AdminClient, kind: ResourceType, name: str, operation: AclOperation) -> None:
    acl = AclBinding(
        kind,
        name,
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    for made in admin.create_acls([acl]).values():
        made.result(WAIT_S)


def outcome(producer: Producer, topic: str) -> str | None:
    """The name of the error that one record meets."""
    errors: list[object] = []
    producer.produce(topic, b"value", on_delivery=lambda error, _: errors.append(error))
    producer.flush(WAIT_S)
    (error,) = errors
    return None if error is None else error.name()  # type: ignore[attr-defined]


def test_a_user_may_do_what_the_super_user_allows_and_nothing_else(broker: Broker) -> None:
    admin = AdminClient(settings(broker, "admin"))
    for made in admin.create_topics([NewTopic(name, 1) for name in ("hers", "others")]).values():
        made.result(WAIT_S)
    producer = Producer(settings(broker, "alice"))
    assert outcome(producer, "hers") == "TOPIC_AUTHORIZATION_FAILED"
    allow(admin, ResourceType.TOPIC, "hers", AclOperation.WRITE)
    assert outcome(Producer(settings(broker, "alice")), "hers") is None
    assert outcome(producer, "others") == "TOPIC_AUTHORIZATION_FAILED"
    alice = AdminClient(settings(broker, "alice"))
    assert set(alice.list_topics(timeout=WAIT_S).topics) == {"hers"}
    (making,) = alice.create_topics([NewTopic("new", 1)]).values()
    with pytest.raises(KafkaException, match="Authorization failed"):
        making.result(WAIT_S)
    allow(admin, ResourceType.TOPIC, "hers", AclOperation.READ)
    allow(admin, ResourceType.GROUP, "her-group", AclOperation.READ)
    consumer = Consumer(
        {**settings(broker, "alice"), "group.id": "her-group", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["hers"])
    (message,) = consumer.consume(1, WAIT_S)
    assert message.value() == b"value"
    consumer.close()
    broker.restart()
    assert outcome(Producer(settings(broker, "alice")), "hers") is None
    assert outcome(Producer(settings(broker, "alice")), "others") == "TOPIC_AUTHORIZATION_FAILED"
