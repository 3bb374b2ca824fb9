"""What partitions cost that nobody uses: Ottla with 10, 1,000 and 10,000 of them.

    python -m bench.partitions [--seconds S] [COUNT ...]

Each broker may have 1,024 descriptors. One record goes into every partition, so that each has its
files. Then one client produces record after record, acks=all, first to one partition and then to
all in turn; Metadata of everything is asked for; the broker is stopped and started, and killed and
started, and answers when its log is recovered. A produce to one partition must not cost more
because of the others.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table
from tests.kafka_runner import answers

import ottla
from bench.brokers import Running
from bench.work import percentile

COUNTS = (10, 1_000, 10_000)
_DESCRIPTORS = 1_024
_PER_TOPIC = 100
_QUIET = {"log_level": 0}
Figures = dict[str, float]


def main() -> None:
    """Measure each count and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.partitions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("counts", nargs="*", type=int, metavar="COUNT", default=COUNTS)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each produce row (5)")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    results = {count: measure(count, options.seconds) for count in options.counts}
    table = Table(title=f"Ottla by its number of partitions, {_DESCRIPTORS} descriptors")
    table.add_column("figure")
    for count in results:
        table.add_column(f"{count:,}", justify="right")
    for figure in next(iter(results.values())):
        table.add_row(figure, *(f"{figures[figure]:,.2f}" for figures in results.values()))
    Console(width=120).print(table)


def measure(count: int, seconds: float) -> Figures:
    """All figures for a broker with `count` partitions."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="ottla-partitions-") as directory:
        place = Path(directory)
        with ottla.Broker(place) as broker:
            running = Running("Ottla", broker.bootstrap_servers, broker.pid, 0.0)
            partitions = _make(running, count)
            _fill(running, partitions)
            figures["produce to one, p50 ms"], figures["p99 ms"] = _produce(
                running, partitions[:1], seconds
            )
            figures["produce to all, p50 ms"], figures["p99 ms "] = _produce(
                running, partitions, seconds
            )
            figures["all metadata, ms"] = _metadata_ms(running)
            figures["descriptors"] = float(len(os.listdir(f"/proc/{broker.pid}/fd")))
            figures["memory, MB"] = running.resident_mb()
        figures["start after a stop, s"] = _start_s(place)
        figures["start after a kill, s"] = _start_s(place)
    return figures


def _make(broker: Running, count: int) -> list[tuple[str, int]]:
    """Topics with `count` partitions in all."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers} | _QUIET)
    sizes = {
        f"bench-{first:06d}": min(_PER_TOPIC, count - first)
        for first in range(0, count, _PER_TOPIC)
    }
    made = admin.create_topics([NewTopic(name, size, 1) for name, size in sizes.items()])
    for future in made.values():
        future.result(60)
    return [(name, index) for name, size in sizes.items() for index in range(size)]


def _fill(broker: Running, partitions: list[tuple[str, int]]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers} | _QUIET)
    for topic, index in partitions:
        producer.produce(topic, b"x" * 100, partition=index)
        producer.poll(0)
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} records were not acknowledged")


def _produce(
    broker: Running, partitions: list[tuple[str, int]], seconds: float
) -> tuple[float, float]:
    """Record after record; the median and the 99th percentile of their times."""
    settings = {"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0, "acks": "all"}
    producer = Producer(settings | _QUIET)
    times_ms: list[float] = []
    stride = max(len(partitions) // 7, 1) | 1
    end_s, at = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        topic, index = partitions[at * stride % len(partitions)]
        began_s = time.perf_counter()
        producer.produce(topic, b"x" * 100, partition=index)
        if producer.flush(30):
            raise RuntimeError("a record was not acknowledged")
        times_ms.append((time.perf_counter() - began_s) * 1_000)
        at += 1
    return percentile(times_ms, 0.5), percentile(times_ms, 0.99)


def _metadata_ms(broker: Running) -> float:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers} | _QUIET)
    admin.list_topics(timeout=30)
    began_s = time.perf_counter()
    admin.list_topics(timeout=30)
    return (time.perf_counter() - began_s) * 1_000


def _start_s(place: Path) -> float:
    """Start the broker, wait for its first answer, and kill it."""
    began_s = time.monotonic()
    broker = ottla.Broker(place)
    broker.start()
    while not answers(broker.port):
        time.sleep(0.005)
    took_s = time.monotonic() - began_s
    broker.kill()
    broker.close()
    return took_s


if __name__ == "__main__":
    main()
