"""SaslAuthenticate: v0-2.

Behaviour: one token of the client's, one of the broker's. A failure is answered with
SASL_AUTHENTICATION_FAILED and Kafka's text, after a delay, and the connection is closed. After an
exchange, or without SASL, the answer is ILLEGAL_SASL_STATE; before one the connection is closed.
Versions: v1 tells how long the session lasts (KIP-368), v2 is flexible.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.broker.sasl.authenticate import session_lifetime_ms, step
from ottla.broker.sasl.exchange import AuthenticationFailed
from ottla.broker.sasl.session import State
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.wire.messages.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(36, 0, 2)
def handle(broker: "Broker", request: "Request[SaslAuthenticateRequest]") -> None:
    session = request.connection.sasl
    if session is not None and session.state is State.HANDSHAKE:
        raise ProtocolError("a SaslAuthenticate before a SaslHandshake")
    if session is None or session.state is not State.EXCHANGE:
        request.respond_now(
            SaslAuthenticateResponse(
                error_code=ErrorCode.ILLEGAL_SASL_STATE,
                error_message="SaslAuthenticate request received after successful authentication",
            )
        )
        return
    try:
        answer = step(broker, request.connection, bytes(request.body.auth_bytes))
    except AuthenticationFailed as failed:
        response = SaslAuthenticateResponse(
            error_code=ErrorCode.SASL_AUTHENTICATION_FAILED, error_message=failed.message
        )
    else:
        response = SaslAuthenticateResponse(
            auth_bytes=answer, session_lifetime_ms=session_lifetime_ms(broker, session)
        )
    request.respond(response)
