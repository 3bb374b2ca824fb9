"""`ottla.Broker`: a broker in a process of its own, for as long as a block lasts.

A process of its own can be killed, and does not share this one's interpreter lock. It lives no
longer than this process: its standard input is a pipe that closes when this process ends, however
it ends, and then it stops in good order. It is in a process group of its own, so that Ctrl-C in a
terminal ends this process first, and the broker after it.

The port stays the broker's while it is down. A socket that is bound here, and never listens, keeps
it from whoever wants any free port. Clients are refused at once, and one that tries again and again
cannot by chance connect from this port to itself, which TCP allows.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from ottla.server.address import AddressUnusable, bind, join_address

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 60.0
_EXIT_LIMIT_S = 5.0


class BrokerFailed(Exception):  # noqa: N818 - says what happened
    """The broker's process did not start, or ended by itself. Carries what it wrote."""


class Broker:
    """A broker on this machine.

    `data_dir`: where it keeps its data; None is a temporary directory, removed at the end.
    `port`: 0 is any free port. `durability`: "fsync" answers after the disk has the data; "os"
    once the operating system has it, so that a power cut may lose what was acknowledged.
    `two_phase_commit`: clients may have transactions that never time out (KIP-939).
    `metrics`: the HOST:PORT to serve metrics for Prometheus at; port 0 is any free port.
    `advertise`: the HOST:PORT that clients are told, if it is not where the broker listens.
    `authorizer`: ACLs decide who may do what, as with Kafka's StandardAuthorizer; `super_users`
    ("User:admin") may do all, `allow_everyone_if_no_acl_found` is Kafka's setting of that name.
    `security_protocol`: "plaintext", "ssl", "sasl_plaintext" or "sasl_ssl", as Kafka names them;
    `listen` are further listeners ("sasl_ssl://0.0.0.0:0"). `tls_cert`, `tls_key`, `tls_client_ca`
    are files in PEM. `users` are passwords by name, `sasl_mechanisms` what is offered for them,
    `oauth` what tokens must be (jwks, issuer, audience, principal_claim); docs/security.md.
    `consumer_groups` sets session_timeout_ms, heartbeat_interval_ms and assignment_interval_ms of
    groups of the new protocol (group.protocol=consumer), which are Kafka's if not given.
    `retention_check_interval_ms` and `cleaner_backoff_ms`: how often retention and compaction look.
    `failpoints`: what OTTLA_FAILPOINTS is set to (see `ottla.ports.failpoints`), for tests.

    Attributes: `bootstrap_servers` for any Kafka client, `host`, `port`, `data_dir`, `pid`;
    `addresses` of all listeners, by protocol.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        durability: Literal["fsync", "os"] = "fsync",
        num_partitions: int = 1,
        auto_create_topics: bool = True,
        two_phase_commit: bool = False,
        metrics: str | None = None,
        advertise: str | None = None,
        failpoints: str = "",
        authorizer: bool = False,
        super_users: Sequence[str] = (),
        allow_everyone_if_no_acl_found: bool = False,
        security_protocol: str = "plaintext",
        listen: Sequence[str] = (),
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_client_ca: str | os.PathLike[str] | None = None,
        users: Mapping[str, str] | None = None,
        sasl_mechanisms: Sequence[str] = (),
        allow_plaintext_passwords: bool = False,
        oauth: Mapping[str, str] | None = None,
        max_reauth_ms: int = 0,
        consumer_groups: Mapping[str, int] | None = None,
        retention_check_interval_ms: int = 300_000,
        cleaner_backoff_ms: int = 15_000,
    ) -> None:
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self.host = host
        self.port = port
        self.failpoints = failpoints
        self.started: Mapping[str, object] = {}
        self._options = {
            "advertise": [] if advertise is None else [advertise],
            "durability": durability,
            "num_partitions": num_partitions,
            "auto_create_topics": auto_create_topics,
            "two_phase_commit": two_phase_commit,
            "metrics": metrics,
            "stop_with_stdin": True,
            "authorizer": authorizer,
            "super_users": list(super_users),
            "allow_everyone_if_no_acl_found": allow_everyone_if_no_acl_found,
            "consumer_groups": dict(consumer_groups or {}),
            "retention_check_interval_ms": retention_check_interval_ms,
            "cleaner_backoff_ms": cleaner_backoff_ms,
        }
        self._protocol = security_protocol.lower()
        self._listen = list(listen)
        files = {"tls_cert": tls_cert, "tls_key": tls_key, "tls_client_ca": tls_client_ca}
        self._security = {
            **{name: os.path.abspath(path) for name, path in files.items() if path is not None},
            "users": dict(users or {}),
            "sasl_mechanisms": list(sasl_mechanisms),
            "allow_plaintext_passwords": allow_plaintext_passwords,
            "oauth": None if oauth is None else dict(oauth),
            "max_reauth_ms": max_reauth_ms,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()  # what `close` lets go of: port, directory, log
        self._log: IO[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What Kafka clients call it; known once it was started."""
        return join_address(self.host, self.port)

    @property
    def addresses(self) -> dict[str, str]:
        """HOST:PORT of each listener, by its protocol; known once it was started."""
        listeners = self.started.get("listeners")
        found = {}
        for text in listeners if isinstance(listeners, list) else ():
            protocol, _, address = str(text).rpartition("://")
            found[protocol or "plaintext"] = address
        return found

    @property
    def data_dir(self) -> Path:
        """Where it keeps its data. Raises BrokerFailed for a temporary one before the start."""
        if self._data_dir is None:
            raise BrokerFailed("the broker has no data directory before it is started")
        return self._data_dir

    @property
    def pid(self) -> int:
        """The process's id; it remains after the end of the process. Raises BrokerFailed."""
        if self._process is None:
            raise BrokerFailed("the broker was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the broker wrote to its log, over all its starts."""
        if self._log is None:
            return ""
        content = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return content.decode(errors="replace")

    # -- beginning and end --------------------------------------------------------------------

    def start(self) -> Self:
        """Start it and wait until clients can connect. Raises BrokerFailed with its own words."""
        if self.running:
            return self
        if self._log is None:
            self._hold()
        first = f"{self._protocol}://{join_address(self.host, self.port)}"
        listen = [first, *self._listen]
        options = {**self._options, "data_dir": str(self.data_dir), "listen": listen}
        self._process = subprocess.Popen(
            # -P: a file in the working directory must not take the place of a library.
            [sys.executable, "-P", "-m", "ottla.server", json.dumps(options), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "OTTLA_FAILPOINTS": self.failpoints},
            start_new_session=True,
        )
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(self._security).encode() + b"\n")
                self._process.stdin.flush()
        line = _read_line(self._process, time.monotonic() + _START_LIMIT_S)
        if not line.endswith(b"\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_LIMIT_S)  # its output has ended, so it is about to
            self._process.kill()
            code = self._reap()
            self._process = None
            raise BrokerFailed(f"the broker did not start (exit code {code})\n{self.log}".strip())
        self.started = json.loads(line)
        return self

    def _hold(self) -> None:
        """Take the port, the temporary directory and the file for the log."""
        try:
            reservation = bind(self.host, self.port)
        except AddressUnusable as error:
            raise BrokerFailed(str(error)) from error
        self._held.enter_context(reservation)
        self.port = reservation.getsockname()[1]
        if self._data_dir is None:
            temporary = tempfile.TemporaryDirectory(prefix="ottla-", ignore_cleanup_errors=True)
            self._data_dir = Path(self._held.enter_context(temporary))
            self._held.callback(setattr, self, "_data_dir", None)
        self._log = self._held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._held.callback(setattr, self, "_log", None)

    def stop(self) -> None:
        """Stop it in good order; the next start has nothing to recover.

        Raises BrokerFailed when it had already ended by itself with an error.
        """
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # in case a failpoint has halted it
        try:
            self.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(
                f"the broker did not stop in {_STOP_LIMIT_S} s\n{self.log}"
            ) from None
        if self._process.returncode > 0:
            code = self._process.returncode
            raise BrokerFailed(f"the broker ended with exit code {code}\n{self.log}".strip())

    def kill(self) -> None:
        """SIGKILL: it ends in the middle of whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self, *, failpoints: str = "") -> None:
        """Start it again on the same directory and port, after a stop if it is running."""
        self.stop()
        self.failpoints = failpoints
        self.start()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends, and return its exit code (-9 after SIGKILL).

        Raises subprocess.TimeoutExpired.
        """
        if self._process is not None:
            self._process.wait(timeout_s)
            return self._reap()
        return 0

    def close(self) -> None:
        """Stop it, and remove its temporary directory if it has one. Raises as `stop` does."""
        try:
            self.stop()
        finally:
            self._held.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._held.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BrokerFailed as failed:
            if error is None:
                raise
            error.add_note(str(failed))

    def _reap(self) -> int:
        """Close the pipes of a process that has ended, or is about to; return its exit code."""
        process = self._process
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Its first line of output, or what there is of it when it ends or the time is over."""
    line = b""
    if process.stdout is None:
        return line
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while not line.endswith(b"\n"):
        left_s = max(0.0, deadline - time.monotonic())
        part = os.read(process.stdout.fileno(), 4_096) if poll.poll(left_s * 1_000) else b""
        if not part:
            break
        line += part
    return line
