"""What commands print: tables for people, JSON for programs.

Tables go to standard output without frames or colours, so that grep and awk can read them; on a
terminal they keep to its width. Names come from a cluster, which anybody may have written to: what
is not printable is shown as an escape, so that it can neither move the cursor nor fake a line.
"""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from ottla.ports.printable import printable

_PIPE_WIDTH = 10_000  # without a terminal no line is ever folded


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="A table, a table with more columns, or JSON."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def print_json(content: Any) -> None:
    """One JSON document."""
    import orjson

    typer.echo(orjson.dumps(content, default=str).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; a column of numbers stands to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else _PIPE_WIDTH,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[at], int) for row in rows)
        table.add_column(
            name.upper(), justify="right" if numbers else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value in (None, "") else printable(value)


def print_rows(
    output: Output,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    narrow: int,
    none: str,
) -> None:
    """Rows as the user wants them; a plain table has the first `narrow` columns.

    `none` is said to a person when there are no rows. The columns are the keys of the JSON.
    """
    if output is Output.JSON:
        keys = [name.replace(" ", "_") for name in columns]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    elif not rows:
        typer.echo(none, err=True)
    else:
        count = narrow if output is Output.TABLE else len(columns)
        print_table(columns[:count], [row[:count] for row in rows])


def print_done(output: Output, text: str, content: Any) -> None:
    """What was done: a line for a person, or its JSON."""
    if output is Output.JSON:
        print_json(content)
    else:
        typer.echo(printable(text))


def ask(plan: Sequence[str], *, yes: bool) -> None:
    """Say what will be done, and go on only when that is wanted.

    It is said on standard error. Ends the command when the answer is no, or nobody answers.
    """
    for line in plan:
        typer.echo(printable(line), err=True)
    if yes:
        return
    try:
        wanted = typer.confirm("Do it?", err=True)
    except typer.Abort:
        typer.echo("\nottla: nothing was done: nobody answered; --yes does not ask", err=True)
        raise typer.Exit(3) from None
    if not wanted:
        typer.echo("nothing was done", err=True)
        raise typer.Exit(3)
