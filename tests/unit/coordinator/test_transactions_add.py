"""What becomes part of a transaction: by request, by Produce v12 and TxnOffsetCommit v5, or not."""

import pytest

from ottla.coordinator.transaction_states import TransactionState
from ottla.ports import limits
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.transactions_desk import ID, A, B, C, Desk

NONE, FENCED = ErrorCode.NONE, ErrorCode.PRODUCER_FENCED
STALE, UNMAPPED = ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_PRODUCER_ID_MAPPING
WRONG, ABORTABLE = ErrorCode.INVALID_TXN_STATE, ErrorCode.TRANSACTION_ABORTABLE


def test_the_first_partition_begins_the_transaction() -> None:
    desk = Desk()
    producer = desk.started()
    desk.now_ms += 7
    assert desk.add(producer, A) is NONE
    record = desk.record()
    assert record.state == TransactionState.ONGOING
    assert record.start_timestamp_ms == desk.now_ms
    started_ms = desk.now_ms
    desk.now_ms += 7
    assert desk.add(producer, C, B) is NONE
    record = desk.record()
    assert (record.partitions, record.start_timestamp_ms) == ([A, C, B], started_ms)
    assert record.last_update_timestamp_ms == desk.now_ms


def test_what_is_part_of_it_already_writes_nothing() -> None:
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A, B)
    assert desk.add(producer, B) is NONE
    assert desk.last == []
    desk.add_offsets(producer)
    assert desk.add_offsets(producer) is NONE
    assert desk.last == []
    assert desk.produce(producer, B, A) is None
    assert desk.last == []
    assert desk.commit_offsets(producer, 5) is NONE
    assert desk.last == []


def test_groups_begin_a_transaction_too() -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.add_offsets(producer, "group") is NONE
    record = desk.record()
    assert (record.state, record.group_ids) == (TransactionState.ONGOING, ["group"])


def test_the_number_of_groups_is_bounded() -> None:
    desk = Desk()
    producer = desk.started()
    for number in range(limits.TRANSACTION_GROUPS_MAX):
        assert desk.add_offsets(producer, f"group-{number}") is NONE
    assert desk.add_offsets(producer, "one more") is ErrorCode.POLICY_VIOLATION
    assert desk.commit_offsets(producer, 5, "one more") is ErrorCode.POLICY_VIOLATION
    assert desk.add_offsets(producer, "group-0") is NONE


def test_only_the_producer_itself_adds() -> None:
    desk = Desk()
    producer_id, epoch = desk.started()
    desk.started()
    cases = [
        (ID, (producer_id, epoch), FENCED),
        (ID, (producer_id, epoch + 2), FENCED),
        (ID, (producer_id + 1, epoch + 1), UNMAPPED),
        ("unknown", (producer_id, epoch), UNMAPPED),
        ("", (producer_id, epoch), ErrorCode.INVALID_REQUEST),
    ]
    for name, producer, error in cases:
        assert desk.add(producer, A, name=name) is error
        assert desk.add_offsets(producer, name=name) is error
        written = STALE if error is FENCED else error
        for version in (3, 4, 5):
            assert desk.commit_offsets(producer, version, name=name) is written
        for version in (3, 10, 11, 12, 13):
            assert desk.produce(producer, A, B, version=version, name=name) == [written] * 2
        verified = desk.coordinator.verify_partitions(name, *producer, [A])
        assert verified == [error]
    assert desk.state() is TransactionState.EMPTY


@pytest.mark.parametrize(("version", "error"), [(3, WRONG), (10, WRONG), (11, ABORTABLE)])
def test_before_produce_v12_a_partition_must_have_been_added(
    version: int, error: ErrorCode
) -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.produce(producer, A, version=version) == [error]
    desk.add(producer, A)
    assert desk.produce(producer, A, version=version) is None
    assert desk.produce(producer, B, A, version=version) == [error, NONE]
    desk.add(producer, B)
    assert desk.produce(producer, B, A, version=version) is None
    assert desk.produce(producer, A, C, B, version=version) == [NONE, error, NONE]
    assert desk.last == []
    desk.end(producer, True, 1)
    assert desk.produce(producer, A, version=version) == [error]


@pytest.mark.parametrize("version", [12, 13])
def test_produce_v12_adds_and_begins(version: int) -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.produce(producer, A, version=version) is None
    assert desk.state() is TransactionState.ONGOING
    assert desk.produce(producer, B, A, version=version) is None
    assert desk.record().partitions == [A, B]
    assert desk.record().client_transaction_version == 2
    reply = desk.end(producer, True, 2)
    assert desk.produce(producer, A, version=version) == [STALE]
    assert desk.produce((reply.producer_id, reply.producer_epoch), C, version=version) is None
    assert desk.record().partitions == [C]


def test_nothing_to_produce_begins_nothing() -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.produce(producer) is None
    assert desk.state() is TransactionState.EMPTY


@pytest.mark.parametrize(("version", "error"), [(0, WRONG), (3, WRONG), (4, ABORTABLE)])
def test_before_txn_offset_commit_v5_a_group_must_have_been_added(
    version: int, error: ErrorCode
) -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.commit_offsets(producer, version) is error
    desk.add_offsets(producer, "another")
    assert desk.commit_offsets(producer, version) is error
    desk.add_offsets(producer)
    assert desk.commit_offsets(producer, version) is NONE
    desk.end(producer, True, 1)
    assert desk.commit_offsets(producer, version) is error


def test_txn_offset_commit_v5_adds_and_begins() -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.commit_offsets(producer, 5) is NONE
    assert desk.record().group_ids == ["group"]
    assert desk.state() is TransactionState.ONGOING


def test_verification_adds_nothing() -> None:
    desk = Desk()
    producer = desk.started()
    verify = desk.coordinator.verify_partitions
    assert verify(ID, *producer, [A]) == [ABORTABLE]
    desk.add(producer, A)
    assert verify(ID, *producer, [B, A]) == [ABORTABLE, NONE]
    assert desk.record().partitions == [A]


def test_operations_only_look() -> None:
    """Without `apply` nothing happens, so an operation whose write fails leaves no trace."""
    desk = Desk()
    producer = desk.started()
    desk.add(producer, A)
    before = desk.coordinator.snapshot()
    coordinator, now_ms = desk.coordinator, desk.now_ms
    assert coordinator.add_partitions(ID, *producer, [B], now_ms).records
    assert coordinator.add_offsets(ID, *producer, "group", now_ms).records
    assert coordinator.admit_produce(ID, *producer, [C], 12, now_ms).records
    assert coordinator.end_transaction(ID, *producer, True, 1, now_ms).records
    assert coordinator.init_producer_id(ID, 1, -1, -1, now_ms).records
    assert coordinator.on_timer(now_ms + 10**9).records
    assert coordinator.snapshot() == before
