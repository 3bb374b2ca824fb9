"""Time-outs end what is open and fence; idle ids are forgotten; open ones never."""

import pytest

from ottla.coordinator.records import TransactionalIdExpired, TransactionRecord
from ottla.coordinator.transaction_states import TransactionState
from ottla.coordinator.transactions import EXPIRY_INTERVAL_MS, TransactionCoordinator
from ottla.ports.errors import ErrorCode, InvariantBroken
from ottla.ports.limits import TRANSACTIONAL_ID_EXPIRATION_MS
from tests.unit.coordinator.transactions_desk import ID, TIMEOUT_MS, A, B, Desk

NONE, FENCED = ErrorCode.NONE, ErrorCode.PRODUCER_FENCED
STALE = ErrorCode.INVALID_PRODUCER_EPOCH


def timed_out() -> tuple[Desk, tuple[int, int]]:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    assert desk.tick(TIMEOUT_MS) == [ID]
    return desk, producer


def test_the_time_out_counts_from_the_first_partition() -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.tick(5 * TIMEOUT_MS) == [], "nothing is open"
    desk.add(producer, A)
    desk.now_ms += TIMEOUT_MS - 1
    desk.add(producer, B)
    assert desk.tick() == []
    assert desk.state() is TransactionState.ONGOING
    assert desk.tick(1) == [ID]
    assert desk.markers() == [(A, 0, 1, False), (B, 0, 1, False)]
    assert desk.state() is TransactionState.COMPLETE_ABORT
    assert desk.tick(TIMEOUT_MS) == []
    assert desk.last == []


def test_the_late_producer_is_fenced_recoverably_on_produce() -> None:
    desk, producer = timed_out()
    for version in (10, 11, 12):
        assert desk.produce(producer, A, version=version) == [STALE]
    assert desk.add(producer, B) is FENCED
    assert desk.add_offsets(producer) is FENCED
    assert desk.commit_offsets(producer, 3) is STALE
    assert desk.end(producer, True, 1).error is FENCED
    assert desk.end(producer, False, 1).error is FENCED


def test_the_late_producer_may_go_on_by_init_producer_id() -> None:
    desk, producer = timed_out()
    assert desk.init(producer=producer) == (NONE, 0, 1)
    assert desk.add((0, 1), A) is NONE
    assert desk.end((0, 1), True, 1).error is NONE


def test_a_late_version_2_producer_goes_on_by_abort_and_cannot_commit() -> None:
    desk, producer = timed_out()
    assert desk.end(producer, True, 2).error is ErrorCode.INVALID_TXN_STATE
    assert desk.end(producer, False, 2) == (NONE, 0, 1)
    assert desk.produce((0, 1), A) is None


def test_a_new_instance_after_a_time_out_shuts_the_late_one_out() -> None:
    desk, producer = timed_out()
    assert desk.init() == (NONE, 0, 2)
    assert desk.init(producer=producer).error is FENCED
    assert desk.end(producer, False, 2).error is FENCED


def test_a_time_out_at_the_last_epoch_takes_a_new_producer_id() -> None:
    desk = Desk()
    old = desk.aged()
    desk.add(old, A)
    assert desk.tick(TIMEOUT_MS) == [ID]
    assert desk.markers() == [(A, 0, 32_767, False)]
    assert desk.end(old, False, 2) == (NONE, 1, 0)
    assert desk.init(producer=old) == (NONE, 1, 0)
    assert desk.init() == (NONE, 1, 1)


def test_the_deadline_is_never_too_late() -> None:
    desk = Desk()
    assert desk.coordinator.next_deadline_ms() is None
    producer = desk.started()
    assert desk.coordinator.next_deadline_ms() == desk.now_ms + TRANSACTIONAL_ID_EXPIRATION_MS
    desk.add(producer, A)
    first_ms = desk.now_ms + TIMEOUT_MS
    assert desk.coordinator.next_deadline_ms() == first_ms
    desk.now_ms += 10
    other = desk.started("other")
    desk.add(other, B, name="other")
    assert desk.coordinator.next_deadline_ms() == first_ms
    desk.end(producer, True, 1)
    assert desk.tick(first_ms - desk.now_ms) == []
    assert desk.coordinator.next_deadline_ms() == first_ms + 10
    assert desk.tick(10) == ["other"]


