"""Who may do what, and who may come in: ACLs and SCRAM users."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    ResourceType as AdminResourceType,
)

from ottla.client.cluster import Cluster
from ottla.client.errors import refused
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_acls import DescribeAclsRequest

CLUSTER_NAME = "kafka-cluster"
_RESOURCES = {
    "topic": AdminResourceType.TOPIC,
    "group": AdminResourceType.GROUP,
    "cluster": AdminResourceType.BROKER,  # librdkafka's name of Kafka's CLUSTER
    "transactional-id": AdminResourceType.TRANSACTIONAL_ID,
    "any": AdminResourceType.ANY,
}
RESOURCES = tuple(name for name in _RESOURCES if name != "any")
OPERATIONS = tuple(
    each.name.lower().replace("_", "-")
    for each in AclOperation
    if each.name not in ("UNKNOWN", "ANY")
)
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Acl:
    """A rule: who, from where, may or may not do what with what."""

    principal: str
    host: str
    operation: str
    permission: str  # allow or deny
    resource: str
    name: str
    pattern: str  # literal or prefixed


@dataclass(frozen=True, slots=True)
class AclFilter:
    """Which rules are meant; None means any."""

    principal: str | None = None
    host: str | None = None
    operation: str | None = None
    permission: str | None = None
    resource: str | None = None
    name: str | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class ScramUser:
    """A credential of a user."""

    user: str
    mechanism: str
    iterations: int


def add_acls(cluster: Cluster, acls: list[Acl]) -> None:
    """Add rules; those that are there are fine. Raises Refused, TimedOut."""
    wanted = [_binding(each) for each in acls]
    asked = cluster.admin.create_acls(wanted, request_timeout=cluster.timeout_s)
    for _ in cluster.wait(lambda _: "add an ACL", asked):
        pass


def list_acls(cluster: Cluster, which: AclFilter) -> list[Acl]:
    """The rules that match. Raises Refused, TimedOut.

    Asked raw: librdkafka answers with no rules when it is not allowed to see them.
    """
    restype, pattern, operation, permission = _kinds(which)
    request = DescribeAclsRequest(
        restype.value,
        which.name,
        pattern.value,
        which.principal,
        which.host,
        operation.value,
        permission.value,
    )
    answer = cluster.brokers.ask_any(request)
    if answer.error_code != ErrorCode.NONE:
        raise refused("list ACLs", answer.error_code, answer.error_message)
    return _sorted(
        [
            Acl(
                each.principal,
                each.host,
                _word(AclOperation, each.operation),
                _word(AclPermissionType, each.permission_type),
                _resource_word(resource.resource_type),
                resource.resource_name,
                _word(ResourcePatternType, resource.pattern_type),
            )
            for resource in answer.resources
            for each in resource.acls
        ]
    )


def remove_acls(cluster: Cluster, which: AclFilter) -> list[Acl]:
    """Remove the rules that match; those that were. Raises Refused, TimedOut."""
    asked = cluster.admin.delete_acls([_filter(which)], request_timeout=cluster.timeout_s)
    ((_, removed),) = cluster.wait(lambda _: "remove ACLs", asked)
    return _sorted(
        Acl(
            each.principal,
            each.host,
            _word(AclOperation, each.operation.value),
            _word(AclPermissionType, each.permission_type.value),
            _resource_word(each.restype.value),
            each.name,
            _word(ResourcePatternType, each.resource_pattern_type.value),
        )
        for each in removed
    )


def _binding(acl: Acl) -> AclBinding:
    return AclBinding(
        _RESOURCES[acl.resource],
        acl.name,
        ResourcePatternType[acl.pattern.upper()],
        acl.principal,
        acl.host,
        AclOperation[acl.operation.replace("-", "_").upper()],
        AclPermissionType[acl.permission.upper()],
    )


def _kinds(
    which: AclFilter,
) -> tuple[AdminResourceType, ResourcePatternType, AclOperation, AclPermissionType]:
    return (
        _RESOURCES[which.resource or "any"],
        ResourcePatternType[(which.pattern or "any").upper()],
        AclOperation[(which.operation or "any").replace("-", "_").upper()],
        AclPermissionType[(which.permission or "any").upper()],
    )


def _filter(which: AclFilter) -> AclBindingFilter:
    restype, pattern, operation, permission = _kinds(which)
    return AclBindingFilter(
        restype,
        which.name,  # type: ignore[arg-type]
        pattern,
        which.principal,  # type: ignore[arg-type]
        which.host,  # type: ignore[arg-type]
        operation,
        permission,
    )


def _word(kind: type[Enum], number: int) -> str:
    """Kafka's name of a number; newer ones than are known here stay numbers."""
    try:
        return kind(number).name.lower().replace("_", "-")
    except ValueError:
        return str(number)


def _resource_word(number: int) -> str:
    return next((name for name, kind in _RESOURCES.items() if kind.value == number), str(number))


def _sorted(acls: Iterable[Acl]) -> list[Acl]:
    return sorted(acls, key=lambda acl: (acl.resource, acl.name, acl.principal, acl.operation))


def list_users(cluster: Cluster) -> list[ScramUser]:
    """All SCRAM credentials. Raises Refused, TimedOut."""
    asked: Any = cluster.admin.describe_user_scram_credentials(request_timeout=cluster.timeout_s)
    found = [
        ScramUser(user, _mechanism_name(each.mechanism), each.iterations)
        for user, told in cluster.call("list users", asked.result).items()
        for each in told.scram_credential_infos
    ]
    return sorted(found, key=lambda each: (each.user, each.mechanism))


def add_user(cluster: Cluster, user: str, password: bytes, mechanism: str, iterations: int) -> None:
    """Let a user in with a password, or give it another one. Raises Refused, TimedOut."""
    info = ScramCredentialInfo(_mechanism(mechanism), iterations)
    _alter(cluster, f"add user {user}", UserScramCredentialUpsertion(user, info, password))


def remove_user(cluster: Cluster, user: str, mechanism: str) -> None:
    """Take a credential away. Raises Refused when there is none."""
    change = UserScramCredentialDeletion(user, _mechanism(mechanism))
    _alter(cluster, f"remove user {user} ({mechanism})", change)


def _alter(
    cluster: Cluster,
    doing: str,
    change: UserScramCredentialUpsertion | UserScramCredentialDeletion,
) -> None:
    asked = cluster.admin.alter_user_scram_credentials([change], request_timeout=cluster.timeout_s)
    for _ in cluster.wait(lambda _: doing, asked):
        pass


def _mechanism(name: str) -> ScramMechanism:
    return ScramMechanism[name.replace("-", "_")]


def _mechanism_name(mechanism: ScramMechanism) -> str:
    return mechanism.name.replace("_", "-")
