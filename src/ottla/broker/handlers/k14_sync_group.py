"""SyncGroup: v0-5.

Behaviour: parked until the leader's request brings the assignments of all. With them the generation
is complete: it is written to the journal, and answered once it is durable, so that a restart of
the broker does not cost a rebalance.
Versions: v3 static members; v5 protocol type and name are given and checked (KIP-559).
Divergences: a parked request is answered REBALANCE_IN_PROGRESS when its member sends another.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.membership import SyncRequest, sync_refused
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.sync_group import SyncGroupRequest

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_PROTOCOL_VERSION = 5


@api(14, 0, 5)
def handle(broker: "Broker", request: "Request[SyncGroupRequest]") -> None:
    body = request.body
    named = body.protocol_type is not None and body.protocol_name is not None
    if request.version >= _PROTOCOL_VERSION and not named:
        request.respond(sync_refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        return
    try:
        broker.check_disk_space()
    except KafkaError:
        # What Kafka makes of KAFKA_STORAGE_ERROR here: clients look for the coordinator and retry.
        request.respond(sync_refused(ErrorCode.NOT_COORDINATOR))
        return
    sync = SyncRequest(
        body.group_id,
        body.member_id,
        body.group_instance_id,
        body.generation_id,
        {one.member_id: bytes(one.assignment) for one in body.assignments},
        body.protocol_type,
        body.protocol_name,
    )
    broker.commit_group(broker.groups.sync(request, sync, broker.clock.monotonic_ms()))
