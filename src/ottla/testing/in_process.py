"""The broker's core in this process, with a clock and a disk that do what a test says.

The same core, the same bytes and the same order of things as under the server, without sockets and
threads: a request is a frame, an answer is a frame, and `sync` is what the server's thread does.

    broker = InProcessBroker()
    client = broker.connect()
    client.request(CreateTopicsRequest(topics=[CreatableTopic(name="t", ...)]), 7)

`request` syncs and lets time pass until its answer is there. `send` does not: for tests of what
happens before the disk has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ottla.broker.broker import Broker
from ottla.broker.config import BrokerConfig
from ottla.broker.request import Connection
from ottla.ports.clock import SimulatedClock
from ottla.ports.disk import Buffer, Disk
from ottla.ports.invariants import invariant
from ottla.ports.rng import SeededRng
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.api import API
from ottla.wire.frame import SIZE_BYTES, decode_response_header, encode_request
from ottla.wire.message import Message

_WAIT_MS_MAX = 600_000
SMALL = BrokerConfig(journal_allocate_bytes=0)


@dataclass(slots=True)
class Pending:
    """A request that was sent. `response` is set once it is answered; `silent` for acks=0."""

    api_key: int
    version: int
    response: Message | None = None
    silent: bool = False

    @property
    def answered(self) -> bool:
        return self.silent or self.response is not None

    def take(self, answer: Sequence[Buffer] | None) -> None:
        invariant(not self.answered, "a request is answered once", api_key=self.api_key)
        if answer is None:
            self.silent = True
            return
        frame = memoryview(b"".join(answer))[SIZE_BYTES:]
        _, position = decode_response_header(frame, self.api_key, self.version)
        self.response, end = API[self.api_key].response.decode(frame, position, self.version)
        invariant(end == len(frame), "an answer is its message and nothing more")


class InProcessBroker:
    """A broker's core and what drives it."""

    def __init__(
        self,
        disk: Disk | None = None,
        clock: SimulatedClock | None = None,
        config: BrokerConfig | None = None,
        seed: int = 0,
    ) -> None:
        """Open `disk` (a new SimulatedDisk if None) and recover.

        Raises DataDamaged and StorageFailed as the broker does.
        """
        self.disk: Disk = disk if disk is not None else SimulatedDisk()
        self.clock = clock or SimulatedClock()
        self.core = Broker(self.disk, self.clock, SeededRng(seed), config or SMALL)
        self._connections = 0

    def connect(self, client_id: str = "test") -> "InProcessClient":
        """A new connection."""
        self._connections += 1
        return InProcessClient(self, Connection(self._connections, "127.0.0.1"), client_id)

    def sync(self) -> None:
        """Make all durable, also what may wait for a timer."""
        self.core.hurry()
        self.settle()

    def settle(self) -> None:
        """Write and sync what waits for it, and run the checkpoint that is due, as the server."""
        self.compact()
        while self.core.sync_wanted:
            ticket = self.core.begin_sync()
            if ticket is not None:
                ticket.run()
                self.core.complete_sync(ticket)
            checkpoint = self.core.begin_checkpoint()
            if checkpoint is not None:
                checkpoint.run()
                self.core.complete_checkpoint()

    def compact(self) -> None:
        """Run the compactions that are due, as the server does in a thread."""
        while True:
            ticket = self.core.housekeeping.begin_compaction()
            if ticket is None:
                return
            ticket.run()
            self.core.housekeeping.complete_compaction(ticket)

    def advance(self, delta_ms: int) -> None:
        """Let time pass: every timer on the way fires at its time."""
        end_ms = self.clock.monotonic_ms() + delta_ms
        while True:
            deadline_ms = self.core.next_deadline_ms()
            if deadline_ms is None or deadline_ms > end_ms:
                break
            self.clock.advance(max(deadline_ms - self.clock.monotonic_ms(), 0))
            self.core.on_timer()
            self.sync()
        self.clock.advance(end_ms - self.clock.monotonic_ms())


class InProcessClient:
    """One connection to an InProcessBroker."""

    def __init__(self, broker: InProcessBroker, connection: Connection, client_id: str) -> None:
        self.connection = connection
        self._broker = broker
        self._client_id = client_id
        self._correlation_id = 0
        broker.core.connection_opened(connection)

    def send(self, message: Message, version: int) -> Pending:
        """Hand a request to the broker; its answer may come now or later."""
        self._correlation_id += 1
        frame = encode_request(
            message.API_KEY, version, self._correlation_id, self._client_id, message
        )
        pending = Pending(message.API_KEY, version)
        body = memoryview(bytes(frame))[SIZE_BYTES:]
        self._broker.core.handle(self.connection, body, pending.take)
        return pending

    def request(self, message: Message, version: int) -> Message:
        """Send a request, sync and let time pass until it is answered."""
        pending = self.send(message, version)
        self._broker.sync()
        waited_ms = 0
        while pending.response is None:
            invariant(waited_ms < _WAIT_MS_MAX, "every request is answered", message=message)
            self._broker.advance(10)
            waited_ms += 10
        return pending.response

    def close(self) -> None:
        """The client goes."""
        self._broker.core.connection_closed(self.connection)
