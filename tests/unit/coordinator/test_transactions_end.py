"""EndTxn in every state, for both transaction versions, with its retries."""

import pytest

from ottla.coordinator.records import MarkerRecord, OffsetsEnded, TransactionRecord
from ottla.coordinator.transaction_states import TransactionState
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.transactions_desk import A, B, Desk

NONE, FENCED, WRONG = ErrorCode.NONE, ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_TXN_STATE
S = TransactionState


def in_state(desk: Desk, state: S, version: int) -> tuple[int, int]:
    """A producer whose transaction is in this state."""
    producer = desk.started()
    if state is S.EMPTY:
        return producer
    desk.add(producer, A)
    if state is S.ONGOING:
        return producer
    reply = desk.end(producer, state is S.COMPLETE_COMMIT, version)
    return producer if version == 1 else (reply.producer_id, reply.producer_epoch)


@pytest.mark.parametrize(
    ("state", "commit", "error", "after"),
    [
        (S.EMPTY, True, WRONG, S.EMPTY),
        (S.EMPTY, False, WRONG, S.EMPTY),
        (S.ONGOING, True, NONE, S.COMPLETE_COMMIT),
        (S.ONGOING, False, NONE, S.COMPLETE_ABORT),
        (S.COMPLETE_COMMIT, True, NONE, S.COMPLETE_COMMIT),
        (S.COMPLETE_COMMIT, False, WRONG, S.COMPLETE_COMMIT),
        (S.COMPLETE_ABORT, True, WRONG, S.COMPLETE_ABORT),
        (S.COMPLETE_ABORT, False, NONE, S.COMPLETE_ABORT),
    ],
)
def test_version_1(state: S, commit: bool, error: ErrorCode, after: S) -> None:
    desk = Desk()
    producer = in_state(desk, state, 1)
    assert desk.end(producer, commit, 1) == (error, -1, -1)
    assert desk.state() is after
    expected = [(A, *producer, commit)] if state is S.ONGOING else []
    assert desk.markers() == expected
    assert desk.record().producer_epoch == producer[1], "version 1 leaves the epoch"


@pytest.mark.parametrize(
    ("state", "commit", "is_retry", "error", "raises"),
    [
        (S.EMPTY, False, True, FENCED, 0),
        (S.EMPTY, False, False, NONE, 1),
        (S.EMPTY, True, True, FENCED, 0),
        (S.EMPTY, True, False, WRONG, 0),
        (S.ONGOING, False, True, FENCED, 0),
        (S.ONGOING, False, False, NONE, 1),
        (S.ONGOING, True, True, FENCED, 0),
        (S.ONGOING, True, False, NONE, 1),
        (S.COMPLETE_COMMIT, False, True, WRONG, 0),
        (S.COMPLETE_COMMIT, False, False, NONE, 1),
        (S.COMPLETE_COMMIT, True, True, NONE, 0),
        (S.COMPLETE_COMMIT, True, False, WRONG, 0),
        (S.COMPLETE_ABORT, False, True, NONE, 0),
        (S.COMPLETE_ABORT, False, False, NONE, 1),
        (S.COMPLETE_ABORT, True, True, WRONG, 0),
        (S.COMPLETE_ABORT, True, False, WRONG, 0),
    ],
)
def test_version_2(state: S, commit: bool, is_retry: bool, error: ErrorCode, raises: int) -> None:
    desk = Desk()
    producer_id, epoch = in_state(desk, state, 2)
    reply = desk.end((producer_id, epoch - is_retry), commit, 2)
    expected = (producer_id, epoch + raises) if error is NONE else (-1, -1)
    assert reply == (error, *expected)
    assert desk.record().producer_epoch == epoch + raises
    is_ended = state is S.ONGOING and error is NONE
    assert desk.markers() == ([(A, producer_id, epoch + 1, commit)] if is_ended else [])
    if raises:
        assert desk.state() is (S.COMPLETE_COMMIT if commit else S.COMPLETE_ABORT)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [True, False])
def test_one_frame_ends_everything_and_says_so_last(commit: bool, version: int) -> None:
    desk = Desk()
    producer_id, epoch = producer = desk.started()
    desk.add(producer, A, B)
    desk.add_offsets(producer, "first")
    desk.add_offsets(producer, "second")
    started_ms = desk.now_ms
    desk.now_ms += 5
    desk.end(producer, commit, version)
    marker_epoch = epoch + (version == 2)
    assert desk.last[:-1] == [
        MarkerRecord("a", 0, producer_id, marker_epoch, commit, version),
        MarkerRecord("b", 0, producer_id, marker_epoch, commit, version),
        OffsetsEnded(producer_id, ["first", "second"], commit),
    ]
    record = desk.last[-1]
    assert isinstance(record, TransactionRecord)
    assert (record.partitions, record.group_ids) == ([], [])
    assert record.start_timestamp_ms == started_ms
    assert record.last_update_timestamp_ms == desk.now_ms
    assert record.client_transaction_version == version


