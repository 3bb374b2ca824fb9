"""Worker processes: started, listened to, started again when they die.

A worker that ends is started again at once the first time and later with growing waits, unless its
exit code says that a person has to act. Its counters since its start are added to those of its
predecessors, so that the display does not fall back to zero.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from enum import Enum
from pathlib import Path
from typing import IO, Any

import orjson

from ottla.pipeline.worker import BROKER_VARIABLE, EXIT_FENCED, EXIT_STOPPED, STOP
from ottla.ports.printable import printable

_WAITS_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
_HEALTHY_AFTER_S = 10.0
_STOP_TIMEOUT_S = 30.0
_COUNTERS = ("rows", "dead", "committed", "aborted", "commits", "aborts", "records_in")
_COUNTER_PREFIXES = ("duplicates:", "late:", "skipped:", "dead_letters", "records_out")


class State(Enum):
    """What is with a worker."""

    RUNNING = "running"
    WAITING = "waiting"  # it runs, and something it needs is away
    DOWN = "down"  # it died and is about to be started again
    DONE = "done"
    FAILED = "failed"  # a person has to act


class WorkerProcess:
    """One worker of a pipeline and its successors."""

    def __init__(self, role: str, file: Path, bootstrap_servers: str, failpoints: str = "") -> None:
        self.role = role
        self.restarts = 0
        self.reason = ""  # why it waits, was started again, or failed
        self.state = State.DOWN
        self.report: dict[str, Any] = {}
        self._arguments = [role, str(file)]
        self._bootstrap_servers = bootstrap_servers
        self._failpoints = failpoints
        self._before: Counter[str] = Counter()
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self._words: deque[str] = deque(maxlen=20)
        self._quick_deaths = 0
        self._started_at = 0.0
        self._start_at = 0.0
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def counter(self, name: str) -> int:
        """A counter over all starts of this worker; with a trailing colon, of all that begin so."""
        values = Counter(self._before)
        values.update(_counters(self.report))
        if name.endswith(":"):
            return sum(value for each, value in values.items() if each.startswith(name))
        return values[name]

    def start(self) -> None:
        """Start the process."""
        self._words.clear()
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ottla.pipeline.worker", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the supervisor alone
            env={
                **os.environ,
                "OTTLA_FAILPOINTS": self._failpoints,
                BROKER_VARIABLE: self._bootstrap_servers,
            },
        )
        self._failpoints = ""  # they are for the first start
        self.state = State.RUNNING
        self._readers = [
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._remember, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def look(self) -> str | None:
        """See how it is, start it again if it is time to. News for a person, or None."""
        if self.state in (State.DONE, State.FAILED):
            return None
        if self._process is None:
            if time.monotonic() >= self._start_at and not self._stopping:
                self.restarts += 1
                self.start()
            return None
        code = self._process.poll()
        if code is None:
            self._take_state()
            return None
        return self._ended(code)

    def ask_to_stop(self) -> None:
        """Let it finish the transaction under way and end."""
        self._stopping = True
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(STOP)
                self._process.stdin.flush()

    def wait(self) -> None:
        """Wait until it has ended; one that does not is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ended(self._process.returncode)

    def kill(self) -> bool:
        """SIGKILL, whether there was one to kill."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def _take_state(self) -> None:
        if self.report.get("state") == "waiting":
            self.state, self.reason = State.WAITING, str(self.report.get("reason", ""))
        elif self.state is State.WAITING:
            self.state, self.reason = State.RUNNING, ""

    def _ended(self, code: int) -> str | None:
        """Take leave of the process, and decide what follows."""
        process, self._process = self._process, None
        for reader in self._readers:
            reader.join()
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self._before.update(_counters(self.report))
        self.report = {
            name: v for name, v in self.report.items() if name not in _counters(self.report)
        }
        said = self._words[-1] if self._words else ""
        if code == 0 and (self._stopping or self.report.get("state") == "done"):
            self.state = State.DONE
            return None
        if code in (EXIT_STOPPED, EXIT_FENCED):
            self.state, self.reason = State.FAILED, "\n".join(self._words)
            return None
        self.state = State.DOWN
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.reason = f"{how}: {said}" if said and code > 0 else how
        healthy = time.monotonic() - self._started_at >= _HEALTHY_AFTER_S or code < 0
        self._quick_deaths = 0 if healthy else self._quick_deaths + 1
        wait_s = _WAITS_S[min(self._quick_deaths, len(_WAITS_S) - 1)]
        self._start_at = time.monotonic() + wait_s
        return f"{self.role} ended ({self.reason}); starting it again"

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                try:
                    self.report = orjson.loads(line)
                except orjson.JSONDecodeError:
                    self._words.append(_readable(line))

    def _remember(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._words.append(_readable(line))


def _readable(line: bytes) -> str:
    """A line for a terminal: it may quote what is in the data."""
    return printable(line.decode("utf-8", "backslashreplace").rstrip())


def _counters(report: dict[str, Any]) -> dict[str, int]:
    return {
        name: value
        for name, value in report.items()
        if (name in _COUNTERS or name.startswith(_COUNTER_PREFIXES)) and isinstance(value, int)
    }
