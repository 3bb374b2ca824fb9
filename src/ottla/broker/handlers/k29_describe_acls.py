"""DescribeAcls: v1-3.

Behaviour: the ACLs that the filter chooses, grouped by what they are on. Without an authorizer
SECURITY_DISABLED, as in Kafka.
Versions: v1 pattern types (KIP-290), v3 the resource type User (KIP-373).
Divergences: a filter with a number that means nothing is INVALID_REQUEST; Kafka closes.
"""

from typing import TYPE_CHECKING

from ottla.broker.authorizer import AclFilter
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(29, 1, 3)
def handle(broker: "Broker", request: "Request[DescribeAclsRequest]") -> None:
    try:
        resources = _chosen(broker, request.body)
        request.respond(DescribeAclsResponse(resources=resources, error_message=""))
    except KafkaError as error:
        request.respond(
            DescribeAclsResponse(error_code=error.code, error_message=error.message, resources=[])
        )


def _chosen(broker: "Broker", body: DescribeAclsRequest) -> list[DescribeAclsResource]:
    if broker.authorizer is None:
        raise KafkaError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured on the broker")
    by = AclFilter(
        body.resource_type_filter,
        body.pattern_type_filter,
        body.resource_name_filter,
        body.principal_filter,
        body.host_filter,
        body.operation,
        body.permission_type,
    )
    by.check()
    resources: dict[tuple[int, str, int], DescribeAclsResource] = {}
    for acl in broker.acls.chosen(by):
        pattern = (acl.resource_type, acl.resource_name, acl.pattern_type)
        resource = resources.get(pattern)
        if resource is None:
            resource = resources[pattern] = DescribeAclsResource(*pattern, acls=[])
        resource.acls.append(AclDescription(acl.principal, acl.host, acl.operation, acl.permission))
    return list(resources.values())
