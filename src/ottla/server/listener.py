"""Listeners: where clients come in, and as whom.

A listener has one of Kafka's security protocols. `plaintext` lets anybody in as User:ANONYMOUS;
`ssl` the same over TLS, or by the name in the client's certificate; `sasl_plaintext` and `sasl_ssl`
ask for SASL first. Each tells its clients an address of its own.

An `Acceptor` takes connections from all of them. It counts a connection from the moment it is
accepted, TLS handshake included, and closes what is over a bound before anything is read from it.
A connection that comes too soon after others from its address, by the quota of that address, is
held without being read and closed after its wait (KIP-612): its client is slowed down, and does not
come again at once. While it is held it counts like any other.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ottla.broker.request import ANONYMOUS, Connection
from ottla.broker.sasl.session import SaslSession
from ottla.ports.limits import CONNECTIONS_MAX, CONNECTIONS_PER_IP_MAX, HANDSHAKE_MS_MAX
from ottla.server.connection import ClientConnection
from ottla.server.distinguished_name import subject_of
from ottla.server.tls import Certificates

if TYPE_CHECKING:
    from ottla.server.server import Server

logger = logging.getLogger(__name__)

_BACKLOG = 1_024
_ACCEPTED_AT_ONCE = 100
_PAUSE_S = 1.0  # when the system has no room for another socket
_TOLD_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Listener:
    """One address: `socket` is bound to it. `certificates` for the two TLS protocols."""

    socket: socket.socket
    protocol: str = "plaintext"
    advertised: tuple[str, int] | None = None
    mechanisms: tuple[str, ...] = ()
    certificates: Certificates | None = None

    @property
    def port(self) -> int:
        """The port that it has got."""
        return int(self.socket.getsockname()[1])

    def context(self) -> ssl.SSLContext | None:
        """What a new connection does TLS with; None without TLS."""
        if self.certificates is None:
            return None
        return self.certificates.mutual if not self.mechanisms else self.certificates.server_only

    def identify(self, number: int, host: str, tls: ssl.SSLObject | None) -> Connection:
        """Who has come in, as far as it is known by now. Raises UnreadableCertificate."""
        certificate = None if tls is None or self.mechanisms else tls.getpeercert(binary_form=True)
        return Connection(
            number,
            host,
            principal=ANONYMOUS if certificate is None else f"User:{subject_of(certificate)}",
            sasl=SaslSession(self.mechanisms) if self.mechanisms else None,
            advertised=self.advertised,
        )


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be at once, and from one address."""

    total: int = CONNECTIONS_MAX
    per_ip: int = CONNECTIONS_PER_IP_MAX


class Acceptor:
    """Accepts on all listeners, within the limits."""

    def __init__(
        self, server: "Server", listeners: Iterable[Listener], limits: ConnectionLimits
    ) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._open: Counter[str] = Counter()  # by the client's address
        self._total = 0
        self._turned_away: set[str] = set()  # told in the log already
        self._listeners = tuple(listeners)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[socket.socket, asyncio.TimerHandle] = {}  # came too soon
        self._closed = False

    def start(self) -> None:
        for listener in self._listeners:
            listener.socket.setblocking(False)
            listener.socket.listen(_BACKLOG)
            self._watch(listener)

    def close(self) -> None:
        """Accept nothing more, and give up handshakes."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for held, timer in self._held.items():
            timer.cancel()
            held.close()
        self._held.clear()
        for listener in self._listeners:
            if listener.socket.fileno() >= 0:
                self._loop.remove_reader(listener.socket)
                listener.socket.close()

    def released(self, host: str) -> None:
        """A connection of this address has ended."""
        self._total -= 1
        self._open[host] -= 1
        self._turned_away.discard(host)
        if not self._open[host]:
            del self._open[host]

    def _watch(self, listener: Listener) -> None:
        if not self._closed:
            self._loop.add_reader(listener.socket, self._accept, listener)

    def _accept(self, listener: Listener) -> None:
        """Take those who wait, a bounded number at a time."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connected, address = listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.warning("cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(listener.socket)
                self._loop.call_later(_PAUSE_S, self._watch, listener)
                return
            host = address[0]
            if not self._has_room(host):
                connected.close()
                continue
            self._total += 1
            self._open[host] += 1
            connected.setblocking(False)
            now_ms = self._server.monotonic_ms()
            throttle_ms = self._server.core.quotas.connection_throttle_ms(host, now_ms)
            if throttle_ms:
                self._hold(connected, host, throttle_ms)
                continue
            task = self._loop.create_task(self._admit(listener, connected, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _hold(self, connected: socket.socket, host: str, throttle_ms: int) -> None:
        def let_go() -> None:
            del self._held[connected]
            connected.close()
            self.released(host)

        self._held[connected] = self._loop.call_later(throttle_ms / 1_000, let_go)

    def _has_room(self, host: str) -> bool:
        limits = self._limits
        if self._total >= limits.total:
            what = f"{limits.total} connections"
        elif self._open[host] >= limits.per_ip:
            what = f"{limits.per_ip} connections from there"
        else:
            return True
        if host not in self._turned_away:
            if len(self._turned_away) >= _TOLD_MAX:
                self._turned_away.clear()
            self._turned_away.add(host)
            logger.warning("turned %s away: %s are open, and that is the limit", host, what)
        return False

    async def _admit(self, listener: Listener, connected: socket.socket, host: str) -> None:
        context = listener.context()
        connection = ClientConnection(self._server, listener, host)
        try:
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: connection,
                connected,
                ssl=context,
                ssl_handshake_timeout=None if context is None else HANDSHAKE_MS_MAX / 1_000,
            )
        except OSError as error:
            logger.warning("no TLS with %s: %s", host, error)
        finally:
            if not connection.made:
                connected.close()
                self.released(host)
