"""A sink worker without a broker, for tests that kill it: writes the records 0, 1, 2, ... of one
partition, in batches, from where the destination says it is. Record n is {"n": n, "k": n % 10}.

    python -m tests.pipeline.sink_process SCHEME ADDRESS COUNT BATCH_SIZE

Armed through OTTLA_FAILPOINTS. Ends with 0 when all are in, with 3 when it was fenced.
"""

import sys

from ottla.pipeline.errors import Fenced, SinkAway
from ottla.pipeline.sinks.sink import Batch, Move, SinkRow
from ottla.ports.failpoints import arm_from_environment
from tests.pipeline.conftest import Destination


def records(start: int, end: int) -> list[SinkRow]:
    """The records from `start` up to `end`."""
    return [SinkRow(0, n, {"n": n, "k": n % 10}, f"numbers.csv:{n + 2}") for n in range(start, end)]


def batch(epoch: int, start: int, end: int) -> Batch:
    """A batch of the records from `start` up to `end`."""
    return Batch(records(start, end), [], [Move(0, epoch, start, end, end - start)])


def main(scheme: str, address: str, count: int, size: int) -> int:
    arm_from_environment()
    sink = Destination(scheme, address).sink()
    epoch, offset = sink.claim({0: 0})[0]
    print("claimed", flush=True)
    while offset < count:
        end = min(offset + size, count)
        try:
            sink.write(batch(epoch, offset, end))
        except (Fenced, SinkAway) as error:
            print(type(error).__name__, flush=True)
            return 3
        offset = end
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
