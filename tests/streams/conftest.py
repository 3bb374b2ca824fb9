"""What the tests of streams on a real broker share: an input, and workers to kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ottla.client import Admin, Consumer, Partition, Producer, TopicSpec
from tests.streams.program import FAILING, KEYS, WINDOW_MS

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


class Job:
    """An application on a broker: its input, its workers, and what it should come to.

    Every key is in one partition, so that windows close by the records of that partition.
    """

    def __init__(self, name: str, bootstrap_servers: str, directory: Path, partitions: int) -> None:
        self.name = name
        self.bootstrap_servers = bootstrap_servers
        self.input = f"{name}-in"
        self.directory = directory
        self.partitions = partitions
        self.count = 0
        self.processes: list[subprocess.Popen[str]] = []
        self._log = (directory / "workers.log").open("a")
        Admin(bootstrap_servers).create_topics(
            [TopicSpec(self.input, partitions, {"retention.ms": "-1"})]
        )
        self._producer = Producer(bootstrap_servers)
        self._admin = Admin(bootstrap_servers)
        self._readers: dict[str, tuple[Consumer, list[Any]]] = {}

    # -- input ---------------------------------------------------------------------------------

    def write(self, count: int) -> None:
        """Write so many records more."""
        for n in range(self.count, self.count + count):
            value = orjson.dumps({"n": n, "at": n * 10})
            key, partition = f"k{n % KEYS}", n % KEYS % self.partitions
            self._producer.send(
                self.input, key, value, partition=partition, timestamp_ms=n * 10 + 1
            )
        self._producer.flush()
        self.count += count

    def expected(self) -> dict[str, Any]:
        """What the outputs come to, computed from the input."""
        good = [n for n in range(self.count) if n % FAILING]
        counts = Counter(f"k{n % KEYS}" for n in good)
        groups: dict[str, list[int]] = {}
        for n in good:
            groups.setdefault(f"g{n % 3}", []).append(n)
        stream_time = {
            p: max((n * 10 for n in good if n % KEYS % self.partitions == p), default=0)
            for p in range(self.partitions)
        }
        windows: dict[tuple[str, int], list[int]] = {}
        for n in good:
            start = n * 10 // WINDOW_MS * WINDOW_MS
            if start + WINDOW_MS <= stream_time[n % KEYS % self.partitions]:
                windows.setdefault((f"k{n % KEYS}", start), []).append(n)
        return {
            "counts": dict(counts),
            "windows": Counter(
                (key, start, len(found), sum(found)) for (key, start), found in windows.items()
            ),
            "seen": Counter(good),
            "groups": {key: {"n": len(g), "total": sum(g)} for key, g in groups.items()},
            "dead": Counter(n for n in range(self.count) if n % FAILING == 0),
        }

    # -- output --------------------------------------------------------------------------------

    def found(self) -> dict[str, Any]:
        """What is committed in the output topics."""
        counts = {each.key().decode(): orjson.loads(each.value()) for each in self.read("counts")}
        groups = {each.key().decode(): orjson.loads(each.value()) for each in self.read("groups")}
        windows: Counter[tuple[str, int, int, int]] = Counter()
        for each in self.read("windows"):
            value, key = orjson.loads(each.value()), each.key()
            start = int.from_bytes(key[-8:], "big")
            windows[key[:-8].decode(), start, value["n"], value["total"]] += 1
        return {
            "counts": counts,
            "windows": windows,
            "seen": Counter(orjson.loads(each.value())["n"] for each in self.read("seen")),
            "groups": groups,
            "dead": Counter(orjson.loads(each.value())["n"] for each in self.read("dead-letters")),
        }

    def read(self, output: str) -> list[Any]:
        """All committed records of an output topic; every call reads on."""
        topic = f"{self.name}-{output}"
        count = self._admin.partition_counts([topic]).get(topic, 0)
        partitions = [Partition(topic, number) for number in range(count)]
        ends = self._admin.end_offsets(partitions)
        if partitions and output not in self._readers:
            consumer = Consumer(self.bootstrap_servers, f"{self.name}-reader")
            consumer.assign(dict.fromkeys(partitions, 0))
            self._readers[output] = consumer, []
        if not partitions:
            return []
        consumer, found = self._readers[output]
        deadline = time.monotonic() + WAIT_S
        while any(
            max(consumer.positions().get(each, 0), consumer.ended.get(each, 0)) < ends[each]
            for each in partitions
        ):
            for _, messages in consumer.consume(10_000, 0.1):
                found.extend(messages)
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
        return found

    def await_result(self, wait_s: float = WAIT_S) -> None:
        """Wait until the outputs are complete, then compare them exactly."""
        deadline = time.monotonic() + wait_s
        while self.found() != self.expected():
            if time.monotonic() > deadline:
                found, expected = self.found(), self.expected()
                for name, value in expected.items():
                    assert found[name] == value, f"{name}\n{self.log()}"
                break
            time.sleep(0.3)

    # -- workers -------------------------------------------------------------------------------

    def start(
        self, state: str = "one", failpoints: str = "", slow_ms: int = 0, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a worker with a state directory of that name."""
        settings = {
            "name": self.name,
            "bootstrap_servers": self.bootstrap_servers,
            "state_dir": str(self.directory / state),
            "input": self.input,
            "slow_ms": slow_ms,
            "options": {"session_timeout_ms": 6_000, **options},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.streams.program", json.dumps(settings)],
            cwd=ROOT,
            env=os.environ | {"OTTLA_FAILPOINTS": failpoints},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.processes.append(process)
        return process

    def await_end(self, process: subprocess.Popen[str], wait_s: float = WAIT_S) -> dict[str, int]:
        """Wait for the end of a worker; its metrics, empty if it could not tell them."""
        output, _ = process.communicate(timeout=wait_s)
        lines = output.splitlines()
        return json.loads(lines[-1]) if len(lines) > 1 else {}

    def stop(self, process: subprocess.Popen[str]) -> dict[str, int]:
        """Stop a worker in good order; its metrics."""
        process.send_signal(signal.SIGTERM)
        metrics = self.await_end(process)
        assert process.returncode == 0, self.log()
        return metrics

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def log(self) -> str:
        """What the workers said."""
        return (self.directory / "workers.log").read_text()[-20_000:]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                self.kill(process)
        self._producer.close()
        for consumer, _ in self._readers.values():
            consumer.close()
        self._log.close()


@pytest.fixture
def new_job(
    bootstrap: str, unique: Callable[[str], str], tmp_path: Path
) -> Iterator[Callable[..., Job]]:
    """Makes jobs on the broker; their workers end with the test."""
    jobs: list[Job] = []

    def make(partitions: int = 2) -> Job:
        jobs.append(Job(unique("app"), bootstrap, tmp_path, partitions))
        return jobs[-1]

    yield make
    for job in jobs:
        job.close()
