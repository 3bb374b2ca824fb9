"""`ottla dlq`: the dead letters of a pipeline."""

from dataclasses import asdict
from typing import Annotated

import typer

from ottla.cli.pipelines import (
    BrokerOption,
    FileArgument,
    JsonOption,
    NameArgument,
    errors_as_exit_codes,
)
from ottla.ports.printable import printable


def dlq(
    file: FileArgument,
    name: NameArgument = None,
    bootstrap_servers: BrokerOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print the rows themselves too.")] = False,
    json: JsonOption = False,
) -> None:
    """List the rows that could not be read, transformed or stored: file, line and reason.

    \b
    Examples:
      ottla dlq flights.yaml
      ottla dlq flights.yaml --raw

    \b
    Exit codes:
      0  listed, also if there are none
      2  the description or the command was not understood
      3  the pipeline has not run, or the destination cannot be used
      4  the broker cannot be used
    """
    with errors_as_exit_codes():
        from ottla.pipeline.access import broker_of
        from ottla.pipeline.config import load
        from ottla.pipeline.inspect import sink_dead_letters, topic_dead_letters

        spec = load(file, name)
        with broker_of(spec, bootstrap_servers) as address:
            letters = list(topic_dead_letters(spec, address))
        if spec.has_sink:
            letters += sink_dead_letters(spec)
    for letter in letters:
        if json:
            import orjson

            typer.echo(orjson.dumps(asdict(letter)).decode())
        else:
            typer.echo(printable(letter) + (f"\n    {printable(letter.raw)}" if raw else ""))
    if not letters and not json:
        typer.echo("there are no dead letters")
