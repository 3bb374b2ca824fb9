"""Metrics for Prometheus: what the broker is doing, at http://HOST:PORT/metrics.

prometheus-client serves them in a thread of its own. What it shows of the core is taken on the
event loop, where the core lives: the thread asks and waits. Times are observed as they happen.
Without `--metrics` nothing of this exists, and a request pays nothing for it.

The names begin with `ottla_`. Beyond the usual ones there is what Kafka does not tell: how many
transactions are open and how old the oldest is, how far each topic's last stable offset is behind
its high watermark, what was fenced, which batches came twice.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ottla.broker.counters import Ending
from ottla.coordinator.transaction_states import TransactionState
from ottla.server.address import AddressUnusable, join_address, split_address
from ottla.wire.api import API

if TYPE_CHECKING:
    from ottla.server.server import Server

_SCRAPE_LIMIT_S = 5.0
_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)
_OPEN = TransactionState.ONGOING


class Metrics:
    """All metrics of one broker."""

    def __init__(self, address: str) -> None:
        """Serve them at HOST:PORT until `close`. Raises AddressUnusable."""
        host, port = split_address(address)
        self._registry = CollectorRegistry()
        requests = Histogram(
            "ottla_request_seconds",
            "From the request to its answer, long polls included. EndTxn is the commit's latency.",
            ("api",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._requests = {key: requests.labels(api.name) for key, api in API.items()}
        self._sync = Histogram(
            "ottla_fsync_seconds",
            "Writing the journal and making it durable.",
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        try:
            self._http, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise AddressUnusable(
                f"metrics cannot be served at {address}: {error.strerror or error}",
                "choose another HOST:PORT (--metrics)",
            ) from error
        self.url = f"http://{join_address(host, self._http.server_port)}/metrics"

    def attach(self, server: "Server") -> None:
        """Show the core of `server` too. Call this on the event loop that it runs on."""
        self._registry.register(_CoreCollector(server, asyncio.get_running_loop()))

    def answered(self, api_key: int, seconds: float) -> None:
        """A request was answered after `seconds`."""
        timed = self._requests.get(api_key)
        if timed is not None:
            timed.observe(seconds)

    def synced(self, seconds: float) -> None:
        """The journal was synced, which took `seconds`."""
        self._sync.observe(seconds)

    def close(self) -> None:
        """Serve no longer."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _CoreCollector(Collector):
    """What is taken from the core when somebody asks."""

    def __init__(self, server: "Server", loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop

    def describe(self) -> list[Metric]:
        """Nothing: to describe them would mean to ask the loop, which is waiting for this."""
        return []

    def collect(self) -> list[Metric]:
        """Everything, taken on the loop; nothing while the broker stops."""
        taking = self._take()
        try:
            taken = asyncio.run_coroutine_threadsafe(taking, self._loop)
        except RuntimeError:  # the loop is closed
            taking.close()
            return []
        try:
            return taken.result(_SCRAPE_LIMIT_S)
        except (TimeoutError, CancelledError):
            return []

    async def _take(self) -> list[Metric]:
        return list(_of_core(self._server))


def _of_core(server: "Server") -> Iterator[Metric]:
    core = server.core
    yield from _transactions(server)
    yield _counter("duplicates", "Batches that were there already.", core.counters.duplicates)
    yield _counter(
        "out_of_order", "Batches refused: one before them is missing.", core.counters.out_of_order
    )
    yield _counter("fenced", "Requests of producers that were shut out.", core.counters.fenced)
    yield _gauge("connections", "Clients that are connected.", server.connections)
    yield _gauge("parked_answers", "Answers that wait for the disk.", core.parked_answers)
    journal = core.store.journal
    yield _counter("journal_bytes", "Bytes written to the journal.", journal.written_position)
    yield _gauge(
        "undurable_bytes",
        "Bytes of the journal that a power cut would take.",
        journal.written_position - journal.durable_position,
    )
    yield from _topics(server)


def _transactions(server: "Server") -> Iterator[Metric]:
    core = server.core
    begun_ms = [
        record.start_timestamp_ms
        for record in core.transactions.transactions()
        if record.state == _OPEN
    ]
    age_ms = core.clock.now_ms() - min(begun_ms) if begun_ms else 0
    yield _gauge("open_transactions", "Transactions that have not ended.", len(begun_ms))
    yield _gauge("oldest_open_transaction_seconds", "Age of the oldest of them.", age_ms / 1_000)
    ended = CounterMetricFamily(
        "ottla_transactions_ended", "Transactions that have ended, and how.", labels=("how",)
    )
    for how in Ending:
        ended.add_metric((how.value,), core.counters.ended[how])
    yield ended


def _topics(server: "Server") -> Iterator[Metric]:
    partitions = GaugeMetricFamily("ottla_partitions", "Partitions.", labels=("topic",))
    records = GaugeMetricFamily(
        "ottla_high_watermark_records", "Sum of the high watermarks.", labels=("topic",)
    )
    lag = GaugeMetricFamily(
        "ottla_last_stable_offset_lag_records",
        "How far the last stable offset is behind the high watermark, in the worst partition.",
        labels=("topic",),
    )
    for topic in server.core.catalog.topics():
        marks = [one.high_watermark for one in topic.partitions]
        behind = [one.high_watermark - one.last_stable_offset for one in topic.partitions]
        partitions.add_metric((topic.name,), len(marks))
        records.add_metric((topic.name,), sum(marks))
        lag.add_metric((topic.name,), max(behind, default=0))
    yield from (partitions, records, lag)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ottla_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"ottla_{name}", text, value)
