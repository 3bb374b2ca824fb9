"""SCRAM-SHA-256 and SCRAM-SHA-512, the server's side (RFC 5802, RFC 7677).

    client: n,,n=alice,r=<its nonce>
    server: r=<its nonce><ours>,s=<salt>,i=<iterations>
    client: c=biws,r=<both>,p=<proof>
    server: v=<signature>

The proof needs the salted password, and covers all that was said. The nonce of the second message
must be the one that was given out, or an old proof could be played again (CVE-2024-56128). Acting
for somebody else (an authzid that is not the user's own name) is refused, as in Kafka.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from ottla.broker.sasl.credentials import HASHES, ScramCredential
from ottla.broker.sasl.exchange import AuthenticationFailed
from ottla.ports.invariants import invariant

# Channel binding is not offered: "y" says that the client could and believes that we cannot.
_FIRST = re.compile(
    r"(?P<gs2>[ny],(?:a=(?P<authzid>[^,]+))?,)"
    r"(?P<bare>n=(?P<user>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?P<extensions>(?:,[^,]+)*))"
)
_FINAL = re.compile(
    r"(?P<unproved>c=(?P<binding>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[^,]+)*)"
    r",p=(?P<proof>[^,]+)"
)
_NAME = re.compile(r"(?:[^=,]|=2C|=3D)+")
OTHER_IDENTITY = (
    "Authentication failed: Client requested an authorization id that is different from username"
)


class ScramExchange:
    """One exchange. `find` gives the credential of a user, or a decoy and False."""

    def __init__(
        self,
        mechanism: str,
        find: Callable[[str], tuple[ScramCredential, bool]],
        nonce: str,
    ) -> None:
        self._hash = HASHES[mechanism]
        self._find = find
        self._server_nonce = nonce
        self._nonce = ""  # both, once the client has sent its own
        self._gs2_header = ""
        self._said = ""  # the first two messages, which the proof covers
        self._name = ""
        self._credential: ScramCredential | None = None
        self._exists = False
        self.user = ""
        self.expires_at_ms: int | None = None

    def step(self, token: bytes) -> bytes:
        try:
            text = token.decode()
        except UnicodeDecodeError as error:
            raise AuthenticationFailed("a SCRAM message that is not text") from error
        invariant(not self.user, "a complete exchange takes no more tokens")
        return self._final(text) if self._credential is not None else self._first(text)

    def _first(self, text: str) -> bytes:
        message = _FIRST.fullmatch(text)
        if message is None:
            raise AuthenticationFailed("a first SCRAM message that cannot be read")
        self._name = _decoded(message["user"])
        if message["authzid"] is not None and _decoded(message["authzid"]) != self._name:
            raise AuthenticationFailed("an authzid that is not the user's name", OTHER_IDENTITY)
        if "tokenauth=true" in message["extensions"].split(","):
            raise AuthenticationFailed("delegation tokens are not supported")
        self._credential, self._exists = self._find(self._name)
        self._nonce = message["nonce"] + self._server_nonce
        self._gs2_header = message["gs2"]
        salt = base64.b64encode(self._credential.salt).decode()
        answer = f"r={self._nonce},s={salt},i={self._credential.iterations}"
        self._said = f"{message['bare']},{answer}"
        return answer.encode()

    def _final(self, text: str) -> bytes:
        credential = self._credential
        message = _FINAL.fullmatch(text)
        if message is None or credential is None:
            raise AuthenticationFailed("a final SCRAM message that cannot be read")
        if not hmac.compare_digest(message["nonce"], self._nonce):
            raise AuthenticationFailed("a SCRAM message with another nonce")
        if _decoded_base64(message["binding"]) != self._gs2_header.encode():
            raise AuthenticationFailed("a SCRAM message with another channel binding")
        signed = f"{self._said},{message['unproved']}".encode()
        if not self._proves(credential, signed, _decoded_base64(message["proof"])):
            raise AuthenticationFailed(f"no proof of being {self._name!r}")
        self.user = self._name
        signature = hmac.digest(credential.server_key, signed, self._hash)
        return b"v=" + base64.b64encode(signature)

    def _proves(self, credential: ScramCredential, signed: bytes, proof: bytes) -> bool:
        signature = hmac.digest(credential.stored_key, signed, self._hash)
        if len(proof) != len(signature):
            return False
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        stored_key = hashlib.new(self._hash, client_key).digest()
        return hmac.compare_digest(stored_key, credential.stored_key) and self._exists


def _decoded(name: str) -> str:
    """A saslname: "," and "=" are written =2C and =3D."""
    if not _NAME.fullmatch(name):
        raise AuthenticationFailed("a user name that is not written as SCRAM wants it")
    return name.replace("=2C", ",").replace("=3D", "=")


def _decoded_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise AuthenticationFailed("a SCRAM message with broken base64") from error
