"""Old data: when retention looks, when compaction runs, and what it is told afterwards.

Retention looks at all partitions every log.retention.check.interval.ms, on the loop and some
hundred at a time: it compares a few numbers of each and raises the starts of those that hold too
much. Compaction takes the partition that needs it most, one at a time, as a ticket for a thread;
with nothing left to do it looks again after log.cleaner.backoff.ms. Both ask for a checkpoint in
the end: files go only with one.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ottla.log.compaction import CompactionTicket, compaction_of, filthiest
from ottla.log.partition import Partition
from ottla.log.retention import log_start_record, retained_from
from ottla.ports.limits import DISK_RESERVE_BYTES

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

logger = logging.getLogger(__name__)

_INITIAL_DELAY_MS = 30_000  # log.initial.task.delay.ms
_WAITING_BYTES_MAX = 134_217_728  # so much may wait while there is more to compact
_AT_ONCE = 500  # partitions that retention looks at before others have their turn


class Housekeeping:
    """What one broker does to old data."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        config, monotonic_ms = broker.config, broker.clock.monotonic_ms()
        self._retention_at_ms = monotonic_ms + min(
            _INITIAL_DELAY_MS, config.retention_check_interval_ms
        )
        self._to_look_at: list[Partition] = []
        self._cleaning_at_ms = monotonic_ms + config.cleaner_backoff_ms
        self._cleaning_due = False
        self._running: CompactionTicket | None = None
        self._waiting_bytes = 0  # of files that compactions have made needless

    def next_deadline_ms(self) -> int:
        """When `on_timer` should be called next."""
        if self._cleaning_due:
            return self._retention_at_ms
        return min(self._retention_at_ms, self._cleaning_at_ms)

    def on_timer(self) -> None:
        """Apply retention if it is time, and see that compaction looks if it is."""
        monotonic_ms = self._broker.clock.monotonic_ms()
        if monotonic_ms >= self._cleaning_at_ms:
            self._cleaning_due = True
        if monotonic_ms >= self._retention_at_ms:
            if not self._to_look_at:
                self._to_look_at = [*self._partitions()]
            self._apply_retention()
            if not self._to_look_at:
                interval_ms = self._broker.config.retention_check_interval_ms
                self._retention_at_ms = monotonic_ms + interval_ms
                self._let_files_go()

    def _apply_retention(self) -> None:
        now_ms = self._broker.clock.now_ms()
        raised = []
        looked_at, self._to_look_at = self._to_look_at[:_AT_ONCE], self._to_look_at[_AT_ONCE:]
        for partition in looked_at:
            offset = retained_from(partition, now_ms)
            if offset > partition.log_start_offset and self._is_there(partition):
                raised.append((partition, offset))
        self._broker.commit([log_start_record(*one) for one in raised])
        self._broker.wake(partition for partition, _ in raised)

    def _is_there(self, partition: Partition) -> bool:
        """It was not deleted since its turn was noted."""
        name = partition.name
        partitions = self._broker.store.partitions.get(name.topic_id, [])
        return name.index < len(partitions) and partitions[name.index] is partition

    def _partitions(self) -> Iterator[Partition]:
        for partitions in self._broker.store.partitions.values():
            yield from partitions

    def _let_files_go(self) -> None:
        """Ask for a checkpoint, if files wait for one."""
        self._waiting_bytes = 0
        if any(partition.has_doomed for partition in self._partitions()):
            self._broker.store.request_checkpoint()

    def begin_compaction(self) -> CompactionTicket | None:
        """A compaction whose `run` should be called in another thread, if one is due."""
        if not self._cleaning_due or self._running is not None:
            return None
        clock = self._broker.clock
        found = filthiest(self._partitions(), clock.now_ms())
        disk = self._broker.store.disk
        if found is not None:
            needed_bytes = sum(segment.size_bytes for segment in found.segments)
            if disk.free_bytes() - needed_bytes >= DISK_RESERVE_BYTES:
                self._running = compaction_of(found, disk, clock.now_ms())
                return self._running
            logger.warning("no room on the disk to compact %s", found.partition.name)
        if self._waiting_bytes:
            self._let_files_go()
        self._cleaning_due = False
        self._cleaning_at_ms = clock.monotonic_ms() + self._broker.config.cleaner_backoff_ms
        return None

    def complete_compaction(self, ticket: CompactionTicket) -> None:
        """The ticket has run: what it has written counts from here on."""
        self._running = None
        name = ticket.partition.name
        if ticket.refusal:
            logger.warning("%s cannot be compacted, and is left alone: %s", name, ticket.refusal)
            ticket.partition.compaction_given_up = True
        if ticket.finish():
            before, after = ticket.bytes_before_and_after()
            logger.info("compacted %s: %d bytes became %d", name, before, after)
        self._waiting_bytes += sum(ticket.sizes_bytes)
        if self._waiting_bytes >= _WAITING_BYTES_MAX:
            self._let_files_go()

    def cancel(self) -> None:
        """Let a compaction that runs come to its end soon; its work is thrown away."""
        if self._running is not None:
            self._running.cancelled = True
