"""Committing offsets: who may, what becomes of it, and what a reader sees.

Transactional offsets are pending until their transaction ends; mixed with plain ones, the one that
was written later wins.
"""

import pytest

from ottla.coordinator.offsets import FetchedOffset, OffsetToCommit
from ottla.coordinator.records import OffsetRecord
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.group_driver import GROUP, SESSION_MS, WALL_MS, Driver

AT_1, AT_2, AT_3 = (OffsetToCommit("t", 0, offset) for offset in (1, 2, 3))
OK = [ErrorCode.NONE]


def seen(driver: Driver) -> int:
    """The offset of the one partition as a reader sees it who does not ask for stable offsets."""
    (fetched,) = driver.groups.fetch_offsets(GROUP, [("t", 0)], require_stable=False)
    return fetched.offset


def stable(driver: Driver) -> ErrorCode:
    (fetched,) = driver.groups.fetch_offsets(GROUP, [("t", 0)], require_stable=True)
    return fetched.error_code


def test_a_consumer_without_group_management_commits() -> None:
    driver = Driver()
    full = OffsetToCommit("t", 3, 42, leader_epoch=5, metadata="note")
    assert driver.commit_offsets(full) == OK
    assert driver.written == [OffsetRecord(GROUP, "t", 3, 42, 5, "note", WALL_MS)]
    assert driver.state() == "Empty"
    fetched = driver.groups.fetch_offsets(GROUP, [("t", 3), ("t", 4)], require_stable=True)
    assert fetched == [FetchedOffset("t", 3, 42, 5, "note"), FetchedOffset("t", 4)]
    assert driver.groups.fetch_offsets(GROUP, None, require_stable=True) == fetched[:1]
    assert driver.groups.fetch_offsets("other", None, require_stable=True) == []


def test_metadata_has_a_size_and_only_its_partition_is_refused() -> None:
    driver = Driver()
    fits = OffsetToCommit("t", 0, 1, metadata="x" * 4096)
    too_large = OffsetToCommit("t", 1, 1, metadata="x" * 4097)
    expected = [ErrorCode.NONE, ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert driver.commit_offsets(fits, too_large) == expected
    assert driver.txn_commit_offsets(7, fits, too_large) == expected
    assert len(driver.written) == 2


def test_a_generation_in_a_group_that_is_not() -> None:
    driver = Driver()
    asked = {"member_id": "m", "generation": 1}
    assert driver.commit_offsets(AT_1, **asked) == [ErrorCode.GROUP_ID_NOT_FOUND]
    assert driver.txn_commit_offsets(7, AT_1, **asked) == [ErrorCode.ILLEGAL_GENERATION]
    driver.commit_offsets(AT_1)
    assert driver.commit_offsets(AT_2, **asked) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert driver.txn_commit_offsets(7, AT_2, **asked) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert driver.txn_commit_offsets(7, AT_1, group="") == [ErrorCode.INVALID_GROUP_ID]
    assert seen(driver) == 1


@pytest.mark.parametrize("transactional", [False, True])
def test_members_commit_for_their_generation(transactional: bool) -> None:
    driver = Driver()
    members, generation = driver.stable_group(1)

    def commit(member_id: str, generation: int, instance: str | None = None) -> ErrorCode:
        asked = {"member_id": member_id, "generation": generation, "instance": instance}
        if transactional:
            return driver.txn_commit_offsets(7, AT_1, **asked)[0]
        return driver.commit_offsets(AT_1, **asked)[0]

    assert commit(members[0], generation) == ErrorCode.NONE
    assert commit(members[0], generation - 1) == ErrorCode.ILLEGAL_GENERATION
    assert commit(members[0], -1) == ErrorCode.ILLEGAL_GENERATION
    assert commit("ghost", generation) == ErrorCode.UNKNOWN_MEMBER_ID
    assert commit("", generation) == ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(members[0], generation, "i") == ErrorCode.UNKNOWN_MEMBER_ID
    # Before KIP-447 a transactional producer had no group metadata to show.
    nothing_shown = ErrorCode.NONE if transactional else ErrorCode.UNKNOWN_MEMBER_ID
    assert commit("", -1) == nothing_shown


def test_a_fenced_static_member_commits_nothing() -> None:
    driver = Driver()
    old = driver.joined(driver.send_join(instance="i")).member_id
    driver.assign([old], 1)
    driver.send_join(instance="i")
    asked = {"member_id": old, "generation": 1, "instance": "i"}
    assert driver.commit_offsets(AT_1, **asked) == [ErrorCode.FENCED_INSTANCE_ID]
    assert driver.txn_commit_offsets(7, AT_1, **asked) == [ErrorCode.FENCED_INSTANCE_ID]


def test_plain_commits_wait_for_the_sync_phase_and_transactional_ones_do_not() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    _, other = driver.start_member()
    asked = {"member_id": leader, "generation": generation}
    assert driver.commit_offsets(AT_1, **asked) == OK
    driver.send_join(leader)
    assert driver.joined(other).generation_id == generation + 1
    asked["generation"] += 1
    assert driver.commit_offsets(AT_2, **asked) == [ErrorCode.REBALANCE_IN_PROGRESS]
    assert driver.txn_commit_offsets(7, AT_2, **asked) == OK


def test_a_commit_keeps_the_session() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    for _ in range(3):
        driver.advance(SESSION_MS - 1)
        assert driver.commit_offsets(AT_1, member_id=leader, generation=generation) == OK
    driver.advance(SESSION_MS - 1)
    driver.txn_commit_offsets(7, AT_1, member_id=leader, generation=generation)
    driver.advance(1)
    assert driver.state() == "Empty"


def test_an_administrator_commits_to_a_group_whose_members_left() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    assert driver.commit_offsets(AT_1) == [ErrorCode.UNKNOWN_MEMBER_ID]
    driver.leave((leader, None))
    assert driver.commit_offsets(AT_1) == OK


def test_pending_offsets_are_not_shown_until_the_commit() -> None:
    driver = Driver()
    driver.commit_offsets(AT_1)
    driver.txn_commit_offsets(7, AT_2)
    assert (seen(driver), stable(driver)) == (1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    (everything,) = driver.groups.fetch_offsets(GROUP, None, require_stable=True)
    assert everything.error_code == ErrorCode.UNSTABLE_OFFSET_COMMIT
    assert (everything.offset, everything.metadata) == (-1, "")
    driver.end_transaction(7, commit=True)
    assert (seen(driver), stable(driver)) == (2, ErrorCode.NONE)


def test_pending_offsets_are_dropped_by_an_abort() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, AT_2)
    assert driver.state() == "Empty"
    assert (seen(driver), stable(driver)) == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    driver.end_transaction(7, commit=False)
    assert (seen(driver), stable(driver)) == (-1, ErrorCode.NONE)
    assert driver.state() == ""


def test_other_partitions_and_groups_stay_stable() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, AT_1)
    (other,) = driver.groups.fetch_offsets(GROUP, [("t", 1)], require_stable=True)
    assert other.error_code == ErrorCode.NONE
    driver.end_transaction(7, commit=True, group="another")
    assert stable(driver) == ErrorCode.UNSTABLE_OFFSET_COMMIT


