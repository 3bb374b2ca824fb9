"""The StandardAuthorizer's decisions, one table; and that ACLs are kept and rules are there."""

from typing import Any

import pytest

from ottla.broker import handlers
from ottla.broker.authorizer import (
    Acl,
    AclDeleted,
    AclFilter,
    Acls,
    Authorizer,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from ottla.broker.config import BrokerConfig
from ottla.broker.registry import REGISTRY, api
from ottla.broker.rules import RULES
from ottla.ports.errors import ErrorCode, InvariantBroken
from ottla.ports.limits import ACLS_MAX
from ottla.testing.in_process import InProcessBroker
from ottla.wire.api import API
from ottla.wire.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.wire.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from ottla.wire.messages.describe_acls import DescribeAclsRequest

ALICE, HOST = "User:alice", "10.0.0.1"
READ, WRITE, DESCRIBE = Operation.READ, Operation.WRITE, Operation.DESCRIBE
CONFIG = BrokerConfig(
    journal_allocate_bytes=0, authorizer=True, super_users=("User:root", "User:ANONYMOUS")
)


def acl(
    name: str,
    operation: Operation,
    *,
    deny: bool = False,
    prefixed: bool = False,
    principal: str = ALICE,
    host: str = "*",
    kind: ResourceType = ResourceType.TOPIC,
) -> Acl:
    return Acl(
        kind,
        PatternType.PREFIXED if prefixed else PatternType.LITERAL,
        name,
        principal,
        host,
        operation,
        Permission.DENY if deny else Permission.ALLOW,
    )


def authorizer(*acls: Acl, everyone: bool = False) -> Authorizer:
    kept = Acls()
    for one in acls:
        kept.apply(one)
    return Authorizer(kept, ["User:root"], everyone)


@pytest.mark.parametrize(
    ("acls", "operation", "allowed"),
    [
        ([], READ, False),
        ([acl("topic", READ)], READ, True),
        ([acl("topic", READ)], WRITE, False),
        ([acl("topic", Operation.ALL)], WRITE, True),
        ([acl("*", READ)], READ, True),
        ([acl("top", READ)], READ, False),
        ([acl("top", READ, prefixed=True)], READ, True),
        ([acl("topic", READ, prefixed=True)], READ, True),
        ([acl("topics", READ, prefixed=True)], READ, False),
        ([acl("*", READ, prefixed=True)], READ, False),
        ([acl("topic", READ, principal="User:*")], READ, True),
        ([acl("topic", READ, principal="User:bob")], READ, False),
        ([acl("topic", READ, host=HOST)], READ, True),
        ([acl("topic", READ, host="10.0.0.2")], READ, False),
        ([acl("topic", READ, kind=ResourceType.GROUP)], READ, False),
        ([acl("topic", READ), acl("top", READ, deny=True, prefixed=True)], READ, False),
        ([acl("topic", READ), acl("*", READ, deny=True)], READ, False),
        ([acl("topic", READ), acl("topic", Operation.ALL, deny=True)], READ, False),
        ([acl("topic", READ), acl("topic", READ, deny=True, host="10.0.0.2")], READ, True),
        ([acl("topic", READ), acl("topic", WRITE, deny=True)], READ, True),
        *(
            ([acl("topic", implying)], DESCRIBE, True)
            for implying in (READ, WRITE, Operation.DELETE, Operation.ALTER)
        ),
        ([acl("topic", Operation.CREATE)], DESCRIBE, False),
        ([acl("topic", Operation.ALTER_CONFIGS)], Operation.DESCRIBE_CONFIGS, True),
        ([acl("topic", Operation.ALTER_CONFIGS)], DESCRIBE, False),
        ([acl("topic", DESCRIBE)], READ, False),
        ([acl("topic", READ, deny=True), acl("topic", DESCRIBE)], DESCRIBE, True),
        ([acl("topic", DESCRIBE, deny=True), acl("topic", READ)], DESCRIBE, False),
    ],
)
def test_what_is_allowed(acls: list[Acl], operation: Operation, allowed: bool) -> None:
    decide = authorizer(*acls).authorize
    assert decide(ALICE, HOST, operation, ResourceType.TOPIC, "topic") is allowed
    assert decide("User:root", HOST, operation, ResourceType.TOPIC, "topic") is True


def test_everyone_is_allowed_only_where_there_is_no_acl_for_anybody() -> None:
    decide = authorizer(acl("shut", READ, principal="User:bob"), everyone=True).authorize
    assert decide(ALICE, HOST, READ, ResourceType.TOPIC, "open")
    assert not decide(ALICE, HOST, READ, ResourceType.TOPIC, "shut")


@pytest.mark.parametrize(
    ("acls", "allowed"),
    [
        ([], False),
        ([acl("a", WRITE)], True),
        ([acl("a", READ)], False),
        ([acl("a", WRITE, prefixed=True)], True),
        ([acl("*", WRITE)], True),
        ([acl("a", WRITE), acl("a", WRITE, deny=True)], False),
        ([acl("a", WRITE), acl("b", WRITE, deny=True)], True),
        ([acl("ab", WRITE), acl("a", WRITE, deny=True, prefixed=True)], False),
        ([acl("a", WRITE, prefixed=True), acl("ab", WRITE, deny=True, prefixed=True)], True),
        ([acl("ab", WRITE, prefixed=True), acl("a", WRITE, deny=True, prefixed=True)], False),
        ([acl("a", WRITE), acl("*", WRITE, deny=True)], False),
        ([acl("*", WRITE), acl("a", WRITE, deny=True, prefixed=True)], True),
        ([acl("a", WRITE, principal="User:bob")], False),
        ([acl("a", WRITE, host="10.0.0.2")], False),
    ],
)
def test_whether_there_can_be_a_topic_to_write_to(acls: list[Acl], allowed: bool) -> None:
    found = authorizer(*acls).authorize_any(ALICE, HOST, WRITE, ResourceType.TOPIC)
    assert found is allowed


def test_a_decision_is_forgotten_when_an_acl_changes() -> None:
    kept = Acls()
    decide = Authorizer(kept, [], False).authorize
    question = (ALICE, HOST, READ, ResourceType.TOPIC, "topic")
    assert not decide(*question)
    kept.apply(acl("topic", READ))
    assert decide(*question)
    kept.apply(AclDeleted(acl("topic", READ)))
    assert not decide(*question)


def create(*names: str, principal: str = ALICE, host: str = "*") -> CreateAclsRequest:
    return CreateAclsRequest([AclCreation(2, name, 3, principal, host, 3, 3) for name in names])


def told(broker: InProcessBroker) -> list[str]:
    answer: Any = broker.connect().request(DescribeAclsRequest(1, None, 1, None, None, 1, 1), 3)
    assert answer.error_code == ErrorCode.NONE
    return [one.resource_name for one in answer.resources]


def test_acls_outlive_a_restart_from_the_journal_and_from_a_checkpoint() -> None:
    broker = InProcessBroker(config=CONFIG)
    broker.connect().request(create("a", "b", "c", "a"), 3)
    deleting = DeleteAclsRequest([DeleteAclsFilter(2, "b", 3, None, None, 1, 1)])
    answer: Any = broker.connect().request(deleting, 3)
    assert [one.resource_name for one in answer.filter_results[0].matching_acls] == ["b"]
    assert told(broker) == ["a", "c"]
    again = InProcessBroker(broker.disk, config=CONFIG)
    assert told(again) == ["a", "c"]
    again.core.close()
    assert told(InProcessBroker(broker.disk, config=CONFIG)) == ["a", "c"]


def test_without_an_authorizer_acls_are_kept_and_not_told() -> None:
    broker = InProcessBroker(config=CONFIG)
    broker.connect().request(create("a"), 3)
    broker.core.close()
    plain = InProcessBroker(broker.disk)
    answer: Any = plain.connect().request(DescribeAclsRequest(1, None, 1, None, None, 1, 1), 3)
    assert answer.error_code == ErrorCode.SECURITY_DISABLED
    answer = plain.connect().request(create("b"), 3)
    assert answer.results[0].error_code == ErrorCode.SECURITY_DISABLED
    plain.core.close()
    assert told(InProcessBroker(broker.disk, config=CONFIG)) == ["a"]


def test_acls_are_bounded() -> None:
    kept = Acls()
    for number in range(ACLS_MAX):
        kept.apply(acl(str(number), READ))
    with pytest.raises(Exception, match="the limit"):
        kept.check(acl("one more", READ))
    kept.check(acl("0", READ))  # is there already
    every = AclFilter(ResourceType.ANY, PatternType.ANY, None, None, None, 1, 1)
    assert len(kept.chosen(every)) == ACLS_MAX


def test_every_api_has_a_rule_and_none_can_be_served_without_one() -> None:
    handlers.load()
    assert set(RULES) == set(API)
    assert all(one.authorize is RULES[key] for key, one in REGISTRY.items())
    with pytest.raises(InvariantBroken, match="which right it asks for"):
        api(32_000, 0, 0)(lambda broker, request: None)
