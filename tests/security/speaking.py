"""Short ways to speak SASL to a broker in this process, and a SCRAM client that can lie."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from functools import cache
from typing import Any

from ottla.broker.config import BrokerConfig
from ottla.broker.sasl.authenticate import MECHANISMS
from ottla.broker.sasl.credentials import CredentialRecord, Credentials
from ottla.broker.sasl.oauthbearer import TokenVerifier
from ottla.broker.sasl.session import SaslSession
from ottla.ports.clock import SimulatedClock
from ottla.ports.rng import SeededRng
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.wire.messages.sasl_handshake import SaslHandshakeRequest

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
USERS = {"alice": "wonderland", "bob": "builder"}
AUTHENTICATED, FAILED, ILLEGAL_STATE, UNSUPPORTED = 0, 58, 34, 33


def guarded(
    users: Mapping[str, str] = USERS,
    verifier: TokenVerifier | None = None,
    clock: SimulatedClock | None = None,
    **config: Any,
) -> InProcessBroker:
    """A broker with users."""
    settings = BrokerConfig(journal_allocate_bytes=0, **config)
    broker = InProcessBroker(config=settings, clock=clock)
    broker.core.token_verifier = verifier
    for user, password in users.items():
        broker.core.commit(_credentials(user, password))
    broker.sync()
    return broker


@cache
def _credentials(user: str, password: str) -> list[CredentialRecord]:
    """To hash a password takes its time."""
    return list(Credentials().set_password(user, password, SeededRng()))


def knock(broker: InProcessBroker, *mechanisms: str) -> InProcessClient:
    """A connection on a listener that offers these mechanisms, or all."""
    client = broker.connect()
    client.connection.sasl = SaslSession(mechanisms or MECHANISMS)
    return client


def handshake(client: InProcessClient, mechanism: str, version: int = 1) -> Any:
    return client.request(SaslHandshakeRequest(mechanism=mechanism), version)


def token(client: InProcessClient, auth_bytes: bytes, version: int = 2) -> Any:
    return client.request(SaslAuthenticateRequest(auth_bytes=auth_bytes), version)


def plain(client: InProcessClient, user: str, password: str, authzid: str = "") -> Any:
    assert handshake(client, "PLAIN").error_code == AUTHENTICATED
    return token(client, f"{authzid}\0{user}\0{password}".encode())


class Scram:
    """A client's side of SCRAM, apart from anything of ours; what it sends can be changed."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        self.hash = HASHES[mechanism]
        self.mechanism = mechanism
        self.password = password
        self.bare = f"n={user},r=fyko+d2lbbFgONRv9qkxdawL"
        self.gs2 = "n,,"
        self.signature = b""
        self.server_first = ""

    def first(self) -> bytes:
        return (self.gs2 + self.bare).encode()

    def fields(self, message: bytes) -> dict[str, str]:
        self.server_first = message.decode()
        return {part[0]: part[2:] for part in self.server_first.split(",")}

    def final(self, server_first: bytes, nonce: str | None = None) -> bytes:
        fields = self.fields(server_first)
        salt = base64.b64decode(fields["s"])
        salted = hashlib.pbkdf2_hmac(self.hash, self.password.encode(), salt, int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", self.hash)
        binding = base64.b64encode(self.gs2.encode()).decode()
        unproved = f"c={binding},r={fields['r'] if nonce is None else nonce}"
        signed = f"{self.bare},{self.server_first},{unproved}".encode()
        stored_key = hashlib.new(self.hash, client_key).digest()
        mask = hmac.digest(stored_key, signed, self.hash)
        proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
        server_key = hmac.digest(salted, b"Server Key", self.hash)
        self.signature = b"v=" + base64.b64encode(hmac.digest(server_key, signed, self.hash))
        return f"{unproved},p={base64.b64encode(proof).decode()}".encode()


def scram(client: InProcessClient, one: Scram, nonce: str | None = None) -> Any:
    """All of an exchange; the last answer."""
    assert handshake(client, one.mechanism).error_code == AUTHENTICATED
    answer = token(client, one.first())
    if answer.error_code:
        return answer
    return token(client, one.final(bytes(answer.auth_bytes), nonce))
