"""`ottla plan` and `ottla check`: what a pipeline would do, and whether it could."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ottla.cli.pipelines import (
    EXIT_STOPPED,
    BrokerOption,
    FileArgument,
    JsonOption,
    NameArgument,
    errors_as_exit_codes,
)
from ottla.ports.printable import printable_lines

if TYPE_CHECKING:
    from ottla.pipeline.model import PipelineSpec


def plan(
    file: FileArgument,
    name: NameArgument = None,
    bootstrap_servers: BrokerOption = None,
    json: JsonOption = False,
) -> None:
    """Say what each hop does and guarantees, without starting anything.

    \b
    Examples:
      ottla plan flights.yaml
      ottla plan flights.yaml --json

    \b
    Exit codes:
      0  the pipeline can run with the guarantee that is told
      2  the description or the command was not understood, or it cannot work
    """
    with errors_as_exit_codes():
        from ottla.pipeline.config import load
        from ottla.pipeline.plan import make_plan

        made = make_plan(load(file, name), bootstrap_servers)
    if json:
        import orjson

        typer.echo(orjson.dumps(asdict(made)).decode())
    else:
        typer.echo(printable_lines(made.text()))


def check(
    file: FileArgument, name: NameArgument = None, bootstrap_servers: BrokerOption = None
) -> None:
    """See whether the files, the destination and the broker can be used.

    Makes Ottla's two tables in the destination if they are not there.

    \b
    Examples:
      ottla check flights.yaml
      ottla check orders.yaml --bootstrap-servers kafka1:9092

    \b
    Exit codes:
      0  everything can be used
      2  the description or the command was not understood
      3  something cannot be used: the message says what
    """
    with errors_as_exit_codes():
        from ottla.pipeline.config import load
        from ottla.pipeline.plan import make_plan

        spec = load(file, name)
        made = make_plan(spec, bootstrap_servers)
    problems = 0
    for what, problem in _checks(spec, bootstrap_servers, list(made.files)):
        problems += problem is not None
        told = what if problem is None else f"{what}: {problem}"
        typer.echo(f"{'ok' if problem is None else 'NOT OK'}  {printable_lines(told)}")
    if problems:
        raise typer.Exit(EXIT_STOPPED)


def _checks(
    spec: "PipelineSpec", bootstrap_servers: str | None, files: list[str]
) -> list[tuple[str, str | None]]:
    """What was looked at, each with what is wrong with it."""
    from ottla.client import Admin, ClientError
    from ottla.client.settings import shown
    from ottla.pipeline.errors import PipelineError
    from ottla.pipeline.sinks.open import open_for
    from ottla.pipeline.urls import FileSource

    found: list[tuple[str, str | None]] = []
    if isinstance(spec.source, FileSource):
        none = None if files else "no file matches; with --follow it is waited for"
        found.append((f"source {spec.source.shown} ({len(files)} files)", none))
    address = bootstrap_servers or spec.broker
    if address is not None:
        try:
            Admin(address, timeout_ms=5_000).partition_counts([])
            found.append((f"broker {shown(address)}", None))
        except ClientError as error:
            found.append((f"broker {shown(address)}", str(error)))
    if spec.has_sink:
        sink = open_for(spec, topic_id="", owner="check")
        try:
            sink.connect()
            sink.check_table()
            found.append((f"destination {spec.sink.shown}", None))
        except PipelineError as error:
            found.append((f"destination {spec.sink.shown}", str(error)))
        finally:
            sink.close()
    return found
