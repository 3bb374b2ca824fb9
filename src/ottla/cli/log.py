"""`ottla log`: look at a data directory while its broker is off. Nothing is ever written.

`check` judges every file, and then rehearses a start in memory: the same recovery that a broker
runs. `dump` shows what the files hold, up to the first damage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ottla.cli.cluster import leave_the_pipe, tell
from ottla.cli.output import Output, OutputOption, print_json
from ottla.ports.printable import printable

if TYPE_CHECKING:
    from ottla.log.inspect import FileReport
    from ottla.ports.shadow_disk import ShadowDisk

EXIT_UNUSABLE = 4
EXIT_DAMAGED = 5

app = typer.Typer(
    help="A data directory of Ottla's broker, looked at while the broker is off.",
    no_args_is_help=True,
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The broker's --data.")]


@app.command()
def check(directory: Directory, output: OutputOption = Output.TABLE) -> None:
    """Say what is in each file, and whether a broker would start. Names the first damage.

    \b
    Examples:
      ottla log check ./data
      ottla log check ./data -o json

    \b
    Exit codes:
      0  no damage, and a broker starts on it
      2  the command was not understood
      4  it cannot be looked at: not there, not readable, no data directory, a broker runs on it
      5  the data is damaged
    """
    from ottla.log.inspect import inspect

    reports = []
    with _looking_at(directory) as disk:
        for report in inspect(disk):
            reports.append(report)
            if output is not Output.JSON:
                _print_report(report)
    damage = next((each.damage for each in reports if each.damage), "")
    start = "" if damage else _rehearse(directory)
    if output is Output.JSON:
        files = [asdict(each) for each in reports]
        print_json({"files": files, "damage": damage or None, "start": start or None})
    elif start:
        typer.echo(f"a broker starts on it: {start}")
    if damage:
        tell(
            f"{directory} is damaged",
            printable(damage),
            "restore the directory from a copy; `ottla log dump` shows what can be read",
        )
        raise typer.Exit(EXIT_DAMAGED)


def _print_report(report: "FileReport") -> None:
    size = f", {report.size_bytes:,} bytes" if report.size_bytes else ""
    verdict = "DAMAGED" if report.damage else "ok"
    typer.echo(f"{verdict:<8}{printable(report.path)}: {report.facts}{size}")


@contextmanager
def _looking_at(directory: Path) -> "Iterator[ShadowDisk]":
    """The directory; what cannot be read ends the command."""
    from ottla.log.checkpoint import PATH
    from ottla.log.journal import DIRECTORY
    from ottla.ports.errors import DirectoryInUse, StorageFailed
    from ottla.ports.shadow_disk import ShadowDisk

    try:
        disk = ShadowDisk(directory)
    except DirectoryInUse as error:
        tell("cannot look at the files now", str(error), "stop the broker, or look at a copy")
        raise typer.Exit(EXIT_UNUSABLE) from error
    except StorageFailed as error:
        tell("cannot look at the files", str(error), "name the --data directory of a broker")
        raise typer.Exit(EXIT_UNUSABLE) from error
    try:
        if not (disk.exists(PATH) or disk.exists(DIRECTORY) or disk.exists("topics")):
            tell(
                f"{directory} is no data directory",
                "it has neither a checkpoint nor a journal nor topics",
                "name the --data directory of a broker",
            )
            raise typer.Exit(EXIT_UNUSABLE)
        yield disk
    except StorageFailed as error:
        tell("cannot look at the files", str(error), "let this user read them")
        raise typer.Exit(EXIT_UNUSABLE) from error
    except BrokenPipeError:
        leave_the_pipe()
    finally:
        disk.close()


def _rehearse(directory: Path) -> str:
    """Recover in memory: what a start would report."""
    from ottla.broker.broker import Broker
    from ottla.broker.config import BrokerConfig
    from ottla.ports.clock import RealClock
    from ottla.ports.errors import DataDamaged
    from ottla.ports.rng import RealRng

    with _looking_at(directory) as disk:
        try:
            broker = Broker(disk, RealClock(), RealRng(), BrokerConfig(journal_allocate_bytes=0))
        except DataDamaged as error:
            tell(f"a broker refuses {directory}", printable(error), "restore it from a copy")
            raise typer.Exit(EXIT_DAMAGED) from error
        found = broker.recovered
        broker.store.close()
    return (
        f"{found.partitions} partitions, {found.frames} journal frames replayed, "
        f"{found.torn_bytes} torn bytes cut"
    )


@app.command()
def dump(
    directory: Directory,
    only: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="Only this: checkpoint, journal, topics, or a file or directory in them.",
        ),
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", "-r", help="Show the records of each batch too.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what is in the files: records of the broker's state, frames, batches.

    With -o json it is one JSON object a line. Passwords' proofs are not shown.

    \b
    Examples:
      ottla log dump ./data checkpoint
      ottla log dump ./data topics --records

    \b
    Exit codes:
      0  shown
      2  the command was not understood
      4  it cannot be looked at: not there, not readable, no data directory, a broker runs on it
      5  shown up to where the data is damaged
    """
    from ottla.cli.log_lines import lines
    from ottla.ports.errors import DataDamaged

    found = False
    with _looking_at(directory) as disk:
        try:
            for line in lines(disk, only or "", with_records=records):
                found = True
                _print_line(line, output)
        except DataDamaged as error:
            tell("the data is damaged from here on", printable(error), "restore it from a copy")
            raise typer.Exit(EXIT_DAMAGED) from error
    if not found:
        tell(
            "there is nothing to show", f"no file {only or ''} with something in it in {directory}"
        )
        raise typer.Exit(EXIT_UNUSABLE)


def _print_line(line: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print_json(line)
    else:
        text = " ".join(f"{name}={value}" for name, value in line.items())
        typer.echo(("" if "file" in line else "    ") + printable(text))
