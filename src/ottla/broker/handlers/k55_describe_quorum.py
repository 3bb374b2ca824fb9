"""DescribeQuorum: v0-2.

Behaviour: a quorum of this node alone, which leads it. Its log is the journal: what is in it, and
up to where it is durable.
Versions: v1 times, v2 error texts and the address.
Divergences: positions are bytes of the journal where Kafka counts records of its metadata log.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.registry import api
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    RequestedTopic,
    TopicData,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_QUORUM = [("__cluster_metadata", [0])]
_LISTENER = "CONTROLLER"


@api(55, 0, 2)
def handle(broker: "Broker", request: "Request[DescribeQuorumRequest]") -> None:
    topics = request.body.topics
    asked = [(one.topic_name, [part.partition_index for part in one.partitions]) for one in topics]
    if asked != _QUORUM:
        request.respond_now(DescribeQuorumResponse(error_message="", topics=_unknown(topics)))
        return
    host, port = request.advertised
    quorum = TopicData(_QUORUM[0][0], [_quorum(broker)])
    node = Node(broker.node_id, [Listener(_LISTENER, host, port)])
    request.respond_now(DescribeQuorumResponse(error_message="", topics=[quorum], nodes=[node]))


def _unknown(topics: list[RequestedTopic]) -> list[TopicData]:
    return [
        TopicData(
            topic.topic_name,
            [
                PartitionData(
                    partition_index=one.partition_index,
                    error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    error_message="This server does not host this topic-partition.",
                    current_voters=[],
                    observers=[],
                )
                for one in topic.partitions
            ],
        )
        for topic in topics
    ]


def _quorum(broker: "Broker") -> PartitionData:
    journal, now_ms = broker.store.journal, broker.clock.now_ms()
    return PartitionData(
        partition_index=0,
        error_code=ErrorCode.NONE,
        error_message="",
        leader_id=broker.node_id,
        leader_epoch=LEADER_EPOCH,
        high_watermark=journal.durable_position,
        current_voters=[
            ReplicaState(
                replica_id=broker.node_id,
                replica_directory_id=UUID(int=0),
                log_end_offset=journal.written_position,
                last_fetch_timestamp=now_ms,
                last_caught_up_timestamp=now_ms,
            )
        ],
        observers=[],
    )
