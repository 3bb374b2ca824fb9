"""`ottla transactions`: list, describe, producers, hanging, abort (KIP-664)."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from ottla.cli.cluster import EXIT_REFUSED, Mistake, on_a_cluster, tell, topic_and_partition
from ottla.cli.output import (
    Output,
    OutputOption,
    YesOption,
    ask,
    print_done,
    print_json,
    print_rows,
)
from ottla.cli.times import duration, parse_duration_ms, shown_time
from ottla.client import transactions as client
from ottla.client.access import Access
from ottla.client.raw import Brokers
from ottla.client.types import Partition
from ottla.ports.printable import printable

app = typer.Typer(
    help="Transactions: which are open, which hang, and the way out.", no_args_is_help=True
)

TransactionalId = Annotated[str, typer.Argument(metavar="TRANSACTIONAL_ID")]


def _now_ms() -> int:
    return int(time.time() * 1000)


@app.command("list")
@on_a_cluster
def list_(
    access: Access,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help=f"Only these: {', '.join(client.STATES)}."),
    ] = None,
    longer_than: Annotated[
        str | None,
        typer.Option("--longer-than", metavar="TIME", help="Only open for longer: 90s, 15m, 2h."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the transactional ids and the states of their transactions.

    Ongoing: open now. PrepareCommit, PrepareAbort: decided, the markers are on their way.
    CompleteCommit, CompleteAbort: over. Empty: none was begun yet.

    \b
    Examples:
      ottla transactions list
      ottla transactions list --state Ongoing --longer-than 15m
    """
    for each in state or []:
        if each not in client.STATES:
            raise Mistake(f"{each!r} is none of {', '.join(client.STATES)}", param_hint="--state")
    longer_than_ms = -1 if longer_than is None else parse_duration_ms(longer_than)
    with Brokers(access) as brokers:
        found = client.list_transactions(brokers, states=state or [], longer_than_ms=longer_than_ms)
    print_rows(
        output,
        ["transactional id", "state", "producer id", "coordinator"],
        [(each.transactional_id, each.state, each.producer_id, each.coordinator) for each in found],
        narrow=3,
        none="there are no such transactions",
    )


@app.command()
@on_a_cluster
def describe(
    access: Access, transactional_id: TransactionalId, output: OutputOption = Output.TABLE
) -> None:
    """Show one transactional id: its producer, and the partitions of the open transaction.

    \b
    Examples:
      ottla transactions describe orders-agg-0
      ottla transactions describe orders-agg-0 -o json
    """
    with Brokers(access) as brokers:
        found = client.describe_transaction(brokers, transactional_id)
    if output is Output.JSON:
        print_json(asdict(found) | {"partitions": [each._asdict() for each in found.partitions]})
        return
    lines = {
        "transactional id": printable(found.transactional_id),
        "state": found.state,
        "producer": f"{found.producer_id}, epoch {found.producer_epoch}",
        "timeout": duration(found.timeout_ms),
    }
    if _is_open(found):
        open_for = duration(_now_ms() - found.start_ms)
        lines["open since"] = f"{shown_time(found.start_ms)}, for {open_for}"
    lines["partitions"] = printable(" ".join(map(str, found.partitions))) or "none"
    for name, value in lines.items():
        typer.echo(f"{name:<17} {value}")


