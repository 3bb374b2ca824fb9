"""P11: what looks at a directory finds what a broker refuses, and nothing in a good one.

Method: directories with compacted, rolled, retained and open parts on a simulated disk; a byte of
each file is changed, and a broker is asked as well.
"""

import random

import pytest

from ottla.broker.config import BrokerConfig
from ottla.log.inspect import FileReport, inspect
from ottla.ports.clock import SimulatedClock
from ottla.ports.errors import DataDamaged
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import SimulatedDisk
from tests.crash.test_damage import copy, directory, files
from tests.crash.workload import CONFIG as WORKLOAD
from tests.unit.log.old_data import CONFIG, Desk
from tests.unit.log.test_compaction import compact, desk_of


def compacted() -> SimulatedDisk:
    """Several segments, of which a compaction has rewritten all but the last."""
    desk = desk_of()
    for number in range(40):
        desk.write((f"k{number % 7}", f"v{number}"))
    compact(desk)
    desk.write(("k1", "newer"))
    desk.broker.core.close()
    return desk.disk


def several_segments() -> SimulatedDisk:
    """Segments that are full, and records that were deleted before an offset."""
    desk = Desk()
    desk.create(partitions=2, retention_ms="-1")
    for number in range(30):
        desk.write((f"k{number}", "v" * 50), partition=number % 2)
    desk.broker.core.close()
    return desk.disk


DISKS = {
    "compacted": compacted,
    "segments": several_segments,
    "stopped": lambda: directory(clean=True)[0],
    "killed": lambda: directory(clean=False)[0],
}


def looked_at(disk: SimulatedDisk) -> list[FileReport]:
    return list(inspect(disk))


def damage(disk: SimulatedDisk) -> list[str]:
    return [report.damage for report in looked_at(disk) if report.damage]


@pytest.mark.parametrize("name", DISKS)
def test_a_good_directory_has_no_damage(name: str) -> None:
    disk = DISKS[name]()
    reports = looked_at(disk)
    assert [report.damage for report in reports if report.damage] == []
    assert reports[0].path == "checkpoint"
    logs = [each.path for each in reports if each.path.endswith(".log")]
    assert any(each.startswith("topics/") for each in logs)
    assert ("compacted-1" in "".join(logs)) is (name == "compacted")


@pytest.mark.parametrize("name", DISKS)
def test_what_a_broker_refuses_is_found(name: str) -> None:
    disk = DISKS[name]()
    config = WORKLOAD if name in ("stopped", "killed") else CONFIG
    rng = random.Random(7)
    refusals = 0
    for path in files(disk):
        file = disk.open(path)
        content = file.read(0, file.size())
        for at in sorted(rng.sample(range(len(content)), min(len(content), 25))):
            damaged = copy(disk)
            damaged.open(path).write(at, [bytes([content[at] ^ 0x55])])
            found = damage(damaged)
            assert not found or path in found[0], (path, at, found)
            refusal = refused(damaged, config)
            assert found or not refusal, (path, at, refusal)
            refusals += bool(refusal)
    assert refusals > 10


def refused(disk: SimulatedDisk, config: BrokerConfig) -> str:
    """Why a broker does not start on it, or nothing."""
    try:
        InProcessBroker(disk, SimulatedClock(), config)
    except DataDamaged as error:
        return str(error)
    return ""


def test_the_place_is_told() -> None:
    disk = several_segments()
    path = next(each for each in files(disk) if each.endswith(".log") and "topics" in each)
    disk.open(path).write(70, [b"\xff"])  # in the records of the first batch
    assert damage(disk) == [
        f"{disk.describe(path)}: the checksum of a record batch does not match at byte 0"
    ]
    disk.open(path).truncate(40)
    assert damage(disk) == [f"{disk.describe(path)}: no record batch of ours at byte 0"]
    disk.remove(path)
    assert damage(disk) == [f"{disk.describe(path)} is missing"]
    disk.open("checkpoint").write(20, [b"\xff\xff"])
    assert "its checksum does not match" in damage(disk)[0]
