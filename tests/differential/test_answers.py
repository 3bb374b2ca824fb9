"""The same question gets the same answer: error codes of the producer's and the transaction's APIs.

Every test runs on Ottla and on Apache Kafka, with requests made by hand, so that each asserted code
is Kafka's own. Where Ottla differs on purpose, the test says so.
"""

from collections.abc import Callable, Iterator

import pytest

from ottla.client.admin import Admin, TopicSpec
from ottla.ports.errors import ErrorCode
from ottla.wire.message import ZERO_UUID as NO_ID
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch
from tests.differential.raw import Raw, RawProducer

Unique = Callable[[str], str]

NONE = ErrorCode.NONE
ABORTABLE = ErrorCode.TRANSACTION_ABORTABLE
FENCED = ErrorCode.PRODUCER_FENCED
ILLEGAL_GENERATION = ErrorCode.ILLEGAL_GENERATION
INVALID_EPOCH = ErrorCode.INVALID_PRODUCER_EPOCH
INVALID_MAPPING = ErrorCode.INVALID_PRODUCER_ID_MAPPING
INVALID_RECORD = ErrorCode.INVALID_RECORD
INVALID_REQUEST = ErrorCode.INVALID_REQUEST
INVALID_STATE = ErrorCode.INVALID_TXN_STATE
INVALID_TIMEOUT = ErrorCode.INVALID_TRANSACTION_TIMEOUT
NOT_ATTEMPTED = ErrorCode.OPERATION_NOT_ATTEMPTED
OUT_OF_ORDER = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
UNKNOWN_MEMBER = ErrorCode.UNKNOWN_MEMBER_ID
UNKNOWN_TOPIC = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

COMMIT, ABORT = True, False


@pytest.fixture
def raw(bootstrap: str) -> Iterator[Raw]:
    connection = Raw(bootstrap)
    for kind in (0, 1):
        connection.find_coordinator(kind, "anything")
    yield connection
    connection.close()


@pytest.fixture
def topic(bootstrap: str, unique: Unique) -> str:
    name = unique("topic")
    Admin(bootstrap).create_topics([TopicSpec(name, 2)])
    return name


@pytest.fixture
def idempotent(raw: Raw, topic: str) -> RawProducer:
    producer = RawProducer(raw, None, topic)
    assert producer.init() is NONE
    return producer


@pytest.fixture
def producer(raw: Raw, topic: str, unique: Unique) -> RawProducer:
    """Transactional, its id and epoch taken."""
    producer = RawProducer(raw, unique("id"), topic)
    assert producer.init() is NONE
    return producer


# -- idempotent produce ------------------------------------------------------------------------


def test_a_duplicate_gets_the_answer_of_the_original(idempotent: RawProducer) -> None:
    for sequence in range(0, 14, 2):
        assert idempotent.produce(sequence, count=2) == (NONE, sequence)
    for sequence in range(4, 14, 2):  # the last five batches are remembered
        assert idempotent.produce(sequence, count=2) == (NONE, sequence)
    assert idempotent.produce(2, count=2) == (OUT_OF_ORDER, -1)
    assert idempotent.produce(14, count=2) == (NONE, 14)


def test_a_gap_in_the_sequence_is_refused(idempotent: RawProducer) -> None:
    assert idempotent.produce(0) == (NONE, 0)
    assert idempotent.produce(2) == (OUT_OF_ORDER, -1)
    assert idempotent.produce(0, count=2) == (OUT_OF_ORDER, -1)  # overlaps, is no duplicate
    assert idempotent.produce(1) == (NONE, 1)


def test_a_new_epoch_starts_at_sequence_zero_and_fences(idempotent: RawProducer) -> None:
    assert idempotent.produce(0) == (NONE, 0)
    assert idempotent.produce(1, epoch=1) == (OUT_OF_ORDER, -1)
    assert idempotent.produce(0, epoch=1) == (NONE, 1)
    assert idempotent.produce(1, epoch=0) == (INVALID_EPOCH, -1)


def test_a_producer_id_that_the_partition_has_not_seen_starts_anywhere(
    idempotent: RawProducer,
) -> None:
    assert idempotent.produce(7) == (NONE, 0)
    assert idempotent.produce(8) == (NONE, 1)


def test_what_is_not_one_good_batch_is_refused(idempotent: RawProducer) -> None:
    good = build_batch([Record(0, 1_700_000_000_000, None, b"v", [])])
    assert idempotent.produce_bytes(good) == (NONE, 0)
    assert idempotent.produce_bytes(good + good) == (INVALID_RECORD, -1)
    damaged = bytearray(good)
    damaged[-1] ^= 1
    assert idempotent.produce_bytes(bytes(damaged)) == (ErrorCode.CORRUPT_MESSAGE, -1)
    control = build_batch([Record(0, 0, b"\0\0\0\1", b"\0" * 6, [])], control=True)
    assert idempotent.produce_bytes(control) == (INVALID_RECORD, -1)
    assert idempotent.produce_bytes(good, acks=2) == (ErrorCode.INVALID_REQUIRED_ACKS, -1)
    assert idempotent.produce_bytes(good, partition=9) == (UNKNOWN_TOPIC, -1)
    assert idempotent.produce_bytes(good) == (NONE, 1)


