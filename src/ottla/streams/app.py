"""An application: a topology, and the worker that runs it.

    app = ottla.App("sales", "127.0.0.1:9092")
    app.stream("orders").group_by_key().count("orders-per-customer").current().to("counts")
    app.run()

More throughput: start the same program in more processes, each with a `state_dir` of its own, up to
the number of partitions of the input.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self, Unpack

from ottla.client import Admin
from ottla.client.settings import Security, as_url
from ottla.ports.clock import Clock, RealClock
from ottla.ports.failpoints import arm_from_environment
from ottla.server.process import Broker
from ottla.streams.compiler import compile_subtopology
from ottla.streams.dsl import Builder, Stream, check_name
from ottla.streams.errors import TopologyError
from ottla.streams.queries import Query, query_saved, query_tasks
from ottla.streams.serdes import Serde
from ottla.streams.storage import Storage
from ottla.streams.topics import topics_to_make
from ottla.streams.topology import Topology
from ottla.streams.worker import Worker

_log = logging.getLogger(__name__)


class App:
    """A streams application.

    Args:
        name: of the consumer group, and the beginning of all names of internal topics.
        bootstrap_servers: of Ottla or Apache Kafka. Without them the application brings its own
            broker, with its data in state_dir, from the first use until `close`.
        guarantee: "exactly_once".
        state_dir: where the state is kept; one per process.
        commit_interval_ms: how often a transaction is committed: the latency of its results.
        errors: "stop" on a record that fails, or "dead_letter" it.
        worker: the stable name of this process within the application; by default one that is made
            at the first start and kept in state_dir.
        transaction_timeout_ms: after this long the broker aborts the transaction of a worker that
            hangs; readers of its output wait for that.
        session_timeout_ms: after this long without a sign of life its partitions go to others.
        timeout_ms: how long to wait for an answer of the broker.
        security: how to be let in; see `ottla.client.settings.Security`.
    Raises TopologyError on values that make no sense.
    """

    def __init__(
        self,
        name: str,
        bootstrap_servers: str | None = None,
        *,
        guarantee: str = "exactly_once",
        state_dir: str | Path = ".ottla",
        commit_interval_ms: int = 100,
        errors: str = "stop",
        worker: str | None = None,
        transaction_timeout_ms: int = 10_000,
        session_timeout_ms: int = 10_000,
        timeout_ms: int = 30_000,
        clock: Clock | None = None,
        **security: Unpack[Security],
    ) -> None:
        check_name(name, "an application")
        if guarantee != "exactly_once":
            raise TopologyError(f'guarantee is "exactly_once", not {guarantee!r}')
        if errors not in ("stop", "dead_letter"):
            raise TopologyError(f'errors is "stop" or "dead_letter", not {errors!r}')
        self.name = name
        self.state_dir = Path(state_dir) / name
        if security and bootstrap_servers is None:
            raise TopologyError("the application's own broker is open to this machine alone")
        self._bootstrap_servers = (
            None if bootstrap_servers is None else as_url(bootstrap_servers, security)
        )
        self._broker: Broker | None = None
        self.dead_letter_topic: str | None = None
        self._builder = Builder(name)
        self._commit_interval_ms = commit_interval_ms
        self._transaction_timeout_ms = transaction_timeout_ms
        self._session_timeout_ms = session_timeout_ms
        self._timeout_ms = timeout_ms
        self._clock = clock or RealClock()
        self._worker_name = worker
        self._worker: Worker | None = None
        self._running = False
        self._stopping = threading.Event()
        if errors == "dead_letter":
            self.dead_letters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap_servers(self) -> str:
        """Of the cluster; starts the application's own broker if there is no other."""
        if self._bootstrap_servers is not None:
            return self._bootstrap_servers
        if self._broker is None:
            self._broker = Broker(self.state_dir / "broker")
            self._broker.start()
        return self._broker.bootstrap_servers

    def close(self) -> None:
        """Stop the application's own broker, if it has one."""
        if self._broker is not None:
            self._broker.close()
            self._broker = None

    def stream(
        self,
        topic: str,
        *,
        key_serde: str | Serde = "str",
        value_serde: str | Serde = "json",
        timestamp: Callable[..., int] | None = None,
    ) -> Stream[Any, Any]:
        """Read a topic.

        Args: `timestamp` gives the event time of a value, milliseconds since 1970; without it the
        timestamp of the record counts. Raises TopologyError on an unknown serde.
        """
        return self._builder.stream(
            topic, key_serde=key_serde, value_serde=value_serde, timestamp=timestamp
        )

    def dead_letters(self, topic: str | None = None) -> str:
        """Write records that fail to `topic`, in the transaction they failed in; its name.

        Without a name, `<app>-dead-letters`. Everything the record did before it failed is undone.
        Headers tell where it came from: ottla.topic, .partition, .offset, .step, .error, .reason.
        """
        self.dead_letter_topic = topic or f"{self.name}-dead-letters"
        return self.dead_letter_topic

    def topology(self) -> Topology:
        """What was written so far."""
        return self._builder.topology()

    def describe(self) -> str:
        """The topology as text, in the format of Kafka Streams."""
        return self.topology().describe()

    def source(self) -> str:
        """The Python code that the topology is compiled to, for people."""
        topology = self.topology()
        rollback = self.dead_letter_topic is not None
        programs = [
            compile_subtopology(topology, sub, rollback=rollback)
            for sub in topology.subtopologies()
        ]
        return "\n\n".join(program.source for program in programs)

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Run until `stop`, SIGTERM, SIGINT, or until `until()` is true.

        Raises StreamsError when it cannot go on, and ClientError when the cluster cannot be used.
        """
        arm_from_environment()
        topology = self.topology()
        topology.subtopologies()
        storage = Storage(self.state_dir)
        self._running, self._worker = True, None
        try:
            self._make_topics(topology)
            self._worker = Worker(
                topology,
                self.bootstrap_servers,
                storage,
                self._clock,
                worker=self._worker_name or storage.worker,
                commit_interval_ms=self._commit_interval_ms,
                transaction_timeout_ms=self._transaction_timeout_ms,
                session_timeout_ms=self._session_timeout_ms,
                timeout_ms=self._timeout_ms,
                dead_letter_topic=self.dead_letter_topic,
            )
            with _stopped_by_signals(self.stop):
                self._worker.run(lambda: self._stopping.is_set() or (until is not None and until()))
        finally:
            storage.close()
            self._running = False
            self._stopping.clear()

    def _make_topics(self, topology: Topology) -> None:
        admin = Admin(self.bootstrap_servers, timeout_ms=self._timeout_ms)
        existing = admin.partition_counts()
        made = admin.create_topics(topics_to_make(topology, existing, self.dead_letter_topic))
        if made:
            _log.info("made topics %s", ", ".join(made))

    def stop(self) -> None:
        """Let `run` commit and return, or not begin. From any thread."""
        self._stopping.set()

    def query(self, store: str) -> Query:
        """Ask for the committed state of a table, by its name.

        While this application runs here: its own partitions, as of the last commit. Otherwise
        what is saved in state_dir, by whoever works there. Raises StreamsError.
        """
        topology = self.topology()
        if self._running:
            tasks = {} if self._worker is None else self._worker.engine.tasks
            return query_tasks(topology, tasks, store)
        return query_saved(topology, self.state_dir, store)

    def metrics(self) -> dict[str, int]:
        """Counters since the start: records_in, records_out, dead_letters, commits, aborts, ...

        Also lag: records not read yet, as far as is known.
        """
        return {} if self._worker is None else self._worker.metrics()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`, where a handler can be set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_: int, __: FrameType | None) -> None:
        stop()

    before = {each: signal.signal(each, handle) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
