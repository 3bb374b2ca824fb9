"""Fetches that wait for data: Kafka's purgatory as plain data.

A waiter is tried again when one of its partitions has new durable data, and for the last time at
its deadline. Deadlines are the clock's monotonic milliseconds.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from ottla.log.partition import Partition


@dataclass(slots=True, eq=False)
class Waiter:
    """`attempt(last)` answers the request and returns True, or False; at the `last` it answers."""

    deadline_ms: int
    partitions: list[Partition]
    attempt: Callable[[bool], bool]
    done: bool = False


class Waiters:
    """All waiting fetches."""

    def __init__(self) -> None:
        self._by_partition: dict[int, dict[int, Waiter]] = {}
        self._heap: list[tuple[int, int, Waiter]] = []
        self._numbers = count()

    def add(self, waiter: Waiter) -> None:
        """Wait for the waiter's partitions, or its deadline."""
        for partition in waiter.partitions:
            self._by_partition.setdefault(id(partition), {})[id(waiter)] = waiter
        heapq.heappush(self._heap, (waiter.deadline_ms, next(self._numbers), waiter))

    def wake(self, partitions: Iterable[Partition]) -> None:
        """These partitions have new durable data, or are gone."""
        for partition in partitions:
            for waiter in list(self._by_partition.get(id(partition), {}).values()):
                self._try(waiter, last=False)

    def expire(self, now_ms: int) -> None:
        """Answer those whose deadline has come."""
        while self._heap and (self._heap[0][2].done or self._heap[0][0] <= now_ms):
            waiter = heapq.heappop(self._heap)[2]
            if not waiter.done:
                self._try(waiter, last=True)

    def next_deadline_ms(self) -> int | None:
        while self._heap and self._heap[0][2].done:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _try(self, waiter: Waiter, *, last: bool) -> None:
        if waiter.attempt(last):
            waiter.done = True
            for partition in waiter.partitions:
                waiting = self._by_partition.get(id(partition), {})
                waiting.pop(id(waiter), None)
                if not waiting:
                    self._by_partition.pop(id(partition), None)
