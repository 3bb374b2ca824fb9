"""What a member of a new consumer group says in a heartbeat, and what is wrong with it (KIP-848).

Texts are Kafka's: clients log them. A field that a member leaves out (None, -1) is as it was.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ottla.coordinator.assignors import Partitions
from ottla.coordinator.consumer_group_records import ConsumerMemberRecord, PartitionsByTopic
from ottla.coordinator.consumer_group_states import STATIC_LEAVE_EPOCH, Current
from ottla.ports.errors import ErrorCode, KafkaError

NOT_GIVEN_MS = -1


class ConsumerHeartbeat(msgspec.Struct, frozen=True):
    """A ConsumerGroupHeartbeat. `owned` are the partitions that the member says it owns."""

    group_id: str
    member_id: str
    member_epoch: int
    group_instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = NOT_GIVEN_MS
    client_id: str = ""
    client_host: str = ""
    topics: list[str] | None = None
    topic_regex: str | None = None
    assignor: str | None = None
    owned: Partitions | None = None
    principal: str = ""

    @property
    def joins(self) -> bool:
        return self.member_epoch == 0

    @property
    def is_full(self) -> bool:
        """All that can be said is said: the member wants to hear all that there is to hear."""
        return self.joins or (
            self.rebalance_timeout_ms != NOT_GIVEN_MS
            and (self.topics is not None or self.topic_regex is not None)
            and self.owned is not None
        )


class HeartbeatAnswer(NamedTuple):
    """`assigned` is None when the member knows already."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    assigned: PartitionsByTopic | None


def check_request(request: ConsumerHeartbeat, assignors: Iterable[str]) -> None:
    """Raise KafkaError for a request that is wrong by itself."""
    reason = _refusal(request)
    if reason:
        raise KafkaError(ErrorCode.INVALID_REQUEST, reason)
    if request.assignor is not None and request.assignor not in (known := tuple(assignors)):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.assignor} is not supported. Supported assignors: "
            f"{', '.join(known)}.",
        )


def _refusal(request: ConsumerHeartbeat) -> str:
    named = {
        "GroupId": request.group_id,
        "MemberId": request.member_id,
        "InstanceId": request.group_instance_id,
        "RackId": request.rack_id,
    }
    for name, value in named.items():
        if value == "":
            return f"{name} can't be empty."
    if request.member_epoch < STATIC_LEAVE_EPOCH:
        return "MemberEpoch is invalid."
    if request.member_epoch == STATIC_LEAVE_EPOCH and request.group_instance_id is None:
        return "InstanceId can't be null."
    return _refusal_to_join(request) if request.joins else ""


def _refusal_to_join(request: ConsumerHeartbeat) -> str:
    if request.rebalance_timeout_ms == NOT_GIVEN_MS:
        return "RebalanceTimeoutMs must be provided in first request."
    if request.owned is None or request.owned:
        return "TopicPartitions must be empty when (re-)joining."
    if request.topics is None and request.topic_regex is None:
        return (
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
            "(re-)joining."
        )
    return ""


def check_epoch(current: Current, request: ConsumerHeartbeat) -> None:
    """Raise KafkaError(FENCED_MEMBER_EPOCH) unless the member speaks of its epoch.

    Of the one before too if it owns nothing that it may not own: the answer that told it the new
    one may be lost.
    """
    epoch = request.member_epoch
    if epoch == current.epoch:
        return
    which = "greater" if epoch > current.epoch else "smaller"
    if epoch == current.previous_epoch and which == "smaller":
        owned = request.owned
        if owned is not None and owned <= current.assigned.keys():
            return
    raise KafkaError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {which} member epoch ({epoch}) than the one known by the "
        f"group coordinator ({current.epoch}). The member must abandon all its partitions and "
        "rejoin.",
    )


def updated_member(
    known: ConsumerMemberRecord | None, request: ConsumerHeartbeat
) -> ConsumerMemberRecord:
    """The member as it is with what the request says."""
    before = known or ConsumerMemberRecord(request.group_id, request.member_id)
    timeout_ms = request.rebalance_timeout_ms
    return ConsumerMemberRecord(
        request.group_id,
        request.member_id,
        request.group_instance_id or before.group_instance_id,
        request.rack_id or before.rack_id,
        request.client_id,
        request.client_host,
        before.rebalance_timeout_ms if timeout_ms == NOT_GIVEN_MS else timeout_ms,
        before.topics if request.topics is None else sorted(set(request.topics)),
        before.topic_regex if request.topic_regex is None else request.topic_regex,
        request.assignor or before.assignor,
        request.principal,
    )
