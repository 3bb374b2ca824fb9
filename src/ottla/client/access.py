"""How a cluster is reached: its addresses, and the settings that security needs.

Settings have librdkafka's names (`security.protocol`, `sasl.username`, `ssl.ca.location`): one
description serves librdkafka and the raw connections, which read from it what they need. The
address may be a URL with settings in it, as everywhere (`ottla.client.settings`).
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ottla.client.errors import Fatal
from ottla.client.settings import Refusals, connection

DEFAULT_PORT = 9092
PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the cluster is, and how to be let in. Raises Fatal for an unknown protocol."""

    bootstrap_servers: str
    settings: Mapping[str, str] = field(default_factory=dict)
    timeout_ms: int = 15_000

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise Fatal(
                f"security.protocol is {self.protocol}, and must be one of {', '.join(PROTOCOLS)}"
            )

    @property
    def protocol(self) -> str:
        return self.settings.get("security.protocol", "plaintext").lower()

    @property
    def mechanism(self) -> str | None:
        """The SASL mechanism, or None without SASL."""
        if not self.protocol.startswith("sasl"):
            return None
        named = self.settings.get("sasl.mechanism") or self.settings.get("sasl.mechanisms")
        return (named or "SCRAM-SHA-512").upper()

    def librdkafka(self) -> dict[str, str]:
        """The settings for librdkafka, without the addresses."""
        chosen = {} if self.mechanism is None else {"sasl.mechanism": self.mechanism}
        return {**self.settings, "security.protocol": self.protocol, **chosen}

    @property
    def username(self) -> str:
        return self.settings.get("sasl.username", "")

    @property
    def password(self) -> str:
        return self.settings.get("sasl.password", "")

    def addresses(self) -> list[tuple[str, int]]:
        """The hosts and ports to begin with. Raises Fatal for what is no address."""
        found = []
        for part in filter(None, (part.strip() for part in self.bootstrap_servers.split(","))):
            host, colon, port = part.rpartition(":")
            if not colon or part.endswith("]"):
                host, port = part, str(DEFAULT_PORT)
            if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise Fatal(f"{part!r} is no address: write HOST:PORT, several with commas")
            found.append((host.strip("[]"), int(port)))
        if not found:
            raise Fatal("there is no address: write HOST:PORT, several with commas")
        return found

    def tls(self) -> ssl.SSLContext | None:
        """What TLS needs, or None without it. Raises Fatal when a file cannot be used."""
        if not self.protocol.endswith("ssl"):
            return None
        settings = self.settings
        try:
            context = ssl.create_default_context(cafile=settings.get("ssl.ca.location"))
            if certificate := settings.get("ssl.certificate.location"):
                context.load_cert_chain(
                    certificate, settings.get("ssl.key.location"), settings.get("ssl.key.password")
                )
        except (OSError, ssl.SSLError) as error:
            raise Fatal(f"the certificates for TLS cannot be used: {error}") from error
        if settings.get("ssl.endpoint.identification.algorithm", "https") == "none":
            context.check_hostname = False
        if settings.get("enable.ssl.certificate.verification", "true").lower() == "false":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def access_to(address: str, settings: Mapping[str, str]) -> Access:
    """The cluster at an address or a URL; `settings` go before those in the URL. Raises Fatal."""
    told = connection(address, {}, Refusals())
    in_url = {
        name: value
        for name, value in told.items()
        if name.startswith(("security.", "sasl.", "ssl."))
    }
    return Access(told["bootstrap.servers"], {**in_url, **settings})


def read_settings(path: Path) -> dict[str, str]:
    """The settings in a file of `name=value` lines; `#` begins a comment line. Raises Fatal."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"the client settings in {path} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise Fatal(f"{path}, line {number}: not of the form name=value")
        found[name.strip()] = value.strip()
    return found
