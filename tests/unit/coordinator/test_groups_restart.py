"""A restart of the broker: groups go on as their last complete generation says.

Method: the driver drops a coordinator and replays into a new one what was written, or a snapshot.
"""

import pytest

from ottla.coordinator.offsets import OffsetToCommit
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.group_driver import GROUP, SESSION_MS, Driver

both_ways = pytest.mark.parametrize("from_snapshot", [False, True])


@both_ways
def test_members_go_on_without_a_rebalance(from_snapshot: bool) -> None:
    driver = Driver()
    members, generation = driver.stable_group(3)
    before = driver.groups.describe(GROUP)
    driver.restart(from_snapshot=from_snapshot)
    assert driver.groups.describe(GROUP) == before
    for member_id in members:
        assert driver.heartbeat(member_id, generation) == ErrorCode.NONE
        synced = driver.synced(driver.send_sync(member_id, generation))
        assert synced.assignment == f"to {member_id}".encode()
    offset = OffsetToCommit("t", 0, 5)
    committed = driver.commit_offsets(offset, member_id=members[0], generation=generation)
    assert committed == [ErrorCode.NONE]


@both_ways
def test_members_get_a_full_session_to_show_up(from_snapshot: bool) -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    driver.advance(SESSION_MS - 1)
    driver.restart(from_snapshot=from_snapshot)
    assert driver.groups.next_deadline_ms() == 0
    driver.advance(SESSION_MS - 1)
    assert driver.heartbeat(leader, generation) == ErrorCode.NONE
    driver.advance(1)
    assert driver.heartbeat(follower, generation) == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_generation_without_assignments_is_as_if_it_had_not_been() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    assert driver.heartbeat(leader, generation + 1) == ErrorCode.NONE
    driver.restart()
    assert driver.heartbeat(leader, generation + 1) == ErrorCode.ILLEGAL_GENERATION
    assert driver.heartbeat(leader, generation) == ErrorCode.NONE
    assert driver.heartbeat(follower, generation + 1) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_group_without_a_complete_generation_is_forgotten() -> None:
    driver = Driver()
    member_id, _ = driver.start_member()
    driver.restart()
    assert driver.state() == ""
    assert driver.joined(driver.send_join(member_id)).error_code == ErrorCode.UNKNOWN_MEMBER_ID


@both_ways
def test_an_empty_group_keeps_its_generation(from_snapshot: bool) -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    driver.leave((leader, None))
    driver.restart(from_snapshot=from_snapshot)
    assert driver.state() == "Empty"
    assert driver.groups.next_deadline_ms() is None
    _, token = driver.start_member()
    assert driver.joined(token).generation_id == generation + 2


@both_ways
def test_a_deleted_group_stays_deleted(from_snapshot: bool) -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    driver.leave((leader, None))
    driver.commit(driver.groups.delete_groups([GROUP]).records)
    driver.restart(from_snapshot=from_snapshot)
    assert driver.state() == ""
    assert driver.groups.snapshot() == []


def test_a_snapshot_during_a_rebalance_holds_the_generation_before() -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    driver.send_join(leader)
    driver.leave((follower, None))
    driver.restart(from_snapshot=True)
    for member_id in (leader, follower):
        assert driver.heartbeat(member_id, generation) == ErrorCode.NONE


def test_a_rejoin_with_the_same_metadata_after_a_restart_is_no_change() -> None:
    driver = Driver()
    protocols = [("range", b"r"), ("sticky", b"s")]
    (_, follower), generation = driver.stable_group(2, protocols=protocols)
    driver.restart()
    answer = driver.joined(driver.send_join(follower, protocols=protocols))
    assert answer.generation_id == generation
    assert driver.state() == "Stable"
