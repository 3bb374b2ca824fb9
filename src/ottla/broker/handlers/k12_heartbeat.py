"""Heartbeat: v0-4.

Behaviour: keeps a member's session. REBALANCE_IN_PROGRESS tells it to join again; in the sync phase
and in a stable group the answer is NONE.
Versions: v3 static members.
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(12, 0, 4)
def handle(broker: "Broker", request: "Request[HeartbeatRequest]") -> None:
    body = request.body
    error = broker.groups.heartbeat(
        body.group_id,
        body.member_id,
        body.generation_id,
        body.group_instance_id,
        broker.clock.monotonic_ms(),
    )
    response = HeartbeatResponse(error_code=error)
    if error in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
        request.respond_now(response)
    else:
        # That a member is out may follow from a record that is not on the disk yet.
        request.respond(response)
