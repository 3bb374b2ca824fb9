"""What the commands about pipelines have in common: arguments, and errors as exit codes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ottla.client import ClientError
from ottla.pipeline.errors import ConfigError, PipelineError
from ottla.ports.printable import printable_lines
from ottla.server.process import BrokerFailed

EXIT_DESCRIPTION = 2
EXIT_STOPPED = 3
EXIT_BROKER = 4
EXIT_INTERRUPTED = 130

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The pipeline, in YAML.")]
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Which pipeline, if there are several in the file."),
]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT",
        help="A broker to use, Ottla or Apache Kafka, instead of the pipeline's own.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print an error's text and end with its exit code."""
    try:
        yield
    except ConfigError as error:
        _end(error, EXIT_DESCRIPTION)
    except PipelineError as error:
        _end(error, EXIT_STOPPED)
    except (ClientError, BrokerFailed) as error:
        _end(error, EXIT_BROKER)


def _end(error: Exception, code: int) -> None:
    print(f"ottla: {printable_lines(error)}", file=sys.stderr)
    raise typer.Exit(code) from error
