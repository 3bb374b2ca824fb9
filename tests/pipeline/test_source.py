"""Promise: each row of a source arrives in the topic once.

The source worker is killed at each step of its protocol, fenced while it stands still, and given
files that grow, appear, and change.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.worker import EXIT_FENCED, EXIT_STOPPED
from ottla.server.process import Broker
from tests.pipeline.workers import (
    dead_letters_in,
    finish,
    make_spec,
    rows_in,
    run_worker,
    start_worker,
    stop,
)

COUNT = 400
FAILPOINTS = (
    "source.after_fence",
    "source.after_positions",
    "source.before_commit",
    "source.after_commit",
)


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    """A file of numbers that takes some ten transactions."""
    lines = "".join(f"{n}\n" for n in range(COUNT))
    (tmp_path / "in.csv").write_text(f"n\n{lines}")
    return make_spec(tmp_path, **{"from": "file:in*.csv?bytes_per_transaction=150"})


def numbers(broker: Broker) -> list[int]:
    return [row["n"] for row in rows_in(broker.bootstrap_servers, "p-input")]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_at_each_step_every_row_arrives_once(
    ottla_broker: Broker, spec: PipelineSpec, failpoint: str
) -> None:
    for nth in (1, 3) if "commit" in failpoint else (1, 1):
        code, _ = run_worker(
            "source", spec, ottla_broker.bootstrap_servers, f"{failpoint}=exit@{nth}"
        )
        assert code == -signal.SIGKILL
    code, said = run_worker("source", spec, ottla_broker.bootstrap_servers)
    assert (code, said) == (0, "")
    assert numbers(ottla_broker) == list(range(COUNT))


def test_the_fence_comes_before_the_position_is_read(
    ottla_broker: Broker, spec: PipelineSpec
) -> None:
    """A worker stands still with a transaction open; its successor reads everything. Then the
    first one wakes up, and can neither commit nor go on."""
    first = start_worker(
        "source", spec, ottla_broker.bootstrap_servers, failpoints="source.before_commit=stop@3"
    )
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
    assert run_worker("source", spec, ottla_broker.bootstrap_servers)[0] == 0
    os.kill(first.pid, signal.SIGCONT)
    code, said = finish(first)
    assert code == EXIT_FENCED
    assert "another source worker of pipeline p was started" in said
    assert numbers(ottla_broker) == list(range(COUNT))


def test_a_worker_stopped_between_fence_and_position_does_not_repeat_rows(
    ottla_broker: Broker, spec: PipelineSpec
) -> None:
    first = start_worker(
        "source", spec, ottla_broker.bootstrap_servers, failpoints="source.after_fence=stop"
    )
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
    assert run_worker("source", spec, ottla_broker.bootstrap_servers)[0] == 0
    os.kill(first.pid, signal.SIGCONT)
    finish(first)
    assert numbers(ottla_broker) == list(range(COUNT))


def test_the_broker_dies_and_comes_back_meanwhile(ottla_broker: Broker, spec: PipelineSpec) -> None:
    worker = start_worker(
        "source", spec, ottla_broker.bootstrap_servers, failpoints="source.before_commit=stop@2"
    )
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    ottla_broker.kill()
    os.kill(worker.pid, signal.SIGCONT)
    ottla_broker.start()
    assert finish(worker)[0] == 0
    assert numbers(ottla_broker) == list(range(COUNT))


def test_lines_that_are_no_rows_become_dead_letters_once(
    ottla_broker: Broker, tmp_path: Path
) -> None:
    lines = [f"{n},x" if n % 10 else f"{n}" for n in range(1, 100)]
    (tmp_path / "in.csv").write_text("n,s\n" + "\n".join(lines) + "\n")
    spec = make_spec(tmp_path, **{"from": "file:in.csv?bytes_per_transaction=60"})
    bootstrap_servers = ottla_broker.bootstrap_servers
    for nth in (2, 4):
        run_worker("source", spec, bootstrap_servers, f"source.before_commit=exit@{nth}")
    assert run_worker("source", spec, bootstrap_servers)[0] == 0
    assert numbers(ottla_broker) == [n for n in range(1, 100) if n % 10]
    dead = dead_letters_in(bootstrap_servers, "p-dead-letters")
    assert [str(letter) for letter in dead] == [
        f"in.csv:{n + 1}: 2 columns are named, the row has 1" for n in range(10, 100, 10)
    ]
    assert [letter.raw for letter in dead] == [str(n) for n in range(10, 100, 10)]


def test_files_that_grow_and_files_that_are_new_are_read_on(
    ottla_broker: Broker, spec: PipelineSpec
) -> None:
    bootstrap_servers = ottla_broker.bootstrap_servers
    assert run_worker("source", spec, bootstrap_servers)[0] == 0
    with (spec.base / "in.csv").open("a") as file:
        file.write(f"{COUNT}\n")
    (spec.base / "in2.csv").write_text(f"n\n{COUNT + 1}\n")
    assert run_worker("source", spec, bootstrap_servers)[0] == 0
    assert numbers(ottla_broker) == list(range(COUNT + 2))
    assert rows_in(bootstrap_servers, "p-input")[-1]["_source"] == "in2.csv:2"


def test_a_file_that_was_changed_stops_the_pipeline(
    ottla_broker: Broker, spec: PipelineSpec
) -> None:
    assert run_worker("source", spec, ottla_broker.bootstrap_servers)[0] == 0
    (spec.base / "in.csv").write_text("n\n7\n" + "8\n" * COUNT)
    code, said = run_worker("source", spec, ottla_broker.bootstrap_servers)
    assert code == EXIT_STOPPED
    assert "was changed, not appended to" in said


def test_without_any_file_it_says_so(ottla_broker: Broker, tmp_path: Path) -> None:
    code, said = run_worker("source", make_spec(tmp_path), ottla_broker.bootstrap_servers)
    assert code == EXIT_STOPPED
    assert f"none matches {tmp_path}/in*.csv" in said


def test_following_it_waits_for_rows_until_it_is_ended(
    ottla_broker: Broker, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path)
    worker = start_worker("source", spec, ottla_broker.bootstrap_servers, follow=True)
    (tmp_path / "in.csv").write_text("n\n1\n2")
    deadline = time.monotonic() + 30
    while numbers(ottla_broker) != [1] and time.monotonic() < deadline:
        time.sleep(0.1)
    with (tmp_path / "in.csv").open("a") as file:
        file.write("3\n")
    while numbers(ottla_broker) != [1, 23] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert numbers(ottla_broker) == [1, 23]
    stop(worker)
    assert finish(worker)[0] == 0
