"""`ottla topics`: list, describe, create, delete, add partitions, delete records."""

from dataclasses import asdict
from typing import Annotated

import typer

from ottla.cli.cluster import Mistake, on_a_cluster, pairs, topic_and_partition
from ottla.cli.output import (
    Output,
    OutputOption,
    YesOption,
    ask,
    print_done,
    print_json,
    print_rows,
    print_table,
)
from ottla.client import topics as client
from ottla.client.access import Access
from ottla.client.cluster import Cluster
from ottla.client.configs import describe_configs
from ottla.client.types import Partition
from ottla.ports.printable import printable

app = typer.Typer(help="Topics: make, look at, grow, empty, delete.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="TOPIC")]
Name = Annotated[str, typer.Argument(metavar="TOPIC")]


@app.command("list")
@on_a_cluster
def list_(
    access: Access,
    internal: Annotated[
        bool, typer.Option("--internal", help="Kafka's own topics too: __consumer_offsets, ...")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the topics.

    \b
    Examples:
      ottla topics list
      ottla topics list -o wide --bootstrap-servers kafka1:9092
    """
    with Cluster(access) as cluster:
        found = client.list_topics(cluster)
    print_rows(
        output,
        ["name", "partitions", "replicas", "internal", "topic id"],
        [
            (each.name, each.partitions, each.replicas, each.is_internal, each.topic_id)
            for each in found
            if internal or not each.is_internal
        ],
        narrow=3,
        none="there are no topics; `ottla topics create NAME` makes one",
    )


@app.command()
@on_a_cluster
def describe(access: Access, names: Names, output: OutputOption = Output.TABLE) -> None:
    """Show partitions with their offsets, and what is configured.

    STABLE is how far read_committed consumers may see: behind END while a transaction is open.

    \b
    Examples:
      ottla topics describe orders
      ottla topics describe orders -o json
    """
    with Cluster(access) as cluster:
        found = [client.describe_topic(cluster, name) for name in names]
        configs = describe_configs(cluster, "topic", names)
    settings = {
        name: {each.name: each.value for each in configs[name] if each.is_set} for name in names
    }
    if output is Output.JSON:
        print_json([asdict(topic) | {"config": settings[topic.name]} for topic in found])
        return
    for at, topic in enumerate(found):
        if at:
            typer.echo()
        config = " ".join(f"{name}={value}" for name, value in settings[topic.name].items())
        typer.echo(f"{printable(topic.name)}  id {topic.topic_id}  {printable(config)}".rstrip())
        columns = ["partition", "start", "stable", "end", "leader", "replicas", "in sync"]
        count = 5 if output is Output.TABLE else len(columns)
        rows = [
            (
                *(each.partition, each.start_offset, each.last_stable_offset),
                *(each.high_watermark, each.leader),
                ",".join(map(str, each.replicas)),
                ",".join(map(str, each.in_sync)),
            )[:count]
            for each in topic.partitions
        ]
        print_table(columns[:count], rows)


@app.command()
@on_a_cluster
def create(
    access: Access,
    names: Names,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", "-p", min=1, help="How many; else the broker's default."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", "-r", min=1, help="How many; else the broker's default."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="NAME=VALUE", help="As cleanup.policy=compact."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make topics.

    \b
    Examples:
      ottla topics create orders --partitions 6
      ottla topics create latest -c cleanup.policy=compact
    """
    settings = pairs(config or [], "--config")
    with Cluster(access) as cluster:
        for name in names:
            client.create_topic(cluster, name, partitions or -1, replicas or -1, settings)
            print_done(output, f"created topic {name}", {"created": name})


@app.command()
@on_a_cluster
def delete(
    access: Access, names: Names, yes: YesOption = False, output: OutputOption = Output.TABLE
) -> None:
    """Delete topics with all their records. Says how many there are, and asks.

    \b
    Examples:
      ottla topics delete orders
      ottla topics delete orders invoices --yes
    """
    with Cluster(access) as cluster:
        plan = []
        for name in names:
            partitions = client.partitions_of(cluster, [name])
            starts = client.start_offsets(cluster, partitions)
            ends = client.end_offsets(cluster, partitions)
            span = sum(ends[each] - starts[each] for each in partitions)
            plan.append(
                f"delete topic {name}: {len(partitions)} partitions, {span:,} offsets in use"
            )
        ask(plan, yes=yes)
        client.delete_topics(cluster, names)
    for name in names:
        print_done(output, f"deleted topic {name}", {"deleted": name})


@app.command("add-partitions")
@on_a_cluster
def add_partitions(
    access: Access,
    name: Name,
    total: Annotated[int, typer.Argument(metavar="TOTAL", min=1)],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a topic more partitions: TOTAL in all. There is no way back.

    Records with a key go to other partitions from then on, so the order of records of one key is
    lost across the change.

    \b
    Examples:
      ottla topics add-partitions orders 12
      ottla topics add-partitions orders 12 --yes
    """
    with Cluster(access) as cluster:
        now = len(client.partitions_of(cluster, [name]))
        ask(
            [
                f"topic {name}: {now} partitions become {total}",
                "records of one key may go to another partition from then on",
            ],
            yes=yes,
        )
        client.add_partitions(cluster, name, total)
    print_done(output, f"topic {name} has {total} partitions", {"topic": name, "partitions": total})


@app.command("delete-records")
@on_a_cluster
def delete_records(
    access: Access,
    target: Annotated[str, typer.Argument(metavar="TOPIC[:PARTITION]")],
    before: Annotated[
        str,
        typer.Option("--before", metavar="OFFSET|end", help="Delete the records before this one."),
    ],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete the oldest records, of one partition or of all. Says what goes, and asks.

    \b
    Examples:
      ottla topics delete-records orders:0 --before 1000
      ottla topics delete-records orders --before end --yes
    """
    if before != "end" and not before.isdecimal():
        raise Mistake(f"{before!r} is neither an offset nor `end`", param_hint="--before")
    with Cluster(access) as cluster:
        partitions = _targets(cluster, target)
        starts = client.start_offsets(cluster, partitions)
        ends = client.end_offsets(cluster, partitions)
        wanted = {each: ends[each] if before == "end" else int(before) for each in partitions}
        ask(
            [
                f"{each}: delete offsets {starts[each]:,} up to {offset:,}"
                if offset > starts[each]
                else f"{each}: nothing lies before {offset:,}"
                for each, offset in wanted.items()
            ],
            yes=yes,
        )
        now = client.delete_records(cluster, wanted)
    print_rows(
        output,
        ["topic", "partition", "start"],
        [(*each, start) for each, start in sorted(now.items())],
        narrow=3,
        none="there are no partitions",
    )


def _targets(cluster: Cluster, target: str) -> list[Partition]:
    if ":" in target:
        return [topic_and_partition(target)]
    return client.partitions_of(cluster, [target])
