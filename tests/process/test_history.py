"""P12: the checker sees each anomaly, in a history of a few records made by hand."""

from collections.abc import Sequence

import pytest

from tests.process.history import History, Outcome, Reading, Seen, Transaction, Write

A, B = ("topic", 0), ("topic", 1)
COMMITTED, ABORTED, UNKNOWN = Outcome.COMMITTED, Outcome.ABORTED, Outcome.UNKNOWN


def transaction(outcome: Outcome, *writes: tuple[tuple[str, int], str]) -> Transaction:
    return Transaction("writer", [Write(*write) for write in writes], outcome)


def reading(*seen: tuple[tuple[str, int], int, str], complete: bool = True) -> Reading:
    return Reading("reader", [Seen(*one) for one in seen], complete)


def kinds(transactions: Sequence[Transaction], *readings: Reading) -> list[str]:
    return [anomaly.kind for anomaly in History(list(transactions), list(readings)).check()]


TWO = [transaction(COMMITTED, (A, "1"), (B, "2")), transaction(COMMITTED, (A, "3"))]


def test_a_correct_history_has_no_anomaly() -> None:
    assert kinds(TWO, reading((A, 0, "1"), (B, 0, "2"), (A, 2, "3"))) == []
    assert kinds(TWO, reading((B, 0, "2"), (A, 0, "1"), (A, 2, "3")), reading(complete=False)) == []


def test_a_committed_transaction_that_nobody_reads_is_lost() -> None:
    assert kinds(TWO, reading((A, 0, "1"), (B, 0, "2"))) == ["lost"]


def test_a_reading_that_is_not_complete_need_not_see_everything() -> None:
    assert kinds(TWO, reading((A, 0, "1"), complete=False)) == []


def test_half_a_committed_transaction_is_torn() -> None:
    assert kinds(TWO, reading((A, 0, "1"), (A, 2, "3"))) == ["torn"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], []),
        ([(A, 0, "1"), (B, 0, "2")], []),
        ([(A, 0, "1")], ["torn"]),
    ],
)
def test_an_unknown_outcome_is_settled_by_what_is_read(
    seen: list[tuple[tuple[str, int], int, str]], expected: list[str]
) -> None:
    assert kinds([transaction(UNKNOWN, (A, "1"), (B, "2"))], reading(*seen)) == expected


def test_an_unknown_transaction_that_one_has_seen_must_be_seen_by_all() -> None:
    unknown = [transaction(UNKNOWN, (A, "1"))]
    assert kinds(unknown, reading((A, 0, "1"), complete=False), reading()) == ["lost"]


def test_an_aborted_read() -> None:
    assert kinds([transaction(ABORTED, (A, "1"))], reading()) == []
    assert kinds([transaction(ABORTED, (A, "1"))], reading((A, 0, "1"))) == ["aborted read"]


def test_a_duplicate() -> None:
    seen = reading((A, 0, "1"), (B, 0, "2"), (A, 1, "1"), (A, 2, "3"))
    assert kinds(TWO, seen) == ["duplicate"]


def test_two_values_at_one_offset() -> None:
    first, second = reading((A, 0, "1"), (B, 0, "2"), (A, 1, "3")), reading((A, 0, "3"))
    second.complete = False
    assert "inconsistent offset" in kinds(TWO, first, second)


def test_a_value_that_nobody_wrote_or_wrote_elsewhere() -> None:
    assert kinds([], reading((A, 0, "1"))) == ["made up"]
    assert kinds([transaction(COMMITTED, (A, "1"))], reading((B, 0, "1"))) == ["misplaced"]


def test_the_order_of_sending() -> None:
    assert kinds(TWO, reading((A, 0, "3"), (B, 0, "2"), (A, 1, "1"))) == ["order"]


def test_a_step_back() -> None:
    steps = reading((A, 0, "1"), (B, 0, "2"), (A, 2, "3"), (A, 0, "1"))
    assert kinds(TWO, steps) == ["step back"]
    assert kinds(TWO, reading((A, 0, "1"), (A, 0, "1"), (A, 2, "3"), (B, 0, "2"))) == ["step back"]


def test_a_record_that_one_consumer_passed_over() -> None:
    three = [transaction(COMMITTED, (A, str(number))) for number in range(3)]
    everything = reading(*((A, number, str(number)) for number in range(3)))
    passing = reading((A, 0, "0"), (A, 2, "2"), complete=False)
    assert kinds(three, everything, passing) == ["skip"]
