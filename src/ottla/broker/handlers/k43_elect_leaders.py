"""ElectLeaders: v0-2.

Behaviour: this node leads every partition already, so no election is ever needed; when all
partitions are asked for (null) there is nothing to tell.
Versions: v1 election types and a top-level error (KIP-460), v2 flexible.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_PREFERRED, _UNCLEAN = 0, 1


@api(43, 0, 2)
def handle(broker: "Broker", request: "Request[ElectLeadersRequest]") -> None:
    election_type = request.body.election_type if request.version >= 1 else _PREFERRED
    known = election_type in (_PREFERRED, _UNCLEAN) or request.body.topic_partitions == []
    request.respond(
        ElectLeadersResponse(
            error_code=ErrorCode.NONE if known else ErrorCode.INVALID_REQUEST,
            replica_election_results=[
                ReplicaElectionResult(
                    topic.topic,
                    [
                        PartitionResult(index, *_elected(broker, topic.topic, index))
                        if known
                        else PartitionResult(
                            index,
                            ErrorCode.INVALID_REQUEST,
                            f"Unknown election type {election_type}",
                        )
                        for index in topic.partitions
                    ],
                )
                for topic in request.body.topic_partitions or ()
            ],
        )
    )


def _elected(broker: "Broker", topic: str, index: int) -> tuple[ErrorCode, str]:
    if broker.catalog.topic(topic) is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {topic}"
    if broker.catalog.partition(topic, index) is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {topic}-{index}"
    return ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."
