"""A thread that does blocking work one piece at a time, and tells the loop when a piece is done.

The broker has three: for syncs of the journal, checkpoints, compactions. An executor would do, at
twice the cost per piece, and a group commit is on the path of every acknowledged record.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

Done = Callable[[BaseException | None], None]
_JOIN_LIMIT_S = 1.0
_Piece = tuple[Callable[[], None], Done]


class Worker:
    """One thread with a queue."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[_Piece | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None], done: Done) -> None:
        """Run `work` in the thread, then `done` on the loop with what `work` raised, or None."""
        self._queue.put((work, done))

    def stop(self) -> None:
        """Take nothing more. Work on a disk that hangs is not waited for."""
        self._queue.put(None)
        self._thread.join(timeout=_JOIN_LIMIT_S)

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None:
            work, done = piece
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:  # noqa: BLE001 - `done` decides what becomes of it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: the broker has failed
                self._loop.call_soon_threadsafe(done, error)
