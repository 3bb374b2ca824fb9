"""`ottla groups`: list, describe, members, offsets, delete, reset offsets."""

import re
import time
from dataclasses import asdict
from typing import Annotated

import typer

from ottla.cli.cluster import Mistake, on_a_cluster, tell, topic_and_partition
from ottla.cli.output import (
    Output,
    OutputOption,
    YesOption,
    ask,
    print_done,
    print_json,
    print_rows,
)
from ottla.cli.times import parse_time_ms
from ottla.client import groups as client
from ottla.client import topics
from ottla.client.access import Access
from ottla.client.cluster import Cluster
from ottla.client.types import Partition
from ottla.ports.printable import printable

app = typer.Typer(
    help="Consumer groups: members, offsets and lag; reset, delete.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="GROUP")]
_OFFSET_COLUMNS = ["topic", "partition", "offset", "end", "lag", "metadata"]


@app.command("list")
@on_a_cluster
def list_(access: Access, output: OutputOption = Output.TABLE) -> None:
    """List the groups.

    \b
    Examples:
      ottla groups list
      ottla groups list -o json
    """
    with Cluster(access) as cluster:
        found = client.list_groups(cluster)
    print_rows(
        output,
        ["group", "state", "type"],
        [(each.group_id, each.state, each.kind) for each in found],
        narrow=3,
        none="there are no groups; one is made by a consumer with a group.id",
    )


@app.command()
@on_a_cluster
def describe(access: Access, name: Name, output: OutputOption = Output.TABLE) -> None:
    """Show state, members, and how far each partition is.

    \b
    Examples:
      ottla groups describe billing
      ottla groups describe billing -o json
    """
    with Cluster(access) as cluster:
        group = client.describe_group(cluster, name)
        offsets = client.group_offsets(cluster, name)
    if output is Output.JSON:
        listed = [
            asdict(each) | {"lag": each.lag, "partition": each.partition._asdict()}
            for each in offsets
        ]
        print_json({**asdict(group), "offsets": listed})
        return
    lag = sum(max(0, each.lag) for each in offsets)
    typer.echo(
        f"{printable(group.group_id)}  {group.state}  {group.kind}  "
        f"{len(group.members)} members  lag {lag:,}"
    )
    readers = {place: member for member in group.members for place in member.partitions}
    rows = [
        (*_offset_row(each)[:5], getattr(readers.get(each.partition), "client_id", ""))
        for each in offsets
    ]
    print_rows(
        output,
        [*_OFFSET_COLUMNS[:5], "client id"],
        rows,
        narrow=6,
        none="no offsets are committed",
    )


def _offset_row(each: client.GroupOffset) -> tuple[object, ...]:
    known = (None if value < 0 else value for value in (each.offset, each.end_offset, each.lag))
    return (*each.partition, *known, each.metadata)


@app.command()
@on_a_cluster
def offsets(access: Access, name: Name, output: OutputOption = Output.TABLE) -> None:
    """Show the committed offsets, and the lag behind the end of each partition.

    \b
    Examples:
      ottla groups offsets billing
      ottla groups offsets billing -o wide
    """
    with Cluster(access) as cluster:
        found = client.group_offsets(cluster, name)
    print_rows(
        output,
        _OFFSET_COLUMNS,
        [_offset_row(each) for each in found],
        narrow=5,
        none=f"group {printable(name)} has committed no offsets",
    )


@app.command()
@on_a_cluster
def members(access: Access, name: Name, output: OutputOption = Output.TABLE) -> None:
    """Show the members, where they run, and which partitions they read.

    \b
    Examples:
      ottla groups members billing
      ottla groups members billing -o wide
    """
    with Cluster(access) as cluster:
        group = client.describe_group(cluster, name)
    print_rows(
        output,
        ["client id", "host", "partitions", "instance id", "member id"],
        [
            (
                *(each.client_id, each.host, " ".join(map(str, each.partitions))),
                *(each.group_instance_id, each.member_id),
            )
            for each in group.members
        ],
        narrow=3,
        none=f"group {printable(name)} has no members now; it is {group.state}",
    )


@app.command()
@on_a_cluster
def delete(
    access: Access,
    names: Annotated[list[str], typer.Argument(metavar="GROUP")],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete groups with their offsets; a group with members is refused. Asks.

    \b
    Examples:
      ottla groups delete billing
      ottla groups delete billing audit --yes
    """
    with Cluster(access) as cluster:
        plan = []
        for name in names:
            count = len(client.group_offsets(cluster, name))
            plan.append(f"delete group {name} with its offsets of {count} partitions")
        ask(plan, yes=yes)
        client.delete_groups(cluster, names)
    for name in names:
        print_done(output, f"deleted group {name}", {"deleted": name})


To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="WHERE",
        help="earliest, latest, an offset, +N or -N from where it is, or @TIME: ISO 8601 or "
        "milliseconds since 1970.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        "-t",
        metavar="TOPIC[:PARTITION]",
        help="Only this; else all that the group has offsets of.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
]


@app.command("reset-offsets")
@on_a_cluster
def reset_offsets(
    access: Access,
    name: Name,
    to: To,
    only: Only = None,
    dry_run: DryRun = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a group go on from another offset. Shows old and new ones, and asks.

    The group must have no members. Offsets stay between the beginning and the end of the log.

    \b
    Examples:
      ottla groups reset-offsets billing --to earliest --dry-run
      ottla groups reset-offsets billing --to -100 --topic orders:0
      ottla groups reset-offsets billing --to @2026-01-31T12:00:00Z --yes
    """
    where = _where(to)
    with Cluster(access) as cluster:
        before = {each.partition: each.offset for each in client.group_offsets(cluster, name)}
        partitions = _chosen(cluster, only, before)
        after = _targets(cluster, partitions, before, where)
        if not after:
            tell(
                f"nothing to reset in group {printable(name)}",
                "it has committed no offsets, and no --topic was named",
                f"`ottla groups offsets {printable(name)}` shows what it has",
            )
            raise typer.Exit(3)
        if not dry_run:
            changes = [
                f"{each}: {before.get(each, 'none')} becomes {offset}"
                for each, offset in after.items()
            ]
            ask([f"reset offsets of group {name}", *changes], yes=yes)
            client.set_offsets(cluster, name, after)
    print_rows(
        output,
        ["topic", "partition", "old offset", "new offset"],
        [(*each, before.get(each), offset) for each, offset in after.items()],
        narrow=4,
        none="",
    )
    if dry_run:
        typer.echo("dry run: nothing was changed", err=True)


def _where(to: str) -> tuple[str, int]:
    if to in ("earliest", "latest"):
        return to, 0
    if to.startswith("@"):
        return "time", parse_time_ms(to[1:], now_ms=int(time.time() * 1000))
    if re.fullmatch(r"[+-]\d+", to):
        return "shift", int(to)
    if to.isdecimal():
        return "offset", int(to)
    raise Mistake(f"{to!r} is none of earliest, latest, N, +N, -N, @TIME", param_hint="--to")


def _chosen(
    cluster: Cluster, only: list[str] | None, known: dict[Partition, int]
) -> list[Partition]:
    if not only:
        return sorted(known)
    chosen = []
    for each in only:
        if ":" in each:
            chosen.append(topic_and_partition(each))
        else:
            chosen += topics.partitions_of(cluster, [each])
    return sorted(set(chosen))


def _targets(
    cluster: Cluster,
    partitions: list[Partition],
    before: dict[Partition, int],
    where: tuple[str, int],
) -> dict[Partition, int]:
    """Where each partition goes, between the beginning and the end of its log."""
    kind, number = where
    starts = topics.start_offsets(cluster, partitions)
    ends = topics.end_offsets(cluster, partitions)
    if kind == "time":
        return topics.time_offsets(cluster, partitions, number)
    wanted = {}
    for each in partitions:
        aim = {
            "earliest": starts[each],
            "latest": ends[each],
            "offset": number,
            "shift": before.get(each, starts[each]) + number,
        }[kind]
        wanted[each] = min(max(aim, starts[each]), ends[each])
    return wanted
