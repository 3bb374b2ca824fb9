"""A core that does what the frames tell it, to test the edge around it, and a client for it.

A frame is a word and a text. `now` answers at once, `later` when the test says so, `durable` after
the next sync, `silent` with nothing, `mute` and mutes; `garbage`, `disk` and `bug` raise.
"""

import asyncio
import contextlib
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from ottla.broker.quotas import Quotas
from ottla.ports.clock import RealClock
from ottla.ports.errors import InvariantBroken, ProtocolError, StorageFailed
from ottla.server.address import bind
from ottla.server.listener import ConnectionLimits, Listener
from ottla.server.server import Server


def framed(text: bytes) -> bytes:
    return struct.pack(">i", len(text)) + text


class Ticket:
    """A sync or a checkpoint that lasts as long as the test wants."""

    def __init__(self, held: list[Callable[[], None]] | None = None) -> None:
        self.held = held or []
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: Exception | None = None
        self.lasts_s = 0.0
        self.thread = ""
        self.syncs = True
        self.was_put_off = False

    def run(self) -> None:
        self.thread = threading.current_thread().name
        time.sleep(self.lasts_s)
        assert self.may_end.wait(10), "the test never let the ticket end"
        if self.error is not None:
            raise self.error


class Compaction(Ticket):
    """A compaction that ends when it is cancelled, or when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end.clear()

    def run(self, rest: Callable[[], None] = lambda: None) -> None:
        rest()
        super().run()


class Housekeeping:
    """Gives out one compaction when the test says that it is due."""

    def __init__(self) -> None:
        self.due = False
        self.running: Compaction | None = None
        self.done: list[Compaction] = []

    def begin_compaction(self) -> Compaction | None:
        if not self.due:
            return None
        self.due = False
        self.running = Compaction()
        return self.running

    def complete_compaction(self, ticket: Compaction) -> None:
        self.done.append(ticket)

    def cancel(self) -> None:
        if self.running is not None:
            self.running.may_end.set()


class Core:
    """See the module."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.later: dict[bytes, Callable[[], None]] = {}
        self.parked: list[Callable[[], None]] = []
        self.tickets: list[Ticket] = []
        self.checkpoints: list[Ticket] = []
        self.prepare: Callable[[Ticket], None] = lambda ticket: None
        self.open: list[int] = []
        self.deadline_ms: int | None = None
        self.fired_ms: list[int] = []
        self.clock = RealClock()
        self.sync_running = False
        self.sync_is_due = False
        self.turn_is_over = False  # of the loop, since the last request
        self.checkpoint_due = False
        self.checkpoints_done = 0
        self.muted_until_ms = 0
        self.housekeeping = Housekeeping()
        self.quotas = Quotas()

    def handle(self, connection, frame, send) -> None:
        word, _, text = bytes(frame).partition(b" ")
        self.seen.append(text)
        reply = framed(text)
        if word == b"now":
            send([reply[:4], memoryview(reply)[4:]])
        elif word == b"mute":
            connection.muted_until_ms = self.muted_until_ms = self.clock.monotonic_ms() + 300
            send([reply])
        elif word == b"big":
            send([framed(b"x" * int(text))])
        elif word == b"later":
            self.later[text] = lambda: send([reply])
        elif word in (b"durable", b"written"):
            self.parked.append(lambda: send([reply]))
            self.sync_is_due |= word == b"durable"
            self.turn_is_over = False
            asyncio.get_running_loop().call_soon(setattr, self, "turn_is_over", True)
        elif word == b"silent":
            send(None)
        elif word == b"disk":
            raise StorageFailed("no space left for data/journal")
        elif word == b"bug":
            raise InvariantBroken("two and two are not five")
        else:
            raise ProtocolError("this is not the protocol")

    def connection_opened(self, connection) -> None:
        self.open.append(connection.id)

    def connection_closed(self, connection) -> None:
        self.open.remove(connection.id)

    @property
    def sync_wanted(self) -> bool:
        return bool(self.parked)

    @property
    def parked_answers(self) -> int:
        syncing = len(self.tickets[-1].held) if self.sync_running else 0
        return len(self.parked) + syncing

    def begin_sync(self) -> Ticket | None:
        assert not self.sync_running, "one ticket at a time"
        if not self.parked:
            return None
        held, self.parked = self.parked, []
        ticket = Ticket(held)
        ticket.syncs, self.sync_is_due = self.sync_is_due, False
        ticket.was_put_off = self.turn_is_over
        self.prepare(ticket)
        self.tickets.append(ticket)
        self.sync_running = True
        return ticket

    def complete_sync(self, ticket: Ticket) -> None:
        self.sync_running = False
        for release in ticket.held:
            release()

    def begin_checkpoint(self) -> Ticket | None:
        if not self.checkpoint_due:
            return None
        self.checkpoint_due = False
        ticket = Ticket()
        ticket.may_end.clear()
        self.checkpoints.append(ticket)
        return ticket

    def complete_checkpoint(self) -> None:
        self.checkpoints_done += 1

    def next_deadline_ms(self) -> int | None:
        return self.deadline_ms

    def on_timer(self) -> None:
        now_ms = self.clock.monotonic_ms()
        if self.deadline_ms is not None and now_ms >= self.deadline_ms:
            self.deadline_ms = None
            self.fired_ms.append(now_ms)


class Client:
    """A peer that speaks frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, **options: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    def send(self, *texts: bytes) -> None:
        self.writer.write(b"".join(map(framed, texts)))

    async def receive(self, count: int = 1) -> list[bytes]:
        replies = []
        for _ in range(count):
            (size,) = struct.unpack(">i", await asyncio.wait_for(self.reader.readexactly(4), 10))
            replies.append(await asyncio.wait_for(self.reader.readexactly(size), 10))
        return replies

    async def ended(self) -> bytes:
        """What still comes until the broker closes the connection."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(), 10)
        return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Running:
    """A server on a core, inside a test's own loop."""

    def __init__(
        self,
        core: Core,
        limits: ConnectionLimits | None = None,
        listener: Mapping[str, Any] | None = None,
    ) -> None:
        self.core = core
        socket = bind("127.0.0.1", 0)
        self.listener = Listener(socket, **(listener or {}))
        self.port: int = socket.getsockname()[1]
        self.server = Server(core, core.clock, limits)
        self.task: asyncio.Task[None]
        self.clients: list[Client] = []

    async def connect(self, **options: int) -> Client:
        client = await Client.connect(self.port, **options)
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(core: Core, **options: Any) -> AsyncIterator[Running]:
    """Serve `core` for the block, then stop in good order unless the block has seen it end."""
    ready = asyncio.Event()
    one = Running(core, **options)
    one.task = asyncio.create_task(one.server.serve([one.listener], ready.set))
    try:
        await ready.wait()
        yield one
        one.server.stop()
        if not one.task.done():
            await asyncio.wait_for(one.task, 10)
    finally:
        for client in one.clients:
            await client.close()
        one.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, StorageFailed, InvariantBroken):
            await one.task
        one.listener.socket.close()