def test_what_refuses_all_of_a_produce(raw: Raw, topic: str, unique: Unique) -> None:
    good = build_batch([Record(0, 1_700_000_000_000, None, b"v", [])])
    transactional = build_batch(
        [Record(0, 1_700_000_000_000, None, b"v", [])],
        producer_id=1,
        producer_epoch=0,
        base_sequence=0,
        transactional=True,
    )
    impossible, old = bytearray(good), bytearray(good)
    impossible[16], old[16] = 3, 1  # the magic
    no_right, corrupt = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ErrorCode.CORRUPT_MESSAGE

    def codes(*batches: bytes, acks: int = -1) -> list[ErrorCode]:
        partitions = [PartitionProduceData(*each) for each in enumerate(batches)]
        request = ProduceRequest(None, acks, 10_000, [TopicProduceData(topic, NO_ID, partitions)])
        answer = raw.ask(9, request).responses[0].partition_responses
        return [one.error_code for one in sorted(answer, key=lambda one: one.index)]

    assert codes(good, transactional) == [no_right, no_right]
    assert codes(transactional, impossible) == [no_right, no_right]
    assert codes(good, impossible) == [corrupt, corrupt]
    assert codes(impossible, transactional) == [corrupt, corrupt]
    assert codes(impossible, acks=7) == codes(b"\0" * 61) == codes(good + impossible) == [corrupt]
    assert codes(good, old) == [NONE, INVALID_RECORD]
    assert codes(old, acks=7) == [INVALID_RECORD]
    assert codes(b"") == codes(good[:-1]) == [INVALID_RECORD]
    with pytest.raises(ConnectionError):
        codes(old, acks=0)


# -- InitProducerId ----------------------------------------------------------------------------


def test_what_init_producer_id_refuses(raw: Raw, topic: str, unique: Unique) -> None:
    assert RawProducer(raw, "", topic).init() is INVALID_REQUEST
    new = RawProducer(raw, unique("id"), topic)
    assert new.init(timeout_ms=0) is INVALID_TIMEOUT
    assert new.init(timeout_ms=1_000_000_000) is INVALID_TIMEOUT
    assert new.init(identity=(5, -1)) is INVALID_REQUEST
    assert new.init(identity=(-1, 5)) is INVALID_REQUEST


def test_init_producer_id_raises_the_epoch(producer: RawProducer) -> None:
    producer_id, epoch = producer.producer_id, producer.epoch
    assert producer.init() is NONE
    assert (producer.producer_id, producer.epoch) == (producer_id, epoch + 1)
    # KIP-360: a producer that goes on after an error, and its retry.
    for _ in range(2):
        assert producer.init(identity=(producer_id, epoch + 1)) is NONE
        assert (producer.producer_id, producer.epoch) == (producer_id, epoch + 2)
    assert producer.init(identity=(producer_id, epoch)) is FENCED
    assert producer.init(identity=(producer_id + 1000, epoch)) is FENCED


def test_init_producer_id_aborts_what_is_open(producer: RawProducer, topic: str) -> None:
    assert producer.add_partitions({topic: [0]}) == [NONE]
    assert producer.produce(0) == (NONE, 0)
    before = producer.epoch
    assert producer.init() is NONE
    assert producer.end(COMMIT, epoch=before) is FENCED
    assert producer.produce(1, epoch=before) == (INVALID_EPOCH, -1)
    assert producer.end(COMMIT) is INVALID_STATE
    assert producer.add_partitions({topic: [0]}) == [NONE]
    assert producer.produce(0) == (NONE, 2)  # record, marker, record
    assert producer.end(COMMIT) is NONE


# -- AddPartitionsToTxn, and produce without it ------------------------------------------------


def test_what_add_partitions_refuses(
    raw: Raw, producer: RawProducer, topic: str, unique: Unique
) -> None:
    stranger = RawProducer(raw, unique("stranger"), topic)
    stranger.producer_id = stranger.epoch = 0
    assert stranger.add_partitions({topic: [0]}) == [INVALID_MAPPING]
    old = producer.epoch
    assert producer.init() is NONE
    assert producer.add_partitions({topic: [0]}, epoch=old) == [FENCED]
    assert producer.add_partitions({topic: [0]}, epoch=old, version=1) == [INVALID_EPOCH]
    assert producer.add_partitions({topic: [0], "no-such-topic": [0]}) == [
        NOT_ATTEMPTED,
        UNKNOWN_TOPIC,
    ]
    assert producer.end(ABORT) is INVALID_STATE  # nothing was begun


