"""`ottla users`: list, add, remove. Passwords are never on the command line."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ottla.cli.cluster import Mistake, on_a_cluster
from ottla.cli.output import Output, OutputOption, YesOption, ask, print_done, print_rows
from ottla.client import security as client
from ottla.client.access import Access
from ottla.client.cluster import Cluster

app = typer.Typer(help="Users who come in with a password (SCRAM).", no_args_is_help=True)


class Mechanism(StrEnum):
    """How a password is proved."""

    SHA_256 = "SCRAM-SHA-256"
    SHA_512 = "SCRAM-SHA-512"


Name = Annotated[str, typer.Argument(metavar="USER")]
MechanismOption = Annotated[Mechanism, typer.Option("--mechanism", "-m")]


@app.command("list")
@on_a_cluster
def list_(access: Access, output: OutputOption = Output.TABLE) -> None:
    """List the users and their mechanisms. Passwords cannot be shown: the broker has none.

    \b
    Examples:
      ottla users list
      ottla users list -o json
    """
    with Cluster(access) as cluster:
        found = client.list_users(cluster)
    print_rows(
        output,
        ["user", "mechanism", "iterations"],
        [(each.user, each.mechanism, each.iterations) for each in found],
        narrow=3,
        none="there are no users; `ottla users add NAME` makes one",
    )


@app.command()
@on_a_cluster
def add(
    access: Access,
    name: Name,
    mechanism: MechanismOption = Mechanism.SHA_512,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            help="The first line is the password; - is standard input. Else it is asked for.",
        ),
    ] = None,
    iterations: Annotated[
        int,
        typer.Option(min=4_096, max=16_384, help="How costly guessing is made."),
    ] = 8_192,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a user, or give one another password.

    \b
    Examples:
      ottla users add alice
      ottla users add app --password-file app.password --mechanism SCRAM-SHA-256
    """
    password = _password(name, password_file)
    with Cluster(access) as cluster:
        client.add_user(cluster, name, password.encode(), mechanism.value, iterations)
    print_done(
        output,
        f"added user {name} ({mechanism.value})",
        {"added": name, "mechanism": mechanism.value, "iterations": iterations},
    )


def _password(name: str, file: Path | None) -> str:
    if file is None:
        found = typer.prompt(
            f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True
        )
    elif str(file) == "-":
        found = sys.stdin.readline().rstrip("\r\n")
    else:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(f"{file} cannot be read: {error}") from error
        found = lines[0] if lines else ""
    if not found:
        raise Mistake("the password is empty")
    return str(found)


@app.command()
@on_a_cluster
def remove(
    access: Access,
    name: Name,
    mechanism: MechanismOption = Mechanism.SHA_512,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a user's password for one mechanism away: connections made with it fail. Asks.

    \b
    Examples:
      ottla users remove alice
      ottla users remove app --mechanism SCRAM-SHA-256 --yes
    """
    ask([f"remove user {name} ({mechanism.value})"], yes=yes)
    with Cluster(access) as cluster:
        client.remove_user(cluster, name, mechanism.value)
    print_done(
        output,
        f"removed user {name} ({mechanism.value})",
        {"removed": name, "mechanism": mechanism.value},
    )
