"""Two-phase commit (KIP-939): no time-out, and a transaction that outlives its producer."""

import msgspec
import pytest

from ottla.coordinator.records import OffsetsEnded, TransactionRecord
from ottla.coordinator.transaction_states import TransactionState
from ottla.coordinator.transactions import TransactionCoordinator
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.transactions_desk import ID, A, B, Desk

NONE, FENCED = ErrorCode.NONE, ErrorCode.PRODUCER_FENCED
WRONG_STATE = ErrorCode.INVALID_TXN_STATE
INVALID_EPOCH = ErrorCode.INVALID_PRODUCER_EPOCH
COMMIT, ABORT = True, False
NEVER_MS = 2_147_483_647
YEARS_MS = 10 * 365 * 86_400_000


def prepared(desk: Desk, *, two_phase: bool = True) -> tuple[int, int]:
    """A transaction over two partitions and a group that its producer has left open."""
    error, producer_id, epoch = desk.init(two_phase=two_phase)
    assert error is NONE
    producer = (producer_id, epoch)
    assert desk.add(producer, A, B) is NONE
    assert desk.add_offsets(producer) is NONE
    return producer


def kept(desk: Desk) -> tuple[int, int]:
    """The identity of an instance that has taken over what was open."""
    error, producer_id, epoch = desk.init(two_phase=True, keep_prepared=True)
    assert error is NONE
    return producer_id, epoch


@pytest.mark.parametrize("timeout_ms", [-1, 0, 1, 900_001, NEVER_MS])
def test_the_time_out_of_two_phase_commit_is_never(timeout_ms: int) -> None:
    desk = Desk()
    assert desk.init(timeout_ms=timeout_ms, two_phase=True).error is NONE
    assert desk.record().timeout_ms == NEVER_MS


def test_nobody_else_gets_no_time_out() -> None:
    assert Desk().init(timeout_ms=NEVER_MS).error is ErrorCode.INVALID_TRANSACTION_TIMEOUT


def test_an_open_transaction_is_not_aborted_by_time() -> None:
    desk = Desk()
    prepared(desk)
    assert desk.tick(YEARS_MS) == []
    assert desk.state() is TransactionState.ONGOING
    restarted = Desk(TransactionCoordinator())
    restarted.write(desk.coordinator.snapshot())
    assert restarted.tick(YEARS_MS) == []
    assert restarted.state() is TransactionState.ONGOING


def test_a_power_cut_leaves_it_open() -> None:
    desk = Desk()
    producer = prepared(desk)
    desk.write(desk.coordinator.after_power_loss(desk.now_ms))
    assert desk.last == []
    assert desk.end(producer, COMMIT, 2).error is NONE


@pytest.mark.parametrize("commit", [COMMIT, ABORT])
@pytest.mark.parametrize("version", [1, 2])
def test_the_next_instance_ends_what_it_has_kept(version: int, commit: bool) -> None:
    desk = Desk()
    producer_id, epoch = zombie = prepared(desk)
    successor = kept(desk)
    assert successor == (producer_id, epoch + 1)
    assert desk.record().identity_in_log == zombie
    assert desk.state() is TransactionState.ONGOING
    assert desk.end(zombie, commit, version).error is FENCED
    reply = desk.end(successor, commit, version)
    # The marker is above the batches' epoch, and no higher than what comes next.
    assert desk.markers() == [(where, producer_id, epoch + 1, commit) for where in (A, B)]
    assert OffsetsEnded(producer_id, ["group"], commit) in desk.last
    assert desk.state() is (
        TransactionState.COMPLETE_COMMIT if commit else TransactionState.COMPLETE_ABORT
    )
    following = (producer_id, epoch + version)
    assert (desk.record().producer_id, desk.record().producer_epoch) == following
    assert desk.record().identity_in_log == following
    if version == 2:
        assert reply == (NONE, *following)
        assert desk.end(successor, commit, version) == reply  # a retry
    assert desk.add(following, A) is NONE


def test_nothing_more_goes_into_what_was_kept() -> None:
    desk = Desk()
    zombie = prepared(desk)
    successor = kept(desk)
    assert desk.add(successor, A) is WRONG_STATE
    assert desk.add_offsets(successor) is WRONG_STATE
    for version in (9, 11, 12):
        assert desk.produce(successor, A, version=version) == [WRONG_STATE]
        assert desk.produce(zombie, A, version=version) == [INVALID_EPOCH]
    for version in (3, 5):
        assert desk.commit_offsets(successor, version) is WRONG_STATE
    assert desk.coordinator.verify_partitions(ID, *successor, [A]) == [WRONG_STATE]
    assert desk.record().partitions == [A, B]


