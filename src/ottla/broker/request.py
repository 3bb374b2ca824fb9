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
from ottla.broker.quotas import (
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    REQUEST_THROTTLE_MS_MAX,
)
from ottla.broker.sasl.session import SaslSession
from ottla.ports.disk import Buffer
from ottla.ports.errors import ErrorCode, InvariantBroken, KafkaError, ProtocolError
from ottla.wire.api import ApiKey
from ottla.wire.frame import RequestHeader, encode_response
from ottla.wire.message import Message

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

logger = logging.getLogger(__name__)

Send = Callable[[Sequence[Buffer] | None], None]
Amend = Callable[[Any], None]
B = TypeVar("B")


ANONYMOUS = "User:ANONYMOUS"
_INT_MAX = 2_147_483_647


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection. Ids rise: a larger one is a newer connection.

    `principal` is who it has proved to be, as Kafka writes it: "User:alice". `sasl` is where it
    stands on the way there, on a listener with SASL. `refused` says why it is to be closed, once
    it has been answered. `advertised` is what it is told to connect to. Nothing is read from it
    until `muted_until_ms` of the monotonic clock, when its client has used more than its quota.
    """

    id: int
    client_host: str
    principal: str = ANONYMOUS
    sasl: SaslSession | None = None
    refused: str = ""
    advertised: tuple[str, int] | None = None
    muted_until_ms: int = 0


class Request(Generic[B]):
    """One decoded request. It is answered exactly once."""

    __slots__ = (
        *("_amendments", "_broker", "_mutations_wait_ms", "_send"),
        *("body", "connection", "header", "size_bytes"),
    )

    def __init__(
        self, broker: "Broker", connection: Connection, header: RequestHeader, body: B, send: Send
    ) -> None:
        self.connection = connection
        self.header = header
        self.body = body
        self.size_bytes = 0  # of the request's frame
        self._amendments: Sequence[Amend] = ()
        self._mutations_wait_ms = 0
        self._broker = broker
        self._send = send

    @property
    def access(self) -> Access:
        """What this client may do."""
        connection = self.connection
        return Access(self._broker.authorizer, connection.principal, connection.client_host)

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
        self._amendments = (*self._amendments, amend)

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
        self._throttle(0)
        self._send(None)

    def charge_mutations(self, count: int, *, strict_from: int) -> None:
        """Count partitions made or removed against the client's quota (KIP-599).

        From version `strict_from` on it raises KafkaError(THROTTLING_QUOTA_EXCEEDED) while the
        quota is used up; older clients do not know the error, and wait afterwards.
        """
        quotas, who = self._broker.quotas, (self.connection.principal, self.client_id)
        now_ms = self._broker.clock.monotonic_ms()
        if self.version >= strict_from:
            wait_ms = quotas.throttle_ms(CONTROLLER_MUTATION_RATE, *who, now_ms)
            if wait_ms:
                self._mutations_wait_ms = wait_ms
                raise KafkaError(
                    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                    "The throttling quota has been exceeded.",
                )
            quotas.charge(CONTROLLER_MUTATION_RATE, *who, count, now_ms)
        else:
            wait_ms = quotas.charge(CONTROLLER_MUTATION_RATE, *who, count, now_ms)
            self._mutations_wait_ms = max(self._mutations_wait_ms, wait_ms)

    def charge_time(self, taken_ns: int) -> None:
        """Count the time of handling; it is the next answer that tells of it."""
        quotas = self._broker.quotas
        if quotas.is_set(REQUEST_PERCENTAGE):
            percent = taken_ns * 100 / 1_000_000_000  # of one second of the broker's one thread
            who = (self.connection.principal, self.client_id)
            now_ms = self._broker.clock.monotonic_ms()
            quotas.charge(REQUEST_PERCENTAGE, *who, percent, now_ms)

    def _throttle(self, response_bytes: int) -> int:
        """How long the client has to wait before its next request; nothing is read until then."""
        if not self._broker.quotas.any_set:
            return 0
        quotas, who = self._broker.quotas, (self.connection.principal, self.client_id)
        now_ms = self._broker.clock.monotonic_ms()
        wait_ms = self._mutations_wait_ms
        if self.api_key == ApiKey.PRODUCE:
            used_ms = quotas.charge(PRODUCER_BYTE_RATE, *who, self.size_bytes, now_ms)
            wait_ms = max(wait_ms, used_ms)
        elif self.api_key == ApiKey.FETCH:
            wait_ms = max(wait_ms, quotas.charge(CONSUMER_BYTE_RATE, *who, response_bytes, now_ms))
        busy_ms = quotas.throttle_ms(REQUEST_PERCENTAGE, *who, now_ms)
        wait_ms = max(wait_ms, min(busy_ms, REQUEST_THROTTLE_MS_MAX))
        if wait_ms:
            self.connection.muted_until_ms = max(self.connection.muted_until_ms, now_ms + wait_ms)
        return wait_ms

    def _encode(self, response: Message) -> Sequence[Buffer]:
        """The answer's frame, with the time that the client has to wait."""
        for amend in self._amendments:
            amend(response)
        frame = self._frame(response)
        wait_ms = self._throttle(len(frame))
        if wait_ms and hasattr(response, "throttle_time_ms"):
            response.throttle_time_ms = min(wait_ms, _INT_MAX)
            frame = self._frame(response)
        return [frame]

    def _frame(self, response: Message) -> bytearray:
        """The answer's frame. One that cannot be written closes the connection, not the broker."""
        header = self.header
        try:
            return encode_response(
                header.api_key, header.api_version, header.correlation_id, response
            )
        except (InvariantBroken, struct.error, ValueError, TypeError) as error:
            logger.exception("the answer cannot be written: %r", response)
            raise ProtocolError(
                f"API key {header.api_key} version {header.api_version} could not be answered"
            ) from error
