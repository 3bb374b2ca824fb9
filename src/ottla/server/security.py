"""The settings of security, and what becomes of them: which listener offers what to whom.

Everything is checked before the broker opens its data. What is only half said (a TLS listener
without a certificate, OAUTHBEARER without an issuer) is refused: a broker that starts is as safe
as its settings say. A mechanism that sends a secret as it is (PLAIN, OAUTHBEARER) is offered over
TLS only, unless the operator has said otherwise.
"""

import socket
from collections.abc import Sequence

import msgspec

from ottla.broker.sasl.authenticate import MECHANISMS, OAUTHBEARER, PLAIN
from ottla.ports.limits import CONNECTIONS_MAX, CONNECTIONS_PER_IP_MAX
from ottla.server.address import (
    WILDCARDS,
    AddressUnusable,
    NotUsable,
    join_address,
    split_listener,
)
from ottla.server.listener import ConnectionLimits, Listener
from ottla.server.tls import Certificates
from ottla.server.tokens import JwtVerifier, OauthSettings

_REVEALING = (PLAIN, OAUTHBEARER)


class Security(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients prove who they are.

    `tls_cert`, `tls_key`, `tls_client_ca`: files in PEM. `sasl_mechanisms`: what SASL listeners
    offer; empty is all that can be offered safely. `users`: passwords to set at the start.
    `max_reauth_ms`: how long a SASL session lasts (connections.max.reauth.ms), 0 is for ever.
    """

    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    sasl_mechanisms: tuple[str, ...] = ()
    allow_plaintext_passwords: bool = False
    users: dict[str, str] = {}
    oauth: OauthSettings | None = None
    max_reauth_ms: int = 0
    max_connections: int = CONNECTIONS_MAX
    max_connections_per_ip: int = CONNECTIONS_PER_IP_MAX

    def __repr__(self) -> str:
        return "Security(***)"  # it has passwords in it


class Guard:
    """What the settings come to, once they are checked. Raises NotUsable."""

    def __init__(self, security: Security, protocols: Sequence[str]) -> None:
        self._security = security
        self._protocols = protocols
        self._check_mechanisms()
        self.limits = ConnectionLimits(security.max_connections, security.max_connections_per_ip)
        self.verifier = None if security.oauth is None else JwtVerifier(security.oauth)
        self.certificates = self._certificates()
        for protocol in protocols:
            self.mechanisms(protocol)
        if security.max_reauth_ms < 0 or min(self.limits.total, self.limits.per_ip) < 1:
            raise NotUsable(
                "a limit of connections or sessions is too small",
                "--max-reauth-ms is at least 0, --max-connections(-per-ip) at least 1",
            )
        for user, password in security.users.items():
            if not user or not password:
                raise NotUsable("a user needs a name and a password", "write it as NAME=PASSWORD")

    def listener(
        self, protocol: str, bound: socket.socket, advertised: tuple[str, int]
    ) -> Listener:
        return Listener(
            bound,
            protocol,
            advertised,
            self.mechanisms(protocol),
            self.certificates if protocol.endswith("ssl") else None,
        )

    def mechanisms(self, protocol: str) -> tuple[str, ...]:
        """What a listener offers, the strongest first. Raises NotUsable if that is nothing."""
        if not protocol.startswith("sasl"):
            return ()
        secret = protocol.endswith("ssl") or self._security.allow_plaintext_passwords
        wanted = self._security.sasl_mechanisms
        refused = [each for each in wanted if each in _REVEALING and not secret]
        if refused:
            raise NotUsable(
                f"{refused[0]} over {protocol} would send passwords in the clear",
                "listen with sasl_ssl, or take a SCRAM mechanism; where nobody can listen in, "
                "--allow-plaintext-passwords",
            )
        return tuple(
            each
            for each in MECHANISMS
            if (each in wanted or not wanted)
            and (each not in _REVEALING or secret)
            and (each != OAUTHBEARER or self._security.oauth is not None)
        )

    @property
    def reads_files(self) -> bool:
        """There are files that may change while the broker runs."""
        return self.certificates is not None or self.verifier is not None

    def reload(self) -> None:
        """Read certificates and keys of tokens again (SIGHUP)."""
        if self.certificates is not None:
            self.certificates.reload()
        if self.verifier is not None:
            self.verifier.reload_if_changed()

    def reload_if_changed(self) -> None:
        if self.certificates is not None:
            self.certificates.reload_if_changed()
        if self.verifier is not None:
            self.verifier.reload_if_changed()

    def _check_mechanisms(self) -> None:
        for each in self._security.sasl_mechanisms:
            if each not in MECHANISMS:
                raise NotUsable(
                    f"there is no SASL mechanism {each!r} here",
                    f"choose from {', '.join(MECHANISMS)}",
                )
        if OAUTHBEARER in self._security.sasl_mechanisms and self._security.oauth is None:
            raise NotUsable(
                "OAUTHBEARER needs to know what to expect of a token",
                "give --oauth-jwks, --oauth-issuer and --oauth-audience",
            )

    def _certificates(self) -> Certificates | None:
        security = self._security
        wanted = any(protocol.endswith("ssl") for protocol in self._protocols)
        if security.tls_cert is None or security.tls_key is None:
            if wanted or security.tls_cert or security.tls_key or security.tls_client_ca:
                raise NotUsable(
                    "TLS needs a certificate and its key", "give --tls-cert and --tls-key"
                )
            return None
        if not wanted:
            raise NotUsable(
                "there is a certificate, and no listener that would use it",
                "listen with ssl:// or sasl_ssl://",
            )
        return Certificates(security.tls_cert, security.tls_key, security.tls_client_ca)


def advertised_address(
    protocol: str, host: str, port: int, advertise: Sequence[str], *, alone: bool
) -> tuple[str, int]:
    """What clients of a listener are told to connect to.

    Raises AddressUnusable when they could not find the broker.
    """
    for text in advertise:
        named, told_host, told_port = split_listener(text)
        if named == protocol or (alone and "://" not in text):
            return told_host, told_port
    if host in WILDCARDS:
        raise AddressUnusable(
            f"{host or '*'} is an address to listen on, and not one that clients can connect to",
            "advertise the HOST:PORT that they should use (--advertise)",
        )
    return host, port


def shown(protocol: str, host: str, port: int) -> str:
    """A listener for a person: the address alone where it is Kafka's plain protocol."""
    address = join_address(host, port)
    return address if protocol == "plaintext" else f"{protocol}://{address}"
