"""ListConfigResources: v0-1 (KIP-714, KIP-1142).

Behaviour: what has configs: all topics, this broker and its loggers, and those groups and
subscriptions to client metrics on which something was set.
Versions: v0 lists subscriptions to client metrics only; v1 the types that are asked for, or all.
"""

from typing import TYPE_CHECKING

from ottla.broker.configs import ResourceType
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


_TYPES = frozenset(kind.value for kind in ResourceType)


@api(74, 0, 1)
def handle(broker: "Broker", request: "Request[ListConfigResourcesRequest]") -> None:
    if request.version == 0:
        wanted = [ResourceType.CLIENT_METRICS.value]
    else:
        wanted = list(dict.fromkeys(request.body.resource_types)) or [
            int(one) for one in ResourceType
        ]
    if not _TYPES.issuperset(wanted):
        request.respond_now(ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION))
        return
    request.respond_now(
        ListConfigResourcesResponse(
            config_resources=[
                ConfigResource(name, kind)
                for kind in wanted
                for name in _names(broker, ResourceType(kind))
            ]
        )
    )


def _names(broker: "Broker", kind: ResourceType) -> list[str]:
    if kind is ResourceType.TOPIC:
        return [topic.name for topic in broker.catalog.topics()]
    if kind in (ResourceType.BROKER, ResourceType.BROKER_LOGGER):
        return [str(broker.node_id)]
    return sorted(broker.catalog.configs.resources(kind))
