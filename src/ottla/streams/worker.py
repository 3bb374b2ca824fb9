"""A worker: one thread, one consumer, one transactional producer, and the engine between them.

Fence, then look, then work. The producer is started first, which ends whatever a dead predecessor
with the same transactional.id left open; then the group hands out partitions, their committed
offsets are read, the stores are restored, and only then does a task read its input. Tasks that are
restoring do not hold up the others: their partitions are not read yet.

What can go wrong, and what is done:

    TimedOut, Abortable          abort, roll back, read again from the committed positions
    OutcomeUnknown, Fatal        a new producer; all tasks are opened anew from what is committed
    partitions lost              abort, roll back; they belong to others already
    MemberFenced, OffsetLost,    abort and stop
    StepFailed, StateMismatch

Five failures in a row without a commit stop the worker too, but for a broker that does not answer:
that is waited for.
"""

import gc
import logging
from collections.abc import Callable

from ottla.client import (
    Admin,
    ClientError,
    Consumer,
    Fatal,
    MemberFenced,
    OffsetLost,
    OutcomeUnknown,
    Partition,
    Producer,
    TimedOut,
)
from ottla.ports.clock import Clock
from ottla.streams.engine import Engine
from ottla.streams.kafka import ChangelogReader, TransactionOutput
from ottla.streams.purge import Purge
from ottla.streams.restore import Restorer
from ottla.streams.storage import Storage
from ottla.streams.task import TaskId
from ottla.streams.topology import Topology

BATCH_MIN, BATCH_MAX = 200, 5_000  # records of one poll
IDLE_S = 0.1
# A loop over records makes hundreds of thousands of objects and no cycles: look for those less
# often than Python's 700, 10, 10. Measured: a tenth more records a second.
_COLLECTIONS = (50_000, 20, 50)
FAILURES_MAX = 5  # in a row, without a commit in between

_log = logging.getLogger(__name__)


