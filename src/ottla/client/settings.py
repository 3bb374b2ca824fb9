"""Settings of librdkafka that producers, consumers and admin clients share, and how to be let in.

What a broker wants to know of its clients is given as arguments, or in the address itself, which
is then a URL and goes wherever an address goes (a pipeline's `broker:`, an application's name for
its cluster):

    Producer("db1:9093", security_protocol="sasl_ssl", username="alice", password="…")
    Producer("sasl_ssl://alice:…@db1:9093?ssl_ca=ca.pem")

Characters that mean something in a URL are written as %XX in it. librdkafka keeps trying when it
is not let in, and says so only on the side: a `Refusals` remembers, so that whoever waits in vain
can be told why.
"""

from collections.abc import Callable
from typing import Any, TypedDict
from urllib.parse import parse_qsl, quote, unquote, urlencode

from confluent_kafka import KafkaError

from ottla.client.errors import Fatal

CONNECTION: dict[str, Any] = {
    # With "rebootstrap", its default (KIP-899), librdkafka 2.16 drops a broker that is down for a
    # moment while a request for the group's coordinator waits for it: the call that commits offsets
    # in a transaction then never returns, and no time limit ends it.
    "metadata.recovery.strategy": "none",
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
}
_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_LIBRDKAFKA = {
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "username": "sasl.username",
    "password": "sasl.password",
    "ssl_ca": "ssl.ca.location",
    "ssl_cert": "ssl.certificate.location",
    "ssl_key": "ssl.key.location",
    "ssl_key_password": "ssl.key.password",
    "ssl_check_hostname": "ssl.endpoint.identification.algorithm",
    "token": "oauth_cb",
}
_NOT_LET_IN = frozenset((KafkaError._AUTHENTICATION, KafkaError._SSL))


class Security(TypedDict, total=False):
    """How to be let in.

    `security_protocol` is one of Kafka's: plaintext, ssl, sasl_plaintext, sasl_ssl. With a
    `username` it is sasl_ssl by itself, with `ssl_ca` or `ssl_cert` ssl. `sasl_mechanism` is
    SCRAM-SHA-512 by itself. `ssl_ca`, `ssl_cert` and `ssl_key` are files in PEM; without `ssl_ca`
    the system's authorities are trusted. `token` gives a token and until when it is valid (seconds
    since 1970), for OAUTHBEARER.
    """

    security_protocol: str
    sasl_mechanism: str
    username: str
    password: str
    ssl_ca: str
    ssl_cert: str
    ssl_key: str
    ssl_key_password: str
    ssl_check_hostname: bool
    token: Callable[[], tuple[str, float]]


class Refusals:
    """Remembers why brokers do not let us in: librdkafka's `error_cb`."""

    def __init__(self) -> None:
        self.reason = ""

    def __call__(self, error: KafkaError) -> None:
        if error.code() in _NOT_LET_IN:
            self.reason = error.str()


def connection(bootstrap_servers: str, security: Security, refusals: Refusals) -> dict[str, Any]:
    """The settings for librdkafka. Raises Fatal for what is not understood."""
    servers, given = _parsed(bootstrap_servers)
    given = {**given, **security}
    settings = {**CONNECTION, "bootstrap.servers": servers, "error_cb": refusals}
    if not given:
        return settings
    protocol = given.setdefault("security_protocol", _protocol_for(given)).lower()
    if protocol not in _PROTOCOLS:
        raise Fatal(
            f"security_protocol is {protocol!r}, and must be one of {', '.join(_PROTOCOLS)}"
        )
    if protocol.startswith("sasl"):
        given.setdefault("sasl_mechanism", "OAUTHBEARER" if "token" in given else "SCRAM-SHA-512")
    for name, value in given.items():
        if name not in _LIBRDKAFKA:
            raise Fatal(f"there is no setting {name!r}: there are {', '.join(_LIBRDKAFKA)}")
        settings[_LIBRDKAFKA[name]] = value
    settings["security.protocol"] = protocol
    if "ssl_check_hostname" in given:
        checked = str(given["ssl_check_hostname"]).lower() not in ("false", "no", "0")
        settings["ssl.endpoint.identification.algorithm"] = "https" if checked else "none"
    if "token" in given:
        settings["oauth_cb"] = lambda _: given["token"]()
    return settings


def as_url(bootstrap_servers: str, security: Security) -> str:
    """The address with the settings in it, for those who take an address alone.

    Raises Fatal for a `token`, which is no text.
    """
    if not security:
        return bootstrap_servers
    servers, given = _parsed(bootstrap_servers)
    given = {**given, **security}
    if "token" in given:
        raise Fatal("a function that gives tokens cannot be handed on here")
    protocol = given.pop("security_protocol", None) or _protocol_for(given)
    who = ""
    if "username" in given:
        who = quote(given.pop("username"), safe="") + ":"
        who += quote(given.pop("password", ""), safe="") + "@"
    query = urlencode({name: str(value) for name, value in given.items()})
    return f"{protocol.lower()}://{who}{servers}" + (f"?{query}" if query else "")


def shown(bootstrap_servers: str) -> str:
    """The address for people: without what lets one in."""
    servers, given = _parsed(bootstrap_servers)
    return f"{given['security_protocol']}://{servers}" if given else servers


def _parsed(address: str) -> tuple[str, dict[str, Any]]:
    """The addresses, and the settings that came with them."""
    protocol, separator, rest = address.partition("://")
    if not separator:
        return address, {}
    rest, _, query = rest.partition("?")
    who, at, servers = rest.rpartition("@")
    given: dict[str, Any] = {"security_protocol": protocol.lower(), **dict(parse_qsl(query))}
    if at:
        username, _, password = who.partition(":")
        given |= {"username": unquote(username), "password": unquote(password)}
    return servers.rstrip("/"), given


def _protocol_for(given: dict[str, Any]) -> str:
    """What is meant when it is not said: never less than it could be."""
    if "username" in given or "token" in given or "sasl_mechanism" in given:
        return "sasl_ssl"
    return "ssl" if any(name.startswith("ssl_") for name in given) else "plaintext"
