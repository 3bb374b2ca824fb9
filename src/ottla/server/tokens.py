"""Checks tokens for SASL OAUTHBEARER: JWTs, with keys from a file that the operator has put there.

A token is taken only if all of this holds: its signature was made by a key of the file, with an
algorithm of two keys (never "none", never a shared secret); it was issued by the issuer, for the
audience; it has not expired, and says when it will; it names its user. What is to be expected must
be configured in full, or the broker does not start: nothing is taken on trust (CVE-2026-33557,
CVE-2026-110985). Keys come from no address, least of all one that a token names (CVE-2025-27817).
"""

import logging
import os
from typing import Any

import msgspec

from ottla.broker.sasl.oauthbearer import TokenRefused, VerifiedToken
from ottla.server.address import NotUsable

logger = logging.getLogger(__name__)

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_EXPIRY_S_MAX = 1 << 40


class OauthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token must be: the JWKS file with the keys, who issued it, whom it is for."""

    jwks: str
    issuer: str
    audience: str
    principal_claim: str = "sub"


class JwtVerifier:
    """A TokenVerifier. Raises NotUsable when it cannot check what it is asked to check."""

    def __init__(self, settings: OauthSettings) -> None:
        try:
            import jwt
        except ImportError as error:
            raise NotUsable(
                "OAUTHBEARER needs the libraries that check tokens", "pip install 'ottla[oauth]'"
            ) from error
        if not (settings.issuer and settings.audience and settings.principal_claim):
            raise NotUsable(
                "OAUTHBEARER needs to know what to expect of a token",
                "give --oauth-jwks, --oauth-issuer and --oauth-audience",
            )
        self._jwt = jwt
        self._settings = settings
        self._read_at = self._state()
        self._keys = self._read_keys()

    def __call__(self, token: str) -> VerifiedToken:
        jwt, settings = self._jwt, self._settings
        try:
            key = self._key_of(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=settings.issuer,
                audience=settings.audience,
                options={"require": ["exp", "iss", "aud", settings.principal_claim]},
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(f"a token that is refused: {error}") from error
        user = claims[settings.principal_claim]
        if not isinstance(user, str) or not user:
            raise TokenRefused(f"a token whose {settings.principal_claim} is no name")
        return VerifiedToken(user, min(int(claims["exp"]), _EXPIRY_S_MAX) * 1_000)

    def reload_if_changed(self) -> None:
        """Read the keys again if the file has changed; keep what there is if it cannot be used."""
        try:
            state = self._state()
            if state != self._read_at:
                self._read_at = state
                self._keys = self._read_keys()
        except NotUsable as error:
            logger.warning("goes on with the keys it has: %s", error)

    def _key_of(self, header: dict[str, Any]) -> Any:
        """The key that a token says it was signed with, if the token's algorithm is the key's."""
        wanted = header.get("kid")
        keys = [key for key in self._keys if wanted is None or key.key_id == wanted]
        if len(keys) != 1:
            raise TokenRefused(f"a token that names none of the keys: {str(wanted)[:100]!r}")
        if header.get("alg") != keys[0].algorithm_name:
            raise TokenRefused("a token with another algorithm than its key's")
        return keys[0]

    def _state(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._settings.jwks)
        except OSError as error:
            raise _unusable(self._settings.jwks, error.strerror) from error
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read_keys(self) -> list[Any]:
        try:
            with open(self._settings.jwks, encoding="utf-8") as file:
                keys = self._jwt.PyJWKSet.from_json(file.read()).keys
        except (OSError, ValueError, self._jwt.PyJWTError) as error:
            raise _unusable(self._settings.jwks, str(error)) from error
        for key in keys:
            if key.algorithm_name not in ALGORITHMS:
                raise _unusable(
                    self._settings.jwks,
                    f"a key for {key.algorithm_name}, and only {', '.join(ALGORITHMS)} are taken",
                )
        return list(keys)


def _unusable(path: str, reason: str | None) -> NotUsable:
    return NotUsable(
        f"the keys that tokens are checked with cannot be used ({path}): {reason}",
        "give --oauth-jwks a file with the issuer's public keys (a JSON Web Key Set)",
    )
