"""JoinGroup: who gets in, with which answer, and when a generation begins."""

import pytest

from ottla.coordinator import groups, rebalance
from ottla.ports.errors import ErrorCode
from tests.unit.coordinator.group_driver import REBALANCE_MS, SESSION_MS, Driver

RANGE_AND_STICKY = [("range", b"r"), ("sticky", b"s")]
STICKY_AND_RANGE = [("sticky", b"s"), ("range", b"r")]


def test_a_new_member_is_told_its_id_and_joins_with_it() -> None:
    driver = Driver()
    member_id = driver.new_member_id()
    assert member_id.startswith("client-")
    assert driver.state() == "Empty"
    answer = driver.joined(driver.send_join(member_id))
    assert answer.error_code == ErrorCode.NONE
    assert (answer.generation_id, answer.leader, answer.member_id) == (1, member_id, member_id)
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
    assert [member.member_id for member in answer.members] == [member_id]
    assert driver.state() == "CompletingRebalance"


def test_clients_before_v4_join_without_an_id() -> None:
    driver = Driver()
    answer = driver.joined(driver.send_join(version=3))
    assert answer.error_code == ErrorCode.NONE
    assert answer.generation_id == 1


def test_a_member_id_that_was_not_given_out_is_unknown() -> None:
    driver = Driver()
    assert driver.joined(driver.send_join("ghost")).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    driver.stable_group(1)
    assert driver.joined(driver.send_join("ghost")).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    with_instance = driver.send_join(driver.new_member_id(), instance="i")
    assert driver.joined(with_instance).error_code == ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
def test_session_timeouts_have_bounds(session_ms: int) -> None:
    driver = Driver()
    answer = driver.joined(driver.send_join(session_ms=session_ms))
    assert answer.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
    assert driver.state() == ""


def test_a_group_has_an_id() -> None:
    answer = Driver()
    assert answer.joined(answer.send_join(group="")).error_code == ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize(("protocol_type", "protocols"), [("", [("range", b"")]), ("consumer", [])])
def test_the_first_member_must_speak_some_protocol(
    protocol_type: str, protocols: list[tuple[str, bytes]]
) -> None:
    driver = Driver()
    token = driver.send_join(protocol_type=protocol_type, protocols=protocols)
    assert driver.joined(token).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert driver.state() == ""


@pytest.mark.parametrize(
    ("protocol_type", "protocols"), [("connect", [("range", b"")]), ("consumer", [("x", b"")])]
)
def test_later_members_must_speak_what_all_speak(
    protocol_type: str, protocols: list[tuple[str, bytes]]
) -> None:
    driver = Driver()
    driver.stable_group(1)
    token = driver.send_join(protocol_type=protocol_type, protocols=protocols)
    assert driver.joined(token).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert driver.state() == "Stable"


def test_the_protocol_with_most_votes_of_those_all_know_is_taken() -> None:
    driver = Driver()
    first = driver.new_member_id(protocols=[("x", b""), *RANGE_AND_STICKY])
    driver.send_join(first, protocols=[("x", b""), *RANGE_AND_STICKY])
    others = [driver.start_member(protocols=STICKY_AND_RANGE) for _ in range(2)]
    driver.send_join(first, protocols=[("x", b""), *RANGE_AND_STICKY])
    answer = driver.joined(others[-1][1])
    assert answer.protocol_name == "sticky"
    for member_id, token in others:
        members = driver.joined(token).members
        assert [member.metadata for member in members] in ([], [b"s"] * 3), member_id


def test_a_member_waits_until_all_have_joined() -> None:
    driver = Driver()
    (leader,), generation = driver.stable_group(1)
    second, waiting = driver.start_member()
    assert driver.state() == "PreparingRebalance"
    assert waiting in driver.parked
    assert driver.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    back = driver.send_join(leader)
    assert driver.joined(back).leader == leader
    assert {member.member_id for member in driver.joined(back).members} == {leader, second}
    follower = driver.joined(waiting)
    assert (follower.generation_id, follower.leader, follower.members) == (2, leader, [])


def test_a_member_id_on_its_way_is_waited_for() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    second, _ = driver.start_member()
    third = driver.new_member_id()
    waiting = driver.send_join(leader)
    assert waiting in driver.parked
    driver.send_join(third)
    assert {member.member_id for member in driver.joined(waiting).members} == {
        leader,
        second,
        third,
    }


def test_a_member_id_never_joined_with_expires_with_its_session() -> None:
    driver = Driver()
    driver.new_member_id()
    assert driver.groups.list_groups() != []
    driver.advance(SESSION_MS)
    assert driver.groups.list_groups() == []
    assert driver.written == []


