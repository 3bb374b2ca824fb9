"""SaslHandshake: v0-1.

Behaviour: the client names a mechanism. One that the listener does not offer is answered with
those that it does, and the connection is closed. On a listener without SASL, or after it is done,
the answer is ILLEGAL_SASL_STATE; a connection may begin again to renew its session (KIP-368), not
more than once a second, with the mechanism it has.
Versions: after v0 tokens follow as bare frames, after v1 as SaslAuthenticate.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.broker.sasl.authenticate import begin, refuse
from ottla.broker.sasl.session import State
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(17, 0, 1)
def handle(broker: "Broker", request: "Request[SaslHandshakeRequest]") -> None:
    session = request.connection.sasl
    if session is None or not session.may_begin(broker.clock.monotonic_ms()):
        if session is not None and session.state is State.EXCHANGE:
            refuse(request.connection, session, "a SaslHandshake in the middle of an exchange")
        request.respond_now(SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE))
        return
    mechanism = request.body.mechanism
    offered = [session.mechanism] if session.authenticated else list(session.mechanisms)
    if mechanism not in offered:
        refuse(request.connection, session, f"it wants the SASL mechanism {mechanism[:100]!r}")
        error_code = ErrorCode.UNSUPPORTED_SASL_MECHANISM
    else:
        begin(broker, session, mechanism, raw=request.version == 0)
        error_code = ErrorCode.NONE
    request.respond_now(SaslHandshakeResponse(error_code=error_code, mechanisms=offered))
