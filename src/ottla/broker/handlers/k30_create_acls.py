"""CreateAcls: v1-3.

Behaviour: each ACL has its own answer, durable before it is given; one that is there already is
answered as made. Without an authorizer SECURITY_DISABLED, as in Kafka.
Versions: v1 pattern types (KIP-290), v3 the resource type User (KIP-373).
Divergences: at most ACLS_MAX ACLs in all. ANY where a filter alone may have it is INVALID_REQUEST;
Kafka answers UNKNOWN_SERVER_ERROR.
"""

from typing import TYPE_CHECKING

from ottla.broker.authorizer import Acl
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.create_acls import (
    AclCreation,
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(30, 1, 3)
def handle(broker: "Broker", request: "Request[CreateAclsRequest]") -> None:
    results = []
    for creation in request.body.creations:
        try:
            _create(broker, creation)
            results.append(AclCreationResult(ErrorCode.NONE, ""))
        except KafkaError as error:
            results.append(AclCreationResult(error.code, error.message))
    request.respond(CreateAclsResponse(results=results))


def _create(broker: "Broker", creation: AclCreation) -> None:
    if broker.authorizer is None:
        raise KafkaError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")
    acl = Acl(
        creation.resource_type,
        creation.resource_pattern_type,
        creation.resource_name,
        creation.principal,
        creation.host,
        creation.operation,
        creation.permission_type,
    )
    broker.acls.check(acl)
    if acl not in broker.acls:
        broker.check_disk_space()
        broker.commit([acl])
