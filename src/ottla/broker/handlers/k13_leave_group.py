"""LeaveGroup: v0-5.

Behaviour: members leave by member id, or by instance id when an administrator removes them; the
others join again. A member id given out and not joined with can leave too. Members of a group of
the new protocol can be removed so as well.
Versions: v0-2 one member, its error at the top; v3 several, an error each; v5 reason.
Divergences: requests parked for a removed member are answered UNKNOWN_MEMBER_ID, where Kafka
answers its JoinGroup only.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.membership import LeavingMember
from ottla.wire.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_MEMBERS_VERSION = 3


@api(13, 0, 5)
def handle(broker: "Broker", request: "Request[LeaveGroupRequest]") -> None:
    body = request.body
    several = request.version >= _MEMBERS_VERSION
    if several:
        leaving = [LeavingMember(one.member_id, one.group_instance_id) for one in body.members]
    else:
        leaving = [LeavingMember(body.member_id, None)]
    monotonic_ms = broker.clock.monotonic_ms()
    outcome, errors = broker.groups.leave(body.group_id, leaving, monotonic_ms)
    broker.commit_group(outcome)
    if several:
        members = [
            MemberResponse(one.member_id, one.group_instance_id, error)
            for one, error in zip(leaving, errors, strict=True)
        ]
        request.respond(LeaveGroupResponse(members=members))
    else:
        request.respond(LeaveGroupResponse(error_code=errors[0]))