def test_the_expiry_of_a_member_id_ends_the_wait_for_it() -> None:
    driver = Driver()
    (leader,), _ = driver.stable_group(1)
    driver.start_member()
    driver.new_member_id()
    waiting = driver.send_join(leader)
    driver.advance(SESSION_MS)
    assert len(driver.joined(waiting).members) == 2


def test_the_rebalance_timeout_leaves_out_who_did_not_come() -> None:
    driver = Driver()
    members, generation = driver.stable_group(2, session_ms=120_000)
    third, waiting = driver.start_member(session_ms=120_000)
    driver.advance(REBALANCE_MS - 1)
    assert waiting in driver.parked
    driver.advance(1)
    answer = driver.joined(waiting)
    assert (answer.leader, answer.generation_id) == (third, generation + 1)
    assert [member.member_id for member in answer.members] == [third]
    for member_id in members:
        assert driver.heartbeat(member_id, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_retry_in_the_sync_phase_hears_of_the_same_generation() -> None:
    driver = Driver()
    member_id, first = driver.start_member()
    again = driver.send_join(member_id)
    assert driver.joined(again) == driver.joined(first)
    assert driver.state() == "CompletingRebalance"


def test_other_metadata_in_the_sync_phase_starts_again() -> None:
    driver = Driver()
    member_id, _ = driver.start_member()
    again = driver.send_join(member_id, protocols=[("range", b"other")])
    assert driver.joined(again).generation_id == 2


def test_a_follower_of_a_stable_group_hears_of_the_same_generation() -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    answer = driver.joined(driver.send_join(follower))
    assert (answer.generation_id, answer.leader, answer.members) == (generation, leader, [])
    assert driver.state() == "Stable"


@pytest.mark.parametrize("leads", [True, False])
def test_a_leader_or_a_change_makes_a_stable_group_rebalance(leads: bool) -> None:
    driver = Driver()
    (leader, follower), generation = driver.stable_group(2)
    if leads:
        waiting = driver.send_join(leader)
        driver.send_join(follower)
    else:
        waiting = driver.send_join(follower, protocols=[("range", b"other")])
        driver.send_join(leader)
    assert driver.joined(waiting).generation_id == generation + 1


def test_a_second_join_of_a_member_answers_the_first() -> None:
    driver = Driver()
    (leader, _), _ = driver.stable_group(2)
    first = driver.send_join(leader)
    second = driver.send_join(leader)
    assert driver.joined(first).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.joined(first).member_id == leader
    assert second in driver.parked


def test_the_leader_that_does_not_come_back_is_replaced() -> None:
    driver = Driver()
    (leader, follower), _ = driver.stable_group(2)
    waiting = driver.send_join(follower, protocols=[("range", b"other")])
    driver.leave((leader, None))
    assert driver.joined(waiting).leader == follower


def test_the_first_generation_waits_for_more_members() -> None:
    driver = Driver(initial_rebalance_delay_ms=3_000)
    first, early = driver.start_member()
    driver.advance(2_000)
    _, late = driver.start_member()
    driver.advance(2_000)
    assert {early, late} <= driver.parked
    driver.advance(2_000)
    assert driver.joined(late).generation_id == 1
    assert driver.joined(early).leader == first
    assert len(driver.joined(early).members) == 2


def test_the_first_generation_waits_for_the_rebalance_timeout_at_most() -> None:
    driver = Driver(initial_rebalance_delay_ms=3_000)
    _, first = driver.start_member(rebalance_ms=7_000)
    for _ in range(3):
        driver.advance(2_000)
        driver.start_member(rebalance_ms=7_000)
    driver.advance(999)
    assert first in driver.parked
    driver.advance(1)
    assert len(driver.joined(first).members) == 4


def test_a_group_that_is_left_before_its_first_generation_is_empty() -> None:
    driver = Driver(initial_rebalance_delay_ms=3_000)
    member_id, waiting = driver.start_member()
    assert driver.leave((member_id, None)) == [ErrorCode.NONE]
    assert driver.joined(waiting).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    driver.advance(3_000)
    assert driver.state() == "Empty"


def test_a_group_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance, "GROUP_MEMBERS_MAX", 2)
    driver = Driver()
    members, _ = driver.stable_group(2)
    assert driver.joined(driver.send_join()).error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert driver.joined(driver.send_join(members[1])).error_code == ErrorCode.NONE


def test_member_ids_have_a_bound_over_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_MEMBERS_TOTAL_MAX", 2)
    driver = Driver()
    driver.new_member_id(group="a")
    driver.new_member_id(group="b")
    refused = driver.joined(driver.send_join(group="c"))
    assert refused.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert driver.state("c") == ""
    driver.advance(SESSION_MS)
    driver.new_member_id(group="c")
