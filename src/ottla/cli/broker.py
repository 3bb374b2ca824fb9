"""`ottla broker`: a broker in the foreground."""

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli import security_options as security
from ottla.server.address import NotUsable

if TYPE_CHECKING:
    from ottla.server.run import Options, Started

app = typer.Typer(
    help="The broker: one durable node that speaks Kafka's protocol.", no_args_is_help=True
)


class Durability(StrEnum):
    """When an acknowledgement is sent."""

    FSYNC = "fsync"
    OS = "os"


Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Where it keeps its data; made if not there.")
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[PROTOCOL://]HOST:PORT",
        help="Where it listens; port 0 is any free port. PROTOCOL is plaintext, ssl, "
        "sasl_plaintext or sasl_ssl; may be repeated.",
        show_default="127.0.0.1:9092",
    ),
]
Advertise = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[PROTOCOL://]HOST:PORT",
        help="What clients are told to connect to, if that is another one; may be repeated.",
    ),
]
When = Annotated[
    Durability,
    typer.Option(
        help="Acknowledge once the disk has the data (fsync), or once the operating system "
        "has it (os): faster, but a power cut may lose what was acknowledged."
    ),
]
Partitions = Annotated[
    int,
    typer.Option(
        min=1, max=10_000, metavar="N", help="Partitions of a topic made without a number."
    ),
]
TwoPhaseCommit = Annotated[
    bool,
    typer.Option(
        "--two-phase-commit",
        help="Let clients have transactions that never time out, as part of another system's "
        "two-phase commit (KIP-939).",
    ),
]
NoAutoCreate = Annotated[
    bool, typer.Option("--no-auto-create-topics", help="Do not make topics at their first use.")
]
AuthorizerOption = Annotated[
    bool,
    typer.Option(
        "--authorizer", help="Let ACLs decide who may do what (Kafka's StandardAuthorizer)."
    ),
]
SuperUsers = Annotated[
    list[str] | None,
    typer.Option(
        "--super-user",
        metavar="PRINCIPAL",
        help="Who may do everything, such as User:admin (Kafka's super.users); may be repeated.",
    ),
]
AllowEveryone = Annotated[
    bool,
    typer.Option(
        "--allow-everyone-if-no-acl-found",
        help="Whatever has no ACL at all is open to everyone (Kafka's setting of that name).",
    ),
]
MetricsAddress = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve metrics for Prometheus there, at /metrics. Needs 'ottla[metrics]'.",
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what happens, to standard error.")
]


@app.command()
def start(
    data: Data,
    listen: Listen = None,
    advertise: Advertise = None,
    durability: When = Durability.FSYNC,
    num_partitions: Partitions = 1,
    no_auto_create_topics: NoAutoCreate = False,
    two_phase_commit: TwoPhaseCommit = False,
    metrics: MetricsAddress = None,
    authorizer: AuthorizerOption = False,
    super_user: SuperUsers = None,
    allow_everyone_if_no_acl_found: AllowEveryone = False,
    verbose: Verbose = False,
    tls_cert: security.TlsCert = None,
    tls_key: security.TlsKey = None,
    tls_client_ca: security.TlsClientCa = None,
    sasl_mechanism: security.SaslMechanism = None,
    allow_plaintext_passwords: security.AllowPlaintextPasswords = False,
    add_user: security.AddUser = None,
    users: security.Users = None,
    max_reauth_ms: security.MaxReauth = 0,
    oauth_jwks: security.OauthJwks = None,
    oauth_issuer: security.OauthIssuer = None,
    oauth_audience: security.OauthAudience = None,
    oauth_principal_claim: security.OauthPrincipalClaim = "sub",
    max_connections: security.MaxConnections = security.CONNECTIONS,
    max_connections_per_ip: security.MaxConnectionsPerIp = security.CONNECTIONS_PER_IP,
) -> None:
    """Run a broker in the foreground until Ctrl-C or SIGTERM.

    \b
    Examples:
      ottla broker start --data ./data
      ottla broker start --data ./data --listen sasl_ssl://0.0.0.0:9093 --advertise db1:9093
        --tls-cert db1.pem --tls-key db1.key --users users.txt --authorizer --super-user User:admin

    \b
    Exit codes:
      0  stopped by a signal, in good order
      1  a mistake of Ottla's own
      2  the command was not understood
      3  the address, or a setting of security, cannot be used
      4  the data directory cannot be used: in use, full, not writable, failing
      5  the data is damaged
    """

    def options(of: "type[Options]") -> "Options":
        return of(
            data_dir=str(data),
            listen=tuple(listen or ["127.0.0.1:9092"]),
            advertise=tuple(advertise or ()),
            durability=durability.value,
            num_partitions=num_partitions,
            auto_create_topics=not no_auto_create_topics,
            two_phase_commit=two_phase_commit,
            metrics=metrics,
            authorizer=authorizer,
            super_users=_principals(super_user or (), authorizer),
            allow_everyone_if_no_acl_found=allow_everyone_if_no_acl_found,
            verbose=verbose,
            security=security.security_of(
                (tls_cert, tls_key, tls_client_ca),
                (sasl_mechanism, allow_plaintext_passwords, max_reauth_ms),
                (add_user, users),
                (oauth_jwks, oauth_issuer, oauth_audience, oauth_principal_claim),
                (max_connections, max_connections_per_ip),
            ),
        )

    _run(options)


def _run(options: "Callable[[type[Options]], Options]") -> None:
    """Run it to its end; what it could not do is explained, and the exit code says which."""
    # Imported here: other commands need not load the broker.
    from ottla.ports.errors import DataDamaged, InvariantBroken, StorageFailed
    from ottla.server.run import Options, explain, run

    def report(started: "Started") -> None:
        typer.echo(_ready_line(started))
        sys.stdout.flush()  # whoever waits for this line may read it through a pipe

    try:
        run(options(Options), report)
    except (NotUsable, DataDamaged, InvariantBroken, StorageFailed) as error:
        explanation = explain(error)
        typer.echo(explanation, err=True)
        raise typer.Exit(explanation.exit_code) from None


def _principals(names: Sequence[str], authorizer: bool) -> tuple[str, ...]:
    """Super users, as Kafka writes principals. Refuses what would have no effect."""
    for name in names:
        if not authorizer:
            raise typer.BadParameter("a super user means nothing without --authorizer")
        if ":" not in name:
            raise typer.BadParameter(f"a principal is written User:NAME, not {name}")
    return tuple(names)


def _ready_line(started: "Started") -> str:
    """Address, data directory, what was recovered, time taken."""
    recovered = f"{started.partitions} partitions"
    if started.replayed_frames or started.torn_bytes:
        recovered += f", {started.replayed_frames} journal frames replayed"
    if started.torn_bytes:
        recovered += f", {started.torn_bytes} torn bytes cut"
    return (
        f"ready on {', '.join(started.listeners)}, data in {started.data_dir} "
        f"(durability {started.durability}), {recovered}, {started.took_ms} ms"
        + (f", metrics at {started.metrics}" if started.metrics else "")
    )