class Worker:
    """Runs a topology against a cluster until it is stopped.

    Args: as for `App`.
    """

    def __init__(
        self,
        topology: Topology,
        bootstrap_servers: str,
        storage: Storage,
        clock: Clock,
        *,
        worker: str,
        commit_interval_ms: int,
        transaction_timeout_ms: int,
        session_timeout_ms: int,
        timeout_ms: int,
        dead_letter_topic: str | None,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._clock = clock
        self._commit_interval_ms = commit_interval_ms
        self._transactional_id = f"{topology.app}-{worker}"
        self._transaction_timeout_ms = transaction_timeout_ms
        self._timeout_ms = timeout_ms
        self._failures = 0
        self._batch = BATCH_MIN
        self._changes = 0  # of the assignment
        self._reopen = False
        self._lag = 0
        self._assigned: list[Partition] = []
        self.admin = Admin(bootstrap_servers, timeout_ms=timeout_ms)
        self.consumer = Consumer(
            bootstrap_servers,
            topology.app,
            instance_id=self._transactional_id,
            session_timeout_ms=session_timeout_ms,
            offset_reset="error",
            timeout_ms=timeout_ms,
        )
        self._producer: Producer | None = self._new_producer()
        self.engine = Engine(
            topology,
            TransactionOutput(self._producer, self.consumer),
            storage,
            clock,
            dead_letter_topic=dead_letter_topic,
        )
        self._changelogs = ChangelogReader(
            bootstrap_servers, f"{topology.app}-changelogs", self.admin
        )
        self.restorer = Restorer(self._changelogs, topology)
        self._purge = Purge(self.admin, clock, (topic for topic, _ in topology.repartitions))

    def metrics(self) -> dict[str, int]:
        """Counters since the start, and the lag of the partitions assigned now."""
        counters = dict.fromkeys(("records_in", "records_out", "commits", "aborts"), 0)
        counters |= dict(self.engine.totals)
        counters["restored"] = self.restorer.restored
        counters["lag"] = self._lag
        return counters

    def run(self, until: Callable[[], bool]) -> None:
        """Work until `until()` is true; then commit and let go.

        Raises StreamsError, and ClientError when the cluster stays unusable.
        """
        self.consumer.subscribe(
            self.engine.source_topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        collections = gc.get_threshold()
        gc.set_threshold(*_COLLECTIONS)
        try:
            while not until():
                self._turn()
            self._guarded(self.engine.commit)
        except BaseException:
            if not self._rolled_back():
                self.engine.forget()  # the broker aborts it: we are fenced, or it times out
            raise
        finally:
            gc.set_threshold(*collections)
            self._close()

    def _turn(self) -> None:
        """Once round: open what was assigned, restore, read, process, commit."""
        if self._producer is None:
            self._guarded(self._start_producer)
        elif self._reopen:
            self._guarded(self._open_tasks)
        self._guarded(self._work)
        if self.restorer.busy:
            self._guarded(self._restore)

    def _work(self) -> None:
        changes = self._changes
        wait_s = 0.0 if self.restorer.busy else self._wait_s()
        runs = self.consumer.consume(self._batch, wait_s)
        if changes != self._changes:
            return  # the assignment changed while these were fetched: they will come again
        began_ms = self._clock.monotonic_ms()
        for partition, messages in runs:
            self.engine.process(partition, messages)
        self.engine.punctuate()
        if self.engine.in_transaction and self._wait_s() <= 0:
            self.engine.commit()
            self._failures = 0
            self._purge.committed(self.engine.next_offsets())
        if not self.engine.in_transaction:
            self._lag = sum(map(self.consumer.lag, self._assigned))
        self._adapt(sum(len(messages) for _, messages in runs), began_ms)

    def _adapt(self, count: int, began_ms: int) -> None:
        """A batch should take no longer than a commit interval, however slow the steps are."""
        took_ms = self._clock.monotonic_ms() - began_ms
        if took_ms > 2 * self._commit_interval_ms:
            self._batch = max(1, count * self._commit_interval_ms // took_ms)
        elif count >= self._batch:
            self._batch = min(BATCH_MAX, 2 * self._batch)

    def _wait_s(self) -> float:
        if not self.engine.in_transaction:
            return IDLE_S
        due_ms = self.engine.began_at_ms + self._commit_interval_ms
        return max(0.0, (due_ms - self._clock.monotonic_ms()) / 1000)

    def _restore(self) -> None:
        ready = self.restorer.poll(IDLE_S)
        save = ready or self.restorer.large()
        if save:
            self.engine.save(save)
        if ready:
            self._read_on()

    # -- recovery -----------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], object]) -> None:
        """Run it, and recover as the table in the module's docstring says."""
        try:
            action()
        except (MemberFenced, OffsetLost):
            raise
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
            if not isinstance(error, TimedOut):
                self._failures += 1
            if self._failures >= FAILURES_MAX:
                raise
            if isinstance(error, Fatal | OutcomeUnknown) or not self._rolled_back():
                self._start_over()
            elif not self._reopen:
                self._read_on()

    def _rolled_back(self) -> bool:
        """Abort what is open; whether that worked."""
        try:
            self.engine.rollback()
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
            return False
        return True

    def _start_over(self) -> None:
        """A new producer settles what is open; the tasks begin again from what is committed."""
        self.engine.forget()
        self._close_tasks()
        if self._producer is not None:
            self._producer.close()
            self._producer = None
        self._reopen = True
        self.consumer.assign({})

    def _start_producer(self) -> None:
        """Fence the predecessor: a producer of our own before, or that of a dead process."""
        self._producer = self._new_producer()
        self.engine.output = TransactionOutput(self._producer, self.consumer)

    def _new_producer(self) -> Producer:
        return Producer(
            self._bootstrap_servers,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=self._transaction_timeout_ms,
            timeout_ms=self._timeout_ms,
        )

    # -- the group ----------------------------------------------------------------------------

    def _on_assign(self, partitions: list[Partition]) -> None:
        """Take note; the tasks are opened outside of the callback."""
        self._changes += 1
        self._assigned = partitions
        self._reopen = True
        self.consumer.assign({})

    def _on_revoke(self, partitions: list[Partition]) -> None:
        """The last moment at which this generation may commit."""
        try:
            self.engine.commit()
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
            if isinstance(error, Fatal | OutcomeUnknown) or not self._rolled_back():
                self._start_over()
        self._let_go()

    def _on_lost(self, partitions: list[Partition]) -> None:
        _log.warning("%s: lost %s", self._transactional_id, ", ".join(map(str, partitions)))
        if not self._rolled_back():
            self._start_over()
        self._let_go()

    def _let_go(self) -> None:
        self._changes += 1
        self._assigned = []
        self._reopen = False
        self._close_tasks()

    def _close_tasks(self) -> None:
        self.restorer.remove(self.engine.tasks.values())
        self.engine.close_tasks(list(self.engine.tasks))

    def _open_tasks(self) -> None:
        """Open the tasks of the assignment, and begin to restore them."""
        self._close_tasks()
        wanted: dict[TaskId, None] = dict.fromkeys(map(self.engine.task_id, self._assigned))
        committed = self.consumer.committed(self._assigned)
        tasks = [self.engine.open_task(task_id, committed) for task_id in wanted]
        self.restorer.add(tasks, self._clock.now_ms())
        self._reopen = False
        self._read_on()

    def _read_on(self) -> None:
        """Read from where the tasks are, those that are restored; the others follow."""
        offsets = {
            each: self.engine.next_offset(each)
            for each in self._assigned
            if not self.restorer.restoring(self.engine.task_id(each))
        }
        self.consumer.assign(offsets)

    def _close(self) -> None:
        self._close_tasks()
        self._changelogs.close()
        self.consumer.close()
        if self._producer is not None:
            self._producer.close()