def test_a_partition_must_be_added_before_it_is_written(
    producer: RawProducer, topic: str, broker_name: str
) -> None:
    assert producer.produce(0) == (INVALID_STATE, -1)
    assert producer.produce(0, version=11) == (ABORTABLE, -1)
    assert producer.add_partitions({topic: [0]}) == [NONE]
    assert producer.produce(0) == (NONE, 0)
    assert producer.produce(0, partition=1) == (INVALID_STATE, -1)
    assert producer.end(COMMIT) is NONE
    if broker_name == "ottla":  # Kafka lets it in until the marker is written
        assert producer.produce(1) == (INVALID_STATE, -1)


def test_with_transaction_version_2_a_produce_adds_its_partition(producer: RawProducer) -> None:
    assert producer.produce(0, version=12) == (NONE, 0)
    assert producer.end(COMMIT, version=5) is NONE
    assert producer.produce(0, version=12) == (NONE, 2)
    assert producer.end(ABORT, version=5) is NONE


def test_a_plain_batch_does_not_mix_with_an_open_transaction(
    producer: RawProducer, topic: str
) -> None:
    assert producer.add_partitions({topic: [0]}) == [NONE]
    assert producer.produce(0) == (NONE, 0)
    assert producer.produce(1, transactional=False) == (INVALID_STATE, -1)
    assert producer.end(COMMIT) is NONE


# -- EndTxn ------------------------------------------------------------------------------------


def test_ends_of_version_1(producer: RawProducer, topic: str) -> None:
    assert producer.end(COMMIT) is INVALID_STATE
    assert producer.end(ABORT) is INVALID_STATE
    for result in (COMMIT, ABORT):
        assert producer.add_partitions({topic: [0]}) == [NONE]
        assert producer.end(result) is NONE
        assert producer.end(result) is NONE  # a retry
        assert producer.end(not result) is INVALID_STATE
    old = producer.epoch
    assert producer.init() is NONE
    assert producer.end(COMMIT, epoch=old) is FENCED
    assert producer.end(COMMIT, epoch=old, version=1) is INVALID_EPOCH
    assert producer.end(COMMIT, epoch=old + 7) is FENCED


def test_ends_of_version_2(producer: RawProducer) -> None:
    assert producer.end(COMMIT, version=5) is INVALID_STATE
    for result in (COMMIT, ABORT):
        epoch = producer.epoch
        assert producer.produce(0, version=12)[0] is NONE
        assert producer.end(result, version=5, epoch=epoch - 1) is FENCED
        for _ in range(2):  # the second one is a retry, with the epoch of the transaction
            assert producer.end(result, version=5, epoch=epoch) is NONE
            assert producer.epoch == epoch + 1
        assert producer.end(not result, version=5, epoch=epoch) is INVALID_STATE
        assert producer.end(COMMIT, version=5) is INVALID_STATE
    epoch = producer.epoch
    assert producer.end(ABORT, version=5) is NONE  # an abort of nothing raises the epoch too
    assert producer.epoch == epoch + 1


def test_an_end_without_a_transactional_id(raw: Raw, topic: str, unique: Unique) -> None:
    nobody = RawProducer(raw, "", topic)
    assert nobody.end(COMMIT) is INVALID_REQUEST
    stranger = RawProducer(raw, unique("stranger"), topic)
    assert stranger.end(COMMIT, epoch=0) is INVALID_MAPPING


# -- TxnOffsetCommit ---------------------------------------------------------------------------


def test_offsets_of_a_transaction(producer: RawProducer, unique: Unique) -> None:
    group_id = unique("group")
    assert producer.commit_offset(group_id, 3) is INVALID_STATE
    assert producer.add_offsets(group_id) is NONE
    assert producer.commit_offset(group_id, 3) is NONE
    assert producer.commit_offset(group_id, 4, epoch=producer.epoch + 1) is INVALID_EPOCH
    assert producer.commit_offset(group_id, 4, generation_id=5) in (
        ILLEGAL_GENERATION,
        UNKNOWN_MEMBER,
    )
    assert producer.commit_offset(group_id, 4, generation_id=5, member_id="x") in (
        ILLEGAL_GENERATION,
        UNKNOWN_MEMBER,
    )
    assert producer.end(COMMIT) is NONE
    assert producer.init() is NONE
    # Version 5 adds the group by itself (KIP-890).
    assert producer.commit_offset(group_id, 5, version=5) is NONE
    assert producer.end(COMMIT, version=5) is NONE
