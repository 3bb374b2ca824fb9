"""`ottla run`: a pipeline, from its source to its destination."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.pipelines import (
    EXIT_INTERRUPTED,
    BrokerOption,
    FileArgument,
    JsonOption,
    NameArgument,
    errors_as_exit_codes,
)
from ottla.pipeline.errors import ConfigError

if TYPE_CHECKING:
    from ottla.pipeline.display import Display
    from ottla.pipeline.model import PipelineSpec
    from ottla.pipeline.runner import PipelineRun


def run(
    file: FileArgument,
    name: NameArgument = None,
    bootstrap_servers: BrokerOption = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on when all is read: with files that grow or are new."),
    ] = False,
    json: JsonOption = False,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Show progress on a page too, for this machine alone."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Run a pipeline until everything is read and delivered.

    Each part is a process of its own and is started again if it dies. Run again to go on after
    an interruption, or with the rows that were added since.

    \b
    Examples:
      ottla run flights.yaml
      ottla run orders.yaml --follow --bootstrap-servers kafka1:9092
      ottla run flights.yaml --web 127.0.0.1:8000

    \b
    Exit codes:
      0    all rows are delivered or dead letters; with --follow, interrupted
      1    a mistake of Ottla's own
      2    the description or the command was not understood; nothing was started
      3    a person has to act: the message says on what; nothing is lost
      4    the broker cannot be used
      130  interrupted before the end; nothing is lost
    """
    with errors_as_exit_codes():
        # Imported here: other commands need not load all of this.
        from ottla.pipeline.access import state_directory
        from ottla.pipeline.config import load
        from ottla.pipeline.display import choose_display
        from ottla.pipeline.plan import make_plan
        from ottla.pipeline.runner import PipelineRun

        spec = load(file, name)
        make_plan(spec, bootstrap_servers)
        display = choose_display(spec.name, json=json, quiet=quiet)
        if web is not None:
            display = _page(spec, web, display)
        pipeline = PipelineRun(
            spec,
            state_directory(spec),
            bootstrap_servers=bootstrap_servers,
            follow=follow,
            display=display,
        )
        with _interruptible(pipeline), pipeline:
            result = pipeline.run()
    if not result.finished and not follow:
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.snapshot.dead and not (quiet or json):
        command = f"ottla dlq {file}" + (f" {name}" if name else "")
        typer.echo(f"{result.snapshot.dead:,} rows are dead letters; {command} lists them")


def _page(spec: "PipelineSpec", address: str, display: "Display") -> "Display":
    """A display that is served as a page, and shows on `display` too."""
    from ottla.pipeline.inspect import destination_rows
    from ottla.server.address import AddressUnusable, split_address
    from ottla.web.status import StatusServer

    try:
        host, port = split_address(address)
        page = StatusServer(
            spec.name, host, port, display, lambda count: destination_rows(spec, count)
        )
    except (AddressUnusable, OSError, ValueError) as error:
        raise ConfigError(f"--web {address} cannot be used: {error}") from error
    page.note(f"progress: {page.url}")
    return page


@contextmanager
def _interruptible(pipeline: "PipelineRun") -> Iterator[None]:
    """Ctrl-C and SIGTERM let the transactions under way end; a second one does not."""

    def stop(number: int, _: object) -> None:
        if pipeline.stop_requested:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        pipeline.stop_requested = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
