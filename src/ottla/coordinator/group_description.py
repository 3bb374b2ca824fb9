"""Groups as ListGroups and DescribeGroups show them, of whichever kind."""

from collections.abc import Iterable

import msgspec

from ottla.coordinator.consumer_group_states import ConsumerGroupState
from ottla.coordinator.group_states import GroupState
from ottla.coordinator.records import MemberState

CLASSIC, CONSUMER = "classic", "consumer"


class GroupDescription(msgspec.Struct, frozen=True):
    """`protocol_name` and the members' metadata (under that name) are for stable groups only.

    Members are told of classic groups only: ConsumerGroupDescribe tells of the others.
    """

    group_id: str
    state: GroupState | ConsumerGroupState
    protocol_type: str = ""
    protocol_name: str = ""
    members: list[MemberState] = []
    group_type: str = CLASSIC


class GroupFilter:
    """Which groups are asked for: those in any of the states and of any of the types, or all.

    Names are Kafka's, in any case; one that is not known matches nothing.
    """

    def __init__(self, states: Iterable[str], types: Iterable[str]) -> None:
        self._states = {name.strip().lower() for name in states}
        self._types = {name.strip().lower() for name in types}

    def takes(self, group: GroupDescription) -> bool:
        return (not self._states or group.state.value.lower() in self._states) and (
            not self._types or group.group_type in self._types
        )
