"""A broker's process: it says when it is ready, ends in good order, and survives what it must.

Method: real processes, a real client (confluent-kafka), real signals. P1: what was acknowledged is
there after SIGKILL. P11: a damaged directory is refused with its place.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

import ottla
from ottla.ports.limits import DISK_RESERVE_BYTES
from ottla.server.address import bind

QUIET = {"log_level": 0}


def produce(broker: ottla.Broker, values: list[bytes], **config: object) -> list[str]:
    """Send all to topic `t`; return the errors of those that were not acknowledged."""
    errors: list[str] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        if error is not None:
            errors.append(error.name())

    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **QUIET, **config})
    for value in values:
        producer.produce("t", value, on_delivery=delivered)
    assert producer.flush(30) == 0
    return errors


def consume(broker: ottla.Broker, count: int) -> list[bytes]:
    """The first `count` values of topic `t`."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "unused", **QUIET}
    )
    consumer.assign([TopicPartition("t", 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(values), timeout=1):
            assert message.error() is None
            values.append(message.value())
    consumer.close()
    return values


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


@contextlib.contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The `ottla` command in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ottla", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def refused(*arguments: object) -> tuple[int, str]:
    """Exit code and errors of a broker that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "ottla", "broker", "start", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["ottla:", "why:", "next:"]
    return done.returncode, done.stderr


# -- ottla.Broker ---------------------------------------------------------------------------------


def test_the_fixture_is_a_broker_for_any_client(ottla_broker):
    assert produce(ottla_broker, numbered(0, 100)) == []
    assert consume(ottla_broker, 100) == numbered(0, 100)


def test_a_stopped_broker_has_nothing_to_recover(tmp_path):
    with ottla.Broker(tmp_path / "data") as broker:
        assert produce(broker, numbered(0, 10)) == []
        pid, port = broker.pid, broker.port
        broker.stop()
        assert broker.wait() == 0
        broker.start()
        assert broker.pid != pid
        assert broker.port == port
        assert broker.started["replayed_frames"] == 0
        assert consume(broker, 10) == numbered(0, 10)
        assert broker.log == ""


def test_what_was_acknowledged_survives_sigkill(tmp_path):
    with ottla.Broker(tmp_path / "data") as broker:
        for start in range(3):
            assert produce(broker, numbered(start * 100, 100)) == []
            broker.kill()
            assert not broker.running
            broker.restart()
            assert broker.started["replayed_frames"] > 0
        assert consume(broker, 300) == numbered(0, 300)


def test_a_client_rides_through_a_restart(tmp_path):
    with ottla.Broker(tmp_path / "data") as broker:
        errors: list[str] = []
        producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 0,
                "reconnect.backoff.max.ms": 100,
                **QUIET,
            }
        )
        for number in range(3_000):
            producer.produce(
                "t", b"%d" % number, on_delivery=lambda error, _: error and errors.append(error)
            )
            producer.poll(0)
            if number % 1_000 == 500:
                broker.kill()
                broker.restart()
        assert producer.flush(60) == 0
        assert errors == []
        assert consume(broker, 3_000) == numbered(0, 3_000)


def test_a_temporary_directory_outlives_restarts_and_not_the_broker():
    with ottla.Broker() as broker:
        directory = broker.data_dir
        assert produce(broker, [b"a"]) == []
        broker.restart()
        assert consume(broker, 1) == [b"a"]
    assert not directory.exists()


def test_while_the_broker_is_down_clients_are_refused_at_once():
    with ottla.Broker() as broker:
        broker.kill()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((broker.host, broker.port), timeout=5)
        broker.restart()
        socket.create_connection((broker.host, broker.port), timeout=5).close()


def test_a_port_in_use_is_told_before_anything_is_started(tmp_path, ottla_broker):
    second = ottla.Broker(tmp_path / "data", port=ottla_broker.port)
    with pytest.raises(ottla.BrokerFailed, match=f"cannot listen on 127.0.0.1:{second.port}"):
        second.start()
    assert not (tmp_path / "data").exists()


def test_a_failpoint_kills_and_the_restart_is_without_it(tmp_path):
    with ottla.Broker(tmp_path / "data", failpoints="journal.synced=exit@3") as broker:
        produce(broker, [b"a"], **{"message.timeout.ms": 1_000})
        assert broker.wait(30) == -signal.SIGKILL
        broker.restart()
        assert produce(broker, [b"b"]) == []
        assert consume(broker, 1) in ([b"a"], [b"b"])


def test_a_start_that_fails_is_explained(tmp_path):
    broker = ottla.Broker(tmp_path / "data", failpoints="no.such.place=explode")
    with pytest.raises(ottla.BrokerFailed, match=r"(?s)exit code 1.*'explode' is not one of"):
        broker.start()
    broker.close()


def limit_files(broker: ottla.Broker) -> None:
    """Let the disk refuse the next large write."""
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (65_536, 65_536))
    produce(broker, [os.urandom(200_000)], **{"message.timeout.ms": 1_000})
    assert broker.wait(30) == 4


def test_what_stopped_the_broker_is_told():
    broker = ottla.Broker().start()
    limit_files(broker)
    assert f"cannot write to {broker.data_dir}/" in broker.log
    with pytest.raises(ottla.BrokerFailed, match=r"(?s)exit code 4.*File too large.*next:"):
        broker.close()


def fail_with_a_broken_broker() -> None:
    with ottla.Broker() as broker:
        limit_files(broker)
        raise ZeroDivisionError


def test_a_failure_does_not_hide_the_error_that_it_caused():
    with pytest.raises(ZeroDivisionError) as caught:
        fail_with_a_broken_broker()
    assert "File too large" in "".join(caught.value.__notes__)


def test_the_broker_ends_with_its_parent(tmp_path):
    """However the parent ends: here by SIGKILL, with a broker that has just acknowledged."""
    script = """
        import ottla, sys, time
        broker = ottla.Broker(sys.argv[1]).start()
        print(broker.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    with ottla.Broker(tmp_path / "data") as broker:
        assert broker.started["replayed_frames"] == 0


# -- ottla broker start ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_ready_and_ends_with_0(tmp_path, number):
    data = tmp_path / "data"
    with command("broker", "start", "--data", data, "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready on 127.0.0.1:")
        assert f"data in {data} (durability fsync), 0 partitions" in line
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""


def test_version_and_help():
    for arguments, expected in (
        (["--version"], f"ottla {ottla.__version__}\n"),
        (["broker", "start", "--help"], "Exit codes:"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ottla", *arguments], capture_output=True, text=True, check=True
        )
        assert expected in done.stdout


def test_a_second_broker_on_a_directory_is_refused(tmp_path, ottla_broker):
    code, text = refused("--data", ottla_broker.data_dir, "--listen", "127.0.0.1:0")
    assert code == 4
    assert f"{ottla_broker.data_dir} is in use by another Ottla broker" in text


def test_an_address_in_use_is_refused(tmp_path, ottla_broker):
    listen = ottla_broker.bootstrap_servers
    code, text = refused("--data", tmp_path / "data", "--listen", listen)
    assert code == 3
    assert f"cannot listen on {listen}: Address already in use" in text


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("9092", "'9092' is not an address"),
        ("127.0.0.1:99999", "'127.0.0.1:99999' is not an address"),
        ("0.0.0.0:0", "not one that clients can connect to"),
        ("no.such.host.invalid:9092", "cannot listen on no.such.host.invalid:9092"),
    ],
)
def test_an_address_of_no_use_is_refused(tmp_path, listen, why):
    code, text = refused("--data", tmp_path / "data", "--listen", listen)
    assert code == 3
    assert why in text


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    data = tmp_path / "file" / "data"
    code, text = refused("--data", data, "--listen", "127.0.0.1:0")
    assert code == 4
    assert str(data) in text


def test_a_damaged_directory_is_refused_with_its_place(tmp_path):
    data = tmp_path / "data"
    with ottla.Broker(data) as broker:
        assert produce(broker, [b"a"]) == []
    checkpoint = data / "checkpoint"
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    code, text = refused("--data", data, "--listen", "127.0.0.1:0")
    assert code == 5
    assert f"{checkpoint}: its checksum does not match" in text
    with pytest.raises(ottla.BrokerFailed, match="its checksum does not match"):
        ottla.Broker(data).start()


def test_what_clients_are_told_to_connect_to(tmp_path):
    with contextlib.closing(bind("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
        with ottla.Broker(tmp_path / "data", advertise=f"127.0.0.1:{other}") as broker:
            producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
            brokers = producer.list_topics(timeout=10).brokers
            assert [(one.host, one.port) for one in brokers.values()] == [("127.0.0.1", other)]


def test_options_reach_the_broker(tmp_path):
    with ottla.Broker(num_partitions=3, auto_create_topics=False) as broker:
        errors = produce(broker, [b"a"], **{"message.timeout.ms": 1_000})
        assert errors in (["UNKNOWN_TOPIC_OR_PART"], ["_UNKNOWN_TOPIC"], ["_MSG_TIMED_OUT"])
    with ottla.Broker(num_partitions=3) as broker:
        produce(broker, [b"a"])
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
        assert len(producer.list_topics("t", timeout=10).topics["t"].partitions) == 3


# -- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little more room than the broker keeps in reserve."""
    place = tmp_path / "disk"
    place.mkdir()
    size = DISK_RESERVE_BYTES + 16_777_216
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_refuses_writes_and_stops_nothing(small_disk):
    with ottla.Broker(small_disk / "data") as broker:
        assert produce(broker, [b"before"]) == []
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(16_777_216 + DISK_RESERVE_BYTES // 2))
        impatient = {"message.timeout.ms": 2_000}
        # Some find room in the reserve, until the broker looks again.
        outcomes = (produce(broker, [bytes(500_000)], **impatient) for _ in range(20))
        assert ["_MSG_TIMED_OUT"] in outcomes
        assert produce(broker, [b"refused"], **impatient) == ["_MSG_TIMED_OUT"]
        assert consume(broker, 1) == [b"before"]
        ballast.unlink()
        assert produce(broker, [b"after"]) == []
        assert broker.running


def test_a_started_report_is_json(tmp_path):
    """The lean front door, as `ottla.Broker` uses it."""
    options = json.dumps({"data_dir": str(tmp_path / "data"), "listen": ["127.0.0.1:0"]})
    process = subprocess.Popen(
        [sys.executable, "-m", "ottla.server", options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        started = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 0
    assert started["data_dir"] == str(tmp_path / "data")
    assert started["port"] > 0
