"""Running a pipeline: the broker if none is given, a process for each worker, until all is done.

Everything may die at any moment and is started again: correctness is not this module's business but
that of the workers' transactions. What is decided here is when a pipeline is finished: the source
has read everything, no record is behind the positions that the transformations have committed,
and none behind those that the destination has. Each is asked anew from the broker, in this order.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from ottla.client import Admin, ClientError, Consumer, Partition
from ottla.pipeline.access import RUNNING_FILE
from ottla.pipeline.display import Display, NoDisplay, Snapshot
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.processes import State, WorkerProcess
from ottla.pipeline.topics import CHECK_TIMEOUT_MS, make_topics, nothing_behind
from ottla.server.process import Broker, BrokerFailed

_LOOK_INTERVAL_S = 0.05
_SHOW_INTERVAL_S = 0.2
_CHECK_INTERVAL_S = 0.3
_RATE_WINDOW_S = 5.0
_PREDECESSOR_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: finished, or stopped before the end."""

    finished: bool
    snapshot: Snapshot
    seconds: float


class PipelineRun:
    """A pipeline that runs, for as long as a `with` block lasts.

    Args:
        state_dir: where the embedded broker and the state of the transformations live.
        bootstrap_servers: a broker to use instead of the embedded one.
        follow: do not end when everything was read.
        on_tick: called at each look at the workers, some 20 times a second; while it gives true
            the run does not end. For tests and demonstrations.
        failpoints: role to OTTLA_FAILPOINTS, for the first start of that worker.
    Raises PipelineStopped when a person has to act, ClientError when the broker cannot be used,
    BrokerFailed when the embedded one cannot start.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        state_dir: Path,
        *,
        bootstrap_servers: str | None = None,
        follow: bool = False,
        display: Display | None = None,
        on_tick: Callable[["PipelineRun"], bool] | None = None,
        failpoints: dict[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.state_dir = state_dir
        self.broker: Broker | None = None
        self.workers: dict[str, WorkerProcess] = {}
        self.broker_restarts = 0
        self.stop_requested = False
        self.bootstrap_servers = bootstrap_servers or spec.broker or ""
        self._follow = follow
        self._display = display or NoDisplay()
        self._on_tick = on_tick
        self._failpoints = failpoints or {}
        self._rates: deque[tuple[float, int]] = deque()
        self._next_show = 0.0
        self._next_check = 0.0
        self._transformed = False

    def __enter__(self) -> Self:
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.bootstrap_servers:
            self.broker = Broker(self.state_dir / "broker")
            self._start_broker(self.broker)
            self.bootstrap_servers = self.broker.bootstrap_servers
            running = orjson.dumps({"bootstrap_servers": self.bootstrap_servers})
            (self.state_dir / RUNNING_FILE).write_bytes(running)
        try:
            make_topics(self.spec, self.bootstrap_servers)
            file = self._freeze()
            for role in self.spec.roles:
                failpoints = self._failpoints.get(role, "")
                worker = WorkerProcess(role, file, self.bootstrap_servers, failpoints)
                self.workers[role] = worker
                worker.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def run(self) -> RunResult:
        """Watch over the workers until all is done, or `stop_requested` is set."""
        began = time.monotonic()
        finished = False
        while not finished and not self.stop_requested:
            self._look()
            held = self._on_tick is not None and self._on_tick(self)
            finished = not held and not self._follow and self._is_finished()
            time.sleep(_LOOK_INTERVAL_S)
        seconds = time.monotonic() - began
        self._stop_workers()
        snapshot = self.snapshot()
        self._display.update(snapshot)
        return RunResult(finished, snapshot, seconds)

    def snapshot(self) -> Snapshot:
        """How far it is."""
        source, streams, sink = map(self.workers.get, ("source", "streams", "sink"))
        rows_in = source.report.get("rows_total", 0) if source else 0
        if source is None and streams is not None:
            rows_in = streams.counter("records_in")
        rows_out = sink.counter("rows") if sink else 0
        if sink is None and streams is not None:
            rows_out = streams.counter("records_out")
        dead = source.report.get("dead_total", 0) if source else 0
        dead += streams.counter("dead_letters") if streams else 0
        dead += sink.counter("dead") if sink else 0
        return Snapshot(
            rows_in=rows_in,
            duplicates=streams.counter("duplicates:") if streams else 0,
            late=streams.counter("late:") if streams else 0,
            dead=dead,
            rows_out=rows_out,
            lag=sum(worker.report.get("lag", 0) for worker in self.workers.values()),
            commits=sum(
                worker.counter("committed") + worker.counter("commits")
                for worker in self.workers.values()
            ),
            restarts=self.broker_restarts + sum(w.restarts for w in self.workers.values()),
            rows_per_s=self._rate(rows_in),
            states={role: worker.state.value for role, worker in self.workers.items()},
            reasons={
                role: worker.reason
                for role, worker in self.workers.items()
                if worker.state in (State.WAITING, State.DOWN, State.FAILED)
            },
        )

    def _start_broker(self, broker: Broker) -> None:
        """Start it; if the last run was killed, its broker may need a moment to end."""
        deadline = time.monotonic()
        if (self.state_dir / RUNNING_FILE).exists():
            deadline += _PREDECESSOR_LIMIT_S
        while True:
            try:
                broker.start()
                return
            except BrokerFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_INTERVAL_S)

    def _freeze(self) -> Path:
        """Write down what the workers are to do. Passwords stay references where they were."""
        content = {
            "name": self.spec.name,
            "base": str(self.spec.base),
            "description": self.spec.description,
            "state_dir": str(self.state_dir / "state"),
            "follow": self._follow,
        }
        file = self.state_dir / "pipeline.json"
        temporary = file.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(orjson.dumps(content))
        temporary.replace(file)
        return file

    def _look(self) -> None:
        """Start again what has died; tell of it."""
        if self.broker is not None and not self.broker.running:
            self.broker_restarts += 1
            self._display.note("broker ended; starting it again")
            self.broker.start()
        for worker in self.workers.values():
            news = worker.look()
            if news is not None:
                self._display.note(news)
            if worker.state is State.FAILED:
                raise PipelineStopped(worker.reason or f"the {worker.role} worker stopped")
        now = time.monotonic()
        if now >= self._next_show:
            self._next_show = now + _SHOW_INTERVAL_S
            self._display.update(self.snapshot())

    def _is_finished(self) -> bool:
        source = self.workers.get("source")
        if source is not None and source.state is not State.DONE:
            return False
        if time.monotonic() < self._next_check or not (self.broker is None or self.broker.running):
            return False
        try:
            self._transformed = self._transformed or self._is_transformed()
            return self._transformed and self._is_delivered()
        except ClientError:
            return False  # the broker is away: asked again
        finally:
            self._next_check = time.monotonic() + _CHECK_INTERVAL_S

    def _is_transformed(self) -> bool:
        """Whether no record is behind the positions committed by the transformations."""
        streams = self.workers.get("streams")
        if streams is None:
            return True
        if streams.report.get("lag", 1) > 0:
            return False
        counts = Admin(self.bootstrap_servers, timeout_ms=CHECK_TIMEOUT_MS).partition_counts()
        topics = [self.spec.input_topic]
        prefix = f"{self.spec.name}-dedupe-", f"{self.spec.name}-aggregate-by"
        topics += [t for t in counts if t.startswith(prefix) and t.endswith("-repartition")]
        partitions = [Partition(topic, n) for topic in topics for n in range(counts[topic])]
        with Consumer(
            self.bootstrap_servers, group_id=self.spec.name, timeout_ms=CHECK_TIMEOUT_MS
        ) as consumer:
            committed = consumer.committed(partitions)
        offsets = {each: max(0, position.offset) for each, position in committed.items()}
        return nothing_behind(self.bootstrap_servers, offsets)

    def _is_delivered(self) -> bool:
        """Whether no record is behind the positions in the destination."""
        sink = self.workers.get("sink")
        if sink is None:
            return True
        positions: dict[str, Any] = sink.report.get("next_offsets", {})
        topic = self.spec.output_topic
        offsets = {Partition(topic, int(number)): offset for number, offset in positions.items()}
        return bool(offsets) and nothing_behind(self.bootstrap_servers, offsets)

    def _rate(self, rows_in: int) -> int:
        """Rows read a second, over the last seconds."""
        now = time.monotonic()
        self._rates.append((now, rows_in))
        while now - self._rates[0][0] > _RATE_WINDOW_S:
            self._rates.popleft()
        (then, rows_then) = self._rates[0]
        return int((rows_in - rows_then) / (now - then)) if now > then else 0

    def _stop_workers(self) -> None:
        for worker in self.workers.values():
            worker.ask_to_stop()
        for worker in self.workers.values():
            worker.wait()

    def _close(self) -> None:
        self._stop_workers()
        self._display.close()
        if self.broker is not None:
            (self.state_dir / RUNNING_FILE).unlink(missing_ok=True)
            self.broker.close()
