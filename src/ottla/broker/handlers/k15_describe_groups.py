"""DescribeGroups: v0-6.

Behaviour: state, protocol and members of classic groups; protocol and metadata of stable ones only.
A group of the new protocol is told by ConsumerGroupDescribe; here there is none of that id.
Versions: v3 authorized operations, v4 static members, v6 GROUP_ID_NOT_FOUND for a group that does
not exist, which older versions see as Dead (KIP-1043).
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.authorizer import ResourceType
from ottla.broker.registry import api
from ottla.coordinator.group_description import GroupDescription
from ottla.coordinator.group_states import GroupState
from ottla.coordinator.records import MemberState
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_NOT_FOUND_VERSION = 6


@api(15, 0, 6)
def handle(broker: "Broker", request: "Request[DescribeGroupsRequest]") -> None:
    groups = []
    for group_id in request.body.groups:
        found = broker.groups.describe(group_id)
        if found is not None:
            described = _described(found)
        elif broker.groups.consumer.get(group_id) is not None:
            described = _not_found(group_id, "is not a classic group", request.version)
        else:
            described = _not_found(group_id, "not found", request.version)
        if request.body.include_authorized_operations and not described.error_code:
            operations = request.access.operations(ResourceType.GROUP, group_id)
            described.authorized_operations = operations
        groups.append(described)
    request.respond(DescribeGroupsResponse(groups=groups))


def _described(found: GroupDescription) -> DescribedGroup:
    return DescribedGroup(
        group_id=found.group_id,
        group_state=found.state.value,
        protocol_type=found.protocol_type,
        protocol_data=found.protocol_name,
        members=[_member(member, found.protocol_name) for member in found.members],
    )


def _not_found(group_id: str, why: str, version: int) -> DescribedGroup:
    dead = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
    if version >= _NOT_FOUND_VERSION:
        dead.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        dead.error_message = f"Group {group_id} {why}."
    return dead


def _member(member: MemberState, protocol_name: str) -> DescribedGroupMember:
    metadata = next((data for name, data in member.protocols if name == protocol_name), b"")
    return DescribedGroupMember(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_metadata=metadata,
        member_assignment=member.assignment,
    )
