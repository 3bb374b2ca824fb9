"""WriteTxnMarkers, as an administrator's way out of a hanging transaction (KIP-664).

Method: a broker's core in this process. Ottla lets no batch into a partition before the
transaction at the coordinator has the partition, so that none hangs: the tests plant one, past the
coordinator, as a damaged broker or an older Kafka could have left it.
"""

from typing import Any

import pytest

from ottla.log.partition import Partition
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker
from ottla.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.wire.messages.list_transactions import ListTransactionsRequest
from ottla.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from ottla.wire.records import Record, build_batch, read_batch_header
from tests.unit.broker.test_transaction_handlers import (
    NAME,
    Desk,
    add_offsets,
    end,
    offset_commit,
    produce,
    produce_error,
)

STRANGER = 50  # a producer id that no coordinator knows
COMMIT, ABORT = True, False
NONE, UNKNOWN = ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
INVALID_EPOCH, INVALID_STATE = ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_TXN_STATE
COORDINATOR_FENCED = ErrorCode.TRANSACTION_COORDINATOR_FENCED


def partition_of(broker: InProcessBroker, index: int) -> Partition:
    found = broker.core.catalog.partition("t", index)
    assert found is not None
    return found


def plant(desk: Desk, producer_id: int, epoch: int, index: int = 0) -> None:
    """One batch of a transaction that the coordinator is not asked about."""
    partition, now_ms = partition_of(desk.broker, index), desk.broker.clock.now_ms()
    batch = build_batch(
        [Record(timestamp=now_ms, value=b"hanging")],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=0,
        transactional=True,
    )
    header = read_batch_header(batch)
    frame = desk.broker.core.new_frame()
    appended = partition.append(memoryview(batch), header, now_ms, must_start_at_zero=False)
    frame.add_batch(partition, appended.buffers, now_ms)
    desk.broker.core.append(frame)
    desk.broker.sync()


def write(
    desk: Desk,
    producer_id: int,
    epoch: int,
    *,
    commit: bool = ABORT,
    where: tuple[tuple[str, list[int]], ...] = (("t", [0]),),
    coordinator_epoch: int = 0,
    transaction_version: int = 0,
) -> list[int]:
    """An error code for each partition named, in order."""
    marker = WritableTxnMarker(
        producer_id,
        epoch,
        commit,
        [WritableTxnMarkerTopic(*topic) for topic in where],
        coordinator_epoch,
        transaction_version,
    )
    (result,) = desk.ask(WriteTxnMarkersRequest([marker]), 2).markers
    assert result.producer_id == producer_id
    return [one.error_code for topic in result.topics for one in topic.partitions]


def state_of(desk: Desk) -> tuple[str, int]:
    """State and epoch of the transaction at the coordinator."""
    record = desk.broker.core.transactions.transaction(NAME)
    assert record is not None
    (listed,) = desk.ask(ListTransactionsRequest(), 1).transaction_states
    return listed.transaction_state, record.producer_epoch


def aborted_at(desk: Desk) -> list[tuple[int, int]]:
    """Producer id and first offset of each aborted transaction that a consumer is told of."""
    request = FetchRequest(
        max_wait_ms=0,
        isolation_level=1,
        topics=[FetchTopic("t", partitions=[FetchPartition(0, partition_max_bytes=100_000)])],
    )
    (topic,) = desk.ask(request, 11).responses
    (partition,) = topic.partitions
    return [(one.producer_id, one.first_offset) for one in partition.aborted_transactions or []]


@pytest.mark.parametrize("commit", [COMMIT, ABORT])
def test_a_hanging_transaction_is_ended_by_hand(commit: bool) -> None:
    desk = Desk()
    plant(desk, STRANGER, 3)
    assert desk.visible() == 0
    assert write(desk, STRANGER, 3, commit=commit, coordinator_epoch=7) == [NONE]
    assert desk.visible() == 2
    aborted = [] if commit else [(STRANGER, 0)]
    assert aborted_at(desk) == aborted
    desk.broker = InProcessBroker(desk.broker.disk)
    desk.client = desk.broker.connect()
    assert desk.visible() == 2
    assert aborted_at(desk) == aborted
    entry = partition_of(desk.broker, 0).producers.entries[STRANGER]
    assert (entry.epoch, entry.coordinator_epoch) == (3, 7)


