"""A client in a process of its own, behind the same face as the others.

The process speaks a JSON object per line (java/Worker.java, go/main.go, node/worker.js; worker.py
for Python's clients). This is how clients that are no Python are reached, and how a producer can be
paused, woken and killed.
"""

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clients.driver import (
    Abortable,
    Admin,
    ClientError,
    Consumer,
    Driver,
    Fenced,
    Headers,
    Producer,
    Record,
    TopicPartition,
)

_KINDS = {"fenced": Fenced, "abortable": Abortable, "error": ClientError}
# Quick to start: these programs live for seconds.
JVM_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def encode(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def decode(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


class RemoteProducer(Producer):
    def __init__(self, driver: "RemoteDriver", object_id: int) -> None:
        self._driver = driver
        self._id = object_id

    def init_transactions(self) -> None:
        self._driver.call(self._id, "init_transactions")

    def begin(self) -> None:
        self._driver.call(self._id, "begin")

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        encoded = [(name, encode(content)) for name, content in headers]
        self._driver.call(
            self._id, "send", topic, encode(value), partition, encode(key), encoded, timestamp_ms
        )

    def flush(self) -> list[int]:
        offsets: list[int] = self._driver.call(self._id, "flush")
        return offsets

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: object) -> None:
        self._driver.call(self._id, "send_offsets", _triples(offsets), group)

    def commit(self) -> None:
        self._driver.call(self._id, "commit")

    def abort(self) -> None:
        self._driver.call(self._id, "abort")

    def close(self) -> None:
        if self._driver.alive:
            self._driver.call(self._id, "close")


class RemoteConsumer(Consumer):
    def __init__(self, driver: "RemoteDriver", object_id: int) -> None:
        self._driver = driver
        self._id = object_id

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._driver.call(self._id, "assign", list(partitions))

    def subscribe(self, topic: str) -> None:
        self._driver.call(self._id, "subscribe", topic)

    def subscribe_pattern(self, pattern: str) -> None:
        """All topics whose names the pattern matches, as the broker finds (KIP-848; Java)."""
        self._driver.call(self._id, "subscribe_pattern", pattern)

    def assignment(self) -> set[TopicPartition]:
        pairs = self._driver.call(self._id, "assignment")
        return {(topic, partition) for topic, partition in pairs}

    def group(self) -> object:
        return self._driver.call(self._id, "group")

    def poll(self, wait_s: float = 1.0) -> list[Record]:
        rows = self._driver.call(self._id, "poll", int(wait_s * 1000))
        return [
            Record(
                topic,
                partition,
                offset,
                decode(key),
                decode(value),
                [(name, decode(content)) for name, content in headers],
                timestamp_ms,
            )
            for topic, partition, offset, key, value, headers, timestamp_ms in rows
        ]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._driver.call(self._id, "seek", partition, offset)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._driver.call(self._id, "commit", _triples(offsets))

    def committed(self, partition: TopicPartition) -> int | None:
        found: int | None = self._driver.call(self._id, "committed", partition)
        return found

    def offset_for_time(self, partition: TopicPartition, timestamp_ms: int) -> int | None:
        found: int | None = self._driver.call(self._id, "offset_for_time", partition, timestamp_ms)
        return found

    def end_offset(self, partition: TopicPartition) -> int:
        return int(self._driver.call(self._id, "end_offset", partition))

    def close(self) -> None:
        if self._driver.alive:
            self._driver.call(self._id, "close")


class RemoteAdmin(Admin):
    def __init__(self, driver: "RemoteDriver", object_id: int) -> None:
        self._driver = driver
        self._id = object_id

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        self._driver.call(self._id, "create_topic", name, partitions, dict(config or {}))

    def delete_topic(self, name: str) -> None:
        self._driver.call(self._id, "delete_topic", name)

    def partitions(self, topic: str) -> int | None:
        found: int | None = self._driver.call(self._id, "partitions", topic)
        return found

    def topic_config(self, topic: str) -> dict[str, str]:
        found: dict[str, str] = self._driver.call(self._id, "topic_config", topic)
        return found

    def producer_states(self, partition: TopicPartition) -> list[tuple[int, int, int]]:
        """Producer id, epoch and first offset of the open transaction or -1 (KIP-664; Java)."""
        rows = self._driver.call(self._id, "producer_states", partition)
        return [(row[0], row[1], row[2]) for row in rows]

    def transaction(self, transactional_id: str) -> tuple[str, int, int, int]:
        """State, producer id, epoch and how many partitions it touches (KIP-664; Java)."""
        state, producer_id, epoch, touched = self._driver.call(
            self._id, "transaction", transactional_id
        )
        return state, producer_id, epoch, touched

    def fence(self, transactional_id: str) -> None:
        """Shut out whoever has this transactional id (Java)."""
        self._driver.call(self._id, "fence", transactional_id)

    def close(self) -> None:
        if self._driver.alive:
            self._driver.call(self._id, "close")


class RemoteDriver(Driver):
    """Runs `command`, and makes clients in it. `close` ends it; so does `kill`, at once."""

    def __init__(
        self, name: str, command: Sequence[str], limits: frozenset[str] = frozenset()
    ) -> None:
        self.name = name
        self.limits = limits
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def pause(self) -> None:
        """SIGSTOP: the process keeps its connections, and does nothing more."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._wait()

    def call(self, object_id: int, method: str, *arguments: object) -> Any:
        """Call a method of an object in the process; raises what it raised."""
        self.start_call(object_id, method, *arguments)
        return self.finish_call()

    def start_call(self, object_id: int, method: str, *arguments: object) -> None:
        """Call, and do not wait: `finish_call` does. One call can be under way at a time."""
        assert self._process.stdin is not None
        call = {"object": object_id, "method": method, "arguments": arguments}
        self._process.stdin.write(json.dumps(call) + "\n")

    def finish_call(self) -> Any:
        """Wait for the call that was started; raises what it raised."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ClientError("ProcessEnded", f"the {self.name} process has ended")
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise _KINDS[error["kind"]](error["native"], error["text"])
        return answer["result"]

    def producer(
        self,
        bootstrap_servers: str,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        compression: str = "none",
        **config: object,
    ) -> RemoteProducer:
        """`config` goes to the client as it is, `_` for `.` (Java)."""
        known = (bootstrap_servers, transactional_id, transaction_timeout_ms, compression)
        extra = {name.replace("_", "."): value for name, value in config.items()}
        made = self.call(0, "producer", *known, *([extra] if extra else []))
        return RemoteProducer(self, made)

    def consumer(
        self, bootstrap_servers: str, *, group_id: str | None = None, committed_only: bool = True
    ) -> RemoteConsumer:
        made = self.call(0, "consumer", bootstrap_servers, group_id, committed_only)
        return RemoteConsumer(self, made)

    def admin(self, bootstrap_servers: str) -> RemoteAdmin:
        return RemoteAdmin(self, self.call(0, "admin", bootstrap_servers))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._wait()

    def _wait(self) -> None:
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def java_driver(java: str, class_path: str) -> RemoteDriver:
    """Java's own client, out of java/Worker.java."""
    options = [*JVM_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"]
    return RemoteDriver("java", [java, *options, "-cp", class_path, "Worker"])


def go_driver(command: Sequence[str]) -> RemoteDriver:
    """franz-go, out of go/*.go."""
    return RemoteDriver("franz-go", command)


def node_driver(command: Sequence[str]) -> RemoteDriver:
    """kafkajs, out of node/worker.js."""
    return RemoteDriver("kafkajs", command, frozenset({"group-metadata", "null-header"}))


def python_driver(name: str) -> RemoteDriver:
    """One of Python's clients, in a process of its own."""
    command = [sys.executable, "-m", "tests.clients.worker", name]
    return RemoteDriver(name, command)


JAVA_SOURCES = [Path(__file__).parent / "java" / "Worker.java"]


def _triples(offsets: Mapping[TopicPartition, int]) -> list[tuple[str, int, int]]:
    return [(topic, partition, offset) for (topic, partition), offset in offsets.items()]
