"""Groups of the new protocol (KIP-848): joining, sharing, leaving, fencing, restarts, offsets."""

import pytest

from ottla.coordinator.consumer_group_records import ConsumerGroupGone
from ottla.coordinator.group_states import GroupState
from ottla.coordinator.membership import JoinRequest, LeavingMember
from ottla.coordinator.offsets import OffsetToCommit
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.join_group import JoinGroupResponse
from tests.unit.coordinator.consumer_driver import (
    GROUP,
    REBALANCE_MS,
    SESSION_MS,
    WALL_MS,
    ConsumerDriver,
    FakeTopics,
)

T0, T1, T2 = ("t", 0), ("t", 1), ("t", 2)
FENCED = ErrorCode.FENCED_MEMBER_EPOCH
UNKNOWN_MEMBER = ErrorCode.UNKNOWN_MEMBER_ID
STALE = ErrorCode.STALE_MEMBER_EPOCH
NONE = ErrorCode.NONE


@pytest.fixture
def topics() -> FakeTopics:
    return FakeTopics(t=3)


@pytest.fixture
def driver(topics: FakeTopics) -> ConsumerDriver:
    return ConsumerDriver(topics)


@pytest.fixture
def shared(driver: ConsumerDriver, topics: FakeTopics) -> ConsumerDriver:
    """Two members in epoch 3: a has 0 and 1, b has 2."""
    driver.join("a", "t")
    driver.join("b", "t")
    driver.heartbeat("a", 2)
    driver.heartbeat("a", 2, owned=topics.partitions("t", 0, 1))
    driver.heartbeat("b", 3)
    assert (driver.held("a"), driver.held("b")) == ({T0, T1}, {T2})
    return driver


def classic_join(
    driver: ConsumerDriver, member_id: str = "", *, requires_id: bool = False
) -> JoinGroupResponse:
    """A JoinGroup of the classic protocol, answered at once."""
    request = JoinRequest(
        GROUP, member_id, None, "c", "/h", 10_000, 10_000, "consumer", [("range", b"")], requires_id
    )
    outcome = driver.groups.join(1, request, driver.now_ms)
    driver.commit(outcome.records)
    ((_, answer),) = outcome.replies
    assert isinstance(answer, JoinGroupResponse)
    return answer


