"""How fast a stream application is: one worker, one partition, JSON records, exactly once.

    python -m bench.streams [--records 1000000] [--keys 10000] [--bootstrap-servers HOST:PORT]

Each work reads the same topic, commits every 100 ms, and is timed from the first record to the
commit of the last. Prints records per second, and the share of a core that the worker's process
used, as one line of JSON per work. Without bootstrap servers it runs against a broker of its own.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

import orjson

from ottla.client import Admin, Producer, TopicSpec
from ottla.server.process import Broker
from ottla.streams import App, Tumbling
from ottla.streams.dsl import Stream

_TIME_STEP_MS = 1  # between two records: a 10 s window holds 10,000 of them
Work = Callable[[Stream[str, dict[str, int]]], None]


def stateless(stream: Stream[str, dict[str, int]]) -> None:
    """Every record in, every record out."""
    stream.map_values(lambda value: {"n": value["n"] + 1}).to("bench-map")


def count(stream: Stream[str, dict[str, int]]) -> None:
    """A count per key, its updates to a topic."""
    stream.group_by_key().count("per-key").current().to("bench-count")


def count_every(stream: Stream[str, dict[str, int]]) -> None:
    """The same, with every single update."""
    stream.group_by_key().count("per-key").current(every_update=True).to("bench-count-every")


def tumbling(stream: Stream[str, dict[str, int]]) -> None:
    """A count per key and window of 10 s, its updates to a topic."""
    windowed = stream.group_by_key().windowed(Tumbling(timedelta(seconds=10), grace=0))
    windowed.count("per-window").current().to("bench-window")


def tumbling_final(stream: Stream[str, dict[str, int]]) -> None:
    """The same, with one result when a window closes."""
    windowed = stream.group_by_key().windowed(Tumbling(timedelta(seconds=10), grace=0))
    windowed.count("per-window").final().to("bench-window-final")


def dedupe(stream: Stream[str, dict[str, int]]) -> None:
    """Drop what was seen in the last minute; nothing is a duplicate, which is the most work."""
    stream.dedupe("seen", key=lambda value: value["n"], window=timedelta(minutes=1)).to(
        "bench-seen"
    )


WORKS: tuple[Work, ...] = (stateless, count, count_every, tumbling, tumbling_final, dedupe)


def fill(bootstrap_servers: str, topic: str, records: int, keys: int) -> None:
    """Write the input, once."""
    Admin(bootstrap_servers).create_topics([TopicSpec(topic, config={"retention.ms": "-1"})])
    names = [b"key-%06d" % number for number in range(keys)]
    with Producer(bootstrap_servers) as producer:
        for start in range(0, records, 50_000):
            rows = [
                (names[n * 7919 % keys], orjson.dumps({"n": n, "at": n * _TIME_STEP_MS}), n + 1)
                for n in range(start, min(start + 50_000, records))
            ]
            producer.send_rows(topic, rows)
            producer.flush()


def measure(work: Work, bootstrap_servers: str, topic: str, records: int) -> dict[str, object]:
    """Run one work over the whole topic."""
    with tempfile.TemporaryDirectory() as directory:
        app = App(f"bench-{work.__name__}-{time.time_ns()}", bootstrap_servers, state_dir=directory)
        work(app.stream(topic, timestamp=lambda value: value["at"]))
        began: list[tuple[float, float]] = []

        def done() -> bool:
            seen = app.metrics().get("records_in", 0)
            if seen and not began:
                began.append((time.perf_counter(), seen))
                began.append((_cpu_s(), 0))
            return seen >= records

        app.run(until=done)
        seconds = time.perf_counter() - began[0][0]
        counted = records - began[0][1]
        return {
            "work": work.__name__,
            "records_per_s": round(counted / seconds),
            "cpu_share": round((_cpu_s() - began[1][0]) / seconds, 2),
            "metrics": app.metrics(),
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure every work, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", choices=[[], *(work.__name__ for work in WORKS)])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        servers = arguments.bootstrap_servers
        if servers is None:
            servers = stack.enter_context(Broker()).bootstrap_servers
        topic = f"bench-input-{arguments.records}-{arguments.keys}"
        if topic not in Admin(servers).partition_counts():
            fill(servers, topic, arguments.records, arguments.keys)
        for work in WORKS:
            if not arguments.works or work.__name__ in arguments.works:
                print(json.dumps(measure(work, servers, topic, arguments.records)), flush=True)


if __name__ == "__main__":
    main()
