"""`ottla status`: how far a pipeline is, whether it runs or not."""

from dataclasses import asdict

import typer

from ottla.cli.pipelines import (
    BrokerOption,
    FileArgument,
    JsonOption,
    NameArgument,
    errors_as_exit_codes,
)
from ottla.ports.printable import printable


def status(
    file: FileArgument,
    name: NameArgument = None,
    bootstrap_servers: BrokerOption = None,
    json: JsonOption = False,
) -> None:
    """Say how far each file is read and how far the destination is, and what waits between.

    \b
    Examples:
      ottla status flights.yaml
      ottla status flights.yaml --json

    \b
    Exit codes:
      0  told
      2  the description or the command was not understood
      3  the pipeline has not run, or the destination cannot be used
      4  the broker cannot be used
    """
    with errors_as_exit_codes():
        from ottla.pipeline.access import broker_of
        from ottla.pipeline.config import load
        from ottla.pipeline.inspect import look

        spec = load(file, name)
        with broker_of(spec, bootstrap_servers) as address:
            found = look(spec, address)
    if json:
        import orjson

        typer.echo(orjson.dumps(asdict(found)).decode())
        return
    typer.echo(spec.name)
    for position in found.positions:
        typer.echo(
            f"  read       {printable(position.path)}: {position.rows:,} rows, "
            f"{position.dead:,} dead letters, up to line {position.line - 1:,}"
        )
    typer.echo(
        f"  open       {found.input_open:,} rows before, {found.output_open:,} after the steps"
    )
    if spec.has_sink:
        taken = found.delivered.records - found.delivered.dead
        typer.echo(f"  delivered  {taken:,} records, {found.delivered.dead:,} dead letters")
