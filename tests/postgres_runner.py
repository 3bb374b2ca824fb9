"""A throw-away PostgreSQL server for tests: a free port, a directory of its own, gone afterwards.

The server's programs are looked for in PATH and where Debian puts them. The server refuses to run
as root, so under root it runs as the user `postgres`, in a directory that this user can reach.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.kafka_runner import free_port

_START_TIMEOUT_S = 30


def find_programs() -> Path | None:
    """The directory with initdb and postgres, the newest version if there are several."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    candidates = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    return candidates[-1].parent if candidates else None


def require_programs() -> Path:
    """The programs, or a skipped test; a failed one if OTTLA_REQUIRE_ALL is set."""
    programs = find_programs()
    if programs is None:
        reason = "PostgreSQL's server programs (initdb, postgres) are not installed"
        if os.environ.get("OTTLA_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return programs


class PostgresServer:
    """A running server. `url(database)` is for clients; `kill` and `start` are for tests."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._data = directory / "data"
        self._log = directory / "server.log"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "ottla", "-A", "trust", "-N", "-E", "UTF8")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://ottla@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "40",
            "shared_buffers": "32MB",
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(self._log.read_text()[-2000:]) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT ends all sessions and shuts down cleanly, SIGQUIT does not even do that."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **self._as,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the block."""
    programs = require_programs()
    directory = Path(tempfile.mkdtemp(prefix="ottla-postgres-"))
    try:
        server = PostgresServer(programs, directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
