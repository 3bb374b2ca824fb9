"""SyncGroup, Heartbeat and LeaveGroup, and the sessions they keep or end."""

import pytest

from ottla.coordinator.records import GroupRecord
from ottla.ports.errors import ErrorCode, KafkaError
from tests.unit.coordinator.group_driver import GROUP, REBALANCE_MS, SESSION_MS, Driver


def test_the_leaders_sync_answers_all_and_completes_the_generation() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    waiting = driver.send_sync(follower, 2)
    assert waiting in driver.parked
    done = driver.send_sync(leader, 2, {leader: b"0", follower: b"1", "stranger": b"2"})
    assert driver.synced(done).assignment == b"0"
    answer = driver.synced(waiting)
    assert (answer.error_code, answer.assignment) == (ErrorCode.NONE, b"1")
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
    assert driver.state() == "Stable"
    record = driver.written[-1]
    assert isinstance(record, GroupRecord)
    assert {one.member_id: one.assignment for one in record.members} == {
        leader: b"0",
        follower: b"1",
    }


def test_a_sync_after_the_leaders_is_answered_at_once() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    driver.send_sync(leader, 2, {follower: b"1"})
    assert driver.synced(driver.send_sync(follower, 2)).assignment == b"1"
    assert driver.synced(driver.send_sync(leader, 2)).assignment == b""


def test_sync_is_refused_with_the_reason() -> None:
    driver = Driver()
    unknown = driver.synced(driver.send_sync("nobody", 1))
    assert unknown.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    (leader,), generation = driver.stable_group(1)
    cases = {
        driver.send_sync("nobody", generation): ErrorCode.UNKNOWN_MEMBER_ID,
        driver.send_sync(leader, generation - 1): ErrorCode.ILLEGAL_GENERATION,
        driver.send_sync(leader, generation, group=""): ErrorCode.INVALID_GROUP_ID,
        driver.send_sync(
            leader, generation, protocol_type="connect"
        ): ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        driver.send_sync(
            leader, generation, protocol_name="sticky"
        ): ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        driver.send_sync(leader, generation, instance="i"): ErrorCode.UNKNOWN_MEMBER_ID,
    }
    driver.start_member()
    cases[driver.send_sync(leader, generation)] = ErrorCode.REBALANCE_IN_PROGRESS
    assert {token: driver.synced(token).error_code for token in cases} == cases


def test_a_new_rebalance_answers_those_who_wait_for_the_assignment() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    waiting = driver.send_sync(follower, 2)
    driver.start_member()
    assert driver.synced(waiting).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.state() == "PreparingRebalance"


def test_a_second_sync_of_a_member_answers_the_first() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    first, second = driver.send_sync(follower, 2), driver.send_sync(follower, 2)
    assert driver.synced(first).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    driver.send_sync(leader, 2, {follower: b"1"})
    assert driver.synced(second).assignment == b"1"


def test_who_does_not_sync_in_the_rebalance_timeout_is_out() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1, session_ms=120_000)
    follower, _ = driver.start_member(session_ms=120_000)
    driver.send_join(leader, session_ms=120_000)
    driver.send_sync(leader, 2, {follower: b"1"})
    driver.advance(REBALANCE_MS)
    assert driver.state() == "PreparingRebalance"
    assert driver.heartbeat(follower, 2) == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat(leader, 2) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_leader_that_never_syncs_is_out() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1, session_ms=120_000)
    follower, _ = driver.start_member(session_ms=120_000)
    driver.send_join(leader, session_ms=120_000)
    waiting = driver.send_sync(follower, 2)
    driver.advance(REBALANCE_MS)
    assert driver.synced(waiting).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    again = driver.send_join(follower)
    assert driver.joined(again).leader == follower


