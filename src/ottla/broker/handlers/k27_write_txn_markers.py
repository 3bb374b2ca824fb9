"""WriteTxnMarkers: v1-2.

Behaviour: how an administrator ends a hanging transaction (KIP-664): one that a partition holds
open and no coordinator knows of. The marker is checked against what the partition knows of the
producer (epoch, coordinator's epoch), appended, and answered when it is durable.
Versions: v2 says which version of transactions the marker is of (KIP-1228).
Divergences: in Kafka this is how a coordinator reaches the partitions on other nodes. Here it is
only the administrator's way, for EndTxn writes its markers itself.
- A partition whose transaction the coordinator has open too: Kafka ends it in this partition alone,
  and the producer may commit the rest. Here all of the transaction is aborted, as by a time-out, so
  it stays all or nothing; a COMMIT is INVALID_TXN_STATE, for only EndTxn may commit it.
- An epoch that the coordinator has not given to the producer yet is INVALID_PRODUCER_EPOCH: it
  would shut out the producer from this partition, and no other.
- Offsets of a group cannot be ended so: there is no partition of __consumer_offsets to name.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.records import TransactionRecord
from ottla.coordinator.transaction_states import TRANSACTION_VERSION_2, TransactionState
from ottla.coordinator.transaction_steps import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    TopicPartition,
)
from ottla.log.partition import Partition
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

Errors = dict[TopicPartition, ErrorCode]


@api(27, 1, 2)
def handle(broker: "Broker", request: "Request[WriteTxnMarkersRequest]") -> None:
    by_producer = {
        producer_id: record.transactional_id
        for record in broker.transactions.transactions()
        for producer_id in (record.producer_id, record.kept_producer_id)
    }
    errors: dict[int, Errors] = {}
    for marker in request.body.markers:
        transactional_id = by_producer.get(marker.producer_id)
        found = _write(broker, marker, transactional_id)
        errors.setdefault(marker.producer_id, {}).update(found)
    request.respond(
        WriteTxnMarkersResponse(
            markers=[
                WritableTxnMarkerResult(producer_id, _results(found))
                for producer_id, found in errors.items()
            ]
        )
    )


def _write(broker: "Broker", marker: WritableTxnMarker, transactional_id: str | None) -> Errors:
    """Write one marker to the partitions that it names; an error code for each."""
    record = None
    if transactional_id is not None:
        record = broker.transactions.transaction(transactional_id)
    errors: Errors = {}
    alone: list[Partition] = []
    aborts_all = False
    named = ((topic.name, index) for topic in marker.topics for index in topic.partition_indexes)
    for where in dict.fromkeys(named):
        partition = broker.catalog.partition(*where)
        if partition is None:
            errors[where] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            continue
        try:
            if _is_open_everywhere(marker, record, where, partition):
                aborts_all = True
            else:
                alone.append(partition)
            errors[where] = ErrorCode.NONE
        except KafkaError as error:
            errors[where] = error.code
    frame, now_ms = broker.new_frame(), broker.clock.now_ms()
    for partition in alone:
        batch = partition.append_marker(
            marker.producer_id,
            marker.producer_epoch,
            marker.transaction_result,
            now_ms,
            coordinator_epoch=marker.coordinator_epoch,
        )
        frame.add_batch(partition, batch, now_ms)
    if aborts_all and record is not None:
        ended = broker.transactions.end_transaction(
            record.transactional_id,
            record.producer_id,
            record.producer_epoch,
            False,
            TRANSACTION_VERSION_2,
            now_ms,
        )
        broker.add_records(frame, ended.records)
    broker.append(frame)
    return errors


def _is_open_everywhere(
    marker: WritableTxnMarker,
    record: TransactionRecord | None,
    where: TopicPartition,
    partition: Partition,
) -> bool:
    """Does the coordinator have open, too, what the marker would end in this partition?

    Raises KafkaError when the marker may not be written there.
    """
    producer_id, epoch = marker.producer_id, marker.producer_epoch
    if producer_id == NO_PRODUCER_ID or epoch == NO_PRODUCER_EPOCH:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)  # as Kafka says to a marker of nobody
    partition.producers.check_marker(
        producer_id,
        epoch,
        version=marker.transaction_version,
        coordinator_epoch=marker.coordinator_epoch,
    )
    if record is None:
        return False
    entry = partition.producers.entries.get(producer_id)
    is_open_here = entry is not None and entry.transaction_first_offset is not None
    is_open_everywhere = (
        record.state == TransactionState.ONGOING and is_open_here and where in record.partitions
    )
    is_current = producer_id == record.producer_id
    given = record.producer_epoch if is_current else record.kept_producer_epoch
    if epoch > given + is_open_everywhere:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_EPOCH)
    if is_open_everywhere and marker.transaction_result:
        raise KafkaError(ErrorCode.INVALID_TXN_STATE)
    return is_open_everywhere


def _results(errors: Errors) -> list[WritableTxnMarkerTopicResult]:
    topics: dict[str, list[WritableTxnMarkerPartitionResult]] = {}
    for (topic, index), code in errors.items():
        topics.setdefault(topic, []).append(WritableTxnMarkerPartitionResult(index, code))
    return [WritableTxnMarkerTopicResult(*topic) for topic in topics.items()]
