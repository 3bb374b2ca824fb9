"""FindCoordinator: v0-6.

Behaviour: this node coordinates every group and every transactional id. A key type other than
0 (group) and 1 (transaction) is answered INVALID_REQUEST.
Versions: v1 key types and error message, v4 several keys.
Divergences: no share groups, so key type 2 is invalid at v6 too.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_GROUP, _TRANSACTION = 0, 1
_KEYS_VERSION = 4


@api(10, 0, 6)
def handle(broker: "Broker", request: "Request[FindCoordinatorRequest]") -> None:
    body = request.body
    keys = body.coordinator_keys if request.version >= _KEYS_VERSION else [body.key]
    coordinators = [_coordinator(broker, request.advertised, key, body.key_type) for key in keys]
    if request.version >= _KEYS_VERSION:
        request.respond_now(FindCoordinatorResponse(coordinators=coordinators))
        return
    one = coordinators[0]
    request.respond_now(
        FindCoordinatorResponse(
            error_code=one.error_code,
            error_message=one.error_message or ErrorCode.NONE.name,
            node_id=one.node_id,
            host=one.host,
            port=one.port,
        )
    )


def _coordinator(
    broker: "Broker", advertised: tuple[str, int], key: str, key_type: int
) -> Coordinator:
    if key_type in (_GROUP, _TRANSACTION):
        return Coordinator(key, broker.node_id, *advertised, ErrorCode.NONE, None)
    reason = f"Unknown coordinator type received: {key_type}"
    return Coordinator(key, -1, "", -1, ErrorCode.INVALID_REQUEST, reason)
