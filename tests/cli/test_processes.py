"""The command as a process: pipes that break, Ctrl-C, and progress for who watches."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import Cli

_LIMIT_S = 60.0


def start(cli: Cli, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ottla", *arguments],
        env=os.environ | {"OTTLA_BOOTSTRAP_SERVERS": cli.bootstrap_servers},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        preexec_fn=_hear_ctrl_c,
    )


def _hear_ctrl_c() -> None:
    """Runs in the child: a run of the tests in a shell's background has it ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def cli(ottla_cli: Cli) -> Cli:
    return ottla_cli


@pytest.fixture
def topic(cli: Cli, unique: Callable[[str], str]) -> str:
    name = unique("topic")
    cli("topics", "create", name)
    return name


def test_whoever_reads_may_leave(cli: Cli, topic: str) -> None:
    cli("produce", topic, answer=("x" * 200 + "\n") * 5_000)
    for command in (("consume", topic, "-e"), ("consume", topic, "-e", "-f", "json")):
        process = start(cli, *command)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        _, err = process.communicate(timeout=_LIMIT_S)
        assert (process.returncode, err) == (141, b"")


def test_a_table_may_be_left_too(cli: Cli) -> None:
    process = start(cli, "configs", "describe", "broker", "1", "--all")
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=_LIMIT_S)
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_ends_a_consumer_and_commits_what_it_printed(
    cli: Cli, topic: str, unique: Callable[[str], str]
) -> None:
    group = unique("group")
    cli("produce", topic, answer="a\nb\n")
    process = start(cli, "consume", topic, "-g", group)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == [b"a\n", b"b\n"]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=_LIMIT_S)
    assert (process.returncode, rest, err) == (0, b"", b"")
    (row,) = cli("groups", "offsets", group, "-o", "json").json
    assert row["offset"] == 2


def test_ctrl_c_before_the_end_is_told(cli: Cli, topic: str) -> None:
    cli("produce", topic, answer="a\n")
    process = start(cli, "consume", topic, "-c", "2")
    assert process.stdout is not None
    assert process.stdout.readline() == b"a\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 130


def test_ctrl_c_aborts_a_transaction(cli: Cli, topic: str, unique: Callable[[str], str]) -> None:
    name = unique("id")
    process = start(cli, "produce", topic, "--transactional-id", name)
    assert process.stdin is not None
    process.stdin.write(b"never seen\n")
    process.stdin.flush()
    deadline = time.monotonic() + _LIMIT_S
    while not cli("consume", topic, "-e", "--isolation", "read_uncommitted").out:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 130
    assert b"interrupted; the transaction was aborted: nothing was written" in err
    assert b"Traceback" not in err
    assert cli("consume", topic, "-e").out == ""
    assert cli("transactions", "describe", name, "-o", "json").json["state"] == "CompleteAbort"


def test_progress_is_for_who_watches(cli: Cli, topic: str) -> None:
    master, terminal = pty.openpty()
    process = start(cli, "produce", topic, stderr=terminal)
    process.communicate(b"a\nb\n", timeout=_LIMIT_S)
    os.close(terminal)
    shown = os.read(master, 4096).decode()
    os.close(master)
    assert process.returncode == 0
    assert "sent 2 records" in shown
    process = start(cli, "produce", topic)
    assert process.communicate(b"a\n", timeout=_LIMIT_S) == (b"", b"")