@pytest.mark.parametrize("version", [1, 2])
def test_who_is_not_the_producer_is_told_so(version: int) -> None:
    desk = Desk()
    producer_id, epoch = desk.started()
    desk.started()
    desk.add((producer_id, epoch + 1), A)
    assert desk.end((producer_id, epoch), True, version).error is FENCED
    assert desk.end((producer_id, epoch + 2), True, version).error is FENCED
    wrong_id = desk.end((producer_id + 1, epoch + 1), True, version)
    assert wrong_id.error is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    unknown = desk.end((producer_id, epoch), True, version, name="unknown")
    assert unknown.error is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    nameless = desk.end((producer_id, epoch), True, version, name="")
    assert nameless.error is ErrorCode.INVALID_REQUEST
    assert desk.state() is S.ONGOING


def test_a_version_2_retry_reaches_back_one_transaction_and_no_further() -> None:
    desk = Desk()
    producer_id, epoch = desk.started()
    desk.produce((producer_id, epoch), A)
    desk.end((producer_id, epoch), True, 2)
    assert desk.end((producer_id, epoch), True, 2) == (NONE, producer_id, epoch + 1)
    desk.produce((producer_id, epoch + 1), A)
    assert desk.end((producer_id, epoch), True, 2).error is FENCED
    assert desk.state() is S.ONGOING
    desk.end((producer_id, epoch + 1), True, 2)
    assert desk.end((producer_id, epoch), True, 2).error is FENCED


def test_a_version_2_retry_is_by_the_same_producer() -> None:
    """Kafka compares numbers only, and would tell the zombie that its commit succeeded."""
    desk = Desk()
    producer_id, epoch = zombie = desk.started()
    desk.init()
    successor = (producer_id, epoch + 1)
    desk.add(successor, A)
    desk.end(successor, True, 1)
    assert desk.end(zombie, True, 2).error is FENCED
    assert desk.end((producer_id, -1), True, 2).error is FENCED


@pytest.mark.parametrize("commit", [True, False])
def test_version_2_takes_a_new_producer_id_after_the_last_epoch(commit: bool) -> None:
    desk = Desk()
    old = desk.aged()
    desk.produce(old, A)
    assert desk.end(old, commit, 2) == (NONE, 1, 0)
    assert desk.markers() == [(A, 0, 32_767, commit)]
    assert desk.end(old, commit, 2) == (NONE, 1, 0), "the overflow retry"
    assert desk.last == []
    assert desk.end(old, not commit, 2).error is WRONG
    desk.produce((1, 0), A)
    assert desk.end(old, commit, 2).error is FENCED
    assert desk.end((1, 0), True, 2) == (NONE, 1, 1)
    assert desk.end(old, commit, 2).error is ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_version_2_reaches_the_last_epoch_before_it_takes_a_new_id() -> None:
    desk = Desk()
    producer = desk.aged(32_765)
    desk.produce(producer, A)
    assert desk.end(producer, True, 2) == (NONE, 0, 32_766)


def test_version_2_abort_of_nothing_at_the_last_epoch_takes_a_new_id() -> None:
    desk = Desk()
    old = desk.aged()
    assert desk.end(old, False, 2) == (NONE, 1, 0)
    assert desk.markers() == []


def test_version_1_uses_the_last_epoch_again_and_again() -> None:
    desk = Desk()
    producer = desk.aged()
    for commit in (True, False, True):
        desk.add(producer, A)
        assert desk.end(producer, commit, 1).error is NONE
        assert desk.markers() == [(A, *producer, commit)]


def test_back_to_back_transactions_never_have_to_wait() -> None:
    desk = Desk()
    producer = desk.started()
    for _ in range(3):
        assert desk.add(producer, A) is NONE
        assert desk.end(producer, True, 1).error is NONE
    assert sum(isinstance(each, MarkerRecord) for each in desk.log) == 3


def test_the_partitions_of_one_transaction_are_not_the_nexts() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    desk.end(producer, True, 1)
    desk.add(producer, B)
    desk.end(producer, True, 1)
    assert desk.markers() == [(B, *producer, True)]
