"""`ottla configs`: list, describe, set, unset."""

from enum import StrEnum
from typing import Annotated

import typer

from ottla.cli.cluster import Mistake, on_a_cluster, pairs
from ottla.cli.output import Output, OutputOption, YesOption, ask, print_done, print_rows
from ottla.client import configs as client
from ottla.client.access import Access
from ottla.client.cluster import Cluster
from ottla.client.topics import list_topics
from ottla.ports.printable import printable

app = typer.Typer(help="Configuration of topics, brokers and groups.", no_args_is_help=True)


class Kind(StrEnum):
    """What is configured."""

    TOPIC = "topic"
    BROKER = "broker"
    GROUP = "group"


KindArgument = Annotated[Kind, typer.Argument(metavar="topic|broker|group")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name; of a broker, its id.")]
_COLUMNS = ["name", "value", "source", "read only"]


@app.command("list")
@on_a_cluster
def list_(access: Access, output: OutputOption = Output.TABLE) -> None:
    """List what was set: for topics, and for brokers at run time.

    \b
    Examples:
      ottla configs list
      ottla configs list -o json
    """
    with Cluster(access) as cluster:
        topics = [each.name for each in list_topics(cluster) if not each.is_internal]
        brokers = [str(node) for node in cluster.brokers.nodes()]
        found = [
            (kind, name, entry)
            for kind, names in (("topic", topics), ("broker", brokers))
            for name, entries in client.describe_configs(cluster, kind, names).items()
            for entry in entries
            if entry.is_set
        ]
    print_rows(
        output,
        ["kind", "of", "name", "value"],
        [(kind, name, entry.name, _value(entry)) for kind, name, entry in found],
        narrow=4,
        none="nothing was set: all is at its default",
    )


def _value(entry: client.Config) -> str | None:
    return "(secret)" if entry.is_sensitive else entry.value


@app.command()
@on_a_cluster
def describe(
    access: Access,
    kind: KindArgument,
    name: Name,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Defaults too, not only what was set.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the configuration of one topic, broker or group.

    \b
    Examples:
      ottla configs describe topic orders
      ottla configs describe broker 1 --all
    """
    with Cluster(access) as cluster:
        entries = client.describe_configs(cluster, kind.value, [name])[name]
    print_rows(
        output,
        _COLUMNS,
        [
            (each.name, _value(each), each.source, each.is_read_only)
            for each in entries
            if everything or each.is_set
        ],
        narrow=3,
        none=f"nothing was set for {kind.value} {printable(name)}; --all shows the defaults",
    )


@app.command("set")
@on_a_cluster
def set_(
    access: Access,
    kind: KindArgument,
    name: Name,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE")],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set entries; all others stay as they are. Shows old and new values, and asks.

    \b
    Examples:
      ottla configs set topic orders retention.ms=86400000
      ottla configs set topic orders cleanup.policy=compact --yes
    """
    wanted = pairs(values, "NAME=VALUE")
    _alter(access, kind, name, dict(wanted), output, yes=yes)


@app.command()
@on_a_cluster
def unset(
    access: Access,
    kind: KindArgument,
    name: Name,
    names: Annotated[list[str], typer.Argument(metavar="NAME")],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let entries have their defaults again. Shows what was set, and asks.

    \b
    Examples:
      ottla configs unset topic orders retention.ms
      ottla configs unset topic orders retention.ms cleanup.policy --yes
    """
    if wrong := [each for each in names if "=" in each]:
        raise Mistake(f"{wrong[0]!r}: only the name of an entry, without a value")
    _alter(access, kind, name, dict.fromkeys(names), output, yes=yes)


def _alter(
    access: Access,
    kind: Kind,
    name: str,
    wanted: dict[str, str | None],
    output: Output,
    *,
    yes: bool,
) -> None:
    with Cluster(access) as cluster:
        entries = client.describe_configs(cluster, kind.value, [name])[name]
        before = {each.name: each for each in entries}
        plan = []
        for key, value in wanted.items():
            old = _value(before[key]) if key in before else "not known"
            plan.append(f"{kind.value} {name}: {key}: {old} becomes {value or 'its default'}")
        ask(plan, yes=yes)
        client.alter_configs(cluster, kind.value, name, wanted)
    print_done(
        output,
        f"changed {', '.join(wanted)} of {kind.value} {name}",
        {"kind": kind.value, "name": name, "changed": wanted},
    )
