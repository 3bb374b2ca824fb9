"""What users are recognised by: salted hashes that cannot be turned back into a password.

A user has a credential for each SCRAM mechanism (RFC 5802): the salt and the number of iterations
that a client needs to compute the salted password, and two keys made of it. The stored key checks
a client's proof and cannot make one; the server key proves the server to the client. PLAIN is
checked against the same credentials.

Who asks for a user that does not exist gets a decoy: a salt that is always the same for that name,
and keys that nobody has the password for. So an answer does not tell which users there are.
"""

import hashlib
import hmac
from collections.abc import Iterator

import msgspec

from ottla.ports.limits import SCRAM_ITERATIONS_MIN
from ottla.ports.rng import Rng

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISM_IDS = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}  # of KIP-554
DEFAULT_ITERATIONS = 2 * SCRAM_ITERATIONS_MIN
_SALT_BYTES = 24
_DECOY_KEY_BYTES = 32


class ScramCredential(msgspec.Struct, tag="scram", frozen=True, array_like=True):
    """What one user is recognised by with one mechanism; replaces what was known before."""

    user: str
    mechanism: str
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"ScramCredential({self.user!r}, {self.mechanism})"


class ScramCredentialDeleted(msgspec.Struct, tag="scram-deleted", frozen=True, array_like=True):
    """The user is no longer recognised with this mechanism."""

    user: str
    mechanism: str


class DecoyKey(msgspec.Struct, tag="scram-decoy", frozen=True, array_like=True):
    """What the salts of users that do not exist are made of; made once."""

    key: bytes

    def __repr__(self) -> str:
        return "DecoyKey()"


CredentialRecord = ScramCredential | ScramCredentialDeleted | DecoyKey


def salted_password(mechanism: str, password: str, salt: bytes, iterations: int) -> bytes:
    """The slow part: PBKDF2. Kafka does not prepare the password (RFC 4013), nor do we."""
    return hashlib.pbkdf2_hmac(HASHES[mechanism], password.encode(), salt, iterations)


def credential_of(
    user: str, mechanism: str, salt: bytes, iterations: int, salted: bytes
) -> ScramCredential:
    """The credential that a salted password makes."""
    hash_name = HASHES[mechanism]
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    return ScramCredential(
        user,
        mechanism,
        salt,
        iterations,
        stored_key=hashlib.new(hash_name, client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", hash_name),
    )


def password_matches(credential: ScramCredential, password: str) -> bool:
    """Whether this is the password, in a time that does not depend on where it differs."""
    salted = salted_password(credential.mechanism, password, credential.salt, credential.iterations)
    again = credential_of(
        credential.user, credential.mechanism, credential.salt, credential.iterations, salted
    )
    return hmac.compare_digest(again.stored_key, credential.stored_key)


class Credentials:
    """All credentials, by user and mechanism. Changed by `apply` only."""

    def __init__(self) -> None:
        self._of_user: dict[str, dict[str, ScramCredential]] = {}
        self._decoy_key = b""

    def of_user(self, user: str) -> dict[str, ScramCredential]:
        """What there is for a user, by mechanism."""
        return self._of_user.get(user, {})

    def find(self, user: str, mechanism: str) -> ScramCredential | None:
        return self.of_user(user).get(mechanism)

    def users(self) -> list[str]:
        return sorted(self._of_user)

    def set_password(self, user: str, password: str, rng: Rng) -> Iterator[CredentialRecord]:
        """The records that give a user this password; none for mechanisms that have it already."""
        for mechanism in HASHES:
            known = self.find(user, mechanism)
            if known is None or not password_matches(known, password):
                salt = rng.token(_SALT_BYTES)
                salted = salted_password(mechanism, password, salt, DEFAULT_ITERATIONS)
                yield credential_of(user, mechanism, salt, DEFAULT_ITERATIONS, salted)

    def make_decoy_key(self, rng: Rng) -> Iterator[CredentialRecord]:
        """The record that `decoy` needs, if there is none yet."""
        if not self._decoy_key:
            yield DecoyKey(rng.token(_DECOY_KEY_BYTES))

    def decoy(self, user: str, mechanism: str) -> ScramCredential:
        """What stands in for a user that does not exist; the same each time."""
        hash_name = HASHES[mechanism]

        def made(what: bytes) -> bytes:
            text = what + mechanism.encode() + b"\0" + user.encode()
            return hmac.digest(self._decoy_key, text, hash_name)

        return ScramCredential(
            user,
            mechanism,
            made(b"salt")[:_SALT_BYTES],
            DEFAULT_ITERATIONS,
            made(b"stored"),
            made(b"server"),
        )

    def apply(self, record: CredentialRecord) -> None:
        if isinstance(record, ScramCredential):
            self._of_user.setdefault(record.user, {})[record.mechanism] = record
        elif isinstance(record, ScramCredentialDeleted):
            of_user = self._of_user.get(record.user, {})
            of_user.pop(record.mechanism, None)
            if not of_user:
                self._of_user.pop(record.user, None)
        else:
            self._decoy_key = record.key

    def snapshot(self) -> list[CredentialRecord]:
        """The records that rebuild this."""
        records: list[CredentialRecord] = [
            one for of_user in self._of_user.values() for one in of_user.values()
        ]
        return [*records, DecoyKey(self._decoy_key)] if self._decoy_key else records
