"""P11: a damaged data directory is refused with the place and the reason, never read wrongly.

Method: a small directory as a kill leaves it, and as a clean stop leaves it. Bytes of each file
are changed, one at a time. The broker must then refuse to start, or refuse the read, and name the
file; or everything that can be read must be what it was. One exception is the nature of things: the
journal's last frames cannot be told from a tail that was torn, and are cut.
"""

import os
import random
from dataclasses import replace
from typing import Any

import pytest

from ottla.ports.clock import SimulatedClock
from ottla.ports.errors import DataDamaged, KafkaError
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import SimulatedDisk
from tests.crash.workload import CONFIG, Script, observe

SAME_BOOT = replace(CONFIG, boot_id="one")  # the power has not gone: nothing is aborted
SOAK = bool(os.environ.get("OTTLA_SOAK"))


def directory(*, clean: bool) -> tuple[SimulatedDisk, list[dict[str, Any]]]:
    """A disk after the script, and the state after each step."""
    disk = SimulatedDisk()
    broker = InProcessBroker(disk, SimulatedClock(), SAME_BOOT)
    broker.sync()
    states = [observe(broker)]
    script = Script()
    client = broker.connect()
    for step in script.steps:
        script.run_step(client, step)
        broker.sync()
        states.append(observe(broker))
    if clean:
        broker.core.close()
    return disk, states


def files(disk: SimulatedDisk, path: str = "") -> list[str]:
    found = []
    for name in disk.list(path):
        child = f"{path}/{name}".lstrip("/")
        found += files(disk, child) or ([] if disk.list(child) else [child])
    return found


def copy(disk: SimulatedDisk) -> SimulatedDisk:
    """A disk of its own with the same files."""
    other = SimulatedDisk()
    for path in files(disk):
        parent = path.rpartition("/")[0]
        if parent:
            other.make_directory(parent)
        file = disk.open(path)
        other.open(path).write(0, [file.read(0, file.size())])
    return other


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
def test_a_changed_byte_is_refused_or_changes_nothing(clean: bool) -> None:
    disk, states = directory(clean=clean)
    rng = random.Random(11)
    outcomes = {"refused": 0, "unchanged": 0, "tail": 0}
    for path in files(disk):
        original = disk.open(path)
        content = original.read(0, original.size())
        for at in _places(content, rng):
            damaged = copy(disk)
            damaged.open(path).write(at, [bytes([content[at] ^ 0x55])])
            outcomes[_open(damaged, path, states)] += 1
    assert outcomes["refused"] > 100, outcomes
    assert clean is (outcomes["tail"] == 0), outcomes


def _places(content: bytes, rng: random.Random) -> list[int]:
    """The bytes to change: all of them in a soak, else some of each file."""
    everywhere = range(len(content))
    return list(everywhere) if SOAK else sorted(rng.sample(everywhere, min(len(content), 60)))


def _open(disk: SimulatedDisk, path: str, states: list[dict[str, Any]]) -> str:
    try:
        broker = InProcessBroker(disk, SimulatedClock(), SAME_BOOT)
        broker.sync()
        state = observe(broker)
    except (DataDamaged, KafkaError) as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert path.rpartition("/")[2] in said, (path, said)
        return "refused"
    if state == states[-1]:
        return "unchanged"
    assert path.startswith("journal/"), path
    assert state in states, path
    return "tail"


def test_a_missing_file_is_refused() -> None:
    disk, states = directory(clean=True)
    refused = 0
    for path in files(disk):
        damaged = copy(disk)
        damaged.remove(path)
        refused += _open(damaged, path, states) == "refused"
    assert refused > 3
