"""A request on its way to its answer.

`respond` parks the answer until everything that is in the journal at this moment is durable: what
a reply says, whether a change or a refusal, never rests on what a power cut could unsay. When all
is durable already the answer leaves at once.
"""

import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ottla.broker.access import Access
from ottla.broker.sasl.session import SaslSession
from ottla.ports.disk import Buffer
from ottla.ports.errors import InvariantBroken, ProtocolError
from ottla.wire.frame import RequestHeader, encode_response
from ottla.wire.message import Message

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

logger = logging.getLogger(__name__)

Send = Callable[[Sequence[Buffer] | None], None]
Amend = Callable[[Any], None]
B = TypeVar("B")


ANONYMOUS = "User:ANONYMOUS"


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection. Ids rise: a larger one is a newer connection.

    `principal` is who it has proved to be, as Kafka writes it: "User:alice". `sasl` is where it
    stands on the way there, on a listener with SASL. `refused` says why it is to be closed, once
    it has been answered. `advertised` is what it is told to connect to.
    """

    id: int
    client_host: str
    principal: str = ANONYMOUS
    sasl: SaslSession | None = None
    refused: str = ""
    advertised: tuple[str, int] | None = None


class Request(Generic[B]):
    """One decoded request. It is answered exactly once."""

    __slots__ = ("_amendments", "_broker", "_send", "access", "body", "connection", "header")

    def __init__(
        self, broker: "Broker", connection: Connection, header: RequestHeader, body: B, send: Send
    ) -> None:
        self.connection = connection
        self.header = header
        self.body = body
        self.access = Access(broker.authorizer, connection.principal, connection.client_host)
        self._amendments: list[Amend] = []
        self._broker = broker
        self._send = send

    @property
    def api_key(self) -> int:
        return self.header.api_key

    @property
    def version(self) -> int:
        return self.header.api_version

    @property
    def client_id(self) -> str:
        return self.header.client_id or ""

    @property
    def advertised(self) -> tuple[str, int]:
        """The host and port at which this client finds the broker."""
        return self.connection.advertised or (self._broker.host, self._broker.port)

    @property
    def client_host(self) -> str:
        return self.connection.client_host

    def amend(self, amend: Amend) -> None:
        """Have the answer changed before it is written: what a rule has refused is added there."""
        self._amendments.append(amend)

    def respond(self, response: Message) -> None:
        """Answer once all that the journal holds now is durable."""
        self._broker.park(self._send, self._encode(response))

    def respond_when_written(self, response: Message) -> None:
        """Answer once the journal's file holds all that the journal holds now.

        For what an open transaction did: a kill of the process does not take it back, and a power
        cut aborts the transaction.
        """
        self._broker.park_for_write(self._send, self._encode(response))

    def respond_now(self, response: Message) -> None:
        """Answer at once: for reads of durable state, and for what loses nothing by a crash."""
        self._send(self._encode(response))

    def respond_nothing(self) -> None:
        """A Produce with acks=0 gets no answer."""
        self._send(None)

    def _encode(self, response: Message) -> Sequence[Buffer]:
        """The answer's frame. One that cannot be written closes the connection, not the broker."""
        header = self.header
        for amend in self._amendments:
            amend(response)
        try:
            frame = encode_response(
                header.api_key, header.api_version, header.correlation_id, response
            )
        except (InvariantBroken, struct.error, ValueError, TypeError) as error:
            logger.exception("the answer cannot be written: %r", response)
            raise ProtocolError(
                f"API key {header.api_key} version {header.api_version} could not be answered"
            ) from error
        return [frame]
