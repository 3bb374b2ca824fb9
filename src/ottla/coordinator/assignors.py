"""Who gets which partitions: the assignors that the coordinator runs itself (KIP-848).

- uniform: members have equally many partitions, as far as their subscriptions let them, and each
  keeps as much of what it had as that allows.
- range: each topic is cut into ranges, one for each of its subscribers in order (static members by
  instance id, then the others by member id): topics with equally many partitions are cut alike, so
  that one member has the same partitions of each. It does not look at what members had.

Both are functions: the same members, topics and targets before give the same targets.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.coordinator.consumer_group_records import TopicIdPartition

Partitions = frozenset[TopicIdPartition]
Assignment = dict[str, Partitions]
_BALANCE_ROUNDS_MAX = 16


class Subscriber(NamedTuple):
    """A member as an assignor sees it: `topics` are the ids of those that exist."""

    member_id: str
    group_instance_id: str | None
    topics: frozenset[bytes]


def uniform(
    members: Sequence[Subscriber],
    partition_counts: Mapping[bytes, int],
    before: Mapping[str, Partitions],
) -> Assignment:
    """Equally many for each, and as few moves as that takes."""
    kept = _kept(members, partition_counts, before)
    if all(member.topics == members[0].topics for member in members):
        _level(members, partition_counts, kept)
    else:
        _Balance(members, partition_counts, kept).run()
    return {member_id: frozenset(partitions) for member_id, partitions in kept.items()}


def assign_ranges(
    members: Sequence[Subscriber],
    partition_counts: Mapping[bytes, int],
    before: Mapping[str, Partitions],
) -> Assignment:
    """Consecutive partitions of each topic for each of its subscribers."""
    ordered = sorted(members, key=_range_order)
    assigned: dict[str, set[TopicIdPartition]] = {member.member_id: set() for member in members}
    for topic_id, subscribers in _subscribers(ordered).items():
        each, extra = divmod(partition_counts[topic_id], len(subscribers))
        start = 0
        for number, index in enumerate(subscribers):
            end = start + each + (number < extra)
            partitions = assigned[ordered[index].member_id]
            partitions.update((topic_id, partition) for partition in range(start, end))
            start = end
    return {member_id: frozenset(partitions) for member_id, partitions in assigned.items()}


Assignor = Callable[
    [Sequence[Subscriber], Mapping[bytes, int], Mapping[str, Partitions]], Assignment
]
ASSIGNORS: dict[str, Assignor] = {"uniform": uniform, "range": assign_ranges}
DEFAULT_ASSIGNOR = "uniform"


def _range_order(member: Subscriber) -> tuple[bool, str]:
    instance_id = member.group_instance_id
    return (instance_id is None, member.member_id if instance_id is None else instance_id)


def _subscribers(members: Sequence[Subscriber]) -> dict[bytes, list[int]]:
    """For each topic the indexes of its subscribers."""
    found: dict[bytes, list[int]] = {}
    for index, member in enumerate(members):
        for topic_id in member.topics:
            found.setdefault(topic_id, []).append(index)
    return found


def _kept(
    members: Sequence[Subscriber],
    partition_counts: Mapping[bytes, int],
    before: Mapping[str, Partitions],
) -> dict[str, set[TopicIdPartition]]:
    """What each member had that it may still have."""
    return {
        member.member_id: {
            (topic_id, partition)
            for topic_id, partition in before.get(member.member_id, ())
            if topic_id in member.topics and partition < partition_counts[topic_id]
        }
        for member in members
    }


def _free(
    topics: Iterable[bytes],
    partition_counts: Mapping[bytes, int],
    kept: Mapping[str, set[TopicIdPartition]],
) -> list[TopicIdPartition]:
    """What nobody has, in order."""
    taken = set().union(*kept.values())
    every = ((topic, index) for topic in sorted(topics) for index in range(partition_counts[topic]))
    return [partition for partition in every if partition not in taken]


def _level(
    members: Sequence[Subscriber],
    partition_counts: Mapping[bytes, int],
    kept: dict[str, set[TopicIdPartition]],
) -> None:
    """All members subscribe to the same topics: each has its share, one more for some.

    Those that have more than their share already are the ones that may keep one more.
    """
    topics = members[0].topics if members else frozenset()
    each, extra = divmod(sum(partition_counts[one] for one in topics), max(len(members), 1))
    shares: dict[str, int] = {}
    for member_id in sorted(kept, key=lambda one: -len(kept[one])):
        shares[member_id] = each + (len(shares) < extra)
        for partition in sorted(kept[member_id])[shares[member_id] :]:
            kept[member_id].remove(partition)
    free = iter(_free(topics, partition_counts, kept))
    for member_id, partitions in kept.items():
        for _ in range(shares[member_id] - len(partitions)):
            partitions.add(next(free))


class _Balance:
    """Members subscribe to different topics: give out what is free, then move what evens out."""

    def __init__(
        self,
        members: Sequence[Subscriber],
        partition_counts: Mapping[bytes, int],
        kept: dict[str, set[TopicIdPartition]],
    ) -> None:
        self._has = [kept[member.member_id] for member in members]
        self._free = _free({t for m in members for t in m.topics}, partition_counts, kept)
        self._subscribers = _subscribers(members)
        # Topics with the fewest choices first: many partitions for each subscriber.
        self._topics = sorted(
            self._subscribers,
            key=lambda topic: (
                -partition_counts[topic] / len(self._subscribers[topic]),
                len(self._subscribers[topic]),
                topic,
            ),
        )

    def run(self) -> None:
        free: dict[bytes, list[TopicIdPartition]] = {}
        for partition in self._free:
            free.setdefault(partition[0], []).append(partition)
        for topic_id in self._topics:
            least = self._by_load(topic_id, 1)
            for partition in free.get(topic_id, ()):
                load, index = heapq.heappop(least)
                self._has[index].add(partition)
                heapq.heappush(least, (load + 1, index))
        for _ in range(_BALANCE_ROUNDS_MAX):
            moves = [self._even_out(topic_id) for topic_id in self._topics]
            if not any(moves):
                return

    def _by_load(self, topic_id: bytes, sign: int) -> list[tuple[int, int]]:
        """A heap of the topic's subscribers, those with the fewest partitions first (sign 1)."""
        heap = [(sign * len(self._has[index]), index) for index in self._subscribers[topic_id]]
        heapq.heapify(heap)
        return heap

    def _even_out(self, topic_id: bytes) -> bool:
        """Move the topic's partitions from those that have most to those that have least.

        Every move makes two loads more alike, so it ends. A heap's entry that is out of date has a
        newer one beside it.
        """
        movable: dict[int, list[TopicIdPartition]] = {
            index: sorted(one for one in self._has[index] if one[0] == topic_id)
            for index in self._subscribers[topic_id]
        }
        most, least = self._by_load(topic_id, -1), self._by_load(topic_id, 1)
        moved = False
        while most:
            load, giver = most[0]
            if -load != len(self._has[giver]) or not movable[giver]:
                heapq.heappop(most)
                continue
            while least[0][0] != len(self._has[least[0][1]]):
                heapq.heappop(least)
            taker = least[0][1]
            if -load - least[0][0] <= 1:
                break
            partition = movable[giver].pop()
            self._has[giver].remove(partition)
            self._has[taker].add(partition)
            movable[taker].append(partition)
            for index in (giver, taker):
                heapq.heappush(most, (-len(self._has[index]), index))
                heapq.heappush(least, (len(self._has[index]), index))
            moved = True
        return moved
