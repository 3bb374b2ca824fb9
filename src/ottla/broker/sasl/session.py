"""Where one connection stands on its way to a principal, and what it may ask for until then.

    HANDSHAKE → EXCHANGE (or RAW_EXCHANGE, after SaslHandshake v0) → DONE → EXCHANGE → DONE → …

Before the first DONE only ApiVersions and the two SASL requests are taken; anything else closes
the connection before its body is looked at. From DONE on the connection has a principal, and may
prove it again (KIP-368): the same user by the same mechanism. It must, once its session is over.
"""

from enum import Enum

from ottla.broker.sasl.exchange import Exchange
from ottla.ports.errors import ProtocolError
from ottla.wire.api import API, ApiKey

_REAUTHENTICATION_INTERVAL_MS = 1_000  # as in Kafka: more often is an error


class State(Enum):
    HANDSHAKE = "handshake"
    EXCHANGE = "exchange"
    RAW_EXCHANGE = "raw exchange"
    DONE = "done"
    REFUSED = "refused"


_LEGAL = {
    State.HANDSHAKE: {State.EXCHANGE, State.RAW_EXCHANGE, State.REFUSED},
    State.EXCHANGE: {State.DONE, State.REFUSED},
    State.RAW_EXCHANGE: {State.DONE, State.REFUSED},
    State.DONE: {State.EXCHANGE, State.REFUSED},
    State.REFUSED: {State.REFUSED},
}
_WHILE_UNKNOWN = frozenset((ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE))
_SASL = frozenset((ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE))


class SaslSession:
    """The SASL state of one connection. `mechanisms` are those that its listener offers."""

    __slots__ = (
        "authenticated",
        "begun_at_ms",
        "exchange",
        "expires_at_ms",
        "mechanism",
        "mechanisms",
        "state",
    )

    def __init__(self, mechanisms: tuple[str, ...]) -> None:
        self.mechanisms = mechanisms
        self.state = State.HANDSHAKE
        self.mechanism = ""
        self.exchange: Exchange | None = None
        self.authenticated = False  # at least once
        self.begun_at_ms = 0  # the last exchange; this and the next by the monotonic clock
        self.expires_at_ms: int | None = None

    def admit(self, api_key: int, now_ms: int) -> None:
        """Let a request in. Raises ProtocolError: close the connection."""
        if self.state is State.DONE:
            over = self.expires_at_ms is not None and now_ms >= self.expires_at_ms
            if over and api_key not in _SASL:
                raise ProtocolError("its session is over, and it has not authenticated again")
        elif self.state is State.REFUSED or api_key not in _WHILE_UNKNOWN:
            name = API[api_key].name if api_key in API else f"API key {api_key}"
            raise ProtocolError(f"{name} before authentication")

    def may_begin(self, now_ms: int) -> bool:
        """Whether a SaslHandshake is in its place."""
        if self.state is State.HANDSHAKE:
            return True
        return (
            self.state is State.DONE and now_ms - self.begun_at_ms >= _REAUTHENTICATION_INTERVAL_MS
        )

    def become(self, state: State) -> None:
        if state not in _LEGAL[self.state]:
            raise ProtocolError(f"a SASL {state.value} after a {self.state.value}")
        self.state = state