@app.command()
@on_a_cluster
def producers(
    access: Access,
    target: Annotated[str, typer.Argument(metavar="TOPIC[:PARTITION]")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the producers that a topic's partitions remember, and where their transactions began.

    \b
    Examples:
      ottla transactions producers orders
      ottla transactions producers orders:0 -o wide
    """
    with Brokers(access) as brokers:
        if ":" in target:
            place = topic_and_partition(target)
            found = client.describe_producers(brokers, [place.topic], place.partition)
        else:
            found = client.describe_producers(brokers, [target])
    print_rows(
        output,
        [
            *("topic", "partition", "producer id", "epoch", "transaction start"),
            *("last sequence", "last write", "coordinator epoch"),
        ],
        [
            (
                *(*each.partition, each.producer_id, each.producer_epoch),
                None if each.start_offset < 0 else each.start_offset,
                *(each.last_sequence, shown_time(each.last_ms), each.coordinator_epoch),
            )
            for each in found
        ],
        narrow=5,
        none=f"no producer is remembered in {printable(target)}",
    )


@app.command()
@on_a_cluster
def hanging(
    access: Access,
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", metavar="TOPIC", help="Only here; else everywhere."),
    ] = None,
    longer_than: Annotated[
        str,
        typer.Option(
            "--longer-than",
            metavar="TIME",
            help="Only without a write for longer; not below the longest transaction timeout.",
        ),
    ] = "15m",
    output: OutputOption = Output.TABLE,
) -> None:
    """Find transactions that no coordinator will ever end.

    A partition holds such a transaction open, and its coordinator does not know of it: no marker
    will come. Consumers that read committed records stand still before it. `abort` ends it.

    \b
    Examples:
      ottla transactions hanging
      ottla transactions hanging --topic orders --longer-than 1h
    """
    open_for_ms = parse_duration_ms(longer_than)
    now_ms = _now_ms()
    with Brokers(access) as brokers:
        found = client.find_hanging(brokers, topics or None, now_ms=now_ms, open_for_ms=open_for_ms)
    print_rows(
        output,
        [
            *("topic", "partition", "start offset", "quiet for", "producer id", "epoch"),
            *("coordinator epoch", "transactional id"),
        ],
        [
            (
                *(*each.producer.partition, each.producer.start_offset),
                *(duration(now_ms - each.producer.last_ms), each.producer.producer_id),
                *(each.producer.producer_epoch, each.producer.coordinator_epoch),
                each.transactional_id,
            )
            for each in found
        ],
        narrow=6,
        none="no transaction hangs",
    )
    if found and output is not Output.JSON:
        place = found[0].producer
        topic, number = place.partition
        typer.echo(
            f"next: ottla transactions abort {printable(topic)}:{number} "
            f"--start-offset {place.start_offset}",
            err=True,
        )


@app.command()
@on_a_cluster
def abort(
    access: Access,
    target: Annotated[
        str | None, typer.Argument(metavar="TOPIC:PARTITION", help="Where it hangs.")
    ] = None,
    start_offset: Annotated[
        int | None,
        typer.Option("--start-offset", min=0, help="Where it begins, as `hanging` shows it."),
    ] = None,
    transactional_id: Annotated[
        str | None,
        typer.Option(
            "--transactional-id", help="End what this id has open, by fencing its producer."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even where its coordinator still has it open. Dangerous."),
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a transaction. Says what it will do, and asks.

    A hanging one gets an abort marker in its partition: its records there are never read by
    read_committed consumers. One that its coordinator still has open is refused so: end it by its
    transactional id, in all its partitions; its producer is fenced.

    \b
    Examples:
      ottla transactions abort orders:0 --start-offset 18211
      ottla transactions abort --transactional-id orders-agg-0
    """
    with Brokers(access) as brokers:
        if transactional_id is not None and target is None and start_offset is None:
            _fence(brokers, transactional_id, output, yes=yes)
        elif target is not None and start_offset is not None and transactional_id is None:
            place = topic_and_partition(target)
            _mark(brokers, place, start_offset, output, force=force, yes=yes)
        else:
            raise Mistake("name TOPIC:PARTITION and --start-offset, or only --transactional-id")


def _is_open(described: client.Described) -> bool:
    """Whether there is a transaction now: a coordinator remembers the start of the last one."""
    return described.start_ms >= 0 and described.state.startswith(("Ongoing", "Prepare"))


def _fence(brokers: Brokers, transactional_id: str, output: Output, *, yes: bool) -> None:
    found = client.describe_transaction(brokers, transactional_id)
    if not _is_open(found):
        tell(f"{printable(transactional_id)} has no open transaction", f"it is {found.state}")
        raise typer.Exit(EXIT_REFUSED)
    ask(
        [
            f"abort the transaction of {transactional_id}, open for "
            f"{duration(_now_ms() - found.start_ms)}, in {len(found.partitions)} partitions: "
            f"{' '.join(map(str, found.partitions))}",
            f"producer {found.producer_id} with epoch {found.producer_epoch} is fenced: "
            "if it still runs, it stops with an error",
        ],
        yes=yes,
    )
    client.abort_by_coordinator(brokers, found)
    print_done(
        output,
        f"aborted the transaction of {transactional_id}",
        {"aborted": transactional_id, "producer_id": found.producer_id},
    )


def _mark(
    brokers: Brokers,
    place: Partition,
    start_offset: int,
    output: Output,
    *,
    force: bool,
    yes: bool,
) -> None:
    producer = next(
        (
            each
            for each in client.describe_producers(brokers, [place.topic], place.partition)
            if each.start_offset == start_offset
        ),
        None,
    )
    if producer is None:
        tell(
            f"no open transaction of {printable(place)} begins at offset {start_offset}",
            "it has ended, or it begins elsewhere",
            f"`ottla transactions producers {printable(place.topic)}` shows where they begin",
        )
        raise typer.Exit(EXIT_REFUSED)
    name = client.transactional_id_of(brokers, producer.producer_id)
    if name is not None and client.is_known(brokers, name, producer) and not force:
        tell(
            f"the transaction at {printable(place)} offset {start_offset} does not hang",
            f"its coordinator has it open, for {printable(name)}, and will end it",
            f"`ottla transactions abort --transactional-id {printable(name)}` ends it everywhere",
        )
        raise typer.Exit(EXIT_REFUSED)
    ask(
        [
            f"write an abort marker into {place}, for producer {producer.producer_id} with epoch "
            f"{producer.producer_epoch}",
            f"its records from offset {start_offset} on are never read by read_committed "
            f"consumers; last written {duration(_now_ms() - producer.last_ms)} ago",
        ],
        yes=yes,
    )
    client.abort_in_partition(brokers, producer)
    print_done(
        output,
        f"aborted the transaction at {place} offset {start_offset}",
        {
            "aborted": {"topic": place.topic, "partition": place.partition},
            "start_offset": start_offset,
            "producer_id": producer.producer_id,
        },
    )
