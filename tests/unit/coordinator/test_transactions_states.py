"""The tables say what Kafka's say: written out here a second time, cell by cell."""

import itertools

import pytest

from ottla.coordinator.transaction_states import (
    END_VERSION_1,
    END_VERSION_2,
    TRANSITIONS,
    Claim,
    Step,
    TransactionState,
    for_old_clients,
)
from ottla.ports.errors import ErrorCode

S = TransactionState
LIVING = [S.EMPTY, S.ONGOING, S.COMPLETE_COMMIT, S.COMPLETE_ABORT]


def test_states_have_kafkas_numbers_and_names() -> None:
    assert [(int(state), state.label) for state in S] == [
        (0, "Empty"),
        (1, "Ongoing"),
        (2, "PrepareCommit"),
        (3, "PrepareAbort"),
        (4, "CompleteCommit"),
        (5, "CompleteAbort"),
        (6, "Dead"),
        (7, "PrepareEpochFence"),
    ]


def test_every_living_state_has_a_row_in_every_table() -> None:
    assert set(TRANSITIONS) == set(LIVING)
    assert set(END_VERSION_1) == set(itertools.product(LIVING, (True, False)))
    assert set(END_VERSION_2) == set(itertools.product(LIVING, (True, False), Claim))


def test_only_what_is_open_cannot_expire_and_nothing_leads_to_a_prepared_state() -> None:
    assert {state for state in LIVING if S.DEAD not in TRANSITIONS[state]} == {S.ONGOING}
    reachable = frozenset().union(*TRANSITIONS.values())
    assert reachable == {*LIVING, S.DEAD}


def test_a_commit_is_the_result_of_an_open_transaction_only() -> None:
    """Or it stays one while a power cut shuts its producer out."""
    assert [state for state in LIVING if S.COMPLETE_COMMIT in TRANSITIONS[state]] == [
        S.ONGOING,
        S.COMPLETE_COMMIT,
    ]


@pytest.mark.parametrize("state", [S.EMPTY, S.COMPLETE_COMMIT, S.COMPLETE_ABORT])
def test_who_was_shut_out_by_a_power_cut_can_abort_and_not_commit(state: S) -> None:
    assert END_VERSION_2[state, True, Claim.SHUT_OUT] is ErrorCode.TRANSACTION_ABORTABLE
    assert END_VERSION_2[state, False, Claim.SHUT_OUT] is Step.REPEAT


@pytest.mark.parametrize(
    ("state", "on_commit", "on_abort"),
    [
        (S.EMPTY, ErrorCode.INVALID_TXN_STATE, ErrorCode.INVALID_TXN_STATE),
        (S.ONGOING, Step.END, Step.END),
        (S.COMPLETE_COMMIT, Step.REPEAT, ErrorCode.INVALID_TXN_STATE),
        (S.COMPLETE_ABORT, ErrorCode.INVALID_TXN_STATE, Step.REPEAT),
    ],
)
def test_version_1(state: S, on_commit: object, on_abort: object) -> None:
    assert END_VERSION_1[state, True] is on_commit
    assert END_VERSION_1[state, False] is on_abort


FENCED, WRONG = ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_TXN_STATE


@pytest.mark.parametrize(
    ("state", "abort_retry", "abort_current", "commit_retry", "commit_current"),
    [
        (S.EMPTY, FENCED, Step.END, FENCED, WRONG),
        (S.ONGOING, FENCED, Step.END, FENCED, Step.END),
        (S.COMPLETE_COMMIT, WRONG, Step.END, Step.REPEAT, WRONG),
        (S.COMPLETE_ABORT, Step.REPEAT, Step.END, WRONG, WRONG),
    ],
)
def test_version_2(
    state: S,
    abort_retry: object,
    abort_current: object,
    commit_retry: object,
    commit_current: object,
) -> None:
    assert END_VERSION_2[state, False, Claim.RETRY] is abort_retry
    assert END_VERSION_2[state, False, Claim.CURRENT] is abort_current
    assert END_VERSION_2[state, True, Claim.RETRY] is commit_retry
    assert END_VERSION_2[state, True, Claim.CURRENT] is commit_current


def test_old_clients_hear_of_an_invalid_epoch_instead_of_a_fence() -> None:
    assert for_old_clients(FENCED, 1, 2) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert for_old_clients(FENCED, 2, 2) is FENCED
    assert for_old_clients(WRONG, 0, 2) is WRONG
