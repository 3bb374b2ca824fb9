"""P7 on a real broker: a worker killed anywhere changes no result.

Method: an application with counts, windows, a repartition, a dedupe and dead letters runs in
processes of its own, on Ottla and on Apache Kafka. They are killed with SIGKILL, stopped, joined
and left by others; then every output topic is compared, exactly, with what the input comes to.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ottla.client import ClientError, Consumer, Partition, Position, Producer
from ottla.server.process import Broker
from ottla.streams.commit import STEPS
from tests.streams.conftest import Job

NewJob = Callable[..., Job]


def test_a_worker_alone(new_job: NewJob):
    job = new_job()
    job.write(2_000)
    worker = job.start()
    job.await_result()
    metrics = job.stop(worker)
    assert metrics["dead_letters"] == len(job.expected()["dead"])
    assert metrics["aborts"] == 0
    assert metrics["lag"] == 0


def test_killed_at_every_step_of_the_commit(new_job: NewJob):
    """Conformance 1: kill -9 at each numbered step; totals exact, only a tail replayed."""
    job = new_job()
    for step in STEPS:
        job.write(300)
        worker = job.start(failpoints=f"commit.{step}=exit@2", commit_interval_ms=30)
        deadline = time.monotonic() + 30
        while worker.poll() is None and time.monotonic() < deadline:
            job.write(20)
            time.sleep(0.05)
        assert worker.poll() == -signal.SIGKILL, (step, job.log())
    worker = job.start()
    job.await_result()
    assert job.stop(worker)["aborts"] == 0


def test_killed_at_any_time(new_job: NewJob):
    """Conformance 1: kill -9 without asking where."""
    job = new_job()
    for number in range(8):
        job.write(1_000)
        worker = job.start()
        time.sleep(0.6 + number * 0.17 % 0.8)
        job.kill(worker)
    job.start()
    job.await_result()


def test_a_lost_disk_is_restored_from_the_changelogs(new_job: NewJob):
    """Conformance 5: these changelogs end in transaction markers, as all of them do."""
    job = new_job()
    job.write(1_500)
    worker = job.start()
    job.await_result()
    job.stop(worker)
    shutil.rmtree(job.directory / "one")
    job.write(1_500)
    worker = job.start()
    job.await_result()
    assert job.stop(worker)["restored"] > 0


def test_what_is_on_the_disk_is_not_read_again(new_job: NewJob):
    """Conformance 1: no wipe."""
    job = new_job()
    job.write(1_500)
    worker = job.start()
    job.await_result()
    job.stop(worker)
    job.write(100)
    worker = job.start()
    job.await_result()
    assert job.stop(worker)["restored"] == 0


def test_a_restart_frees_the_readers_at_once(new_job: NewJob):
    """Conformance 2: a worker dies with an open transaction that may last for a minute; its
    successor fences it, and who reads read_committed goes on."""
    job = new_job()
    job.write(500)
    options = {"transaction_timeout_ms": 60_000}
    worker = job.start(failpoints="commit.5.commit=exit@1", **options)
    job.await_end(worker)
    assert job.found()["seen"] == {}
    began = time.monotonic()
    job.start(**options)
    job.await_result(30)
    assert time.monotonic() - began < 30


def test_a_zombie_that_wakes_up_is_refused(new_job: NewJob):
    """Conformance 3: paused just before it sends its offsets; the group moves on without it."""
    job = new_job(partitions=1)
    job.write(500)
    stop = "commit.4.offsets=stop@1"
    zombie = job.start("zombie", failpoints=stop, transaction_timeout_ms=60_000)
    await_stopped(zombie.pid)
    heir = job.start("heir")
    time.sleep(8)  # the zombie's session ends
    zombie.send_signal(signal.SIGCONT)
    job.write(500)
    job.await_result()
    assert zombie.poll() is None
    assert "this member's generation is over" in job.log()
    job.kill(heir)
    job.write(500)
    job.await_result()  # the zombie has come back to life, from the right place


def await_stopped(pid: int) -> None:
    """Wait until a process has stopped itself with SIGSTOP."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} did not stop")


def test_workers_come_and_go(new_job: NewJob):
    """Rebalances, clean and not, while records arrive."""
    job = new_job(partitions=4)
    job.write(2_000)
    one = job.start("one")
    time.sleep(1.5)
    two = job.start("two")
    job.write(2_000)
    time.sleep(2)
    three = job.start("three")
    job.write(1_000)
    time.sleep(2)
    job.kill(one)
    job.write(1_000)
    job.stop(two)
    job.write(500)
    job.start("one")
    job.await_result(90)
    assert three.poll() is None


