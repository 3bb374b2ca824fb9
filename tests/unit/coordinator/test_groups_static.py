"""Static members (KIP-345): they come back without a rebalance, and fence who they replace."""

import pytest

from ottla.coordinator.records import GroupRecord
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.group_driver import REBALANCE_MS, SESSION_MS, Driver


def static_group(driver: Driver, *instances: str) -> list[str]:
    """A stable group of static members, the first one leading; their member ids."""
    members: list[str] = []
    for instance in instances:
        token = driver.send_join(instance=instance)
        for member_id, known in zip(members, instances, strict=False):
            driver.send_join(member_id, instance=known)
        members.append(driver.joined(token).member_id)
    driver.assign(members, driver.joined(token).generation_id)
    assert driver.joined(token).leader == members[0]
    return members


def test_a_static_member_joins_without_asking_for_an_id() -> None:
    driver = Driver()
    answer = driver.joined(driver.send_join(instance="one"))
    assert answer.member_id.startswith("one-")
    assert [member.group_instance_id for member in answer.members] == ["one"]


def test_a_static_member_comes_back_to_its_assignment_without_a_rebalance() -> None:
    driver = Driver()
    _, follower = static_group(driver, "one", "two")
    back = driver.joined(driver.send_join(instance="two"))
    assert (back.error_code, back.generation_id, back.members) == (ErrorCode.NONE, 2, [])
    assert back.member_id != follower
    assert driver.state() == "Stable"
    synced = driver.synced(driver.send_sync(back.member_id, 2, instance="two"))
    assert synced.assignment == f"to {follower}".encode()
    record = driver.written[-1]
    assert isinstance(record, GroupRecord)
    assert record.generation_id == 2
    assert back.member_id in [member.member_id for member in record.members]


@pytest.mark.parametrize("from_snapshot", [False, True])
def test_the_replacement_survives_a_restart(from_snapshot: bool) -> None:
    driver = Driver()
    _, follower = static_group(driver, "one", "two")
    back = driver.joined(driver.send_join(instance="two")).member_id
    driver.restart(from_snapshot=from_snapshot)
    assert driver.heartbeat(back, 2, "two") == ErrorCode.NONE
    assert driver.heartbeat(follower, 2, "two") == ErrorCode.FENCED_INSTANCE_ID


def test_a_static_leader_that_is_back_skips_the_assignment() -> None:
    driver = Driver()
    static_group(driver, "one", "two")
    back = driver.joined(driver.send_join(instance="one"))
    assert back.skip_assignment
    assert back.leader == back.member_id
    assert {member.group_instance_id for member in back.members} == {"one", "two"}


def test_before_v9_a_static_leader_that_is_back_takes_itself_for_a_follower() -> None:
    driver = Driver()
    leader, _ = static_group(driver, "one", "two")
    back = driver.joined(driver.send_join(instance="one", version=8))
    assert not back.skip_assignment
    assert (back.leader, back.members) == (leader, [])
    synced = driver.synced(driver.send_sync(back.member_id, 2, instance="one"))
    assert synced.assignment == f"to {leader}".encode()


def test_who_was_replaced_is_fenced_everywhere() -> None:
    driver = Driver()
    _, old = static_group(driver, "one", "two")
    driver.send_join(instance="two")
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert driver.heartbeat(old, 2, "two") == fenced
    assert driver.synced(driver.send_sync(old, 2, instance="two")).error_code == fenced
    assert driver.joined(driver.send_join(old, instance="two")).error_code == fenced
    assert driver.leave((old, "two")) == [fenced]
    assert driver.heartbeat(old, 2) == ErrorCode.UNKNOWN_MEMBER_ID


def test_requests_parked_for_who_is_replaced_are_fenced() -> None:
    driver = Driver()
    leader, _ = static_group(driver, "one", "two")
    joining = driver.send_join(leader, instance="one")
    driver.send_join(instance="one")
    assert driver.joined(joining).error_code == ErrorCode.FENCED_INSTANCE_ID


