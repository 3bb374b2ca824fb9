"""`ottla audit`: whether the books of a pipeline balance."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ottla.cli.pipelines import (
    BrokerOption,
    FileArgument,
    JsonOption,
    NameArgument,
    errors_as_exit_codes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ottla.audit.ledger import Audit, Finding
    from ottla.pipeline.inspect import Inspection
    from ottla.pipeline.model import PipelineSpec

EXIT_NOT_EXACT = 1


def audit(
    file: FileArgument,
    name: NameArgument = None,
    bootstrap_servers: BrokerOption = None,
    json: JsonOption = False,
) -> None:
    """Balance what a pipeline has read with what became of it.

    Everything is counted anew, from the topics and from the destination, by other code than that
    which did the work. Takes about as long as the run did.

    \b
    Examples:
      ottla audit flights.yaml
      ottla audit flights.yaml --json

    \b
    Exit codes:
      0  exact: nothing is missing, nothing is there twice
      1  not exact
      2  the description or the command was not understood
      3  the pipeline has not run, or the destination cannot be used
      4  the broker cannot be used
    """
    with errors_as_exit_codes():
        from ottla.pipeline.access import broker_of
        from ottla.pipeline.config import load
        from ottla.pipeline.inspect import inspect

        spec = load(file, name)
        with broker_of(spec, bootstrap_servers) as address:
            found = balance(spec, inspect(spec, address))
    if json:
        import orjson

        content = {
            **asdict(found),
            "difference": found.ledger.difference,
            "exact": found.exact,
        }
        typer.echo(orjson.dumps(content).decode())
    else:
        typer.echo(f"{spec.name}\n\n{found.text()}")
    if not found.exact:
        raise typer.Exit(EXIT_NOT_EXACT)


def balance(spec: "PipelineSpec", found: "Inspection") -> "Audit":
    """The ledger of what was found."""
    from ottla.audit.ledger import Audit, Ledger

    counted, delivered = found.recount, found.delivered
    source_dead = sum(letter.step == "source" for letter in found.dead_letters)
    transformed = found.output if spec.aggregate is None else counted.out
    open_rows = found.input_open
    if spec.has_sink and spec.aggregate is None:
        transformed = delivered.records - delivered.dead
        open_rows += found.output_open
    findings = _findings(spec, found, source_dead)
    ledger = Ledger(
        read=counted.read + found.input_open + source_dead,
        made=counted.made,
        out=transformed,
        deduplicated=counted.deduplicated,
        filtered=counted.filtered,
        dead=len(found.dead_letters) + (delivered.dead if spec.aggregate is None else 0),
        open=open_rows,
        unsure=counted.unsure,
    )
    return Audit(ledger, tuple(findings))


def _findings(spec: "PipelineSpec", found: "Inspection", source_dead: int) -> "Iterator[Finding]":
    """The numbers that must be the same, each counted in two places."""
    from ottla.audit.ledger import Finding

    counted, delivered = found.recount, found.delivered
    if spec.has_source:
        rows = sum(position.rows for position in found.positions)
        dead = sum(position.dead for position in found.positions)
        arrived = counted.read + found.input_open
        yield Finding("rows of the files in the topic", rows, arrived)
        yield Finding("lines of the files in the dead letters", dead, source_dead)
    if spec.has_streams:
        failed = sum(letter.step not in ("source", "aggregate") for letter in found.dead_letters)
        yield Finding("rows that fail in the dead letters", counted.failed, failed)
    if spec.has_streams and spec.aggregate is None:
        yield Finding("rows of the transformations", counted.out, found.output)
    if spec.has_sink:
        written = found.output - found.output_open
        yield Finding("records taken by the destination", written, delivered.records)
    if spec.aggregate is not None and not (found.input_open or found.output_open):
        expected, equal = found.results_expected, found.results_equal
        yield Finding("results in the destination", expected, equal)