class TestSharing:
    def test_the_first_member_has_all(self, driver: ConsumerDriver) -> None:
        answer = driver.join("a", "t")
        assert (answer.member_epoch, answer.heartbeat_interval_ms) == (2, 5_000)
        assert driver.told(answer) == {T0, T1, T2}
        assert driver.state() == "Stable"
        assert driver.told(driver.heartbeat("a", 2)) is None, "it knows already"

    def test_a_partition_is_given_up_before_another_gets_it(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        driver.join("a", "t")
        joined = driver.join("b", "t")
        assert (joined.member_epoch, driver.told(joined)) == (3, set())
        asked = driver.heartbeat("a", 2)
        assert (asked.member_epoch, driver.told(asked)) == (2, {T0, T1})
        still = driver.heartbeat("a", 2, owned=topics.partitions("t", 0, 1, 2))
        assert (still.member_epoch, driver.told(still)) == (2, None)
        assert driver.told(driver.heartbeat("b", 3)) is None
        assert driver.state() == "Reconciling"
        done = driver.heartbeat("a", 2, owned=topics.partitions("t", 0, 1))
        assert done.member_epoch == 3
        assert driver.told(driver.heartbeat("b", 3)) == {T2}
        assert driver.state() == "Stable"

    def test_a_full_request_is_told_all(self, shared: ConsumerDriver, topics: FakeTopics) -> None:
        answer = shared.heartbeat(
            "b", 3, topics=["t"], owned=topics.partitions("t", 2), rebalance_ms=REBALANCE_MS
        )
        assert shared.told(answer) == {T2}

    def test_who_leaves_leaves_its_partitions(self, shared: ConsumerDriver) -> None:
        answer = shared.heartbeat("a", -1)
        assert (answer.member_epoch, answer.assigned) == (-1, None)
        assert shared.state() == "Assigning"
        assert shared.told(shared.heartbeat("b", 3)) == {T0, T1, T2}
        shared.heartbeat("b", -1)
        assert shared.state() == "Empty"
        assert shared.groups.next_deadline_ms() is None

    def test_the_assignor_that_most_prefer(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        topics.set("u", 3)
        driver.join("a", "t", "u", assignor="range")
        driver.join("b", "t", "u", assignor="range")
        driver.heartbeat("a", 2)
        driver.heartbeat("a", 2, owned=frozenset())
        driver.heartbeat("b", 3)
        assert driver.held("a") == {T0, T1, ("u", 0), ("u", 1)}
        assert driver.held("b") == {T2, ("u", 2)}
        assert driver.groups.consumer.get(GROUP).assignor == "range"  # type: ignore[union-attr]

    def test_many_who_come_at_once_are_assigned_together(self, topics: FakeTopics) -> None:
        driver = ConsumerDriver(topics, assignment_interval_ms=1_000)
        driver.join("a", "t")
        assert driver.join("b", "t").member_epoch == 2, "the target is the one before it came"
        assert driver.state() == "Assigning"
        driver.advance(1_000)
        assert driver.heartbeat("b", 2).member_epoch == 3


class TestTopics:
    def test_a_topic_that_comes_and_goes(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        assert driver.told(driver.join("a", "t", "new")) == {T0, T1, T2}
        topics.set("new", 1)
        answer = driver.heartbeat("a", 2)
        assert (answer.member_epoch, driver.told(answer)) == (3, {T0, T1, T2, ("new", 0)})
        topics.set("other", 1)
        assert driver.heartbeat("a", 3).member_epoch == 3, "it is nobody's"
        topics.set("t", 4)
        assert ("t", 3) in (driver.told(driver.heartbeat("a", 3)) or set())
        topics.delete("new")
        answer = driver.heartbeat("a", 4)
        assert driver.told(answer) == {T0, T1, T2, ("t", 3)}
        assert driver.heartbeat("a", 4, owned=topics.partitions("t", 0)).member_epoch == 5

    def test_a_topic_made_anew_is_another(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        before = driver.join("a", "t").assigned
        topics.delete("t")
        topics.set("t", 3)
        driver.heartbeat("a", 2)
        after = driver.heartbeat("a", 2, owned=frozenset()).assigned
        assert after != before
        assert driver.held("a") == {T0, T1, T2}

    def test_a_regular_expression(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        topics.set("tt", 1)
        topics.set("not-t", 1)
        assert driver.told(driver.join("a", regex="t+")) == {T0, T1, T2, ("tt", 0)}
        topics.set("ttt", 1)
        assert ("ttt", 0) in (driver.told(driver.heartbeat("a", 2)) or set())
        answer = driver.heartbeat("a", 3, regex="", topics=["not-t"], owned=frozenset())
        assert driver.told(answer) == {("not-t", 0)}

    def test_a_pattern_finds_what_the_member_may_know_of(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        topics.set("tt", 1)
        topics.hidden.add(("User:a", "tt"))
        assert driver.told(driver.join("a", regex="t+")) == {T0, T1, T2}
        driver.join("b", regex="t+")
        driver.heartbeat("a", 2, owned=frozenset())
        driver.heartbeat("b", 3)
        assert ("tt", 0) in driver.held("b")
        assert ("tt", 0) not in driver.held("a")

    @pytest.mark.parametrize("regex", ["(", "(?=a)b", r"(a)\1", "a{1,100000}", "x" * 10_000])
    def test_a_pattern_that_is_not_re2(self, driver: ConsumerDriver, regex: str) -> None:
        with pytest.raises(KafkaError, match="SubscribedTopicRegex") as refused:
            driver.join("a", regex=regex)
        assert refused.value.code is ErrorCode.INVALID_REGULAR_EXPRESSION
        assert driver.written == []
        assert driver.groups.list_groups() == []

    def test_a_pattern_cannot_keep_the_broker_busy(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        """Exponential for an engine that goes back: it would not return in this universe's time."""
        for number in range(50):
            topics.set(f"{'a' * 240}!{number}", 1)
        assert driver.told(driver.join("a", regex="(a+)+$|((a|aa)*)*b")) == set()


class TestFencing:
    def test_epochs_that_are_not_the_members(
        self, shared: ConsumerDriver, topics: FakeTopics
    ) -> None:
        assert shared.refusal("a", 4) is FENCED
        assert shared.refusal("a", 1) is FENCED
        assert shared.refusal("nobody", 3) is UNKNOWN_MEMBER
        assert shared.refusal("nobody", -1) is UNKNOWN_MEMBER

    def test_an_answer_may_be_lost(self, shared: ConsumerDriver, topics: FakeTopics) -> None:
        """The epoch before is good for one who owns nothing beyond what it may."""
        mine = topics.partitions("t", 0, 1)
        assert shared.heartbeat("a", 2, owned=mine).member_epoch == 3
        assert shared.refusal("a", 2, owned=topics.partitions("t", 0, 1, 2)) is FENCED
        assert shared.refusal("a", 2) is FENCED

    def test_a_member_may_begin_anew(self, shared: ConsumerDriver) -> None:
        answer = shared.join("a", "t")
        assert (answer.member_epoch, shared.told(answer)) == (3, {T0, T1})

    def test_silence_ends_a_membership(self, shared: ConsumerDriver) -> None:
        shared.advance(SESSION_MS - 1)
        shared.heartbeat("b", 3)
        shared.advance(1)
        assert shared.refusal("a", 3) is UNKNOWN_MEMBER
        assert shared.told(shared.heartbeat("b", 3)) == {T0, T1, T2}

    def test_who_does_not_give_up_in_time_is_out(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        everything = topics.partitions("t", 0, 1, 2)
        driver.join("a", "t")
        driver.join("b", "t")
        driver.heartbeat("a", 2)
        for _ in range(3):
            driver.advance(REBALANCE_MS // 4)
            driver.heartbeat("a", 2, owned=everything)
            driver.heartbeat("b", 3)
        driver.advance(REBALANCE_MS // 4)
        assert driver.refusal("a", 2, owned=everything) is UNKNOWN_MEMBER
        assert driver.told(driver.heartbeat("b", 3)) == {T0, T1, T2}

    def test_who_gives_up_in_time_stays(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        driver.join("a", "t")
        driver.join("b", "t")
        driver.heartbeat("a", 2)
        driver.heartbeat("a", 2, owned=topics.partitions("t", 0, 1))
        for _ in range(4):
            driver.advance(REBALANCE_MS // 3)
            driver.heartbeat("a", 3)
            driver.heartbeat("b", 3)
        assert driver.state() == "Stable"

    def test_requests_that_make_no_sense(self, driver: ConsumerDriver) -> None:
        invalid = ErrorCode.INVALID_REQUEST
        assert driver.refusal("", 1) is invalid
        assert driver.refusal("a", -3) is invalid
        assert driver.refusal("a", -2) is invalid, "only static members come back"
        assert driver.refusal("a", 0, topics=["t"], instance="", owned=frozenset()) is invalid
        assert driver.refusal("a", 0, topics=["t"]) is invalid, "it owns nothing yet, and says so"
        assert driver.refusal("a", 0, owned=frozenset()) is invalid, "it subscribes to nothing"
        assert driver.refusal("a", 5) is ErrorCode.GROUP_ID_NOT_FOUND
        assert driver.refusal("a", -1) is ErrorCode.GROUP_ID_NOT_FOUND
        with pytest.raises(KafkaError, match="uniform, range") as refused:
            driver.join("a", "t", assignor="sticky")
        assert refused.value.code is ErrorCode.UNSUPPORTED_ASSIGNOR


class TestStaticMembers:
    def test_one_comes_back_to_its_place(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        driver.join("a1", "t", instance="a")
        driver.join("b", "t")
        driver.heartbeat("a1", 2, instance="a")
        driver.heartbeat("a1", 2, instance="a", owned=topics.partitions("t", 0, 1))
        assert driver.heartbeat("a1", -2, instance="a").member_epoch == -2
        assert driver.told(driver.heartbeat("b", 3)) == {T2}, "its place is kept"
        answer = driver.join("a2", "t", instance="a")
        assert (answer.member_epoch, driver.told(answer)) == (3, {T0, T1})
        assert driver.refusal("a1", 3, instance="a") is ErrorCode.FENCED_INSTANCE_ID
        assert driver.refusal("a1", -2, instance="a") is ErrorCode.FENCED_INSTANCE_ID
        assert driver.heartbeat("b", 3).assigned is None, "nobody else had to move"

    def test_one_that_comes_back_with_another_subscription(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        topics.set("u", 1)
        driver.join("a1", "t", instance="a")
        driver.heartbeat("a1", -2, instance="a")
        assert driver.told(driver.join("a2", "u", instance="a")) == {("u", 0)}

    def test_an_instance_id_is_one_members(self, driver: ConsumerDriver) -> None:
        driver.join("a1", "t", instance="a")
        unreleased = ErrorCode.UNRELEASED_INSTANCE_ID
        assert driver.refusal("a2", 0, topics=["t"], instance="a", owned=frozenset()) is unreleased
        assert driver.refusal("a2", 2, instance="a") is ErrorCode.FENCED_INSTANCE_ID
        assert driver.refusal("a1", 2, instance="b") is UNKNOWN_MEMBER

    def test_a_place_is_kept_for_a_session(self, driver: ConsumerDriver) -> None:
        driver.join("a1", "t", instance="a")
        driver.heartbeat("a1", -2, instance="a")
        driver.advance(SESSION_MS)
        assert driver.state() == "Empty"
        assert driver.told(driver.join("a2", "t", instance="a")) == {T0, T1, T2}


class TestRestart:
    @pytest.mark.parametrize("from_snapshot", [False, True])
    def test_members_go_on_as_if_nothing_had_happened(
        self, shared: ConsumerDriver, topics: FakeTopics, from_snapshot: bool
    ) -> None:
        before = shared.groups.snapshot()
        shared.restart(from_snapshot=from_snapshot)
        assert shared.groups.snapshot() == before
        written = len(shared.written)
        assert shared.heartbeat("a", 3) == ("a", 3, 5_000, None)
        assert shared.heartbeat("b", 3) == ("b", 3, 5_000, None)
        assert len(shared.written) == written, "there is no rebalance"

    def test_in_the_middle_of_a_rebalance(self, driver: ConsumerDriver, topics: FakeTopics) -> None:
        driver.join("a", "t")
        driver.join("b", "t")
        driver.heartbeat("a", 2)
        driver.restart()
        assert driver.heartbeat("b", 3).assigned is None
        assert driver.heartbeat("a", 2, owned=topics.partitions("t", 0, 1)).member_epoch == 3
        assert driver.told(driver.heartbeat("b", 3)) == {T2}

    def test_all_clocks_begin_anew(self, shared: ConsumerDriver) -> None:
        shared.advance(SESSION_MS - 1)
        shared.restart()
        shared.advance(SESSION_MS - 1)
        assert shared.heartbeat("a", 3).member_epoch == 3
        shared.advance(1)
        assert shared.refusal("b", 3) is UNKNOWN_MEMBER

    def test_who_was_to_give_up_has_its_timeout_again(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        everything = topics.partitions("t", 0, 1, 2)
        driver.join("a", "t")
        driver.join("b", "t")
        driver.heartbeat("a", 2)
        driver.restart()
        for _ in range(2):
            driver.advance(REBALANCE_MS // 2)
            driver.heartbeat("b", 3)
            if driver.state() == "Reconciling":
                driver.heartbeat("a", 2, owned=everything)
        assert driver.refusal("a", 2, owned=everything) is UNKNOWN_MEMBER


class TestOffsets:
    def test_a_member_commits_in_its_epoch(self, shared: ConsumerDriver) -> None:
        assert shared.commit_offset("a", 3) is NONE
        assert shared.commit_offset("a", 4) is STALE
        assert shared.commit_offset("a", -1) is STALE
        assert shared.commit_offset("nobody", 3) is UNKNOWN_MEMBER
        assert shared.commit_offset("", -1) is UNKNOWN_MEMBER

    def test_the_epoch_before_is_good_for_what_it_has_kept(self, shared: ConsumerDriver) -> None:
        """KIP-1251: a commit under way does not fail because the group has moved on."""
        assert [shared.commit_offset("a", 2, "t", index) for index in range(3)] == [
            *(NONE, NONE),
            STALE,
        ]
        assert shared.commit_offset("b", 2, "t", 2) is STALE, "it has had it since epoch 3"
        assert shared.commit_offset("a", 1) is STALE

    def test_in_a_transaction(self, shared: ConsumerDriver) -> None:
        assert shared.txn_commit_offset("a", 3) is NONE
        assert shared.txn_commit_offset("a", 4) is ErrorCode.ILLEGAL_GENERATION
        assert shared.txn_commit_offset("nobody", 3) is UNKNOWN_MEMBER

    def test_clients_that_do_not_know_epochs(self, shared: ConsumerDriver) -> None:
        def commit(member_id: str) -> list[ErrorCode]:
            return shared.groups.commit_offsets(
                GROUP, member_id, 3, None, [_offset()], WALL_MS, shared.now_ms, knows_epochs=False
            ).reply

        assert commit("a") == [ErrorCode.UNSUPPORTED_VERSION]
        assert commit("nobody") == [UNKNOWN_MEMBER]

    def test_an_empty_group_takes_an_administrators(self, shared: ConsumerDriver) -> None:
        shared.heartbeat("a", -1)
        shared.heartbeat("b", -1)
        assert shared.commit_offset("", -1) is NONE

    def test_who_may_fetch(self, shared: ConsumerDriver) -> None:
        check = shared.groups.check_fetch
        assert check(GROUP, None, -1) is NONE
        assert check(GROUP, "a", 3) is NONE
        assert check(GROUP, "a", 2) is STALE
        assert check(GROUP, "nobody", 3) is UNKNOWN_MEMBER
        assert check(GROUP, "", -1) is UNKNOWN_MEMBER
        assert check("another", "a", 3) is NONE

    def test_offsets_of_a_topic_that_is_consumed_stay(
        self, driver: ConsumerDriver, topics: FakeTopics
    ) -> None:
        topics.set("u", 1)
        topics.set("v", 1)
        driver.join("a", "t", regex="u.*")
        subscribed = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        for topic, error in (("t", subscribed), ("u", subscribed), ("v", NONE)):
            assert driver.groups.delete_offsets(GROUP, [(topic, 0)]).reply == [error]


class TestGroups:
    def test_they_are_listed_by_kind_and_state(self, shared: ConsumerDriver) -> None:
        def listed(states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
            return [one.group_id for one in shared.groups.list_groups(states, types)]

        assert listed() == listed(types=("Consumer",)) == listed(states=("STABLE",)) == [GROUP]
        assert listed(types=("classic",)) == listed(states=("Empty",)) == []
        (group,) = shared.groups.list_groups()
        assert (group.protocol_type, group.group_type) == ("consumer", "consumer")
        assert shared.groups.describe(GROUP) is None, "DescribeGroups is for classic groups"

    def test_an_administrator_removes_members(self, driver: ConsumerDriver) -> None:
        """LeaveGroup, by member id or by instance id, as Admin.removeMembersFromConsumerGroup."""
        driver.join("a", "t")
        driver.join("b1", "t", instance="b")
        leaving = [
            LeavingMember("nobody", None),
            LeavingMember("", "none"),
            LeavingMember("other", "b"),
            LeavingMember("a", "b"),
            LeavingMember("a", None),
            LeavingMember("", "b"),
            LeavingMember("b1", "b"),
        ]
        outcome, errors = driver.groups.leave(GROUP, leaving, driver.now_ms)
        driver.commit(outcome.records)
        assert errors == [
            *(UNKNOWN_MEMBER, UNKNOWN_MEMBER),
            *(ErrorCode.FENCED_INSTANCE_ID, ErrorCode.FENCED_INSTANCE_ID),
            *(NONE, NONE, NONE),
        ]
        assert driver.state() == "Empty"

    def test_one_with_members_cannot_be_deleted(self, driver: ConsumerDriver) -> None:
        driver.join("a", "t")
        assert driver.groups.delete_groups([GROUP]).reply == [ErrorCode.NON_EMPTY_GROUP]
        driver.heartbeat("a", -1)
        driver.commit_offset("", -1)
        outcome = driver.groups.delete_groups([GROUP])
        assert outcome.reply == [NONE]
        driver.commit(outcome.records)
        assert driver.groups.list_groups() == []
        driver.restart()
        assert driver.groups.list_groups() == []

    def test_a_classic_group_without_members_changes_its_kind(self, driver: ConsumerDriver) -> None:
        driver.commit_offset("", -1)
        driver.join("a", "t")
        assert [one.group_type for one in driver.groups.list_groups()] == ["consumer"]
        assert driver.groups.fetch_offsets(GROUP, [("t", 0)], False)[0].offset == 7

    def test_a_classic_group_with_members_does_not(self, driver: ConsumerDriver) -> None:
        assert classic_join(driver).error_code == NONE
        assert (
            driver.refusal("a", 0, topics=["t"], owned=frozenset()) is ErrorCode.GROUP_ID_NOT_FOUND
        )
        found = driver.groups.describe(GROUP)
        assert found is not None
        assert found.state is GroupState.COMPLETING_REBALANCE

    def test_classic_members_find_a_place_when_the_others_are_gone(
        self, driver: ConsumerDriver
    ) -> None:
        driver.join("a", "t")
        assert classic_join(driver).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        driver.heartbeat("a", -1)
        driver.commit_offset("", -1)
        assert classic_join(driver).error_code == NONE
        assert ConsumerGroupGone(GROUP) in driver.written
        assert [one.group_type for one in driver.groups.list_groups()] == ["classic"]
        assert driver.groups.fetch_offsets(GROUP, [("t", 0)], False)[0].offset == 7


def _offset() -> OffsetToCommit:
    return OffsetToCommit("t", 0, 7)