def test_the_answer_waits_for_the_disk() -> None:
    desk = Desk()
    plant(desk, STRANGER, 3)
    topic = WritableTxnMarkerTopic("t", [0])
    marker = WritableTxnMarker(STRANGER, 3, ABORT, [topic], 0)
    pending = desk.client.send(WriteTxnMarkersRequest([marker]), 1)
    assert pending.response is None
    assert desk.visible() == 0
    desk.broker.sync()
    assert pending.response is not None
    assert desk.visible() == 2


@pytest.mark.parametrize(
    ("epoch", "coordinator_epoch", "transaction_version", "error"),
    [
        (2, 0, 0, INVALID_EPOCH),  # a later producer is at work
        (3, 0, 1, NONE),
        (3, 0, 2, INVALID_EPOCH),  # version 2 ends a transaction with the next epoch
        (4, 0, 2, NONE),
    ],
)
def test_the_epochs_of_a_marker(
    epoch: int, coordinator_epoch: int, transaction_version: int, error: ErrorCode
) -> None:
    desk = Desk()
    plant(desk, STRANGER, 3)
    found = write(
        desk,
        STRANGER,
        epoch,
        coordinator_epoch=coordinator_epoch,
        transaction_version=transaction_version,
    )
    assert found == [error]
    assert desk.visible() == (0 if error else 2)


def test_a_coordinator_that_was_replaced_is_fenced() -> None:
    desk = Desk()
    assert write(desk, STRANGER, 3, coordinator_epoch=7) == [NONE]  # also where nothing is open
    plant(desk, STRANGER, 3)
    assert write(desk, STRANGER, 3, coordinator_epoch=6) == [COORDINATOR_FENCED]
    assert write(desk, STRANGER, 2, coordinator_epoch=6) == [INVALID_EPOCH]
    assert desk.visible() == 1
    assert write(desk, STRANGER, 3, coordinator_epoch=8) == [NONE]
    assert desk.visible() == 3


def test_a_retry_of_a_version_2_marker_is_taken() -> None:
    desk = Desk()
    plant(desk, STRANGER, 3)
    for _ in range(2):  # KAFKA-19999
        assert write(desk, STRANGER, 4, transaction_version=2) == [NONE]
    assert aborted_at(desk) == [(STRANGER, 0)]


def test_each_partition_has_its_own_answer() -> None:
    desk = Desk()
    plant(desk, STRANGER, 3)
    plant(desk, STRANGER, 5, index=1)
    where = (("t", [0, 1, 2, 0]), ("unknown", [0]), ("b/d", [0]))
    assert write(desk, STRANGER, 3, where=where) == [NONE, INVALID_EPOCH, UNKNOWN, UNKNOWN, UNKNOWN]
    assert (desk.visible(0), desk.visible(1)) == (2, 0)
    assert partition_of(desk.broker, 0).next_offset == 2  # one marker, though named twice


def test_markers_of_one_producer_share_their_answer() -> None:
    desk = Desk()
    markers = [
        WritableTxnMarker(STRANGER, 3, ABORT, [WritableTxnMarkerTopic("t", [index])], 0)
        for index in (0, 1)
    ]
    (result,) = desk.ask(WriteTxnMarkersRequest(markers), 1).markers
    assert [[one.partition_index for one in topic.partitions] for topic in result.topics] == [
        [0, 1]
    ]


def open_everywhere(desk: Desk) -> tuple[int, int]:
    """A transaction over both partitions and a group, open at the coordinator."""
    producer = desk.started()
    for index in (0, 1):
        assert produce_error(desk.ask(produce(producer, partition=index), 12)) == NONE
    assert desk.ask(add_offsets(producer), 4).error_code == NONE
    desk.ask(offset_commit(producer, 7), 5)
    return producer


