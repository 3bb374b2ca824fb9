"""A worker: one thread, one consumer, one transactional producer, and the engine between them.

Fence, then look, then work. The producer is started first, which ends whatever a dead predecessor
with the same transactional.id left open; then the group hands out partitions, their committed
offsets are read, the stores are restored, and only then does a task read its input. Tasks that are
restoring do not hold up the others: their partitions are not read yet.

What can go wrong, and what is done:

    Abortable, TimedOut          abort, roll back, read again from the committed positions
    OutcomeUnknown, Fatal        a new producer; all tasks are opened anew from what is committed
    ProducerFenced               the same; again within a minute without a commit: stop
    partitions lost              roll back; abort; they belong to others already
    StepFailed, StateMismatch    abort and stop
"""

import gc
import logging
from collections.abc import Callable

from ottla.client import (
    Admin,
    ClientError,
    Consumer,
    Fatal,
    OutcomeUnknown,
    Partition,
    Producer,
)
from ottla.ports.clock import Clock
from ottla.streams.engine import Engine
from ottla.streams.kafka import ChangelogReader, TransactionOutput
from ottla.streams.restore import Restorer
from ottla.streams.storage import Storage
from ottla.streams.task import TaskId
from ottla.streams.topology import Topology

BATCH = 5_000  # records of one poll
IDLE_S = 0.1
# A loop over records makes hundreds of thousands of objects and no cycles: look for those less
# often than Python's 700, 10, 10. Measured: a tenth more records a second.
_COLLECTIONS = (50_000, 20, 50)
FAILURES_MAX = 5  # in a row, without a commit in between

_log = logging.getLogger(__name__)


class Worker:
    """Runs a topology against a cluster until it is stopped.

    Args: `commit_interval_ms` between two commits; `transaction_timeout_ms` after which the broker
    aborts the transaction of a worker that hangs.
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
        dead_letter_topic: str | None,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._clock = clock
        self._commit_interval_ms = commit_interval_ms
        self._transactional_id = f"{topology.app}-{worker}"
        self._transaction_timeout_ms = transaction_timeout_ms
        self._failures = 0
        self._reopen = False
        self._stopping = False
        self._lag = 0
        self._assigned: list[Partition] = []
        self.admin = Admin(bootstrap_servers)
        producer = self._new_producer()
        self.consumer = Consumer(
            bootstrap_servers,
            topology.app,
            instance_id=self._transactional_id,
            session_timeout_ms=session_timeout_ms,
        )
        self._producer = producer
        self.engine = Engine(
            topology,
            TransactionOutput(producer, self.consumer),
            storage,
            clock,
            dead_letter_topic=dead_letter_topic,
        )
        self._changelogs = ChangelogReader(
            bootstrap_servers, f"{topology.app}-changelogs", self.admin
        )
        self.restorer = Restorer(self._changelogs, topology)

    def stop(self) -> None:
        """Ask the worker to commit and return. From any thread or signal handler."""
        self._stopping = True

    def metrics(self) -> dict[str, int]:
        """Counters since the start, and the lag of the partitions assigned now."""
        counters = dict.fromkeys(("records_in", "records_out", "commits", "aborts"), 0)
        counters |= self.engine.totals
        counters["restored"] = self.restorer.restored
        counters["lag"] = self._lag
        return counters

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` is true after a commit.

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
            while not self._stopping and not (until is not None and until()):
                self._turn()
            self._guarded(self.engine.commit)
        except BaseException:
            self._give_up()
            raise
        finally:
            gc.set_threshold(*collections)
        self._close()

    def _turn(self) -> None:
        """Once round: open what was assigned, restore, read, process, commit."""
        if self._reopen:
            self._guarded(self._open_tasks)
        self._guarded(self._work)
        if self.restorer.busy:
            self._guarded(self._restore)

    def _work(self) -> None:
        wait_s = 0.0 if self.restorer.busy else self._wait_s()
        for partition, messages in self.consumer.consume(BATCH, wait_s):
            if self._reopen:  # the assignment changed inside consume: these are not ours any more
                return
            self.engine.process(partition, messages)
        self.engine.punctuate()
        if self.engine.in_transaction and self._wait_s() <= 0:
            self.engine.commit()
            self._failures = 0
        if not self.engine.in_transaction:
            self._lag = sum(map(self.consumer.lag, self._assigned))

    def _wait_s(self) -> float:
        if not self.engine.in_transaction:
            return IDLE_S
        due_ms = self.engine.began_at_ms + self._commit_interval_ms
        return max(0.0, (due_ms - self._clock.monotonic_ms()) / 1000)

    def _restore(self) -> None:
        ready = self.restorer.poll(IDLE_S)
        large = self.restorer.large()
        if large:
            self.engine.save(large)
        if ready:
            self.engine.save(ready)
            self._read_on()

    def _guarded(self, action: Callable[[], object]) -> None:
        """Run it, and recover as the table in the module's docstring says."""
        try:
            action()
        except ClientError as error:
            self._failures += 1
            _log.warning("%s: %s", self._transactional_id, error)
            if self._failures >= FAILURES_MAX:
                raise
            self._recover(error)

    def _recover(self, error: ClientError) -> None:
        if not isinstance(error, Fatal | OutcomeUnknown):
            try:
                self.engine.rollback()
                self._read_on()
                return
            except ClientError as second:
                _log.warning("%s: %s", self._transactional_id, second)
        self._start_over()

    def _start_over(self) -> None:
        """A new producer settles what is open; the tasks begin again from what is committed."""
        self.engine.forget()
        self.restorer.remove(self.engine.tasks.values())
        self.engine.close_tasks(list(self.engine.tasks))
        self._producer.close()
        self._producer = self._new_producer()
        self.engine.output = TransactionOutput(self._producer, self.consumer)
        self._reopen = True

    def _new_producer(self) -> Producer:
        return Producer(
            self._bootstrap_servers,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=self._transaction_timeout_ms,
        )

    def _on_assign(self, partitions: list[Partition]) -> None:
        """Take note; the tasks are opened outside of the callback."""
        self._assigned = partitions
        self._reopen = True
        self.consumer.assign({})

    def _on_revoke(self, partitions: list[Partition]) -> None:
        """The last moment at which this generation may commit."""
        try:
            self.engine.commit()
        except OutcomeUnknown as error:
            _log.warning("%s: %s", self._transactional_id, error)
            self._start_over()
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
            self._recover_without_reading()
        self._let_go()

    def _on_lost(self, partitions: list[Partition]) -> None:
        _log.warning("%s: lost %s", self._transactional_id, ", ".join(map(str, partitions)))
        self._recover_without_reading()
        self._let_go()

    def _recover_without_reading(self) -> None:
        try:
            self.engine.rollback()
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
            self._start_over()

    def _let_go(self) -> None:
        self._assigned = []
        self._reopen = False
        self.restorer.remove(self.engine.tasks.values())
        self.engine.close_tasks(list(self.engine.tasks))

    def _open_tasks(self) -> None:
        """Open the tasks of the assignment that are not open, and begin to restore them."""
        self.engine.close_tasks(list(self.engine.tasks))
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

    def _give_up(self) -> None:
        """Stop after a failure: what is open is aborted, what is committed is saved."""
        try:
            self.engine.rollback()
        except ClientError as error:
            _log.warning("%s: %s", self._transactional_id, error)
        self._close()

    def _close(self) -> None:
        self.restorer.remove(self.engine.tasks.values())
        self.engine.close_tasks(list(self.engine.tasks))
        self._changelogs.close()
        self.consumer.close()
        self._producer.close()
