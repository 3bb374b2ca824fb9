"""Produce: v3-13, advertised from 0.

Behaviour: for a transactional request the coordinator is asked whether the transaction may write
to the partitions, then each one's batch is checked (size, CRC, fields), then the producer state
decides. A batch of an unknown magic, or of a transaction in a request without a transactional id,
refuses all of a request. With acks=0 a refusal closes the connection: nothing else can tell.
All batches of a request are one frame of the journal. acks=1 waits for the disk like acks=all: a
leader without followers has nothing less to give, and consumers see durable records only. Batches
of a transaction wait for the write alone: its end makes them durable, a power cut aborts it; but
not in two-phase commit, where they may be prepared (KIP-939).
Versions: advertised from 0, or old librdkafka turns compression off (KAFKA-18659); 0-2 are
answered by closing. v10 current leader, v12 adds partitions to the transaction (KIP-890), v13
topic ids. A duplicate is answered with the original's offset.
Divergences: batches are opened only where the topic's configs ask for it (`log/validate.py`). A
full disk is KAFKA_STORAGE_ERROR before anything is changed. Bytes behind a batch are INVALID_RECORD
(Kafka drops what is no whole batch), so are transactional batches without a producer id, and of a
partition that is named twice both batches are appended (Kafka takes the last).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.log.partition import Appended, Partition
from ottla.log.store import Frame
from ottla.log.validate import RecordsRefused, check_batch, has_transactional_batch, one_batch
from ottla.ports.errors import ErrorCode, KafkaError, ProtocolError
from ottla.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from ottla.wire.records import BatchHeader

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.catalog import Topic
    from ottla.broker.request import Request

_TOPIC_IDS_VERSION = 13
_IMPLICIT_ADD_VERSION = 12
_TELL_NOTHING_OF_THE_LOG = {
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.MESSAGE_TOO_LARGE,
    ErrorCode.RECORD_LIST_TOO_LARGE,
}


@dataclass(slots=True)
class _Batch:
    """The batch for one partition."""

    partition: Partition
    records: memoryview
    header: BatchHeader


@dataclass(slots=True)
class _Refused:
    """Why nothing is appended to a partition. `log_start_offset`: if the log itself refuses it."""

    error: KafkaError
    log_start_offset: int = -1


_Checked = _Batch | _Refused


@api(0, 3, 13, min_advertised=0)
def handle(broker: "Broker", request: "Request[ProduceRequest]") -> None:
    body, now_ms = request.body, broker.clock.now_ms()
    checked = _check(broker, request)
    frame = broker.new_frame()
    _admit(broker, request, frame, checked, now_ms)
    if body.acks not in (-1, 0, 1):
        checked = [[_refused_for_acks(batch, body.acks) for batch in each] for each in checked]
    must_start_at_zero = (
        body.transactional_id is not None and request.version >= _IMPLICIT_ADD_VERSION
    )
    appended = [
        [_append(frame, batch, now_ms, must_start_at_zero) for batch in batches]
        for batches in checked
    ]
    for results in appended:
        broker.counters.produced(one.error if isinstance(one, _Refused) else one for one in results)
    deferred = _may_be_deferred(checked, appended) and not broker.transactions.is_two_phase(
        body.transactional_id
    )
    broker.append(frame, deferred=deferred)
    if body.acks == 0:
        _answer_nothing(request, appended)
        return
    response = ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic_data.name,
                topic_id=topic_data.topic_id,
                partition_responses=[
                    _answer(data.index, result)
                    for data, result in zip(topic_data.partition_data, results, strict=True)
                ],
            )
            for topic_data, results in zip(body.topic_data, appended, strict=True)
        ]
    )
    if deferred:
        request.respond_when_written(response)
    else:
        request.respond(response)


def _may_be_deferred(
    checked: list[list[_Checked]], appended: list[list[Appended | _Refused]]
) -> bool:
    """All of it belongs to an open transaction: durable with its end is soon enough."""
    return all(
        isinstance(batch, _Batch) and batch.header.is_transactional
        for batches in checked
        for batch in batches
    ) and not any(isinstance(result, _Refused) for results in appended for result in results)


def _answer_nothing(
    request: "Request[ProduceRequest]", appended: list[list[Appended | _Refused]]
) -> None:
    refused = [one.error for results in appended for one in results if isinstance(one, _Refused)]
    if refused:
        raise ProtocolError(f"a Produce with acks=0 was refused: {refused[0].code.name}")
    request.respond_nothing()


def _check(broker: "Broker", request: "Request[ProduceRequest]") -> list[list[_Checked]]:
    """What there is for each partition, before anything is changed."""
    body = request.body
    try:
        _check_request(broker, body)
    except KafkaError as error:
        return [[_Refused(error) for _ in topic.partition_data] for topic in body.topic_data]
    return [_check_topic(broker, request, topic) for topic in body.topic_data]


def _check_request(broker: "Broker", body: ProduceRequest) -> None:
    """Raise KafkaError for what refuses the request as a whole."""
    produced = (one.records for topic in body.topic_data for one in topic.partition_data)
    if has_transactional_batch(produced) and body.transactional_id is None:
        raise KafkaError(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "a transactional batch, and no transactional id in the request",
        )
    broker.check_disk_space()


def _check_topic(
    broker: "Broker", request: "Request[ProduceRequest]", data: TopicProduceData
) -> list[_Checked]:
    version = request.version
    if version >= _TOPIC_IDS_VERSION:
        topic = broker.catalog.topic_by_id(data.topic_id)
    else:
        topic = broker.catalog.topic(data.name)
    checked: list[_Checked] = []
    for partition_data in data.partition_data:
        try:
            partition = _find(topic, partition_data.index, version)
            records = memoryview(partition_data.records or b"")
            header = one_batch(records, version)
            checked.append(_Batch(partition, records, header))
        except KafkaError as error:
            checked.append(_Refused(error))
    return checked


def _find(topic: "Topic | None", index: int, version: int) -> Partition:
    if topic is None and version >= _TOPIC_IDS_VERSION:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
    if topic is None or not 0 <= index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return topic.partitions[index]


def _admit(
    broker: "Broker",
    request: "Request[ProduceRequest]",
    frame: Frame,
    checked: list[list[_Checked]],
    now_ms: int,
) -> None:
    """Ask the coordinator about the transactional batches; a refused one becomes its error.

    What the coordinator adds to the transaction goes into the frame of the batches, before them.
    """
    places = [
        (batches, at, batch)
        for batches in checked
        for at, batch in enumerate(batches)
        if isinstance(batch, _Batch) and batch.header.is_transactional
    ]
    if not places:
        return
    header = places[0][2].header
    identity = (header.producer_id, header.producer_epoch)
    if any(
        (batch.header.producer_id, batch.header.producer_epoch) != identity
        for _, _, batch in places
    ):
        errors: list[ErrorCode] | None = [ErrorCode.INVALID_PRODUCER_ID_MAPPING] * len(places)
    else:
        outcome = broker.transactions.admit_produce(
            request.body.transactional_id or "",
            header.producer_id,
            header.producer_epoch,
            [(batch.partition.name.topic, batch.partition.name.index) for _, _, batch in places],
            request.version,
            now_ms,
        )
        broker.add_records(frame, outcome.records)
        errors = outcome.reply
    for (batches, at, _), error in zip(places, errors or (), strict=False):
        if error is not ErrorCode.NONE:
            batches[at] = _Refused(KafkaError(error))


def _refused_for_acks(batch: _Checked, acks: int) -> _Refused:
    if isinstance(batch, _Refused):
        return batch
    return _Refused(KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={acks}"))


def _append(
    frame: Frame, batch: _Checked, now_ms: int, must_start_at_zero: bool
) -> Appended | _Refused:
    """Append the batch to its partition and to the frame, or say why not."""
    if isinstance(batch, _Refused):
        return batch
    partition = batch.partition
    try:
        records, header = check_batch(batch.records, batch.header, partition.config, now_ms)
        appended = partition.append(records, header, now_ms, must_start_at_zero=must_start_at_zero)
    except KafkaError as error:
        told = error.code not in _TELL_NOTHING_OF_THE_LOG
        return _Refused(error, partition.log_start_offset if told else -1)
    if appended.buffers:
        frame.add_batch(partition, appended.buffers, now_ms)
    return appended


def _answer(index: int, result: Appended | _Refused) -> PartitionProduceResponse:
    """An error carries base offset -1: a 0 would name a record (Jepsen, Bufstream 0.1.0)."""
    if isinstance(result, Appended):
        return PartitionProduceResponse(
            index=index,
            error_code=ErrorCode.NONE,
            base_offset=result.base_offset,
            log_append_time_ms=result.log_append_time_ms,
            log_start_offset=result.log_start_offset,
        )
    error = result.error
    records = error.record_errors if isinstance(error, RecordsRefused) else []
    return PartitionProduceResponse(
        index=index,
        error_code=error.code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=result.log_start_offset,
        record_errors=[
            BatchIndexAndErrorMessage(batch_index=at, batch_index_error_message=reason)
            for at, reason in records
        ],
        error_message=error.message,
    )
