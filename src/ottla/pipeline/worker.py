"""One worker of a pipeline as a process: `python -m ottla.pipeline.worker ROLE FILE`.

FILE is the description that the supervisor froze at the start, so that all workers, also those
that are restarted, work by the same one. Where the broker is says OTTLA_PIPELINE_BROKER. Reports
go to standard output, words for people to standard error. The worker ends in good order when it
reads STOP from its standard input, and on SIGTERM; it ends at once when its standard input is
closed, as it is when its supervisor is killed.

Exit codes: 0 done or stopped, 3 a person has to act, 4 fenced, anything else: start it again.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from ottla.client import ClientError
from ottla.pipeline.config import build
from ottla.pipeline.errors import Fenced, PipelineError
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.reports import Reporter
from ottla.ports.errors import StorageFailed
from ottla.ports.failpoints import arm_from_environment

EXIT_STOPPED = 3
EXIT_FENCED = 4
EXIT_AGAIN = 1
_REPORT_INTERVAL_S = 0.25
STOP = b"s"  # on standard input
# Where the broker is: not an argument, for there may be a password in it, and all can see those.
BROKER_VARIABLE = "OTTLA_PIPELINE_BROKER"
_STDIN = 0
_STOP_LIMIT_S = 30.0
_HANG_LIMIT_S = 60.0


def main(arguments: list[str]) -> int:
    """Run a worker until it is done or stopped; its exit code."""
    role, file = arguments
    bootstrap_servers = os.environ[BROKER_VARIABLE]
    arm_from_environment()
    content = orjson.loads(Path(file).read_bytes())
    spec = build(content["name"], content["description"], Path(content["base"]))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    try:
        _RUN[role](spec, bootstrap_servers, content, stop)
    except Fenced as error:
        print(error, file=sys.stderr)
        return EXIT_FENCED
    except (PipelineError, StorageFailed) as error:
        print(error, file=sys.stderr)
        return EXIT_STOPPED
    except ClientError as error:
        print(error, file=sys.stderr)
        return EXIT_AGAIN
    return 0


def _watch_stdin(stop: threading.Event) -> None:
    """End in good order when told to, and at once when the supervisor is gone.

    Then the broker is going too, and waiting for it would only keep the next run from starting.
    """
    # Not sys.stdin: its lock, held by this thread at the end of the process, aborts the process.
    if os.read(_STDIN, 1) != STOP:
        os._exit(EXIT_AGAIN)
    stop.set()
    time.sleep(_STOP_LIMIT_S)
    print("the worker did not end in time", file=sys.stderr)
    os._exit(EXIT_AGAIN)


def _run_source(
    spec: PipelineSpec, bootstrap_servers: str, content: dict[str, str], stop: threading.Event
) -> None:
    from ottla.pipeline.sources.source import SourceWorker

    follow = bool(content["follow"])
    SourceWorker(spec, bootstrap_servers, Reporter("source"), stop, follow=follow).run()


def _run_sink(
    spec: PipelineSpec, bootstrap_servers: str, content: dict[str, str], stop: threading.Event
) -> None:
    from ottla.pipeline.sinks.delivery import SinkWorker

    SinkWorker(spec, bootstrap_servers, Reporter("sink"), stop).run()


def _run_streams(
    spec: PipelineSpec, bootstrap_servers: str, content: dict[str, str], stop: threading.Event
) -> None:
    from ottla.pipeline.compile import build_app
    from ottla.pipeline.errors import PipelineStopped
    from ottla.pipeline.topics import make_topics
    from ottla.streams.errors import StateInUse, StreamsError

    report = Reporter("streams")
    counts = make_topics(spec, bootstrap_servers)
    partitions = counts[spec.input_topic]
    app = build_app(spec, bootstrap_servers, Path(content["state_dir"]), partitions)

    turned_at = time.monotonic()

    def until() -> bool:
        nonlocal turned_at
        turned_at = time.monotonic()
        return stop.is_set()

    def tell() -> None:
        while not stop.wait(_REPORT_INTERVAL_S):
            report.progress(now=True, **app.metrics(), at=time.time())
            if time.monotonic() - turned_at > _HANG_LIMIT_S:
                # Its successor fences it and begins at what is committed: nothing is lost.
                print(f"no turn of the loop in {_HANG_LIMIT_S} s", file=sys.stderr)
                os._exit(EXIT_AGAIN)

    threading.Thread(target=tell, daemon=True).start()
    try:
        app.run(until=until)
    except StateInUse as error:
        raise Fenced(str(error)) from error
    except StreamsError as error:
        raise PipelineStopped(str(error)) from error
    report.progress(now=True, **app.metrics(), at=time.time())


_RUN: dict[str, Callable[[PipelineSpec, str, dict[str, str], threading.Event], None]] = {
    "source": _run_source,
    "streams": _run_streams,
    "sink": _run_sink,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
