"""InitProducerId: who gets which id and epoch, and who is fenced by it."""

import pytest

from ottla.coordinator.records import OffsetsEnded, ProducerIdsReserved, TransactionRecord
from ottla.coordinator.transaction_states import TransactionState
from ottla.ports import limits
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.transactions_desk import ID, A, B, Desk

NONE, FENCED = ErrorCode.NONE, ErrorCode.PRODUCER_FENCED


def test_a_new_id_starts_empty_at_epoch_0() -> None:
    desk = Desk()
    assert desk.init() == (NONE, 0, 0)
    record = desk.record()
    assert (record.state, record.last_producer_epoch) == (TransactionState.EMPTY, -1)
    assert (record.timeout_ms, record.last_update_timestamp_ms) == (60_000, desk.now_ms)


def test_an_unknown_id_gets_a_fresh_producer_whatever_it_had() -> None:
    assert Desk().init(producer=(77, 5)) == (NONE, 0, 0)


def test_a_new_instance_raises_the_epoch_and_shuts_out_the_old_one() -> None:
    desk = Desk()
    old = desk.started()
    assert desk.init() == (NONE, 0, 1)
    assert desk.init(producer=old) == (FENCED, -1, -1)
    assert desk.last == []


def test_without_a_transactional_id_the_producer_is_always_fresh() -> None:
    desk = Desk()
    assert desk.init(None) == (NONE, 0, 0)
    assert desk.init(None) == (NONE, 1, 0)
    assert desk.init(None, producer=(1, 0)) == (NONE, 2, 0)
    assert desk.init(None, timeout_ms=-5) == (NONE, 3, 0)


@pytest.mark.parametrize("producer", [(-1, 0), (3, -1)])
@pytest.mark.parametrize("name", [ID, None, "unknown"])
def test_producer_id_and_epoch_come_together(name: str | None, producer: tuple[int, int]) -> None:
    desk = Desk()
    desk.started()
    assert desk.init(name, producer) == (ErrorCode.INVALID_REQUEST, -1, -1)


def test_an_empty_id_is_an_invalid_request() -> None:
    assert Desk().init("") == (ErrorCode.INVALID_REQUEST, -1, -1)


