"""The server-side assignors: balanced, sticky, and every partition to one subscriber."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.coordinator.assignors import ASSIGNORS, Partitions, Subscriber, assign_ranges, uniform

T, U, V = b"t", b"u", b"v"


def members(**topics: set[bytes]) -> list[Subscriber]:
    return [Subscriber(name, None, frozenset(subscribed)) for name, subscribed in topics.items()]


def sizes(assignment: Mapping[str, Partitions]) -> list[int]:
    return sorted(len(partitions) for partitions in assignment.values())


def moved(before: Mapping[str, Partitions], after: Mapping[str, Partitions]) -> int:
    """How many partitions have another owner than before."""
    owner = {one: name for name, partitions in before.items() for one in partitions}
    return sum(
        owner.get(one, name) != name for name, partitions in after.items() for one in partitions
    )


class TestUniform:
    def test_all_have_equally_many(self) -> None:
        assignment = uniform(members(a={T, U}, b={T, U}, c={T, U}), {T: 4, U: 4}, {})
        assert sizes(assignment) == [2, 3, 3]

    def test_a_member_more_moves_its_share_only(self) -> None:
        two = members(a={T}, b={T})
        before = uniform(two, {T: 7}, {})
        after = uniform([*two, *members(c={T})], {T: 7}, before)
        assert sizes(after) == [2, 2, 3]
        assert moved(before, after) == 2

    def test_a_member_less_moves_what_it_had_only(self) -> None:
        before = uniform(members(a={T}, b={T}, c={T}), {T: 8}, {})
        after = uniform(members(a={T}, c={T}), {T: 8}, before)
        assert sizes(after) == [4, 4]
        assert moved(before, after) == len(before["b"])

    def test_who_has_one_more_keeps_it(self) -> None:
        before: dict[str, Partitions] = {
            "a": frozenset({(T, 0)}),
            "b": frozenset({(T, 1), (T, 2)}),
        }
        assert uniform(members(a={T}, b={T}), {T: 3}, before) == before

    def test_a_topic_that_is_gone_is_given_up(self) -> None:
        before = uniform(members(a={T, U}), {T: 2, U: 2}, {})
        assert uniform(members(a={T}), {T: 2}, before) == {"a": frozenset({(T, 0), (T, 1)})}

    def test_members_with_nothing_in_common(self) -> None:
        assignment = uniform(members(a={T}, b={U}), {T: 3, U: 1}, {})
        assert assignment == {
            "a": frozenset((T, index) for index in range(3)),
            "b": frozenset({(U, 0)}),
        }

    def test_who_can_only_have_one_topic_gets_more_of_it(self) -> None:
        assignment = uniform(members(a={T, U}, b={U}), {T: 2, U: 2}, {})
        assert assignment["a"] == {(T, 0), (T, 1)}
        assert assignment["b"] == {(U, 0), (U, 1)}

    def test_different_subscriptions_are_evened_out_with_few_moves(self) -> None:
        before: dict[str, Partitions] = {"a": frozenset((T, index) for index in range(6))}
        after = uniform(members(a={T, U}, b={T}, c={U}), {T: 6, U: 3}, before)
        assert sizes(after) == [3, 3, 3]
        assert moved(before, after) == 3


class TestRange:
    def test_topics_are_cut_alike(self) -> None:
        assignment = assign_ranges(members(b={T, U}, a={T, U}), {T: 3, U: 3}, {})
        assert assignment == {
            "a": frozenset({(T, 0), (T, 1), (U, 0), (U, 1)}),
            "b": frozenset({(T, 2), (U, 2)}),
        }

    def test_static_members_come_first_by_their_instance_id(self) -> None:
        subscribers = [
            Subscriber("a", None, frozenset({T})),
            Subscriber("z", "1", frozenset({T})),
            Subscriber("y", "2", frozenset({T})),
        ]
        assignment = assign_ranges(subscribers, {T: 3}, {})
        assert assignment == {
            "z": frozenset({(T, 0)}),
            "y": frozenset({(T, 1)}),
            "a": frozenset({(T, 2)}),
        }

    def test_a_topic_is_for_its_subscribers(self) -> None:
        assignment = assign_ranges(members(a={T}, b={T, U}), {T: 2, U: 2}, {})
        assert assignment["b"] == {(T, 1), (U, 0), (U, 1)}

    def test_more_members_than_partitions(self) -> None:
        assert sizes(assign_ranges(members(a={T}, b={T}, c={T}), {T: 2}, {})) == [0, 1, 1]


subscribers = st.lists(st.frozensets(st.sampled_from([T, U, V])), min_size=1, max_size=6)
counts = st.fixed_dictionaries({T: st.integers(1, 9), U: st.integers(1, 9), V: st.integers(1, 9)})


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
@given(groups=st.lists(subscribers, min_size=1, max_size=3), partition_counts=counts)
@settings(max_examples=100, deadline=None, database=None)
def test_each_partition_has_one_subscriber(
    name: str, groups: list[list[frozenset[bytes]]], partition_counts: dict[bytes, int]
) -> None:
    """Whatever came before, and with the members in whichever order."""
    before: Mapping[str, Partitions] = {}
    for topics in groups:
        known = [Subscriber(f"m{index}", None, one) for index, one in enumerate(topics)]
        before = ASSIGNORS[name](known, partition_counts, before)
        given_out = [one for partitions in before.values() for one in partitions]
        wanted = {
            (topic, index)
            for topic in frozenset().union(*topics)
            for index in range(partition_counts[topic])
        }
        assert sorted(given_out) == sorted(wanted)
        for member in known:
            assert {topic for topic, _ in before[member.member_id]} <= member.topics


@given(topics=subscribers, partition_counts=counts)
@settings(max_examples=200, deadline=None, database=None)
def test_uniform_leaves_no_move_that_would_even_out(
    topics: list[frozenset[bytes]], partition_counts: dict[bytes, int]
) -> None:
    known = [Subscriber(f"m{index}", None, one) for index, one in enumerate(topics)]
    assignment = uniform(known, partition_counts, {})
    for giver in known:
        for taker in known:
            could_move = {one for one in assignment[giver.member_id] if one[0] in taker.topics}
            difference = len(assignment[giver.member_id]) - len(assignment[taker.member_id])
            assert not could_move or difference <= 1
    assert uniform(known, partition_counts, assignment) == assignment, (
        "the same again moves nothing"
    )
