"""DeleteAcls: v1-3.

Behaviour: each filter deletes the ACLs that it chooses and names them. The filters of one request
look at the ACLs before any is deleted, so that one ACL may be named by two. Durable before it is
answered. Without an authorizer SECURITY_DISABLED, as in Kafka.
Versions: v1 pattern types (KIP-290), v3 the resource type User (KIP-373).
Divergences: a filter with a number that means nothing is INVALID_REQUEST; Kafka closes.
"""

from typing import TYPE_CHECKING

from ottla.broker.authorizer import Acl, AclDeleted, AclFilter
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_acls import (
    DeleteAclsFilter,
    DeleteAclsFilterResult,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(31, 1, 3)
def handle(broker: "Broker", request: "Request[DeleteAclsRequest]") -> None:
    results = []
    deleted: dict[Acl, None] = {}
    for wanted in request.body.filters:
        try:
            chosen = _chosen(broker, wanted)
        except KafkaError as error:
            results.append(DeleteAclsFilterResult(error.code, error.message, []))
            continue
        deleted.update(dict.fromkeys(chosen))
        matching = [_matching(acl) for acl in chosen]
        results.append(DeleteAclsFilterResult(ErrorCode.NONE, None, matching))
    broker.commit([AclDeleted(acl) for acl in deleted])
    request.respond(DeleteAclsResponse(filter_results=results))


def _chosen(broker: "Broker", wanted: DeleteAclsFilter) -> list[Acl]:
    if broker.authorizer is None:
        raise KafkaError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")
    by = AclFilter(
        wanted.resource_type_filter,
        wanted.pattern_type_filter,
        wanted.resource_name_filter,
        wanted.principal_filter,
        wanted.host_filter,
        wanted.operation,
        wanted.permission_type,
    )
    by.check()
    return broker.acls.chosen(by)


def _matching(acl: Acl) -> DeleteAclsMatchingAcl:
    return DeleteAclsMatchingAcl(
        error_code=ErrorCode.NONE,
        error_message=None,
        resource_type=acl.resource_type,
        resource_name=acl.resource_name,
        pattern_type=acl.pattern_type,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )
