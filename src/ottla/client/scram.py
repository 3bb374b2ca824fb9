"""The client's side of SCRAM (RFC 5802, RFC 7677): a password is proved and never sent.

No I/O: `first` is what the client begins with, `final` answers the server's first message, `finish`
checks that the server knows the password as well.
"""

import base64
import hashlib
import hmac
import secrets

from ottla.client.errors import Fatal

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
ITERATIONS_MIN = 4_096  # Kafka's least; fewer would let a false server guess cheaply
ITERATIONS_MAX = 1_000_000  # a server must not make its client compute for minutes


class ScramClient:
    """One authentication. `nonce` is given by tests only."""

    def __init__(self, mechanism: str, username: str, password: str, nonce: str = "") -> None:
        self._hash = HASHES[mechanism]
        self._password = password.encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        """The message to begin with."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """The proof. Raises Fatal when the server's message is not one to answer."""
        fields = _fields(server_first)
        try:
            nonce, iterations = fields["r"], int(fields["i"])
            salt = base64.b64decode(fields["s"], validate=True)
        except (KeyError, ValueError) as error:
            raise Fatal("the server's SCRAM message cannot be read") from error
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise Fatal("the server's SCRAM message does not answer ours: its nonce is another")
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise Fatal(f"the server asks for {iterations} SCRAM iterations, which is not sensible")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, iterations)
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self._bare},{server_first.decode()},{without_proof}".encode()
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._hash, client_key).digest()
        signature = self._hmac(stored_key, signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = self._hmac(self._hmac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def finish(self, server_final: bytes) -> None:
        """Raises Fatal unless the server has proved that it knows the password."""
        told = _fields(server_final).get("v", "")
        expected = base64.b64encode(self._server_signature).decode()
        if not hmac.compare_digest(told, expected):
            raise Fatal("the server could not prove that it knows the password: do not trust it")

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()


def _fields(message: bytes) -> dict[str, str]:
    parts = message.decode(errors="replace").split(",")
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}
