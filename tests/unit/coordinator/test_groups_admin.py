"""DescribeGroups, ListGroups, DeleteGroups, OffsetDelete: what administrators see and do."""

import pytest

from ottla.coordinator.consumer_protocol import subscribed_topics
from ottla.coordinator.offsets import OffsetToCommit
from ottla.ports.errors import ErrorCode, KafkaError
from tests.unit.coordinator.group_driver import GROUP, Driver, subscription


def offsets_of(driver: Driver, group: str = GROUP) -> dict[tuple[str, int], int]:
    fetched = driver.groups.fetch_offsets(group, None, require_stable=False)
    return {(offset.topic, offset.partition): offset.offset for offset in fetched}


def test_describe_shows_protocol_and_name_of_stable_groups() -> None:
    driver = Driver()
    assert driver.groups.describe(GROUP) is None
    (leader,), _ = driver.stable_group(1)
    stable = driver.groups.describe(GROUP)
    assert stable is not None
    assert (stable.state.value, stable.protocol_type, stable.protocol_name) == (
        "Stable",
        "consumer",
        "range",
    )
    (member,) = stable.members
    assert (member.member_id, member.client_id, member.client_host) == (
        leader,
        "client",
        "/127.0.0.1",
    )
    assert member.assignment == f"to {leader}".encode()
    driver.start_member()
    rebalancing = driver.groups.describe(GROUP)
    assert rebalancing is not None
    assert (rebalancing.state.value, rebalancing.protocol_name) == ("PreparingRebalance", "")


def test_list_filters_by_state_and_type() -> None:
    driver = Driver()
    driver.stable_group(1, group="a")
    driver.commit_offsets(OffsetToCommit("t", 0, 1), group="b")
    driver.start_member(group="c")

    def listed(states: list[str], types: list[str]) -> list[str]:
        return [found.group_id for found in driver.groups.list_groups(states, types)]

    assert listed([], []) == ["a", "b", "c"]
    assert listed(["stable", " EMPTY "], []) == ["a", "b"]
    assert listed(["CompletingRebalance"], ["Classic"]) == ["c"]
    assert listed([], ["consumer"]) == []
    assert listed(["nonsense"], []) == []
    assert [found.protocol_type for found in driver.groups.list_groups()] == [
        "consumer",
        "",
        "consumer",
    ]


def test_delete_groups_says_what_became_of_each() -> None:
    driver = Driver()
    driver.stable_group(1, group="full")
    driver.commit_offsets(OffsetToCommit("t", 0, 1), group="simple")
    (leader,), _ = driver.stable_group(1, group="left")
    driver.leave((leader, None), group="left")
    outcome = driver.groups.delete_groups(["full", "simple", "left", "none"])
    assert outcome.reply == [
        ErrorCode.NON_EMPTY_GROUP,
        ErrorCode.NONE,
        ErrorCode.NONE,
        ErrorCode.GROUP_ID_NOT_FOUND,
    ]
    driver.commit(outcome.records)
    assert [found.group_id for found in driver.groups.list_groups()] == ["full"]
    assert offsets_of(driver, "simple") == {}


def test_a_deleted_group_forgets_the_offsets_of_open_transactions() -> None:
    driver = Driver()
    driver.txn_commit_offsets(7, OffsetToCommit("t", 0, 1))
    driver.commit(driver.groups.delete_groups([GROUP]).records)
    driver.end_transaction(7, commit=True)
    assert offsets_of(driver) == {}
    assert driver.state() == ""


def test_a_group_can_be_deleted_under_member_ids_on_their_way() -> None:
    driver = Driver()
    pending = driver.new_member_id()
    driver.commit(driver.groups.delete_groups([GROUP]).records)
    assert driver.joined(driver.send_join(pending)).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_offset_delete_of_a_group_without_members() -> None:
    driver = Driver()
    with pytest.raises(KafkaError, match="GROUP_ID_NOT_FOUND"):
        driver.groups.delete_offsets(GROUP, [("t", 0)])
    driver.commit_offsets(OffsetToCommit("t", 0, 1), OffsetToCommit("t", 1, 2))
    outcome = driver.groups.delete_offsets(GROUP, [("t", 0), ("t", 9)])
    assert outcome.reply == [ErrorCode.NONE, ErrorCode.NONE]
    assert len(outcome.records) == 1
    driver.commit(outcome.records)
    assert offsets_of(driver) == {("t", 1): 2}


def test_offset_delete_spares_what_consumers_subscribe_to() -> None:
    driver = Driver()
    driver.commit_offsets(OffsetToCommit("used", 0, 1), OffsetToCommit("free", 0, 2))
    (leader,), _ = driver.stable_group(1, protocols=[("range", subscription("used"))])
    outcome = driver.groups.delete_offsets(GROUP, [("used", 0), ("free", 0)])
    assert outcome.reply == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]
    driver.commit(outcome.records)
    assert offsets_of(driver) == {("used", 0): 1}
    driver.leave((leader, None))
    assert driver.groups.delete_offsets(GROUP, [("used", 0)]).reply == [ErrorCode.NONE]


def test_offset_delete_is_refused_where_subscriptions_cannot_be_read() -> None:
    driver = Driver()
    driver.stable_group(1, protocols=[("range", b"not a subscription")])
    refused = driver.groups.delete_offsets(GROUP, [("t", 0)])
    assert refused.reply == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC]
    driver.stable_group(1, group="connect", protocol_type="connect")
    with pytest.raises(KafkaError, match="NON_EMPTY_GROUP"):
        driver.groups.delete_offsets("connect", [("t", 0)])


@pytest.mark.parametrize(
    ("metadata", "topics"),
    [
        (subscription("a", "bc"), {"a", "bc"}),
        (subscription(), set()),
        (b"\0\1\0\0\0\1\0\1x and what later versions add", {"x"}),
        (b"", None),
        (b"\0\0\xff\xff\xff\xff", None),
        (b"\0\0\x7f\xff\xff\xff", None),
        (b"\0\0\0\0\0\1\0\5abc", None),
        (b"\0\0\0\0\0\1\xff\xffabc", None),
        (b"\0\0\0\0\0\1\0\1\xff", None),
    ],
)
def test_subscriptions_are_read_or_refused(metadata: bytes, topics: set[str] | None) -> None:
    assert subscribed_topics(metadata) == topics
