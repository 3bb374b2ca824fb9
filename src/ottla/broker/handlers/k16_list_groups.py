"""ListGroups: v0-5.

Behaviour: all groups, those that have offsets only among them.
Versions: v4 filter by state (KIP-518), v5 filter by type, classic or consumer (KIP-848).
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(16, 0, 5)
def handle(broker: "Broker", request: "Request[ListGroupsRequest]") -> None:
    body = request.body
    groups = [
        ListedGroup(found.group_id, found.protocol_type, found.state.value, found.group_type)
        for found in broker.groups.list_groups(body.states_filter, body.types_filter)
    ]
    request.respond(ListGroupsResponse(groups=groups))
