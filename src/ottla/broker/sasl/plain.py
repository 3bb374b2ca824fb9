"""PLAIN (RFC 4616): the password itself, checked against the salted hash that is kept of it.

A listener without TLS does not offer it unless the operator has said so. Texts are Kafka's, which
its clients show.
"""

from collections.abc import Callable

from ottla.broker.sasl.credentials import ScramCredential, password_matches
from ottla.broker.sasl.exchange import AuthenticationFailed
from ottla.broker.sasl.scram import OTHER_IDENTITY


class PlainExchange:
    """One exchange of one token. `find` gives the credential of a user, or a decoy and False."""

    def __init__(self, find: Callable[[str], tuple[ScramCredential, bool]]) -> None:
        self._find = find
        self.user = ""
        self.expires_at_ms: int | None = None

    def step(self, token: bytes) -> bytes:
        try:
            parts = token.decode().split("\0")
        except UnicodeDecodeError as error:
            raise AuthenticationFailed("a PLAIN message that is not text") from error
        if len(parts) != 3:
            raise AuthenticationFailed(f"a PLAIN message of {len(parts)} parts, not 3")
        authzid, user, password = parts
        for what, text in (("username", user), ("password", password)):
            if not text:
                message = f"Authentication failed: {what} not specified"
                raise AuthenticationFailed(f"no {what}", message)
        if authzid not in ("", user):
            raise AuthenticationFailed("an authzid that is not the user's name", OTHER_IDENTITY)
        credential, exists = self._find(user)
        if not password_matches(credential, password) or not exists:
            raise AuthenticationFailed(
                f"not the password of {user!r}",
                "Authentication failed: Invalid username or password",
            )
        self.user = user
        return b""
