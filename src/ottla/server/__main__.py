"""A broker process without the command line's libraries: `ottla.Broker` starts it.

    python -m ottla.server '{"data_dir": "...", "port": 0}'      (the fields of run.Options)

It writes one line of JSON to standard output when it is ready (run.Started), and what went wrong to
standard error.
"""

import sys

import msgspec

from ottla.ports.errors import DataDamaged, InvariantBroken, StorageFailed
from ottla.server.address import AddressUnusable
from ottla.server.run import Options, Started, explain, run


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    try:
        run(options, _report)
    except (AddressUnusable, StorageFailed, DataDamaged, InvariantBroken) as error:
        explanation = explain(error)
        sys.stderr.write(f"{explanation}\n")
        sys.exit(explanation.exit_code)


def _report(started: Started) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(started) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
