"""Apache Kafka, one KRaft node on loopback: the yardstick for behaviour (tests) and speed (bench).

Maven fetches the jars once into ${XDG_CACHE_HOME:-~/.cache}/apache-kafka/<version>; nothing else is
installed. A directory is formatted the first time it is started and keeps its port, so a stopped
or killed broker can be started again on what it left behind. A broker counts as started when it
answers Metadata with itself in it.

    python -m tests.kafka_runner [key=value ...]      in the foreground, in a temporary directory

Needs Java (17 or later, with its compiler) and Maven; without them `KafkaUnavailable` says which.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

VERSION = "4.3.1"
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
# Below where systems take the ports for connections, and for listeners that ask for any.
_PORTS = range(20_000, 32_000)

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # of prctl(2)

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId>
<artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId>
<artifactId>kafka-tools</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId>
<artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies>
</project>
"""

# One node: every internal topic with one replica, and few partitions so that a start is quick.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": "1@127.0.0.1:{controller_port}",
    "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:{port}",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": "{directory}/data",
    "num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


class KafkaUnavailable(Exception):  # noqa: N818 - says what is the case
    """Apache Kafka cannot be run here; the text says what is missing."""


def home(version: str = VERSION) -> Path:
    """Where the jars of this version are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return cache / "apache-kafka" / version


def class_path(version: str = VERSION) -> str:
    """Kafka's class path; fetches the jars if they are not there yet.

    Raises KafkaUnavailable when Java or Maven is missing or Maven fails.
    """
    java()
    directory = home(version)
    if not (directory / "complete").exists():
        with alone(directory):
            if not (directory / "complete").exists():
                _fetch(version, directory)
    return f"{directory}/libs/*"


def _fetch(version: str, directory: Path) -> None:
    """Have Maven fetch the jars."""
    maven = _program("mvn", "Maven")
    (directory / "pom.xml").write_text(_POM.format(version=version))
    fetched = subprocess.run(
        [
            *(maven, "-q", "-B", "-f", str(directory / "pom.xml")),
            *("dependency:copy-dependencies", f"-DoutputDirectory={directory}/libs"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        raise KafkaUnavailable(f"Maven cannot fetch Kafka {version}: {fetched.stdout[-2000:]}")
    (directory / "complete").touch()


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make the directory, and wait until no other process is in such a block with it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def java() -> str:
    """The java program. Raises KafkaUnavailable when there is none."""
    return _program("java", "Java 17 or later")


def compile_java(sources: Sequence[Path], output: Path) -> str:
    """Compile Java sources against Kafka's jars; return the class path to run them with."""
    jars = class_path()
    compiler = _program("javac", "Java's compiler (a JDK)")
    output.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [compiler, "-nowarn", "-cp", jars, "-d", str(output), *map(str, sources)], check=True
    )
    return f"{output}:{jars}"


def run_class(
    name: str, *arguments: str, version: str = VERSION, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a class of Kafka's tool box to its end: org.apache.kafka.tools.GetOffsetShell, say.

    Returns the finished process with what it printed; its return code is not checked.
    """
    command = [java(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path(version)]
    return subprocess.run(
        [*command, name, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that nobody is given by chance.

    A broker that takes seconds to start, or is down for a while, finds it free.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port of {_PORTS} is free")


def answers(port: int) -> bool:
    """True once a broker answers a Metadata v1 request with at least one broker in it."""
    body = b"\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(len(body).to_bytes(4, "big") + body)
            head = connection.recv(4096)
    except OSError:
        return False
    return len(head) >= 12 and int.from_bytes(head[8:12], "big") >= 1


def _end_with_parent() -> None:
    """Runs in the child: Linux kills it when the thread that started it ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Kafka:
    """One Apache Kafka broker in `directory`. It ends with the thread that has started it.

    `properties` are added to, or replace, the server's own. `heap` is the JVM's fixed heap size.
    """

    def __init__(
        self,
        directory: Path,
        *,
        properties: Mapping[str, str] | None = None,
        heap: str = "512m",
        version: str = VERSION,
    ) -> None:
        self.directory = directory.resolve()
        self.port = 0
        self.start_s = 0.0
        self._properties = dict(properties or {})
        self._heap = heap
        self._version = version
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, format first if the directory is new, and wait until the broker answers."""
        command = self._prepare()
        began = time.monotonic()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() - began > START_LIMIT_S:
                self.kill()
                raise RuntimeError(f"Apache Kafka did not start: {self.directory}/server.log")
            time.sleep(0.02)
        self.start_s = time.monotonic() - began

    def stop(self) -> None:
        """SIGTERM, and wait for the clean end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> "Kafka":
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    def _prepare(self) -> list[str]:
        """Write the configuration, format a new directory; return the command that runs it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        ports_file = self.directory / "ports.json"
        if not ports_file.exists():
            ports_file.write_text(json.dumps({"port": free_port(), "controller_port": free_port()}))
        ports = json.loads(ports_file.read_text())
        self.port = ports["port"]
        configuration = self.directory / "server.properties"
        merged = _PROPERTIES | self._properties
        configuration.write_text(
            "".join(
                f"{key}={value.format(directory=self.directory, **ports)}\n"
                for key, value in merged.items()
            )
        )
        jvm = [java(), f"-Xmx{self._heap}", f"-Xms{self._heap}", "-XX:+UseG1GC"]
        jvm += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path(self._version)]
        if not (self.directory / "data").exists():
            subprocess.run(
                [
                    *(*jvm, "kafka.tools.StorageTool", "format"),
                    *("-t", CLUSTER_ID, "-c", str(configuration)),
                ],
                check=True,
                capture_output=True,
            )
        return [*jvm, "kafka.Kafka", str(configuration)]

    def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal_number)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise KafkaUnavailable(f"{what} is needed to run Apache Kafka: no `{name}` on the PATH")
    return found


def main() -> None:
    """Run a broker in the foreground until it is interrupted."""
    properties = dict(argument.split("=", 1) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="kafka-") as directory:
        broker = Kafka(Path(directory), properties=properties)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            broker.start()
            print(f"Apache Kafka {VERSION} on {broker.bootstrap_servers}, in {directory}")
            print("Ctrl-C ends it and removes its data", flush=True)
            signal.pause()
        except KeyboardInterrupt:
            broker.stop()
        finally:
            broker.kill()


if __name__ == "__main__":
    try:
        main()
    except KafkaUnavailable as missing:
        sys.exit(str(missing))
