"""The loop around the core: connections, group commit, checkpoints, timers, and how it all ends.

Every entry into the core (a request, a completed sync, a timer) ends in `settle`, which sends what
has become ready, sees that a sync follows if one is wanted, and sets the timer.

Group commit: the sync is begun in the next turn of the loop, so that all requests which arrived
together share it, and runs in a thread. What arrives meanwhile shares the one after it. A write
without a sync is not put off while nobody else would share it, as the last sync shows. A small
request that is alone is synced without the thread, if the disk is quick, and so is what is only
written: handing it over and back would take as long. The timer is only ever set earlier: firing too
soon costs a look at the deadlines, resetting it for every fetch that did not have to wait would
cost more.

The broker ends in one of two ways. `stop` (a signal): nothing more is taken in, everything that was
taken in is made durable and answered, then connections are closed. `fail` (the disk refused, or an
invariant does not hold): connections are cut with nothing more answered, and `serve` raises.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ottla.broker.broker import Broker
from ottla.broker.request import Connection
from ottla.ports.clock import Clock
from ottla.ports.errors import InvariantBroken, StorageFailed
from ottla.ports.limits import CONNECTION_IDLE_MS_MAX, FRAME_MS_MAX
from ottla.server.connection import ClientConnection
from ottla.server.listener import Acceptor, ConnectionLimits, Listener
from ottla.server.worker import Worker

if TYPE_CHECKING:
    from ottla.server.metrics import Metrics

logger = logging.getLogger(__name__)

_SWEEP_S = 5.0
_ALONE_BYTES_MAX = 16_384
_WRITTEN_HERE_BYTES_MAX = 262_144
_QUICK_SYNC_S = 0.001
_BREATH_S = 0.000_05
_DRAIN_LIMIT_S = 5.0  # how long `stop` waits for clients that do not read


def _let_others_run() -> None:
    """Give up the interpreter's lock: others would wait 5 ms for it each time (switchinterval)."""
    time.sleep(_BREATH_S)


