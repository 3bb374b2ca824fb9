"""DeleteGroups: v0-2.

Behaviour: a group without members goes with its offsets, those of open transactions too.
NON_EMPTY_GROUP while it has members, GROUP_ID_NOT_FOUND when there is none.
Versions: the same but for their form.
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.wire.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(42, 0, 2)
def handle(broker: "Broker", request: "Request[DeleteGroupsRequest]") -> None:
    group_ids = list(dict.fromkeys(request.body.groups_names))
    outcome = broker.groups.delete_groups(group_ids)
    broker.commit(outcome.records)
    results = [
        DeletableGroupResult(group_id, error)
        for group_id, error in zip(group_ids, outcome.reply, strict=True)
    ]
    request.respond(DeleteGroupsResponse(results=results))