def test_two_workers_with_one_state_directory(new_job: NewJob):
    """Conformance 7: the second says why it does not start, at once; the first works on."""
    job = new_job()
    job.write(100)
    job.start("same")
    time.sleep(1)
    second = job.start("same")
    job.await_end(second, 20)
    assert second.returncode == 1
    assert "StateInUse: the state directory" in job.log()
    job.await_result()


def test_a_fenced_worker_takes_its_id_back_and_loses_nothing(new_job: NewJob):
    """Another producer takes the worker's transactional.id, and is gone again."""
    job = new_job()
    job.write(500)
    worker = job.start(worker="w")
    job.await_result()
    Producer(job.bootstrap_servers, transactional_id=f"{job.name}-w").close()
    job.write(500)
    job.await_result()
    assert worker.poll() is None
    assert "fenced by a newer instance" in job.log()


def test_the_broker_dies_and_comes_back(
    ottla_broker: Broker, tmp_path: Path, unique: Callable[[str], str]
):
    """Kill -9 of the broker, three times, while workers are in the middle of it."""
    job = Job(unique("app"), ottla_broker.bootstrap_servers, tmp_path, partitions=2)
    try:
        worker = job.start()
        for _ in range(3):
            job.write(1_000)
            time.sleep(1)
            ottla_broker.kill()
            time.sleep(0.5)
            ottla_broker.restart()
        job.write(500)
        job.await_result()
        assert worker.poll() is None
    finally:
        job.close()


def test_a_broker_that_does_not_answer(
    ottla_broker: Broker, tmp_path: Path, unique: Callable[[str], str]
):
    """The broker is stopped for longer than a call may take, in the middle of the work."""
    job = Job(unique("app"), ottla_broker.bootstrap_servers, tmp_path, partitions=2)
    try:
        job.write(4_000)
        worker = job.start(slow_ms=1, timeout_ms=1_000, commit_interval_ms=20)
        for _ in range(3):
            time.sleep(1.2)
            with stopped(ottla_broker.pid):
                time.sleep(2.5)
        job.await_result()
        assert worker.poll() is None
        assert "within 1.0 s" in job.log()
    finally:
        job.close()


def test_a_commit_without_an_answer(
    ottla_broker: Broker, tmp_path: Path, unique: Callable[[str], str]
):
    """The commit is asked for, and not answered: only a new producer knows what became of it."""
    job = Job(unique("app"), ottla_broker.bootstrap_servers, tmp_path, partitions=2)
    try:
        job.write(1_000)
        worker = job.start(failpoints="commit.5.commit=stop@2", timeout_ms=1_000)
        await_stopped(worker.pid)
        with stopped(ottla_broker.pid):
            worker.send_signal(signal.SIGCONT)
            time.sleep(2.5)
        job.write(500)
        job.await_result()
        assert worker.poll() is None
        assert "may have happened or not" in job.log()
    finally:
        job.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_slow_steps_do_not_outlive_their_transaction(new_job: NewJob):
    job = new_job(partitions=1)
    job.write(400)
    worker = job.start(slow_ms=15, transaction_timeout_ms=3_000)
    job.await_result()
    assert job.stop(worker)["aborts"] == 0


def test_two_workers_of_one_name(new_job: NewJob):
    """A copy of a worker takes over; the one that was copied stops and says why."""
    job = new_job()
    job.write(500)
    first = job.start("one", worker="w")
    job.await_result()
    second = job.start("two", worker="w")
    job.await_end(first)
    assert first.returncode != 0
    assert "Give every process a name of its own" in job.log()
    job.write(500)
    job.await_result()
    assert second.poll() is None


def test_an_offset_that_is_not_in_the_log_stops_the_worker(new_job: NewJob):
    """Nothing is skipped, nothing is taken for something else."""
    job = new_job(partitions=1)
    job.write(500)
    worker = job.start()
    job.await_result()
    job.stop(worker)
    position = {Partition(job.input, 0): Position(9_999)}
    with Consumer(job.bootstrap_servers, job.name) as consumer:
        deadline = time.monotonic() + 30
        while True:  # until the session of the worker has ended
            try:
                consumer.commit(position)
                break
            except ClientError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    worker = job.start()
    job.await_end(worker)
    assert worker.returncode == 1
    assert "Nothing is skipped silently" in job.log()


@pytest.mark.parametrize("failpoint", ["commit.3.flush", "commit.5.commit"])
def test_a_worker_stopped_longer_than_its_transaction_may_last(new_job: NewJob, failpoint: str):
    """The broker has aborted the transaction meanwhile; the work is done again."""
    job = new_job(partitions=1)
    job.write(300)
    worker = job.start(
        failpoints=f"{failpoint}=stop@1", transaction_timeout_ms=2_000, session_timeout_ms=30_000
    )
    await_stopped(worker.pid)
    time.sleep(4)
    worker.send_signal(signal.SIGCONT)
    job.await_result()
    assert worker.poll() is None