def test_a_plain_commit_after_the_pending_one_stays() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, AT_1)
    driver.commit_offsets(AT_2)
    driver.end_transaction(7, commit=True)
    assert seen(driver) == 2


def test_a_plain_commit_before_the_pending_one_goes() -> None:
    driver = Driver()
    driver.commit_offsets(AT_2)
    driver.txn_commit_offsets(7, AT_1)
    driver.end_transaction(7, commit=True)
    assert seen(driver) == 1


def test_of_two_transactions_the_one_that_wrote_later_wins() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, AT_1)
    driver.txn_commit_offsets(8, AT_2)
    driver.end_transaction(8, commit=True)
    assert (seen(driver), stable(driver)) == (2, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    driver.end_transaction(7, commit=True)
    assert (seen(driver), stable(driver)) == (2, ErrorCode.NONE)


def test_the_last_offset_of_a_transaction_counts() -> None:
    driver = Driver()
    for offset in (AT_1, AT_3, AT_2):
        driver.txn_commit_offsets(7, offset)
    driver.end_transaction(7, commit=True)
    assert seen(driver) == 2


def test_a_snapshot_keeps_the_order_of_writes() -> None:
    for commit_after in (False, True):
        driver = Driver()
        if commit_after:
            driver.txn_commit_offsets(7, AT_1)
        driver.commit_offsets(AT_2)
        if not commit_after:
            driver.txn_commit_offsets(7, AT_1)
        driver.txn_commit_offsets(8, OffsetToCommit("u", 0, 9))
        snapshot = driver.groups.snapshot()
        driver.restart(from_snapshot=True)
        assert driver.groups.snapshot() == snapshot
        assert seen(driver) == 2
        driver.end_transaction(7, commit=True)
        assert seen(driver) == (2 if commit_after else 1)
        driver.end_transaction(8, commit=False)
        assert driver.groups.fetch_offsets(GROUP, [("u", 0)], True) == [FetchedOffset("u", 0)]


def test_a_committed_offset_of_a_transaction_is_a_plain_one_from_then_on() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, AT_1)
    driver.end_transaction(7, commit=True)
    assert driver.groups.snapshot() == [OffsetRecord(GROUP, "t", 0, 1, -1, "", WALL_MS)]


def test_a_deleted_offset_is_not_brought_back_by_an_open_transaction() -> None:
    driver = Driver()
    driver.commit_offsets(AT_1)
    driver.txn_commit_offsets(7, AT_2, OffsetToCommit("t", 1, 5))
    driver.commit(driver.groups.delete_offsets(GROUP, [("t", 0)]).records)
    assert (seen(driver), stable(driver)) == (-1, ErrorCode.NONE)
    driver.end_transaction(7, commit=True)
    assert seen(driver) == -1
    assert driver.groups.fetch_offsets(GROUP, None, True) == [FetchedOffset("t", 1, 5)]


def test_a_deleted_topic_takes_its_offsets_along() -> None:
    driver = Driver()
    driver.commit_offsets(AT_1, OffsetToCommit("u", 0, 7))
    driver.commit_offsets(AT_1, group="second")
    driver.txn_commit_offsets(7, OffsetToCommit("t", 1, 5), group="second")
    driver.commit(driver.groups.delete_topic("t"))
    driver.end_transaction(7, commit=True, group="second")
    assert driver.groups.fetch_offsets(GROUP, None, True) == [FetchedOffset("u", 0, 7)]
    assert [found.group_id for found in driver.groups.list_groups()] == [GROUP]
    assert driver.groups.delete_topic("t") == []
