"""JoinGroup: v0-9.

Behaviour: the request is parked until all members have joined the next generation or the rebalance
timeout is over; see `ottla.coordinator.rebalance`.
Versions: v0 has no rebalance timeout, the session timeout stands for it; v4 a member without an id
gets one with MEMBER_ID_REQUIRED and joins again (KIP-394); v5 static members (KIP-345); v7 protocol
type, and null for the protocol of a refused member; v8 reason; v9 SkipAssignment for a static
leader that is back (KIP-814).
Divergences: members without a generation beyond a bound of the whole broker are answered
COORDINATOR_LOAD_IN_PROGRESS; a parked request is answered REBALANCE_IN_PROGRESS when its member
sends another.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.membership import JoinRequest
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_REBALANCE_TIMEOUT_VERSION = 1
_MEMBER_ID_REQUIRED_VERSION = 4
_NULL_PROTOCOL_VERSION = 7
_SKIP_ASSIGNMENT_VERSION = 9


@api(11, 0, 9)
def handle(broker: "Broker", request: "Request[JoinGroupRequest]") -> None:
    body, version = request.body, request.version
    has_rebalance_timeout = version >= _REBALANCE_TIMEOUT_VERSION
    join = JoinRequest(
        body.group_id,
        body.member_id,
        body.group_instance_id,
        request.client_id,
        f"/{request.client_host}",
        body.session_timeout_ms,
        body.rebalance_timeout_ms if has_rebalance_timeout else body.session_timeout_ms,
        body.protocol_type,
        [(protocol.name, bytes(protocol.metadata)) for protocol in body.protocols],
        requires_member_id=version >= _MEMBER_ID_REQUIRED_VERSION,
        can_skip_assignment=version >= _SKIP_ASSIGNMENT_VERSION,
    )
    if version >= _NULL_PROTOCOL_VERSION:
        request.amend(_without_protocol)
    broker.commit_group(broker.groups.join(request, join, broker.clock.monotonic_ms()))


def _without_protocol(response: JoinGroupResponse) -> None:
    if response.error_code != ErrorCode.NONE:
        response.protocol_name = None
