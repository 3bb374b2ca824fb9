"""AlterConfigs: v0-2.

Behaviour: a resource has the configs that are named, and no others: what is not named goes back to
its default. All else is as in IncrementalAlterConfigs, which replaces it (KIP-339).
Versions: v2 flexible.
"""

from typing import TYPE_CHECKING

from ottla.broker.alter_configs import altered, replaced
from ottla.broker.registry import api
from ottla.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(33, 0, 2)
def handle(broker: "Broker", request: "Request[AlterConfigsRequest]") -> None:
    answers = altered(
        broker,
        request.body.resources,
        lambda resource: replaced(
            broker, resource.resource_type, resource.resource_name, resource.configs
        ),
        AlterConfigsResourceResponse,
        validate_only=request.body.validate_only,
    )
    request.respond(AlterConfigsResponse(responses=answers))
