"""The `ottla` command: one line here for each group of commands, a module for each group."""

from typing import Annotated

import typer

import ottla
from ottla.cli import audit, broker, dlq, plan, run, status

app = typer.Typer(
    name="ottla",
    help="Exactly-once streaming for Python, from the source of the data to the database.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(broker.app, name="broker")
for command in (run.run, plan.plan, plan.check, status.status, dlq.dlq, audit.audit):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ottla {ottla.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the `ottla` script."""
    app()
