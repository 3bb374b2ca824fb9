"""OAUTHBEARER (RFC 7628): a signed token instead of a password.

The token is checked by a `TokenVerifier` that is handed in; without one the mechanism is not
there: no token is ever taken unchecked. A refused client gets a challenge with the reason, answers
it with one byte, and is then refused (RFC 7628, 3.2.3).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ottla.broker.sasl.exchange import AuthenticationFailed

_FIRST = re.compile(
    r"n,(?:a=(?P<authzid>[^,\x01]+))?,\x01"
    r"(?P<pairs>(?:[A-Za-z]+=[\x20-\x7e\t\r\n]*\x01)+)\x01"
)
_BEARER = re.compile(r"auth=[Bb]earer +(?P<token>[-A-Za-z0-9._~+/]+=*)")
_CHALLENGE = b'{"status":"invalid_token"}'
_UNDERSTOOD = b"\x01"


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token that was checked says. `expires_at_ms` by the wall clock."""

    user: str
    expires_at_ms: int


class TokenRefused(Exception):  # noqa: N818 - says what happened
    """The token proves nothing; the text is for the log."""


TokenVerifier = Callable[[str], VerifiedToken]  # raises TokenRefused


class OauthbearerExchange:
    """One exchange."""

    def __init__(self, verify: TokenVerifier) -> None:
        self._verify = verify
        self._refused = ""  # why, while the client has only the challenge
        self.user = ""
        self.expires_at_ms: int | None = None

    def step(self, token: bytes) -> bytes:
        if self._refused:
            text = _CHALLENGE.decode() if token == _UNDERSTOOD else None
            raise AuthenticationFailed(self._refused, text)
        message = _FIRST.fullmatch(token.decode("utf-8", errors="replace"))
        bearer = [
            found
            for pair in (message["pairs"].split("\x01") if message else ())
            if (found := _BEARER.fullmatch(pair))
        ]
        if message is None or len(bearer) != 1:
            raise AuthenticationFailed("an OAUTHBEARER message that cannot be read")
        try:
            verified = self._verify(bearer[0]["token"])
        except TokenRefused as refused:
            self._refused = str(refused)
            return _CHALLENGE
        if message["authzid"] not in (None, verified.user):
            raise AuthenticationFailed(
                "an authzid that is not the token's",
                "Authentication failed: Client requested an authorization id "
                f"({message['authzid']}) that is different from the token's principal name",
            )
        self.user, self.expires_at_ms = verified.user, verified.expires_at_ms
        return b""
