"""DescribeCluster: v0-2.

Behaviour: one broker, which is the controller.
Versions: v1 endpoint type (brokers only: controllers have no listener of their own here), v2
fenced brokers, of which there are none.
"""

from typing import TYPE_CHECKING

from ottla.broker.access import NOT_ASKED_FOR
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_ENDPOINT_BROKERS = 1


@api(60, 0, 2)
def handle(broker: "Broker", request: "Request[DescribeClusterRequest]") -> None:
    if request.version >= 1 and request.body.endpoint_type != _ENDPOINT_BROKERS:
        request.respond_now(
            DescribeClusterResponse(
                error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE,
                error_message="this listener serves clients of brokers",
            )
        )
        return
    host, port = request.advertised
    request.respond(
        DescribeClusterResponse(
            cluster_id=broker.catalog.cluster_id,
            controller_id=broker.node_id,
            brokers=[DescribeClusterBroker(broker_id=broker.node_id, host=host, port=port)],
            cluster_authorized_operations=(
                request.access.cluster_operations()
                if request.body.include_cluster_authorized_operations
                else NOT_ASKED_FOR
            ),
        )
    )
