"""One step of an authentication: from the client's token to the answer, or to the principal.

A connection that fails is refused: what it asks for afterwards is not read, and after Kafka's delay
it gets its answer and is closed. The text of the answer does not tell whether the user exists.
"""

import base64
import struct
from typing import TYPE_CHECKING

from ottla.broker.sasl.credentials import HASHES, ScramCredential
from ottla.broker.sasl.exchange import AuthenticationFailed, Exchange
from ottla.broker.sasl.oauthbearer import OauthbearerExchange
from ottla.broker.sasl.plain import PlainExchange
from ottla.broker.sasl.scram import ScramExchange
from ottla.broker.sasl.session import SaslSession, State
from ottla.ports.errors import InvariantBroken

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Connection, Send

OAUTHBEARER = "OAUTHBEARER"
PLAIN = "PLAIN"
MECHANISMS = (*reversed(HASHES), PLAIN, OAUTHBEARER)  # the strongest first
_NONCE_BYTES = 24


def begin(broker: "Broker", session: SaslSession, mechanism: str, *, raw: bool) -> None:
    """The client has chosen one of the mechanisms that are offered."""
    session.become(State.RAW_EXCHANGE if raw else State.EXCHANGE)
    session.mechanism = mechanism
    session.begun_at_ms = broker.clock.monotonic_ms()
    session.exchange = _exchange(broker, mechanism)


def step(broker: "Broker", connection: "Connection", token: bytes) -> bytes:
    """Take one token; at the end of the exchange the connection has its principal.

    Raises AuthenticationFailed, with a text for the client.
    """
    session = connection.sasl
    exchange = None if session is None else session.exchange
    if session is None or exchange is None:
        raise AuthenticationFailed("a token outside of an exchange")
    host, now_ms = connection.client_host, broker.clock.monotonic_ms()
    costly = session.mechanism == PLAIN
    try:
        if costly and broker.attempts.too_many(host, now_ms):
            raise AuthenticationFailed(f"too many wrong passwords from {host}")
        answer = exchange.step(token)
        if exchange.user:
            _complete(broker, connection, session, exchange)
    except AuthenticationFailed as failed:
        if costly:
            broker.attempts.wrong(host, now_ms)
        refuse(connection, session, f"{session.mechanism}: {failed}")
        again = "re-authentication" if session.authenticated else "authentication"
        raise AuthenticationFailed(
            str(failed),
            failed.message
            or f"Authentication failed during {again} due to invalid credentials with SASL "
            f"mechanism {session.mechanism}",
        ) from failed
    return answer


def take_raw_token(
    broker: "Broker", connection: "Connection", frame: memoryview, send: "Send"
) -> None:
    """After SaslHandshake v0 a frame is a token and nothing else; a failure has no answer."""
    try:
        answer = step(broker, connection, bytes(frame))
    except AuthenticationFailed:
        broker.park(send, [])
    else:
        broker.park(send, [struct.pack(">i", len(answer)) + answer])


def refuse(connection: "Connection", session: SaslSession, why: str) -> None:
    """The connection gets what answers it has still to get, after a delay, and is closed."""
    session.become(State.REFUSED)
    session.exchange = None
    connection.refused = why


def session_lifetime_ms(broker: "Broker", session: SaslSession) -> int:
    """What is left until the client has to authenticate again; 0: it need not."""
    if session.state is not State.DONE or session.expires_at_ms is None:
        return 0
    return max(0, session.expires_at_ms - broker.clock.monotonic_ms())


def _complete(
    broker: "Broker", connection: "Connection", session: SaslSession, exchange: Exchange
) -> None:
    principal = f"User:{exchange.user}"
    if session.authenticated and principal != connection.principal:
        raise AuthenticationFailed(
            f"{principal!r} in place of {connection.principal!r}",
            f"Cannot change principals during re-authentication from {connection.principal} "
            f"to {principal}",
        )
    lifetimes_ms = []
    if broker.config.connections_max_reauth_ms > 0:
        lifetimes_ms.append(broker.config.connections_max_reauth_ms)
    if exchange.expires_at_ms is not None:
        lifetimes_ms.append(max(0, exchange.expires_at_ms - broker.clock.now_ms()))
    session.expires_at_ms = (
        broker.clock.monotonic_ms() + min(lifetimes_ms) if lifetimes_ms else None
    )
    session.become(State.DONE)
    session.exchange = None
    session.authenticated = True
    connection.principal = principal


def _exchange(broker: "Broker", mechanism: str) -> Exchange:
    if mechanism in HASHES:
        nonce = base64.b64encode(broker.rng.token(_NONCE_BYTES)).decode()
        return ScramExchange(mechanism, lambda user: _find(broker, user, (mechanism,)), nonce)
    if mechanism == PLAIN:
        return PlainExchange(lambda user: _find(broker, user, tuple(HASHES)))
    if broker.token_verifier is None:
        raise InvariantBroken("OAUTHBEARER is offered with a verifier only")
    return OauthbearerExchange(broker.token_verifier)


def _find(broker: "Broker", user: str, mechanisms: tuple[str, ...]) -> tuple[ScramCredential, bool]:
    credentials = broker.credentials
    for mechanism in mechanisms:
        found = credentials.find(user, mechanism)
        if found is not None:
            return found, True
    broker.commit(credentials.make_decoy_key(broker.rng))
    return credentials.decoy(user, mechanisms[0]), False
