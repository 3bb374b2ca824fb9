"""`make demo`: 336,776 real flights through every part, each part killed again and again.

    python -m examples.flights.demo [--db URL] [--seed N] [--kills N]

5 % of the flights are sent twice. The pipeline of flights.yaml drops the repeats, sums the delays
of each airline on each day, and puts them into a database. Meanwhile the broker and each worker are
ended with kill -9, again and again. At the end the database is compared with sums made straight
from the original file, by code that shares nothing with Ottla. The exit code is 0 if nothing was
lost and nothing doubled.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.flights.chaos import PARTS, Chaos
from examples.flights.data import Expected, Key, expected, write_with_repeats
from examples.flights.database import Database
from examples.flights.transactions import count_transactions
from ottla.pipeline.config import load
from ottla.pipeline.display import Snapshot
from ottla.pipeline.runner import PipelineRun

_KILLS = 24
_TIME_LIMIT_S = 900
_PLAIN_INTERVAL_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What is compared at the end."""

    sent: int
    repeats: int
    dropped: int
    lost: int
    doubled: int
    differences: int
    dead: int
    kills: dict[str, int]
    transactions: dict[str, int]
    database_transactions: int
    seconds: float

    @property
    def exact(self) -> bool:
        return self.lost == self.doubled == self.differences == 0


def main() -> int:
    arguments = _arguments()
    console = Console()
    console.print(f"seed {arguments.seed}; the same seed sends the same rows")
    with _directory() as directory:
        console.print("writing the file, 5 % of its rows twice, and the sums to compare with ...")
        truth = expected()
        sent, repeats = write_with_repeats(directory / "flights.csv", arguments.seed)
        database = Database(arguments.db, directory)
        outcome = _run(directory, database, truth, sent, repeats, arguments, console)
        database.close()
    _print(outcome, console, database.shown)
    return 0 if outcome.exact else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.flights.demo", description=__doc__)
    parser.add_argument("--db", metavar="URL", help="postgresql://… instead of an SQLite file")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--kills", type=int, default=_KILLS, help=f"how many (default {_KILLS})")
    return parser.parse_args()


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ottla-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(
    directory: Path,
    database: Database,
    truth: Expected,
    sent: int,
    repeats: int,
    arguments: argparse.Namespace,
    console: Console,
) -> Outcome:
    shutil.copy(Path(__file__).with_name("flights.yaml"), directory)
    os.environ["FLIGHTS_DB"] = database.pipeline_url
    spec = load(directory / "flights.yaml")
    chaos = Chaos(arguments.kills, arguments.seed, sent, lambda _: database.flights() / truth.total)
    began = time.monotonic()
    with _Progress(console, chaos, arguments.kills) as progress:

        def on_tick(run: PipelineRun) -> bool:
            more = chaos(run)
            progress.show(run.snapshot())
            if time.monotonic() - began > _TIME_LIMIT_S:
                run.stop_requested = True
            return more

        with PipelineRun(spec, directory / "state", on_tick=on_tick) as run:
            result = run.run()
    found = database.results()
    return Outcome(
        sent=sent,
        repeats=repeats,
        dropped=sent - sum(flights for flights, _ in found.values()) - result.snapshot.dead,
        lost=sum(max(0, n - found.get(key, (0, 0))[0]) for key, n in truth.flights.items()),
        doubled=sum(max(0, n - truth.flights.get(key, 0)) for key, (n, _) in found.items()),
        differences=_differences(truth, found),
        dead=result.snapshot.dead,
        kills={part: chaos.counts[part] for part in PARTS},
        transactions=count_transactions(directory / "state" / "broker"),
        database_transactions=database.transactions(),
        seconds=result.seconds,
    )


def _differences(truth: Expected, found: dict[Key, tuple[int, int]]) -> int:
    """How many pairs of airline and day have another number of flights or another sum."""
    keys = truth.flights.keys() | found.keys()
    return sum(found.get(key) != (truth.flights.get(key), truth.delay_sum.get(key)) for key in keys)


def _print(outcome: Outcome, console: Console, where: str) -> None:
    table = Table(title=f"Compared with the original file · {where}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    kills = ", ".join(f"{part} {count}" for part, count in outcome.kills.items())
    table.add_row("rows sent", f"{outcome.sent:,}")
    table.add_row("repeats among them", f"{outcome.repeats:,}")
    table.add_row("repeats dropped", f"{outcome.dropped:,}")
    table.add_row("dead letters", f"{outcome.dead:,}")
    table.add_row(f"kill -9 survived ({kills})", f"{sum(outcome.kills.values()):,}")
    table.add_row("transactions committed in the log", f"{outcome.transactions['committed']:,}")
    table.add_row("transactions aborted in the log", f"{outcome.transactions['aborted']:,}")
    table.add_row("transactions in the database", f"{outcome.database_transactions:,}")
    table.add_row("seconds", f"{outcome.seconds:.1f}", end_section=True)
    for name, count in (
        ("rows lost", outcome.lost),
        ("rows doubled", outcome.doubled),
        ("sums that differ", outcome.differences),
    ):
        style = "green" if count == 0 else "bold red"
        table.add_row(name, f"{count:,}", style=style)
    console.print(table)
    if not outcome.exact:
        console.print("[bold red]NOT EXACT[/]: please report this, with the seed above")


class _Progress:
    """A bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console, chaos: Chaos, kills: int) -> None:
        self._console = console
        self._chaos = chaos
        self._kills = kills
        self._next = 0.0
        columns = (
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task("starting", total=1.0) if self._bar else None

    def __enter__(self) -> "_Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, snapshot: Snapshot) -> None:
        text = (
            f"{snapshot.rows_in:,} rows read · {snapshot.restarts} restarts · "
            f"{sum(self._chaos.counts.values())}/{self._kills} kills"
        )
        share = self._chaos.share_delivered
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=share, description=text)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_INTERVAL_S
            print(f"{share:4.0%} delivered · {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
