"""Repartition topics hold what was read: it is deleted after commits, as Kafka Streams does.

Only this application reads them, and never again what it has committed. Every 30 seconds at most,
and not before the last request was answered, the brokers are asked to delete what lies below the
committed offsets. Nobody waits for the answer, and a refusal changes nothing: the next one asks for
more. Until then such a topic grows, for retention must not touch what is not read yet.
"""

import logging
from collections.abc import Iterable, Mapping

from ottla.client import Admin, Partition
from ottla.client.admin import Deletion
from ottla.ports.clock import Clock

PURGE_INTERVAL_MS = 30_000  # repartition.purge.interval.ms

_log = logging.getLogger(__name__)


class Purge:
    """Deletes what was read of some topics."""

    def __init__(
        self,
        admin: Admin,
        clock: Clock,
        topics: Iterable[str],
        interval_ms: int | None = None,
    ) -> None:
        self._admin = admin
        self._clock = clock
        self._topics = frozenset(topics)
        self._interval_ms = PURGE_INTERVAL_MS if interval_ms is None else interval_ms
        self._next_ms = clock.monotonic_ms() + self._interval_ms
        self._asked: Deletion | None = None
        self._deleted: dict[Partition, int] = {}  # asked for, up to here

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """These offsets were committed: what is below them was read for the last time."""
        now_ms = self._clock.monotonic_ms()
        if not self._topics or now_ms < self._next_ms:
            return
        if self._asked is not None:
            if not self._asked.done():
                return
            for refusal in self._asked.refusals():
                _log.info("old records stay for now: %s", refusal)
        self._next_ms = now_ms + self._interval_ms
        wanted = {
            partition: offset
            for partition, offset in offsets.items()
            if partition.topic in self._topics and offset > self._deleted.get(partition, 0)
        }
        self._asked = self._admin.delete_records(wanted) if wanted else None
        self._deleted.update(wanted)
