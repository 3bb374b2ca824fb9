"""Who may do what: Apache Kafka's StandardAuthorizer.

An ACL allows or denies a principal, from a host, an operation on the resources that a pattern
names: one (LITERAL), all whose names begin so (PREFIXED), or all (LITERAL `*`). Asked about an
action, the authorizer looks at every ACL whose pattern matches the resource:

- a super user may do everything, whatever the ACLs say;
- one DENY that matches wins over any number of ALLOWs;
- an ALLOW to READ, WRITE, DELETE or ALTER allows to DESCRIBE, one to ALTER_CONFIGS allows to
  DESCRIBE_CONFIGS; a DENY implies nothing;
- when no ACL at all matches the resource, whoever it is for, `allow_everyone_if_no_acl_found`
  decides; when some do, and none of them allows, the answer is no.

`Acls` is the durable state, rebuilt by replaying its records like the catalog; it is kept, as in
KRaft, whether or not an authorizer is on. Decisions are remembered until an ACL changes: Produce
and Fetch ask the same questions all day.
"""

from collections.abc import Iterable
from enum import IntEnum

import msgspec

from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import ACLS_MAX

WILDCARD = "*"
WILDCARD_PRINCIPAL = "User:*"
CLUSTER_NAME = "kafka-cluster"
_DECISIONS_MAX = 10_000