@pytest.mark.parametrize(
    ("timeout_ms", "error"),
    [
        (-1, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (0, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (1, NONE),
        (900_000, NONE),
        (900_001, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
    ],
)
def test_the_timeout_is_bounded(timeout_ms: int, error: ErrorCode) -> None:
    assert Desk().init(timeout_ms=timeout_ms).error is error


def test_a_new_instance_brings_its_own_timeout() -> None:
    desk = Desk()
    desk.started()
    desk.init(timeout_ms=10_000)
    desk.add((0, 1), A)
    assert desk.tick(9_999) == []
    assert desk.tick(1) == [ID]


def test_the_number_of_ids_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.coordinator.transactions.TRANSACTIONAL_IDS_MAX", 2)
    desk = Desk()
    assert desk.init("x").error is NONE
    assert desk.init("y").error is NONE
    assert desk.init("z").error is ErrorCode.POLICY_VIOLATION
    assert desk.init("y").error is NONE
    assert limits.TRANSACTIONAL_IDS_MAX > 2


def test_the_same_producer_goes_on_with_the_next_epoch_and_may_retry() -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.init(producer=producer) == (NONE, 0, 1)
    assert desk.init(producer=producer) == (NONE, 0, 1)
    assert desk.last == [], "a retry writes nothing"
    assert desk.init(producer=(0, 1)) == (NONE, 0, 2)
    assert desk.init(producer=producer) == (FENCED, -1, -1)


def test_a_new_instance_ends_the_right_to_retry() -> None:
    desk = Desk()
    producer = desk.started()
    desk.init(producer=producer)
    assert desk.init() == (NONE, 0, 2)
    assert desk.init(producer=(0, 1)) == (FENCED, -1, -1)
    assert desk.init(producer=producer) == (FENCED, -1, -1)


def test_an_epoch_that_was_never_given_and_anothers_id_are_fenced() -> None:
    desk = Desk()
    producer_id, epoch = desk.started()
    assert desk.init(producer=(producer_id, epoch + 1)).error is FENCED
    assert desk.init(producer=(producer_id + 1, epoch)).error is FENCED


def test_a_retry_does_not_empty_a_completed_transaction() -> None:
    desk = Desk()
    first = desk.started()
    second = (0, desk.init(producer=first).producer_epoch)
    desk.add(second, A)
    desk.end(second, True, 1)
    assert desk.init(producer=first) == (NONE, *second)
    assert desk.end(second, True, 1).error is NONE


def test_a_new_instance_aborts_what_is_open_and_ends_two_epochs_later() -> None:
    desk = Desk()
    zombie = desk.started()
    desk.add(zombie, A, B)
    desk.add_offsets(zombie, "group")
    assert desk.init() == (NONE, 0, 2)
    assert desk.markers() == [(A, 0, 1, False), (B, 0, 1, False)]
    assert OffsetsEnded(0, ["group"], False) in desk.last
    assert desk.state() is TransactionState.EMPTY
    assert desk.record().partitions == []
    for late in (zombie, (0, 1)):
        assert desk.produce(late, A, version=10) == [ErrorCode.INVALID_PRODUCER_EPOCH]
        assert desk.add(late, A) is FENCED
        assert desk.end(late, True, 1).error is FENCED
        assert desk.end(late, True, 2).error is FENCED
        assert desk.init(producer=late).error is FENCED


def test_the_same_producer_aborts_what_is_open_and_ends_one_epoch_later() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    assert desk.init(producer=producer) == (NONE, 0, 1)
    assert desk.markers() == [(A, 0, 1, False)]
    assert desk.init(producer=producer) == (NONE, 0, 1)
    assert desk.markers() == []


def test_a_fenced_or_late_init_leaves_an_open_transaction_alone() -> None:
    desk = Desk()
    first = desk.started()
    second = (0, desk.init(producer=first).producer_epoch)
    desk.add(second, A)
    assert desk.init(producer=first).error is FENCED
    assert desk.state() is TransactionState.ONGOING
    assert desk.end(second, True, 1).error is NONE


def test_exhausted_epochs_lead_to_a_new_producer_id() -> None:
    desk = Desk()
    old = desk.aged()
    assert desk.init() == (NONE, 1, 0)
    assert desk.init(producer=old).error is FENCED


def test_the_same_producer_may_retry_across_the_new_producer_id() -> None:
    desk = Desk()
    old = desk.aged()
    assert desk.init(producer=old) == (NONE, 1, 0)
    assert desk.init(producer=old) == (NONE, 1, 0)
    desk.add((1, 0), A)
    assert desk.init(producer=old).error is FENCED
    assert desk.init(producer=(1, 0)) == (NONE, 1, 1)
    assert desk.init(producer=old).error is FENCED


@pytest.mark.parametrize(
    ("epoch", "same_producer", "marker_epoch", "after"),
    [
        (32_764, False, 32_765, (0, 32_766)),
        (32_765, False, 32_766, (1, 0)),
        (32_766, False, 32_767, (1, 0)),
        (32_765, True, 32_766, (0, 32_766)),
        (32_766, True, 32_767, (1, 0)),
    ],
)
def test_an_open_transaction_near_the_last_epoch(
    epoch: int, same_producer: bool, marker_epoch: int, after: tuple[int, int]
) -> None:
    desk = Desk()
    producer = desk.aged(epoch)
    desk.add(producer, A)
    assert desk.init(producer=producer if same_producer else (-1, -1)) == (NONE, *after)
    assert desk.markers() == [(A, 0, marker_epoch, False)]


def test_the_reservation_stands_before_the_record_that_needs_it() -> None:
    desk = Desk()
    desk.init()
    assert isinstance(desk.last[0], ProducerIdsReserved)
    assert isinstance(desk.last[1], TransactionRecord)