def test_what_the_coordinator_has_open_too_is_aborted_as_a_whole() -> None:
    desk = Desk()
    producer_id, epoch = producer = open_everywhere(desk)
    assert write(desk, producer_id, epoch) == [NONE]
    assert state_of(desk) == ("CompleteAbort", epoch + 1)
    assert (desk.visible(0), desk.visible(1)) == (2, 2)
    assert desk.offsets("readers") == []
    for partition in (partition_of(desk.broker, 0), partition_of(desk.broker, 1)):
        assert partition.producers.entries[producer_id].epoch == epoch + 1
    # The producer learns it as after a time-out, and goes on.
    assert desk.ask(end(producer), 4).error_code == ErrorCode.PRODUCER_FENCED
    assert produce_error(desk.ask(produce(producer, 1), 12)) == INVALID_EPOCH
    aborted = desk.ask(end(producer, commit=False), 5)
    assert (aborted.error_code, aborted.producer_epoch) == (NONE, epoch + 1)
    assert produce_error(desk.ask(produce((producer_id, epoch + 1)), 12)) == NONE
    # A retry of the abort that comes late ends nothing of the next transaction.
    assert write(desk, producer_id, epoch) == [INVALID_EPOCH]
    assert state_of(desk) == ("Ongoing", epoch + 1)


@pytest.mark.parametrize("where", [(("t", [0, 1]),), (("t", [1]), ("t", [0]))])
def test_all_its_partitions_may_be_named(where: Any) -> None:
    desk = Desk()
    producer_id, epoch = open_everywhere(desk)
    assert write(desk, producer_id, epoch + 1, where=where, transaction_version=2) == [NONE, NONE]
    assert state_of(desk) == ("CompleteAbort", epoch + 1)
    assert (desk.visible(0), desk.visible(1)) == (2, 2)


def test_nobody_but_end_txn_commits_an_open_transaction() -> None:
    desk = Desk()
    producer_id, epoch = producer = open_everywhere(desk)
    assert write(desk, producer_id, epoch, commit=COMMIT) == [INVALID_STATE]
    assert (desk.visible(0), desk.visible(1)) == (0, 0)
    assert desk.ask(end(producer), 5).error_code == NONE
    assert (desk.visible(0), desk.visible(1)) == (2, 2)


def test_an_epoch_that_the_coordinator_has_not_given_is_refused() -> None:
    desk = Desk()
    producer_id, epoch = producer = open_everywhere(desk)
    assert write(desk, producer_id, epoch + 2) == [INVALID_EPOCH]
    desk.ask(end(producer), 5)
    assert write(desk, producer_id, epoch + 2) == [INVALID_EPOCH]
    assert write(desk, producer_id, epoch + 1) == [NONE]
    assert produce_error(desk.ask(produce((producer_id, epoch + 1)), 12)) == NONE


def test_a_hanging_transaction_of_a_producer_that_is_at_work_elsewhere() -> None:
    desk = Desk()
    producer_id, epoch = producer = desk.started()
    plant(desk, producer_id, epoch, index=1)
    assert produce_error(desk.ask(produce(producer), 12)) == NONE
    assert write(desk, producer_id, epoch, where=(("t", [1]),)) == [NONE]
    assert desk.visible(1) == 2
    assert state_of(desk) == ("Ongoing", epoch)
    assert desk.ask(end(producer), 5).error_code == NONE
    assert desk.visible(0) == 2


def test_a_pattern_lists_the_ids_that_it_matches_whole() -> None:
    desk = Desk()
    desk.started()  # NAME is "transfers"

    def listed(pattern: str | None) -> tuple[int, list[str]]:
        answer = desk.ask(ListTransactionsRequest(transactional_id_pattern=pattern), 2)
        return answer.error_code, [one.transactional_id for one in answer.transaction_states]

    assert listed(None) == listed("") == listed("trans.*") == (NONE, [NAME])
    assert listed("trans") == listed("(a+)+b") == (NONE, [])
    invalid = (ErrorCode.INVALID_REGULAR_EXPRESSION, [])
    assert listed("(") == listed("(?=t)ransfers") == listed("(x{999}){999}") == invalid
    assert listed("a" * 5_000) == invalid
