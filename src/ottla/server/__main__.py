"""A broker process without the command line's libraries: `ottla.Broker` starts it.

    python -m ottla.server '{"data_dir": "..."}' [-]      (the fields of run.Options)

With "-" the settings of security follow on standard input, one line of JSON (security.Security):
there may be passwords in them, and everybody can see a process's arguments.

It writes one line of JSON to standard output when it is ready (run.Started), and what went wrong to
standard error.
"""

import sys

import msgspec

from ottla.ports.errors import DataDamaged, InvariantBroken, StorageFailed
from ottla.server.address import NotUsable
from ottla.server.run import Options, Started, explain, run
from ottla.server.security import Security


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    if sys.argv[2:] == ["-"]:
        security = msgspec.json.decode(sys.stdin.buffer.readline(), type=Security)
        options = msgspec.structs.replace(options, security=security)
    try:
        run(options, _report)
    except (NotUsable, StorageFailed, DataDamaged, InvariantBroken) as error:
        explanation = explain(error)
        sys.stderr.write(f"{explanation}\n")
        sys.exit(explanation.exit_code)


def _report(started: Started) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(started) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
