"""The `ottla` command: one line here for each group of commands, a module for each group."""

from typing import Annotated

import typer

import ottla
from ottla.cli import (
    acls,
    audit,
    broker,
    configs,
    consume,
    dlq,
    groups,
    log,
    plan,
    produce,
    run,
    status,
    topics,
    transactions,
    users,
)
from ottla.cli.sections import BROKER, CLUSTER, PIPELINES, Sections

app = typer.Typer(
    name="ottla",
    cls=Sections,
    help="Exactly-once streaming for Python, from the source of the data to the database.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run.run, plan.plan, plan.check, status.status, dlq.dlq, audit.audit):
    app.command(rich_help_panel=PIPELINES)(command)
app.add_typer(broker.app, name="broker", rich_help_panel=BROKER)
app.add_typer(log.app, name="log", rich_help_panel=BROKER)
for command in (produce.produce, consume.consume):
    app.command(rich_help_panel=CLUSTER)(command)
for group in (topics, groups, transactions, configs, acls, users):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2], rich_help_panel=CLUSTER)


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