def test_a_restart_keeps_the_deadline() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    deadline_ms = desk.coordinator.next_deadline_ms()
    again = TransactionCoordinator()
    for record in desk.coordinator.snapshot():
        again.apply(record)
    assert again.next_deadline_ms() == deadline_ms
    assert Desk(again).tick(TIMEOUT_MS) == [ID]


def test_many_time_outs_are_taken_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.coordinator.transactions.DUE_PER_TIMER_MAX", 2)
    desk = Desk()
    for name in "xyz":
        desk.add(desk.started(name), A, name=name)
    assert desk.tick(TIMEOUT_MS) == ["x", "y"]
    deadline_ms = desk.coordinator.next_deadline_ms()
    assert deadline_ms is not None
    assert deadline_ms <= desk.now_ms
    assert desk.tick() == ["z"]
    assert desk.tick() == []


def test_an_idle_id_is_forgotten_and_its_producer_with_it() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    desk.end(producer, True, 1)
    desk.tick(TRANSACTIONAL_ID_EXPIRATION_MS - 1)
    assert desk.last == []
    desk.tick(1)
    assert desk.last == [TransactionalIdExpired(ID)]
    assert desk.coordinator.transaction(ID) is None
    assert desk.add(producer, A) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert desk.init() == (NONE, 1, 0), "a producer id is not used again"


def test_use_keeps_an_id() -> None:
    desk = Desk()
    producer = desk.started()
    desk.started("idle")
    desk.now_ms += TRANSACTIONAL_ID_EXPIRATION_MS // 2
    desk.add(producer, A)
    desk.end(producer, True, 1)
    desk.tick(TRANSACTIONAL_ID_EXPIRATION_MS // 2)
    assert desk.last == [TransactionalIdExpired("idle")]


def test_an_open_transaction_is_aborted_and_not_forgotten() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    assert desk.tick(2 * TRANSACTIONAL_ID_EXPIRATION_MS) == [ID]
    assert desk.state() is TransactionState.COMPLETE_ABORT
    desk.tick(TRANSACTIONAL_ID_EXPIRATION_MS)
    assert desk.last == [TransactionalIdExpired(ID)]


def test_expiry_looks_at_all_ids_once_an_hour_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.coordinator.transactions.DUE_PER_TIMER_MAX", 2)
    desk = Desk()
    for name in "wxyz":
        desk.started(name)
        desk.now_ms += 1
    desk.tick(TRANSACTIONAL_ID_EXPIRATION_MS - 2)
    assert desk.last == [TransactionalIdExpired("w"), TransactionalIdExpired("x")]
    assert desk.coordinator.next_deadline_ms() == desk.now_ms, "there may be more"
    desk.tick()
    assert desk.last == [TransactionalIdExpired("y")]
    assert desk.coordinator.next_deadline_ms() == desk.now_ms + EXPIRY_INTERVAL_MS
    desk.tick(EXPIRY_INTERVAL_MS)
    assert desk.last == [TransactionalIdExpired("z")]
    assert desk.coordinator.next_deadline_ms() is None


def test_apply_refuses_what_the_tables_do_not_allow() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    with pytest.raises(InvariantBroken, match="an open transaction does not expire"):
        desk.coordinator.apply(TransactionalIdExpired(ID))
    desk = Desk()
    desk.started()
    desk.started()
    first = desk.log[1]
    assert isinstance(first, TransactionRecord)
    with pytest.raises(InvariantBroken, match="epoch of a producer id never falls"):
        desk.coordinator.apply(first)
