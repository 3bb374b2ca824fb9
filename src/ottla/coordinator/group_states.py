"""The states of a classic group, as a table.

- Empty: no members. There may be committed offsets, and member ids given out but not joined with.
- PreparingRebalance: waiting for all members to send JoinGroup.
- CompletingRebalance: all have joined the new generation; waiting for the leader's assignment.
- Stable: every member has its assignment.
- Dead: deleted, or never used; no state leads out of it.

`REBALANCE`, `JOINED` and `DROPPED` are decided by operations. `ASSIGNED` and `EMPTIED` come with
the record that makes them durable, so they happen in `apply`, in replay too: there they lead from
one complete generation to the next.
"""

from enum import Enum, auto


class GroupState(Enum):
    """The value is the name Kafka shows in ListGroups and DescribeGroups."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class GroupEvent(Enum):
    """What moves a group from one state to another."""

    REBALANCE = auto()
    """A member came, went or changed its mind: all must join again."""
    JOINED = auto()
    """The join phase is over, and there are members."""
    EMPTIED = auto()
    """The join phase is over, and there are no members."""
    ASSIGNED = auto()
    """The assignments of a generation are known, or a static member was replaced in one."""
    DROPPED = auto()
    """The group was deleted, or nothing is left that says it ever was."""


TRANSITIONS: dict[GroupState, dict[GroupEvent, GroupState]] = {
    GroupState.EMPTY: {
        GroupEvent.REBALANCE: GroupState.PREPARING_REBALANCE,
        GroupEvent.ASSIGNED: GroupState.STABLE,  # replay
        GroupEvent.EMPTIED: GroupState.EMPTY,  # replay
        GroupEvent.DROPPED: GroupState.DEAD,
    },
    GroupState.PREPARING_REBALANCE: {
        GroupEvent.JOINED: GroupState.COMPLETING_REBALANCE,
        GroupEvent.EMPTIED: GroupState.EMPTY,
    },
    GroupState.COMPLETING_REBALANCE: {
        GroupEvent.REBALANCE: GroupState.PREPARING_REBALANCE,
        GroupEvent.ASSIGNED: GroupState.STABLE,
    },
    GroupState.STABLE: {
        GroupEvent.REBALANCE: GroupState.PREPARING_REBALANCE,
        GroupEvent.ASSIGNED: GroupState.STABLE,  # a static member replaced; replay
        GroupEvent.EMPTIED: GroupState.EMPTY,  # replay
    },
    GroupState.DEAD: {},
}
