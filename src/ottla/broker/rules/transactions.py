"""Rules of the transactional APIs.

The TransactionalId is the resource: who may WRITE to it may act for the producer ids that it owns.
That the producer id of a request is its TransactionalId's, the coordinator checks.
"""

from typing import TYPE_CHECKING, Any

from ottla.broker.authorizer import Operation
from ottla.broker.rules.rule import (
    CLUSTER_DENIED,
    GROUP_DENIED,
    TOPIC_DENIED,
    TRANSACTIONAL_ID_DENIED,
    part,
    refusal,
)
from ottla.ports.errors import ErrorCode
from ottla.wire.message import Message
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
)
from ottla.wire.messages.describe_transactions import TransactionState
from ottla.wire.messages.write_txn_markers import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_BATCHED_VERSION = 4


def init_producer_id(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on the TransactionalId, and TWO_PHASE_COMMIT when that is asked for (KIP-939).

    An idempotent producer needs a topic to write to (KIP-679).
    """
    access, transactional_id = request.access, request.body.transactional_id
    if transactional_id is not None:
        operations = [Operation.WRITE]
        if request.body.enable2_pc:
            operations.append(Operation.TWO_PHASE_COMMIT)
        if all(access.transactional_id(operation, transactional_id) for operation in operations):
            return None
        code = TRANSACTIONAL_ID_DENIED
    else:
        if access.cluster(Operation.IDEMPOTENT_WRITE) or access.any_topic(Operation.WRITE):
            return None
        code = CLUSTER_DENIED
    response: Any = refusal(request, code)
    response.producer_id, response.producer_epoch = -1, -1
    return response  # type: ignore[no-any-return]


def end_txn(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on the TransactionalId."""
    if request.access.transactional_id(Operation.WRITE, request.body.transactional_id):
        return None
    return refusal(request, TRANSACTIONAL_ID_DENIED)


def add_offsets(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on the TransactionalId, READ on the group."""
    body = request.body
    if not request.access.transactional_id(Operation.WRITE, body.transactional_id):
        return refusal(request, TRANSACTIONAL_ID_DENIED)
    if not request.access.group(Operation.READ, body.group_id):
        return refusal(request, GROUP_DENIED)
    return None


def add_partitions(broker: "Broker", request: "Request[Any]") -> Message | None:
    """WRITE on the TransactionalId and on each topic; v4-5 are from brokers: CLUSTER_ACTION.

    One topic that is refused refuses the request: the others are OPERATION_NOT_ATTEMPTED.
    """
    body, access = request.body, request.access
    if request.version >= _BATCHED_VERSION:
        if access.cluster(Operation.CLUSTER_ACTION):
            return None
        return refusal(request, CLUSTER_DENIED)
    topics = body.v3_and_below_topics
    if not access.transactional_id(Operation.WRITE, body.v3_and_below_transactional_id):
        return _added(topics, lambda name, index: TRANSACTIONAL_ID_DENIED)
    if all(access.topic(Operation.WRITE, topic.name) for topic in topics):
        return None

    def code(name: str, index: int) -> ErrorCode:
        if not access.topic(Operation.WRITE, name):
            return TOPIC_DENIED
        if broker.catalog.partition(name, index) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.OPERATION_NOT_ATTEMPTED

    return _added(topics, code)


def _added(topics: list[AddPartitionsToTxnTopic], code: Any) -> AddPartitionsToTxnResponse:
    return AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            AddPartitionsToTxnTopicResult(
                topic.name,
                [
                    AddPartitionsToTxnPartitionResult(index, code(topic.name, index))
                    for index in topic.partitions
                ],
            )
            for topic in topics
        ]
    )


def write_markers(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster (an administrator) or CLUSTER_ACTION (a broker)."""
    access = request.access
    if access.cluster(Operation.ALTER) or access.cluster(Operation.CLUSTER_ACTION):
        return None
    return WriteTxnMarkersResponse(
        markers=[
            WritableTxnMarkerResult(
                marker.producer_id,
                [
                    WritableTxnMarkerTopicResult(
                        topic.name,
                        [
                            WritableTxnMarkerPartitionResult(index, CLUSTER_DENIED)
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.body.markers
        ]
    )


def describe_transactions(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on each TransactionalId; of its topics those are told that may be described."""
    body, access = request.body, request.access
    body.transactional_ids, denied = part(
        body.transactional_ids, lambda one: access.transactional_id(Operation.DESCRIBE, one)
    )

    def amend(response: Any) -> None:
        for state in response.transaction_states:
            state.topics = [
                topic for topic in state.topics if access.topic(Operation.DESCRIBE, topic.topic)
            ]
        response.transaction_states += [
            TransactionState(error_code=TRANSACTIONAL_ID_DENIED, transactional_id=one)
            for one in denied
        ]

    request.amend(amend)
    return None


def list_transactions(broker: "Broker", request: "Request[Any]") -> Message | None:
    """Those TransactionalIds are told that may be described."""
    access = request.access

    def amend(response: Any) -> None:
        response.transaction_states = [
            state
            for state in response.transaction_states
            if access.transactional_id(Operation.DESCRIBE, state.transactional_id)
        ]

    request.amend(amend)
    return None
