"""One client's connection: bytes in, frames to the core, replies back in the order of the requests.

Each request takes a slot in a queue before the core sees it. The core may answer at once or later,
and in any order; what leaves is always the run of answered slots at the head of the queue, in one
write. A request without an answer (Produce with acks=0) fills its slot with nothing.

A connection takes no more requests, and does not read its socket, while it has too many of them
unanswered, while these or their answers are too large together, or while the client does not read.
What a client can make the broker hold is therefore bounded, whatever it sends. Bytes that are not
the protocol close this connection and no other.

Until its principal is known a connection gets less: small requests, and ten seconds. One that is
refused hears so after a delay, in which nothing more is read from it, and is closed. A request
that has begun must arrive whole within a minute of being read.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from ottla.broker.request import Connection
from ottla.ports.disk import Buffer
from ottla.ports.errors import InvariantBroken, ProtocolError, StorageFailed
from ottla.ports.invariants import invariant
from ottla.ports.limits import (
    FAILED_AUTHENTICATION_DELAY_MS,
    HANDSHAKE_MS_MAX,
    HELD_BYTES_MAX,
    IN_FLIGHT_BYTES_MAX,
    IN_FLIGHT_REQUESTS_MAX,
    REQUEST_BYTES_MAX,
    UNAUTHENTICATED_BYTES_MAX,
    UNSENT_BYTES_MAX,
)
from ottla.server.distinguished_name import UnreadableCertificate
from ottla.wire.frame import FrameReader

if TYPE_CHECKING:
    from ottla.server.listener import Listener
    from ottla.server.server import Server

logger = logging.getLogger(__name__)

WRITE_BUFFER_HIGH_BYTES = 1_048_576  # of answers; beyond it the next requests wait


class Slot:
    """The place of one reply in the queue; `buffers` is None until there is one."""

    __slots__ = ("_connection", "api_key", "begun_s", "buffers", "reply_bytes", "request_bytes")

    def __init__(self, connection: "ClientConnection", request_bytes: int) -> None:
        self._connection = connection
        self.request_bytes = request_bytes
        self.reply_bytes = 0
        self.api_key = -1
        self.begun_s = 0.0  # when somebody wants to know; the loop's clock is too coarse
        self.buffers: Sequence[Buffer] | None = None

    def send(self, buffers: Sequence[Buffer] | None) -> None:
        """Take the reply; None means that there is nothing to send."""
        invariant(self.buffers is None, "a request is answered once")
        self.buffers = () if buffers is None else buffers
        self.reply_bytes = sum(map(len, self.buffers))
        self._connection.answered(self)


class ClientConnection(asyncio.Protocol):
    """The protocol of the event loop for one client."""

    def __init__(self, server: "Server", listener: "Listener", host: str) -> None:
        self._server = server
        self._listener = listener
        self._number = server.next_connection_id()
        self.host = host
        self.made = False  # TLS is done: the loop will tell when the connection ends
        self._reader = FrameReader(REQUEST_BYTES_MAX)
        self._frames: Iterator[memoryview] | None = None  # that have arrived
        self._slots: deque[Slot] = deque()
        self._request_bytes = 0  # of the requests in _slots
        self._reply_bytes = 0  # of the replies in _slots
        self._held_bytes = 0  # in requests, whole or not, as the server knows it
        self._reading = True
        self._writing_paused = False
        self._held_back = False  # a refusal that has yet to be sent
        self._unmute: asyncio.TimerHandle | None = None  # the end of a wait for a quota
        self._handshake: asyncio.TimerHandle | None = None  # until the principal is known
        self._frame_begun_s: float | None = None  # when a request began that is not here whole
        self._transport: asyncio.Transport
        self._identity: Connection
        self.address = ""
        self.last_active = server.loop_time()

    # -- what the loop calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Both loops set TCP_NODELAY themselves. uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER_HIGH_BYTES)
        self.made = True
        _, port, *_ = transport.get_extra_info("peername") or (self.host, 0)
        self.address = f"{self.host}:{port}"
        self._identity = Connection(self._number, self.host)
        try:
            tls = transport.get_extra_info("ssl_object")
            self._identity = self._listener.identify(self._number, self.host, tls)
        except UnreadableCertificate as error:
            self.refuse(str(error))
        if self._identity.sasl is not None:
            self._reader.frame_bytes_max = UNAUTHENTICATED_BYTES_MAX
            self._handshake = self._server.call_later(
                HANDSHAKE_MS_MAX / 1_000, self.refuse, "it has not authenticated in time"
            )
        self._server.opened(self, self._identity)

    def data_received(self, data: bytes) -> None:
        if self._server.stopping:
            return
        self.last_active = self._server.loop_time()
        frames = self._reader.feed(data)
        self._frames = frames if self._frames is None else itertools.chain(self._frames, frames)
        self._take_requests()

    def eof_received(self) -> None:
        """The client has closed its side: the transport closes ours."""

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._take_requests()

    def connection_lost(self, error: Exception | None) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        if self._unmute is not None:
            self._unmute.cancel()
        self._slots.clear()
        self._server.held_bytes -= self._held_bytes
        self._server.closed(self, self._identity)

    # -- requests -----------------------------------------------------------------------------

    def _full(self) -> bool:
        return (
            len(self._slots) >= IN_FLIGHT_REQUESTS_MAX
            or self._request_bytes >= IN_FLIGHT_BYTES_MAX
            or self._reply_bytes >= WRITE_BUFFER_HIGH_BYTES
            or self._writing_paused
            or self._server.stopping
            or bool(self._identity.refused)
            or self._muted()
        )

    def _muted(self) -> bool:
        """The client has used more than its quota, and waits (KIP-219)."""
        if not self._identity.muted_until_ms:
            return False
        left_ms = self._identity.muted_until_ms - self._server.monotonic_ms()
        if left_ms <= 0:
            self._identity.muted_until_ms = 0
            return False
        if self._unmute is None:
            self._unmute = self._server.call_later(left_ms / 1_000, self._end_mute)
        return True

    def _end_mute(self) -> None:
        self._unmute = None
        if not self._transport.is_closing():
            self._take_requests()

    def _take_requests(self) -> None:
        """Give the core as many of the frames that have arrived as may be in flight."""
        try:
            while (
                self._frames is not None and not self._full() and not self._transport.is_closing()
            ):
                self._take_request(next(self._frames, None))
            self._account()
        except ProtocolError as error:
            self.refuse(str(error))
        except (StorageFailed, InvariantBroken) as error:
            self._server.fail(error)
        self._read_socket(self._server.stopping or not self._full())
        self._server.settle()

    def _take_request(self, frame: memoryview | None) -> None:
        if frame is None:
            self._frames = None
            return
        slot = Slot(self, len(frame))
        if self._server.metrics is not None:
            slot.api_key, slot.begun_s = int.from_bytes(frame[:2]), time.perf_counter()
        self._slots.append(slot)
        self._request_bytes += len(frame)
        self._frame_begun_s = None
        self._server.core.handle(self._identity, frame, slot.send)
        if self._identity.refused:
            self._answer_refusal_later()
        elif self._handshake is not None:
            self._let_in_if_known()

    def _let_in_if_known(self) -> None:
        """From now on the client may send what every client may."""
        sasl = self._identity.sasl
        if self._handshake is not None and sasl is not None and sasl.authenticated:
            self._handshake.cancel()
            self._handshake = None
            self._reader.frame_bytes_max = REQUEST_BYTES_MAX

    def _account(self) -> None:
        """Tell the server how much is held for this client."""
        partial_bytes = self._reader.partial_bytes
        if not partial_bytes:
            self._frame_begun_s = None
        elif self._frame_begun_s is None:
            self._frame_begun_s = self._server.loop_time()
        held_bytes = self._request_bytes + partial_bytes
        self._server.held_bytes += held_bytes - self._held_bytes
        if self._server.held_bytes > HELD_BYTES_MAX and held_bytes > self._held_bytes:
            self.refuse(f"all requests together hold more than {HELD_BYTES_MAX} bytes")
        self._held_bytes = held_bytes

    def _read_socket(self, wanted: bool) -> None:
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            self._frame_begun_s = None  # the client cannot help it while we do not read
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- replies ------------------------------------------------------------------------------

    def answered(self, slot: Slot) -> None:
        """A slot has its reply: if nothing before it is open, the server will flush us."""
        self._reply_bytes += slot.reply_bytes
        if self._server.metrics is not None:
            self._server.metrics.answered(slot.api_key, time.perf_counter() - slot.begun_s)
        if self._slots and self._slots[0] is slot:
            self._server.will_flush(self)

    def flush(self) -> None:
        """Send the replies at the head of the queue, and take the requests that waited for it."""
        if self._transport.is_closing() or self._held_back:
            return
        slots = self._slots
        outgoing: list[Buffer] = []
        while slots and slots[0].buffers is not None:
            slot = slots.popleft()
            self._request_bytes -= slot.request_bytes
            self._reply_bytes -= slot.reply_bytes
            outgoing.extend(slot.buffers or ())
        self._account()
        if outgoing:
            self._transport.writelines(outgoing)
            if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                self.refuse("the client asks for more than it reads")
                return
        if self._identity.refused and not slots:
            self.close()
        if not self._reading and not self._full():
            self._server.call_soon(self._take_requests)

    # -- closing ------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """The client waits for nothing from us."""
        return not self._slots

    def stalled(self, since_s: float) -> bool:
        """A request began before `since_s` and is still not here whole."""
        begun_s = self._frame_begun_s
        return self._reading and begun_s is not None and begun_s < since_s

    def _answer_refusal_later(self) -> None:
        """The core has refused the client: whoever guesses passwords has to wait for each."""
        logger.warning("refused %s: %s", self.address, self._identity.refused)
        self._held_back = True
        self._server.call_later(FAILED_AUTHENTICATION_DELAY_MS / 1_000, self._answer_refusal)

    def _answer_refusal(self) -> None:
        self._held_back = False
        self.flush()

    def refuse(self, why: str) -> None:
        """Close this connection, and say why in the log."""
        logger.warning("closed the connection of %s: %s", self.address, why)
        self.abort()

    def throw_away(self) -> None:
        """The broker is about to stop: read on, but take no more requests.

        Closing a socket with something unread in it resets the connection, and takes answers away
        that the client has not read yet.
        """
        self._read_socket(True)

    def close(self) -> None:
        """Close once what was written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once; nothing more is sent."""
        self._transport.abort()
