"""The options of `ottla broker start` that are about security, and the settings they make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.ports.limits import CONNECTIONS_MAX, CONNECTIONS_PER_IP_MAX
from ottla.server.address import NotUsable

if TYPE_CHECKING:
    from ottla.server.security import Security
    from ottla.server.tokens import OauthSettings


def _file(name: str, help_text: str) -> object:
    return typer.Option(name, metavar="FILE", help=help_text)


def _text(name: str, metavar: str, help_text: str) -> object:
    return typer.Option(name, metavar=metavar, help=help_text)


TlsCert = Annotated[
    str | None, _file("--tls-cert", "The broker's certificate chain, in PEM; read anew on SIGHUP.")
]
TlsKey = Annotated[str | None, _file("--tls-key", "Its key, in PEM, without a password.")]
TlsClientCa = Annotated[
    str | None,
    _file("--tls-client-ca", "Who signs clients' certificates: ssl listeners then ask for one."),
]
SaslMechanism = Annotated[
    list[str] | None,
    _text(
        "--sasl-mechanism",
        "NAME",
        "What SASL listeners offer, instead of all that is safe there; may be repeated.",
    ),
]
AllowPlaintextPasswords = Annotated[
    bool,
    typer.Option(
        "--allow-plaintext-passwords",
        help="Offer PLAIN without TLS too: everybody on the way can read the passwords.",
    ),
]
AddUser = Annotated[
    list[str] | None,
    _text(
        "--add-user",
        "NAME=PASSWORD",
        "Add a user, or change the password; may be repeated. "
        "Other users of this machine can see it: prefer --users.",
    ),
]
Users = Annotated[
    Path | None, _file("--users", "Users to add or change: a line NAME=PASSWORD for each.")
]
MaxReauth = Annotated[
    int,
    _text(
        "--max-reauth-ms",
        "MS",
        "After this long a client has to authenticate again (connections.max.reauth.ms).",
    ),
]
OauthJwks = Annotated[
    str | None, _file("--oauth-jwks", "The keys that tokens are signed with (JSON Web Key Set).")
]
OauthIssuer = Annotated[str | None, _text("--oauth-issuer", "ISS", "Who issues tokens.")]
OauthAudience = Annotated[str | None, _text("--oauth-audience", "AUD", "Whom tokens are for.")]
OauthPrincipalClaim = Annotated[
    str, _text("--oauth-principal-claim", "CLAIM", "The claim that names the user.")
]
MaxConnections = Annotated[
    int, _text("--max-connections", "N", "How many connections there may be at once.")
]
MaxConnectionsPerIp = Annotated[
    int, _text("--max-connections-per-ip", "N", "How many of them from one address.")
]
CONNECTIONS = CONNECTIONS_MAX
CONNECTIONS_PER_IP = CONNECTIONS_PER_IP_MAX


def security_of(
    tls: tuple[str | None, str | None, str | None],
    sasl: tuple[list[str] | None, bool, int],
    users: tuple[list[str] | None, Path | None],
    oauth: tuple[str | None, str | None, str | None, str],
    connections: tuple[int, int],
) -> "Security":
    """The settings that the options make. Raises NotUsable."""
    from ottla.server.security import Security

    return Security(
        tls_cert=tls[0],
        tls_key=tls[1],
        tls_client_ca=tls[2],
        sasl_mechanisms=tuple(name.upper() for name in sasl[0] or ()),
        allow_plaintext_passwords=sasl[1],
        max_reauth_ms=sasl[2],
        users=_users(*users),
        oauth=_oauth(*oauth),
        max_connections=connections[0],
        max_connections_per_ip=connections[1],
    )


def _oauth(
    jwks: str | None, issuer: str | None, audience: str | None, principal_claim: str
) -> "OauthSettings | None":
    from ottla.server.tokens import OauthSettings

    if jwks is None and issuer is None and audience is None:
        return None
    return OauthSettings(
        jwks=jwks or "",
        issuer=issuer or "",
        audience=audience or "",
        principal_claim=principal_claim,
    )


def _users(added: list[str] | None, file: Path | None) -> dict[str, str]:
    users = {}
    lines = list(added or ())
    if file is not None:
        try:
            lines += file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NotUsable(
                f"the users in {file} cannot be read: {error}",
                "write a line NAME=PASSWORD for each",
            ) from error
    for number, line in enumerate(lines, 1):
        name, equals, password = line.partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if not equals or not name.strip() or not password:
            raise NotUsable(
                f"user number {number} has no name or no password", "write NAME=PASSWORD"
            )
        users[name.strip()] = password
    return users
