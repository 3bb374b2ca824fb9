"""A TCP proxy that understands Kafka's frames, to play a network at its worst.

It sits between clients and one broker, which must advertise the proxy's address. By default it
passes everything on. A fault is armed for the next request of an API key, and strikes once:

- `hold`: the request is kept, and its client is cut off. The connection to the broker stays, and
  `release` delivers the request on it: a copy that was slow, after its client has long repeated it.
- `drop_response`: the broker gets the request, the client is cut off before the answer.
- `cut`: the broker gets the first bytes of the request, and then both sides are cut off.

A client that is cut off connects again and repeats what it has no answer for.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LIMIT_S = 30.0


class Fault:
    """A fault that waits for its request. `seen` says when it has struck."""

    def __init__(self, api_key: int) -> None:
        self.api_key = api_key
        self._struck = threading.Event()

    def wait(self) -> None:
        """Wait until it has struck."""
        assert self._struck.wait(LIMIT_S), f"no request with API key {self.api_key} came"

    def strike(self, link: "_Link", frame: bytes) -> None:
        """Do the harm, instead of passing the frame on. Runs in the link's thread."""
        raise NotImplementedError


class Held(Fault):
    """A request that is held back."""

    def __init__(self, api_key: int) -> None:
        super().__init__(api_key)
        self._frame = b""
        self._link: _Link | None = None
        self._answered = threading.Event()
        self._answer: bytes | None = None

    def strike(self, link: "_Link", frame: bytes) -> None:
        self._link, self._frame = link, frame
        link.keep_broker_side(self._take_answer)
        self._struck.set()

    def release(self) -> bytes | None:
        """Deliver it now; return the broker's answer, or None if it closed the connection."""
        self.wait()
        assert self._link is not None
        self._link.broker.sendall(self._frame)
        assert self._answered.wait(LIMIT_S), "neither an answer nor the end of the connection"
        return self._answer

    def _take_answer(self, frame: bytes | None) -> None:
        self._answer = frame
        self._answered.set()


class DroppedResponse(Fault):
    """A request that is carried out, and whose answer gets lost."""

    def strike(self, link: "_Link", frame: bytes) -> None:
        correlation_id = frame[8:12]

        def take(answer: bytes | None) -> None:
            if answer is not None and answer[4:8] != correlation_id:
                link.client.sendall(answer)  # of a request before it
                return
            link.close()
            self._struck.set()

        link.answers_to(take)
        link.broker.sendall(frame)


class Cut(Fault):
    """A request of which only the first bytes arrive."""

    def __init__(self, api_key: int, length: int) -> None:
        super().__init__(api_key)
        self._length = length

    def strike(self, link: "_Link", frame: bytes) -> None:
        link.broker.sendall(frame[: self._length])
        link.close()
        self._struck.set()


class Proxy:
    """Listens on a free port of 127.0.0.1 for the broker at `broker_port` (set it when known)."""

    def __init__(self) -> None:
        self.broker_port = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._links: list[_Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def hold(self, api_key: int) -> Held:
        """Hold the next request with this API key back."""
        return self._arm(Held(api_key))

    def drop_response(self, api_key: int) -> DroppedResponse:
        """Lose the answer to the next request with this API key."""
        return self._arm(DroppedResponse(api_key))

    def cut(self, api_key: int, length: int) -> Cut:
        """Cut both sides off after `length` bytes of the next request with this API key."""
        return self._arm(Cut(api_key, length))

    def close(self) -> None:
        """Stop listening and cut everybody off."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.close()
            link.close_broker_side()

    def _arm(self, fault: Any) -> Any:
        with self._lock:
            self._faults.append(fault)
        return fault

    def fault_for(self, api_key: int) -> Fault | None:
        """The fault that waits for this API key, taken out: it strikes once."""
        with self._lock:
            for fault in self._faults:
                if fault.api_key == api_key:
                    self._faults.remove(fault)
                    return fault
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self.broker_port))
            except OSError:
                client.close()
                continue
            self._links.append(_Link(self, client, broker))


class _Link:
    """One client connection and its connection to the broker, a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self.broker = broker
        self.client = client
        self._proxy = proxy
        self._take: Callable[[bytes | None], None] | None = None
        self._keep = False
        for side in (client, broker):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._responses, daemon=True).start()

    def answers_to(self, take: Callable[[bytes | None], None]) -> None:
        """From now on give the broker's frames to `take` (None at the end), not to the client."""
        self._take = take

    def keep_broker_side(self, take: Callable[[bytes | None], None]) -> None:
        """Cut the client off, and keep the connection to the broker."""
        self._keep = True
        self.answers_to(take)
        self.close()

    def close(self) -> None:
        """Cut the client off, and the broker too unless it is kept."""
        _shut(self.client)
        if not self._keep:
            _shut(self.broker)

    def close_broker_side(self) -> None:
        _shut(self.broker)

    def _requests(self) -> None:
        with suppress(OSError):
            while (frame := _read_frame(self.client)) is not None:
                fault = self._proxy.fault_for(int.from_bytes(frame[4:6], "big"))
                if fault is not None:
                    fault.strike(self, frame)
                else:
                    self.broker.sendall(frame)
        self.close()

    def _responses(self) -> None:
        try:
            while (frame := _read_frame(self.broker)) is not None:
                if self._take is not None:
                    self._take(frame)
                else:
                    self.client.sendall(frame)
        except OSError:
            pass
        if self._take is not None:
            self._take(None)
        self.close()
        self.client.close()


def _read_frame(connection: socket.socket) -> bytes | None:
    """A whole frame with its length in front; None at the end of the stream."""
    head = _read(connection, 4)
    if head is None:
        return None
    body = _read(connection, int.from_bytes(head, "big"))
    return None if body is None else head + body


def _read(connection: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)