def test_a_replacement_in_the_sync_phase_starts_again() -> None:
    driver = Driver()
    leader, follower = static_group(driver, "one", "two")
    driver.send_join(leader, instance="one")
    driver.send_join(follower, instance="two")
    waiting = driver.send_sync(follower, 3, instance="two")
    back = driver.send_join(instance="two")
    assert driver.synced(waiting).error_code == ErrorCode.FENCED_INSTANCE_ID
    assert driver.state() == "PreparingRebalance"
    driver.send_join(leader, instance="one")
    assert driver.joined(back).generation_id == 4


def test_a_replacement_in_the_join_phase_takes_part_in_it() -> None:
    driver = Driver()
    leader, _ = static_group(driver, "one", "two")
    waiting = driver.send_join(leader, instance="one")
    back = driver.joined(driver.send_join(instance="two"))
    assert back.generation_id == driver.joined(waiting).generation_id == 3


def test_a_replacement_with_another_protocol_rebalances() -> None:
    driver = Driver()
    token = driver.send_join(instance="one", protocols=[("range", b""), ("sticky", b"")])
    member_id = driver.joined(token).member_id
    driver.assign([member_id], 1)
    changed = driver.joined(driver.send_join(instance="one", protocols=[("sticky", b"")]))
    assert (changed.generation_id, changed.protocol_name) == (2, "sticky")


def test_a_static_member_keeps_its_place_when_it_misses_a_rebalance() -> None:
    driver = Driver()
    leader, absent = static_group(driver, "one", "two")
    for _ in range(2):
        driver.heartbeat(absent, 2, "two")
    waiting = driver.send_join(leader, instance="one", rebalance_ms=5_000)
    driver.send_join(leader, instance="one", rebalance_ms=5_000)
    assert driver.joined(waiting).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    while driver.state() == "PreparingRebalance":
        driver.advance(SESSION_MS // 2)
        if driver.state() == "PreparingRebalance":
            assert driver.heartbeat(absent, 2, "two") == ErrorCode.REBALANCE_IN_PROGRESS
    found = driver.groups.describe("orders")
    assert found is not None
    assert {member.group_instance_id for member in found.members} == {"one", "two"}
    assert driver.heartbeat(absent, 2, "two") == ErrorCode.ILLEGAL_GENERATION


def test_static_members_none_of_whom_come_are_waited_for_until_their_sessions_end() -> None:
    driver = Driver()
    first, second = static_group(driver, "one", "two")
    dynamic, waiting = driver.start_member()
    driver.leave((dynamic, None))
    assert driver.joined(waiting).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    for _ in range(REBALANCE_MS // SESSION_MS * 3):
        driver.advance(SESSION_MS - 1)
        for member_id, instance in ((first, "one"), (second, "two")):
            assert driver.heartbeat(member_id, 2, instance) == ErrorCode.REBALANCE_IN_PROGRESS
    driver.advance(SESSION_MS)
    assert driver.state() == "Empty"


@pytest.mark.parametrize("rebalance_ms", [0, -1])
def test_no_rebalance_timeout_keeps_the_timer_busy(rebalance_ms: int) -> None:
    driver = Driver()
    token = driver.send_join(instance="one", rebalance_ms=rebalance_ms)
    member_id = driver.joined(token).member_id
    driver.assign([member_id], 1)
    dynamic, _ = driver.start_member(rebalance_ms=rebalance_ms)
    driver.leave((dynamic, None))
    driver.advance(SESSION_MS)
    assert driver.state() == "Empty"


def test_an_administrator_removes_static_members_by_instance_id() -> None:
    driver = Driver()
    leader, _ = static_group(driver, "one", "two")
    assert driver.leave(("", "two"), ("", "two")) == [
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert driver.heartbeat(leader, 2, "one") == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_replaced_member_does_not_owe_the_sync_of_the_old_one() -> None:
    driver = Driver()
    token = driver.send_join(instance="one")
    leader = driver.joined(token).member_id
    other = driver.send_join(instance="two")
    driver.send_join(leader, instance="one")
    driver.send_sync(leader, 2, {}, instance="one")
    back = driver.joined(driver.send_join(instance="two")).member_id
    assert back != driver.joined(other).member_id
    for _ in range(8):
        driver.advance(SESSION_MS - 1)
        driver.heartbeat(leader, 2, "one")
        assert driver.heartbeat(back, 2, "two") == ErrorCode.NONE
    assert driver.state() == "Stable"