class Server:
    """Drives one core on the running event loop."""

    def __init__(
        self,
        core: Broker,
        clock: Clock,
        limits: ConnectionLimits | None = None,
        metrics: "Metrics | None" = None,
    ) -> None:
        self.core = core
        self.metrics = metrics
        if metrics is not None:
            metrics.attach(self)
        self._limits = limits or ConnectionLimits()
        self.stopping = False
        self.held_bytes = 0  # in requests of all connections
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[None] = self._loop.create_future()
        self._acceptor: Acceptor
        self._connections: set[ClientConnection] = set()
        self._ids = itertools.count(1)
        self._to_flush: list[ClientConnection] = []
        self._syncer = Worker("ottla-sync", self._loop)
        self._syncing = False
        self._sync_s = 0.0  # how long the last sync took
        self._alone = False  # nobody shared it
        self._checkpointer = Worker("ottla-checkpoint", self._loop)
        self._checkpointing = False
        self._cleaner = Worker("ottla-cleaner", self._loop)
        self._cleaning = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline_ms = 0
        self.call_soon = self._loop.call_soon
        self.call_later = self._loop.call_later
        self.loop_time = self._loop.time
        self.monotonic_ms = clock.monotonic_ms

    # -- beginning and end --------------------------------------------------------------------

    async def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """Serve until `stop`; `ready` is called once clients can connect.

        Raises StorageFailed or InvariantBroken: what was not acknowledged by then never will be.
        """
        self._loop.set_exception_handler(self._unexpected)
        self._acceptor = Acceptor(self, listeners, self._limits)
        self._acceptor.start()
        self._loop.call_later(_SWEEP_S, self._sweep)
        try:
            ready()
            self.settle()
            await self._outcome
        finally:
            self._acceptor.close()
            for connection in list(self._connections):
                connection.abort()
            if self._timer is not None:
                self._timer.cancel()
            self._syncer.stop()
            self._checkpointer.stop()
            self._cleaner.stop()

    def stop(self) -> None:
        """End in good order: `serve` returns."""
        if not self.stopping:
            self.stopping = True
            self._acceptor.close()
            for connection in self._connections:
                connection.throw_away()
            self.core.housekeeping.cancel()
            self._loop.call_later(_DRAIN_LIMIT_S, self._finish)
            self.settle()

    def fail(self, error: BaseException) -> None:
        """End at once: `serve` raises `error`."""
        self.stopping = True
        if not self._outcome.done():
            self._outcome.set_exception(error)
        for connection in list(self._connections):
            connection.abort()

    def _finish(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(None)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught: trouble of the operating system is logged, a bug ends the broker."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            logger.warning("%s: %s", context.get("message"), error)
        elif isinstance(error, StorageFailed | InvariantBroken):
            self.fail(error)
        else:
            logger.error("a bug", exc_info=error)
            self.fail(InvariantBroken(f"unexpected {type(error).__name__}: {error}"))

    # -- after every entry into the core ------------------------------------------------------

    def will_flush(self, connection: ClientConnection) -> None:
        """`connection` has a reply to send."""
        self._to_flush.append(connection)

    def settle(self) -> None:
        """Send what is ready, begin what is wanted."""
        if self._outcome.done():
            return
        if self._to_flush:
            connections, self._to_flush = self._to_flush, []
            for connection in connections:
                connection.flush()
        if not self._syncing and self.core.sync_wanted:
            self._syncing = True
            if self._alone and not self.core.sync_is_due:
                self._begin_sync()  # which ends here again
                return
            self._loop.call_soon(self._begin_sync)
        if not self._cleaning and not self.stopping:
            self._begin_compaction()
        if self.stopping and not (self._syncing or self._checkpointing or self._cleaning):
            self._close_connections()
        self._set_timer()

    def _close_connections(self) -> None:
        for connection in list(self._connections):
            connection.close()
        if not self._connections:
            self._finish()

    # -- group commit and checkpoints ---------------------------------------------------------

    def _begin_sync(self) -> None:
        ticket = self.core.begin_sync()
        if ticket is None:
            self._syncing = False
            return
        if ticket.syncs:
            self._alone = self.core.parked_answers <= 1

        def run() -> None:
            begun_s = time.perf_counter()
            ticket.run()
            if ticket.syncs:
                self._sync_s = time.perf_counter() - begun_s
                if self.metrics is not None:
                    self.metrics.synced(self._sync_s)

        def done(error: BaseException | None) -> None:
            self._syncing = False
            if error is not None:
                self.fail(error)
                return
            self.core.complete_sync(ticket)
            self._begin_checkpoint()
            self.settle()

        if not self._not_worth_a_thread(ticket.syncs):
            self._syncer.submit(run, done)
            return
        try:
            run()
        except StorageFailed as error:
            done(error)
        else:
            done(None)

    def _not_worth_a_thread(self, syncs: bool) -> bool:
        """One small request waits for a disk that is quick: two threads would only take turns.

        What is only written goes to the system's memory, which is quicker than another thread.
        """
        if not syncs:
            return self.held_bytes <= _WRITTEN_HERE_BYTES_MAX
        return (
            self.core.parked_answers <= 1
            and self.held_bytes <= _ALONE_BYTES_MAX
            and self._sync_s <= _QUICK_SYNC_S
        )

    def _begin_checkpoint(self) -> None:
        ticket = self.core.begin_checkpoint()
        if ticket is None:
            return

        def done(error: BaseException | None) -> None:
            self._checkpointing = False
            if error is not None:
                self.fail(error)
                return
            self.core.complete_checkpoint()
            self.settle()

        self._checkpointing = True
        self._checkpointer.submit(ticket.run, done)

    def _begin_compaction(self) -> None:
        ticket = self.core.housekeeping.begin_compaction()
        if ticket is None:
            return

        def done(error: BaseException | None) -> None:
            self._cleaning = False
            if error is not None:
                self.fail(error)
                return
            self.core.housekeeping.complete_compaction(ticket)
            self.settle()

        self._cleaning = True
        self._cleaner.submit(lambda: ticket.run(_let_others_run), done)

    # -- timers -------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        deadline_ms = self.core.next_deadline_ms()
        if deadline_ms is None or self.stopping:
            return
        if self._timer is not None:
            if deadline_ms >= self._timer_deadline_ms:
                return
            self._timer.cancel()
        self._timer_deadline_ms = deadline_ms
        delay_ms = max(0, deadline_ms - self._clock.monotonic_ms())
        self._timer = self._loop.call_later(delay_ms / 1_000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.core.on_timer()
        self.settle()

    def _sweep(self) -> None:
        """Close connections that are idle, or that do not end what they have begun."""
        now_s = self._loop.time()
        oldest_s = now_s - CONNECTION_IDLE_MS_MAX / 1_000
        oldest_frame_s = now_s - FRAME_MS_MAX / 1_000
        for connection in list(self._connections):
            if connection.stalled(oldest_frame_s):
                connection.refuse("a request has not arrived whole in time")
            elif connection.idle and connection.last_active < oldest_s:
                logger.info("closed the connection of %s: it was idle", connection.address)
                connection.close()
        self._loop.call_later(_SWEEP_S, self._sweep)

    # -- connections --------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def next_connection_id(self) -> int:
        """Ids rise: a larger one is a newer connection."""
        return next(self._ids)

    def opened(self, connection: ClientConnection, identity: Connection) -> None:
        """A client has connected."""
        if self.stopping:
            connection.abort()
            return
        self._connections.add(connection)
        self.core.connection_opened(identity)

    def closed(self, connection: ClientConnection, identity: Connection) -> None:
        """The connection is gone."""
        self._acceptor.released(connection.host)
        if connection in self._connections:
            self._connections.remove(connection)
            self.core.connection_closed(identity)
            self.settle()