class ResourceType(IntEnum):
    """Resource types as ACLs number them."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class PatternType(IntEnum):
    """How an ACL's name is meant; ANY and MATCH are for filters only."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """Operations as ACLs number them."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(IntEnum):
    """What an ACL says."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


_IMPLYING = {
    Operation.DESCRIBE: frozenset(
        {Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER}
    ),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.ALTER_CONFIGS}),
}

# What can be asked of a resource: the bits of the authorized-operations fields (KIP-430).
SUPPORTED_OPERATIONS = {
    ResourceType.TOPIC: (
        *(Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DESCRIBE),
        *(Operation.DELETE, Operation.ALTER),
        *(Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS),
    ),
    ResourceType.GROUP: (
        *(Operation.READ, Operation.DESCRIBE, Operation.DELETE),
        *(Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS),
    ),
    ResourceType.CLUSTER: (
        *(Operation.CREATE, Operation.CLUSTER_ACTION, Operation.DESCRIBE_CONFIGS),
        *(Operation.ALTER_CONFIGS, Operation.IDEMPOTENT_WRITE),
        *(Operation.ALTER, Operation.DESCRIBE),
    ),
}


class Acl(msgspec.Struct, tag="acl", frozen=True, array_like=True):
    """One ACL, and the record that it was made. Numbers as in the enums above."""

    resource_type: int
    pattern_type: int
    resource_name: str
    principal: str
    host: str
    operation: int
    permission: int


class AclDeleted(msgspec.Struct, tag="acl-deleted", frozen=True, array_like=True):
    """The ACL is gone."""

    acl: Acl


AclRecord = Acl | AclDeleted


class AclFilter(msgspec.Struct, frozen=True):
    """What DescribeAcls and DeleteAcls choose ACLs by; None and ANY choose all."""

    resource_type: int
    pattern_type: int
    resource_name: str | None
    principal: str | None
    host: str | None
    operation: int
    permission: int

    def check(self) -> None:
        """Raise KafkaError(INVALID_REQUEST) for a number that means nothing."""
        for kind, number in (
            (ResourceType, self.resource_type),
            (PatternType, self.pattern_type),
            (Operation, self.operation),
            (Permission, self.permission),
        ):
            if not 0 < number <= max(kind):
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown {kind.__name__} {number}")

    def matches(self, acl: Acl) -> bool:
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self._matches_name(acl)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
        )

    def _matches_name(self, acl: Acl) -> bool:
        name = self.resource_name
        if self.pattern_type == PatternType.MATCH and name is not None:
            if acl.pattern_type == PatternType.PREFIXED:
                return name.startswith(acl.resource_name)
            return acl.resource_name in (name, WILDCARD)
        is_type = self.pattern_type in (PatternType.ANY, PatternType.MATCH, acl.pattern_type)
        return is_type and name in (None, acl.resource_name)


class Acls:
    """All ACLs, found by resource type and name."""

    def __init__(self) -> None:
        self._acls: dict[Acl, None] = {}  # in the order in which they were made
        self._literal: dict[tuple[int, str], list[Acl]] = {}
        self._prefixed: dict[tuple[int, str], list[Acl]] = {}
        self._prefix_lengths: dict[int, set[int]] = {}  # by resource type
        self._indexed = 0  # how many changes the three dicts above have seen
        self.changes = 0

    def check(self, acl: Acl) -> None:
        """Raise KafkaError as CreateAcls answers to an ACL that cannot be."""
        concrete: tuple[tuple[str, type[IntEnum], int, int], ...] = (
            ("resourceType", ResourceType, acl.resource_type, ResourceType.TOPIC),
            ("patternType", PatternType, acl.pattern_type, PatternType.LITERAL),
            ("operation", Operation, acl.operation, Operation.ALL),
            ("permissionType", Permission, acl.permission, Permission.DENY),
        )
        for what, kind, number, lowest in concrete:
            if not lowest <= number <= max(kind):
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Invalid {what} {number}")
        if acl.resource_type == ResourceType.CLUSTER and acl.resource_name != CLUSTER_NAME:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}",
            )
        if not acl.resource_name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Invalid empty resource name")
        if ":" not in acl.principal:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"Could not parse principal from `{acl.principal}` (no colon is present "
                "separating the principal type from the principal name)",
            )
        if acl not in self._acls and len(self._acls) >= ACLS_MAX:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"there are {ACLS_MAX} ACLs, and that is the limit"
            )

    def __contains__(self, acl: Acl) -> bool:
        return acl in self._acls

    def chosen(self, by: AclFilter) -> list[Acl]:
        """The ACLs that a filter chooses."""
        return [acl for acl in self._acls if by.matches(acl)]

    def of_type(self, resource_type: ResourceType) -> Iterable[Acl]:
        return [acl for acl in self._acls if acl.resource_type == resource_type]

    def on(self, resource_type: ResourceType, name: str) -> Iterable[Acl]:
        """The ACLs whose pattern matches this resource."""
        if self._indexed != self.changes:
            self._index()
        yield from self._literal.get((resource_type, name), ())
        if name != WILDCARD:
            yield from self._literal.get((resource_type, WILDCARD), ())
        for length in self._prefix_lengths.get(resource_type, ()):
            if length <= len(name):
                yield from self._prefixed.get((resource_type, name[:length]), ())

    def apply(self, record: AclRecord) -> None:
        self.changes += 1
        if isinstance(record, AclDeleted):
            self._acls.pop(record.acl, None)
        else:
            self._acls[record] = None

    def _index(self) -> None:
        """ACLs change seldom and are asked for all the time."""
        self._indexed = self.changes
        self._literal, self._prefixed, self._prefix_lengths = {}, {}, {}
        for acl in self._acls:
            key = (acl.resource_type, acl.resource_name)
            if acl.pattern_type == PatternType.PREFIXED:
                self._prefixed.setdefault(key, []).append(acl)
                lengths = self._prefix_lengths.setdefault(acl.resource_type, set())
                lengths.add(len(acl.resource_name))
            else:
                self._literal.setdefault(key, []).append(acl)

    def snapshot(self) -> list[AclRecord]:
        """The records that rebuild the ACLs."""
        return list(self._acls)


class Authorizer:
    """Answers whether a principal may do something."""

    def __init__(
        self, acls: Acls, super_users: Iterable[str], allow_everyone_if_no_acl_found: bool
    ) -> None:
        self._acls = acls
        self._super_users = frozenset(super_users)
        self._no_acl_found = allow_everyone_if_no_acl_found
        self._decisions: dict[tuple[str, str, Operation, ResourceType, str], bool] = {}
        self._changes = acls.changes

    def authorize(
        self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str
    ) -> bool:
        """Whether `principal` may do this from `host` to the resource of this kind and name."""
        if principal in self._super_users:
            return True
        if self._changes != self._acls.changes or len(self._decisions) >= _DECISIONS_MAX:
            self._decisions.clear()
            self._changes = self._acls.changes
        question = (principal, host, operation, kind, name)
        decision = self._decisions.get(question)
        if decision is None:
            decision = self._decisions[question] = self._decide(*question)
        return decision

    def _decide(
        self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str
    ) -> bool:
        found = allowed = False
        for acl in self._acls.on(kind, name):
            found = True
            if _is_for(acl, principal, host) and _covers(acl, operation):
                if acl.permission == Permission.DENY:
                    return False
                allowed = True
        return allowed or (not found and self._no_acl_found)

    def authorize_any(
        self, principal: str, host: str, operation: Operation, kind: ResourceType
    ) -> bool:
        """Whether there can be any resource of this kind to which `principal` may do this.

        The answer for IDEMPOTENT_WRITE (KIP-679): an ALLOW that no DENY takes back whole.
        """
        if self.authorize(principal, host, operation, kind, "hardcode"):  # as Kafka asks first
            return True
        mine = [
            acl
            for acl in self._acls.of_type(kind)
            if _is_for(acl, principal, host) and acl.operation in (operation, Operation.ALL)
        ]
        denied = {
            (acl.pattern_type, acl.resource_name)
            for acl in mine
            if acl.permission == Permission.DENY
        }
        if (PatternType.LITERAL, WILDCARD) in denied:
            return False
        return any(
            acl.permission == Permission.ALLOW and not _taken_back(acl, denied) for acl in mine
        )


def _is_for(acl: Acl, principal: str, host: str) -> bool:
    return acl.principal in (principal, WILDCARD_PRINCIPAL) and acl.host in (host, WILDCARD)


def _covers(acl: Acl, operation: Operation) -> bool:
    if acl.operation in (operation, Operation.ALL):
        return True
    return acl.permission == Permission.ALLOW and acl.operation in _IMPLYING.get(operation, ())


def _taken_back(allow: Acl, denied: set[tuple[int, str]]) -> bool:
    """Whether a DENY covers all that this ALLOW does."""
    name = allow.resource_name
    if allow.pattern_type == PatternType.LITERAL:
        if name == WILDCARD:
            return False
        if (PatternType.LITERAL, name) in denied:
            return True
    return any((PatternType.PREFIXED, name[:end]) in denied for end in range(1, len(name) + 1))