def test_heartbeat_in_every_state() -> None:
    driver = Driver()
    assert driver.heartbeat("m", 1, group="") == ErrorCode.INVALID_GROUP_ID
    assert driver.heartbeat("m", 1) == ErrorCode.UNKNOWN_MEMBER_ID
    pending = driver.new_member_id()
    assert driver.heartbeat(pending, 0) == ErrorCode.UNKNOWN_MEMBER_ID
    driver.send_join(pending)
    assert driver.heartbeat(pending, 1) == ErrorCode.NONE
    driver.assign([pending], 1)
    assert driver.heartbeat(pending, 1) == ErrorCode.NONE
    assert driver.heartbeat(pending, 0) == ErrorCode.ILLEGAL_GENERATION
    assert driver.heartbeat("other", 1) == ErrorCode.UNKNOWN_MEMBER_ID
    driver.start_member()
    assert driver.heartbeat(pending, 1) == ErrorCode.REBALANCE_IN_PROGRESS


def test_heartbeats_keep_a_session_and_silence_ends_it() -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    for _ in range(3):
        driver.advance(SESSION_MS - 1)
        assert driver.heartbeat(leader, generation) == ErrorCode.NONE
        assert driver.heartbeat(follower, generation) == ErrorCode.NONE
    driver.advance(SESSION_MS - 1)
    driver.heartbeat(leader, generation)
    driver.advance(1)
    assert driver.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.heartbeat(follower, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_waits_need_not_heartbeat() -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    waiting = driver.send_join(leader)
    for _ in range(4):
        driver.advance(SESSION_MS - 1)
        driver.heartbeat(follower, generation)
    assert waiting in driver.parked
    driver.send_join(follower)
    assert driver.joined(waiting).error_code == ErrorCode.NONE
    driver.advance(SESSION_MS - 1)
    assert driver.heartbeat(leader, generation + 1) == ErrorCode.NONE


def test_the_session_of_a_new_member_begins_with_its_first_generation() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.advance(SESSION_MS // 2)
    driver.send_join(leader)
    driver.send_sync(leader, 2)
    driver.advance(SESSION_MS - 1)
    assert driver.heartbeat(leader, 2) == ErrorCode.NONE
    driver.advance(1)
    assert driver.heartbeat(leader, 2) == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.heartbeat(follower, 2) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_new_member_waits_five_minutes_at_most() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1, rebalance_ms=1_000_000)
    _, waiting = driver.start_member(rebalance_ms=1_000_000)
    for _ in range(33):
        driver.advance(9_000)
        driver.heartbeat(leader, generation)
    assert waiting in driver.parked
    driver.advance(3_000)
    assert driver.joined(waiting).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_last_member_leaves_an_empty_group_of_the_next_generation() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    assert driver.leave((leader, None)) == [ErrorCode.NONE]
    assert driver.state() == "Empty"
    assert driver.written[-1] == GroupRecord(GROUP, generation + 1, "consumer", None, None, [])
    _, token = driver.start_member()
    assert driver.joined(token).generation_id == generation + 2


def test_a_group_whose_last_member_expires_is_empty() -> None:
    driver = Driver()
    driver.stable_group(1)
    driver.advance(SESSION_MS)
    assert driver.state() == "Empty"
    assert driver.groups.next_deadline_ms() is None


def test_a_group_left_while_a_member_is_on_its_way_is_empty_then_full_again() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    pending = driver.new_member_id()
    driver.leave((leader, None))
    driver.advance(0)
    assert driver.state() == "Empty"
    assert driver.joined(driver.send_join(pending)).generation_id == 3


def test_leaving_starts_a_rebalance_or_ends_the_wait() -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    waiting = driver.send_join(leader)
    assert driver.leave((follower, None)) == [ErrorCode.NONE]
    assert driver.joined(waiting).generation_id == generation + 1


def test_a_member_that_is_made_to_leave_is_answered() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    follower, _ = driver.start_member()
    driver.send_join(leader)
    waiting = driver.send_sync(follower, 2)
    driver.leave((follower, None))
    assert driver.synced(waiting).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_each_leaving_member_has_its_own_error() -> None:
    driver = Driver()
    assert driver.leave(("a", None), ("b", None)) == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    (leader,), _ = driver.stable_group(1)
    pending = driver.new_member_id()
    assert driver.leave(
        ("nobody", None), (pending, None), ("", None), ("", "nobody"), (leader, "i")
    ) == [
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert driver.joined(driver.send_join(pending)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    with pytest.raises(KafkaError, match="INVALID_GROUP_ID"):
        driver.leave((leader, None), group="")
