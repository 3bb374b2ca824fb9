"""The table of group states, over the whole product of states and events."""

import pytest

from ottla.coordinator.group import Group
from ottla.coordinator.group_states import TRANSITIONS, GroupEvent, GroupState
from ottla.ports.errors import InvariantBroken

S, E = GroupState, GroupEvent
LEGAL = {
    (S.EMPTY, E.REBALANCE): S.PREPARING_REBALANCE,
    (S.EMPTY, E.ASSIGNED): S.STABLE,
    (S.EMPTY, E.EMPTIED): S.EMPTY,
    (S.EMPTY, E.DROPPED): S.DEAD,
    (S.PREPARING_REBALANCE, E.JOINED): S.COMPLETING_REBALANCE,
    (S.PREPARING_REBALANCE, E.EMPTIED): S.EMPTY,
    (S.COMPLETING_REBALANCE, E.REBALANCE): S.PREPARING_REBALANCE,
    (S.COMPLETING_REBALANCE, E.ASSIGNED): S.STABLE,
    (S.STABLE, E.REBALANCE): S.PREPARING_REBALANCE,
    (S.STABLE, E.ASSIGNED): S.STABLE,
    (S.STABLE, E.EMPTIED): S.EMPTY,
}


@pytest.mark.parametrize("state", GroupState)
@pytest.mark.parametrize("event", GroupEvent)
def test_every_event_in_every_state(state: GroupState, event: GroupEvent) -> None:
    group = Group("g")
    group.state = state
    if (state, event) in LEGAL:
        group.transition(event)
        assert group.state is LEGAL[state, event]
    else:
        with pytest.raises(InvariantBroken):
            group.transition(event)
        assert group.state is state


def test_the_table_names_every_state_and_dead_is_the_end() -> None:
    assert set(TRANSITIONS) == set(GroupState)
    assert TRANSITIONS[GroupState.DEAD] == {}


def test_names_are_kafkas() -> None:
    assert [state.value for state in GroupState] == [
        "Empty",
        "PreparingRebalance",
        "CompletingRebalance",
        "Stable",
        "Dead",
    ]
