"""ConsumerGroupHeartbeat: v0-1 (KIP-848).

Behaviour: all that a member of a group of the new protocol says, and all that it is told, see
`coordinator/consumer_groups.py`. Epoch 0 joins, -1 leaves, -2 leaves a static member's place for a
while. The answer waits for the disk with what it rests on: no member is told of a partition that a
crash could give to another.
While the feature group.version is at level 0 there are no such groups: UNSUPPORTED_VERSION.
Versions: v1 subscription by a regular expression, which the broker matches with the names of topics
that the member may DESCRIBE; a member's id is of its own making, which v0 left to the broker.
Divergences: a regular expression is matched before the answer, so that the first answer to a member
that joins with one has its partitions; Kafka does it beside, and they come with a later heartbeat.
A group of classic members is not converted while it has members: docs/decisions/0005.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.features import GROUP_VERSION
from ottla.broker.registry import api
from ottla.coordinator.consumer_heartbeat import ConsumerHeartbeat
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_OWN_ID_VERSION = 1


@api(68, 0, 1)
def handle(broker: "Broker", request: "Request[ConsumerGroupHeartbeatRequest]") -> None:
    if not broker.catalog.features.level(GROUP_VERSION):
        refused = ConsumerGroupHeartbeatResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
        request.respond(refused)
        return
    try:
        outcome = broker.groups.consumer_heartbeat(
            _heartbeat(broker, request), broker.clock.monotonic_ms()
        )
    except KafkaError as error:
        request.respond(
            ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
        )
        return
    broker.commit(outcome.records)
    answer = outcome.reply
    assignment = None
    if answer.assigned is not None:
        assignment = Assignment(
            [TopicPartitions(UUID(bytes=topic_id), one) for topic_id, one in answer.assigned]
        )
    request.respond(
        ConsumerGroupHeartbeatResponse(
            member_id=answer.member_id,
            member_epoch=answer.member_epoch,
            heartbeat_interval_ms=answer.heartbeat_interval_ms,
            assignment=assignment,
        )
    )


def _heartbeat(
    broker: "Broker", request: "Request[ConsumerGroupHeartbeatRequest]"
) -> ConsumerHeartbeat:
    body = request.body
    member_id = body.member_id
    if not member_id and body.member_epoch == 0 and request.version < _OWN_ID_VERSION:
        member_id = str(broker.rng.uuid())
    owned = None
    if body.topic_partitions is not None:
        owned = frozenset(
            (topic.topic_id.bytes, partition)
            for topic in body.topic_partitions
            for partition in topic.partitions
        )
    return ConsumerHeartbeat(
        body.group_id,
        member_id,
        body.member_epoch,
        body.instance_id,
        body.rack_id,
        body.rebalance_timeout_ms,
        request.client_id,
        f"/{request.client_host}",
        body.subscribed_topic_names,
        body.subscribed_topic_regex,
        body.server_assignor,
        owned,
        request.connection.principal,
    )