def test_it_may_be_kept_again_and_again() -> None:
    desk = Desk()
    producer_id, epoch = first = prepared(desk)
    instances = [kept(desk) for _ in range(3)]
    assert instances == [(producer_id, epoch + step) for step in (1, 2, 3)]
    assert desk.record().identity_in_log == first
    for zombie in (first, *instances[:-1]):
        assert desk.end(zombie, COMMIT, 2).error is FENCED
        assert desk.init(producer=zombie).error is FENCED
    assert desk.end(instances[-1], COMMIT, 2) == (NONE, producer_id, epoch + 4)
    assert desk.markers() == [(where, producer_id, epoch + 1, COMMIT) for where in (A, B)]


def test_without_an_open_transaction_it_is_a_new_instance_like_any() -> None:
    desk = Desk()
    assert desk.init(keep_prepared=True) == (NONE, 0, 0)
    assert desk.init(keep_prepared=True) == (NONE, 0, 1)
    assert desk.record().kept_producer_id == -1
    assert desk.add((0, 1), A) is NONE
    assert desk.end((0, 1), COMMIT, 2) == (NONE, 0, 2)
    assert desk.init(keep_prepared=True) == (NONE, 0, 3)
    assert desk.state() is TransactionState.EMPTY


def test_an_instance_that_does_not_keep_aborts_it() -> None:
    desk = Desk()
    producer_id, epoch = prepared(desk)
    kept(desk)
    assert desk.init(two_phase=True) == (NONE, producer_id, epoch + 3)
    assert desk.markers() == [(where, producer_id, epoch + 1, ABORT) for where in (A, B)]
    assert (desk.state(), desk.record().kept_producer_id) == (TransactionState.EMPTY, -1)


def test_keeping_does_not_need_two_phase_commit_but_then_time_runs() -> None:
    desk = Desk()
    producer_id, epoch = prepared(desk, two_phase=False)
    assert desk.init(keep_prepared=True, timeout_ms=1) == (NONE, producer_id, epoch + 1)
    assert desk.tick(59_999) == []  # the time-out that it began with is not made shorter
    assert desk.tick(1) == [ID]
    assert desk.markers() == [(where, producer_id, epoch + 1, ABORT) for where in (A, B)]
    assert desk.end((producer_id, epoch + 1), COMMIT, 2).error is WRONG_STATE
    assert desk.record().producer_epoch == epoch + 2


def test_a_prepared_transaction_keeps_its_lack_of_a_time_out() -> None:
    desk = Desk()
    prepared(desk)
    assert desk.init(keep_prepared=True, timeout_ms=1_000).error is NONE
    assert desk.tick(YEARS_MS) == []
    assert desk.init(timeout_ms=1_000).error is NONE
    assert desk.record().timeout_ms == 1_000


@pytest.mark.parametrize("version", [1, 2])
def test_the_last_epoch_is_kept_under_a_new_producer_id(version: int) -> None:
    """Kafka's case: the identity is exhausted when the transaction is taken over."""
    desk = Desk()
    old_id, _ = desk.aged(32_766)
    old = (old_id, 32_766)
    assert desk.add(old, A) is NONE
    successor = kept(desk)
    assert successor == (old_id + 1, 0)
    assert desk.record().identity_in_log == old
    assert desk.end(old, COMMIT, version).error is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert desk.end(successor, COMMIT, version).error is NONE
    assert desk.markers() == [(A, old_id, 32_767, COMMIT)]
    assert (desk.record().producer_id, desk.record().producer_epoch) == (old_id + 1, version - 1)


def test_the_last_epoch_is_reached_by_the_end_of_what_was_kept() -> None:
    desk = Desk()
    old_id, _ = desk.aged(32_765)
    assert desk.add((old_id, 32_765), A) is NONE
    assert kept(desk) == (old_id, 32_766)
    reply = desk.end((old_id, 32_766), COMMIT, 2)
    assert reply == (NONE, old_id + 1, 0)
    assert desk.markers() == [(A, old_id, 32_766, COMMIT)]
    assert desk.end((old_id, 32_766), COMMIT, 2) == reply  # a retry


def test_a_snapshot_knows_both_identities() -> None:
    desk = Desk()
    producer_id, epoch = prepared(desk)
    successor = kept(desk)
    restarted = Desk(TransactionCoordinator())
    restarted.write(desk.coordinator.snapshot())
    assert restarted.record() == desk.record()
    assert restarted.end(successor, COMMIT, 2).error is NONE
    assert restarted.markers() == [(where, producer_id, epoch + 1, COMMIT) for where in (A, B)]


def test_the_one_who_kept_it_may_ask_again_with_its_identity() -> None:
    desk = Desk()
    producer_id, epoch = prepared(desk)
    successor = kept(desk)
    again = desk.init(producer=successor, two_phase=True, keep_prepared=True)
    assert again == (NONE, producer_id, epoch + 2)
    assert desk.record().identity_in_log == (producer_id, epoch)
    assert desk.end(successor, COMMIT, 2).error is FENCED


def test_a_record_of_an_older_version_has_kept_nothing() -> None:
    desk = Desk()
    prepared(desk)
    as_before = msgspec.to_builtins(desk.record())[:-2]
    assert msgspec.convert(as_before, TransactionRecord) == desk.record()
