"""IncrementalAlterConfigs: v0-1.

Behaviour: sets, deletes, appends to and subtracts from single configs of topics, the broker or
the cluster, groups, client metrics, and the levels of loggers. Each resource is altered as a whole
or not at all; a change is durable before it is answered, and in force at once. `validate_only`
changes nothing.
Versions: v1 flexible.
Divergences: see `broker_configs` for which of the broker's configs are served.
"""

from typing import TYPE_CHECKING

from ottla.broker.alter_configs import altered, incremented
from ottla.broker.registry import api
from ottla.wire.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(44, 0, 1)
def handle(broker: "Broker", request: "Request[IncrementalAlterConfigsRequest]") -> None:
    answers = altered(
        broker,
        request.body.resources,
        lambda resource: incremented(
            broker,
            resource.resource_type,
            resource.resource_name,
            resource.configs,
            [change.config_operation for change in resource.configs],
        ),
        AlterConfigsResourceResponse,
        validate_only=request.body.validate_only,
    )
    request.respond(IncrementalAlterConfigsResponse(responses=answers))
