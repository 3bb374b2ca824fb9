"""The simulated disk is a disk, and its power cuts do what the fault model says and no more.

Method: the same random operations on a simulated and on a real disk must read back the same; and
for every policy and many seeds, what comes back after a power cut is checked against the model.
"""

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.ports.disk import Disk, RealDisk, write_small_file
from ottla.ports.errors import StorageFailed
from ottla.testing.simulated_disk import (
    POLICIES,
    Operation,
    PowerCut,
    PowerCutPolicy,
    SimulatedDisk,
    power_cut_at,
)
from ottla.testing.unsynced import SECTOR_BYTES, Fate

KEPT = PowerCutPolicy(Fate.KEPT, Fate.KEPT)
DROPPED = PowerCutPolicy(Fate.DROPPED, Fate.DROPPED)
SEEDS = range(30)


def surviving(disk: SimulatedDisk, policy: PowerCutPolicy, seed: int = 0) -> SimulatedDisk:
    return disk.after_power_cut(policy, random.Random(seed))


def content(disk: Disk, path: str) -> bytes:
    file = disk.open(path)
    found = file.read(0, file.size())
    file.close()
    return found


def durable_file(path: str = "log", text: bytes = b"") -> SimulatedDisk:
    disk = SimulatedDisk()
    file = disk.open(path)
    file.write(0, [text])
    file.sync()
    file.close()
    disk.sync_directory("")
    return disk


# -- a disk like any other ------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "e/a"])
DIRECTORIES = ["d", "e", "d/deep", "d/deep/er"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.integers(0, 2000), st.binary(max_size=700)),
        st.tuples(st.just("truncate"), NAMES, st.integers(0, 2000)),
        st.tuples(st.just("sync"), NAMES),
        st.tuples(st.just("remove"), st.sampled_from(["a", "b", "d/a", "d", "e"])),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("make_directory"), st.sampled_from(["d", "e", "d/deep/er"])),
        st.tuples(st.just("sync_directory"), st.sampled_from(["", "d", "e"])),
    ),
    max_size=20,
)


def perform(disk: Disk, step: tuple) -> object:
    """Do one step; whether the disk refused it is part of the result."""
    kind, path, *rest = step
    try:
        if kind == "write":
            file = disk.open(path)
            wrote = file.write(rest[0], [rest[1][:3], memoryview(rest[1])[3:]])
            result = wrote, file.size(), file.read(1, 1500)
            file.close()
            return result
        if kind in ("truncate", "sync"):
            file = disk.open(path)
            getattr(file, kind)(*rest)
            file.close()
            return None
        return getattr(disk, kind)(path, *rest)
    except StorageFailed:
        return "refused"


def everything(disk: Disk, path: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name in disk.list(path):
        full = f"{path}/{name}".lstrip("/")
        if full == "lock":  # the real disk's
            continue
        if full in DIRECTORIES:
            found[full] = everything(disk, full)
        else:
            found[full] = content(disk, full)
    return found


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_does_what_a_real_disk_does(steps, tmp_path_factory):
    simulated = SimulatedDisk()
    real = RealDisk(tmp_path_factory.mktemp("disk"))
    for step in steps:
        assert perform(simulated, step) == perform(real, step), step
    assert everything(simulated) == everything(real)
    real.close()
    kept = surviving(simulated, KEPT)
    assert everything(kept) == everything(simulated)


def test_a_closed_file_is_closed():
    file = SimulatedDisk().open("log")
    file.close()
    with pytest.raises(ValueError, match="log was closed"):
        file.read(0, 1)


# -- content after a power cut --------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_synced_content_never_changes(policy):
    disk = durable_file(text=b"synced" * 1000)
    disk.open("log").write(6000, [b"new" * 1000])
    for seed in SEEDS:
        assert content(surviving(disk, policy, seed), "log").startswith(b"synced" * 1000)


@pytest.mark.parametrize("names", Fate)
def test_unsynced_content_is_dropped_or_kept(names):
    disk = durable_file(text=b"old content")
    file = disk.open("log")
    file.write(0, [b"new"])
    file.truncate(5)
    file.write(8, [b"!"])
    assert content(surviving(disk, PowerCutPolicy(Fate.DROPPED, names)), "log") == b"old content"
    expected = b"new c\0\0\0!"
    assert content(surviving(disk, PowerCutPolicy(Fate.KEPT, names)), "log") == expected


def versions(count: int) -> tuple[SimulatedDisk, list[bytes]]:
    """A file of ten sectors written over `count` times without sync, and what it held when."""
    disk = durable_file(text=bytes([0]) * SECTOR_BYTES * 10)
    file = disk.open("log")
    contents = [file.read(0, file.size())]
    for number in range(1, count + 1):
        file.write(number * 100, [bytes([number]) * 2000])
        contents.append(file.read(0, file.size()))
    return disk, contents


def moments_of_sectors(content: bytes, contents: list[bytes]) -> list[set[int]]:
    """For each sector the moments at which it held what it holds now."""
    return [
        {
            moment
            for moment, then in enumerate(contents)
            if then[at : at + SECTOR_BYTES] == content[at : at + SECTOR_BYTES]
        }
        for at in range(0, len(content), SECTOR_BYTES)
    ]


def test_scattered_sectors_are_each_from_one_moment_but_not_from_the_same():
    disk, contents = versions(count=6)
    distinct = set()
    for seed in SEEDS:
        policy = PowerCutPolicy(Fate.SCATTERED, Fate.KEPT)
        found = content(surviving(disk, policy, seed), "log")
        assert all(moments_of_sectors(found, contents)), "a sector mixes two moments"
        distinct.add(found)
    assert len(distinct) > 20
    assert not distinct <= set(contents)


def test_torn_sectors_are_from_neighbouring_moments():
    disk, contents = versions(count=8)
    torn = 0
    for seed in SEEDS:
        found = content(surviving(disk, PowerCutPolicy(Fate.TORN, Fate.KEPT), seed), "log")
        moments = moments_of_sectors(found, contents)
        assert any(
            all(sector & set(range(first, first + 4)) for sector in moments)
            for first in range(len(contents))
        )
        torn += found not in contents
    assert torn > 5


@pytest.mark.parametrize("fate", [Fate.TORN, Fate.SCATTERED])
def test_a_torn_append_may_be_cut_anywhere_and_may_have_holes(fate):
    disk = durable_file(text=b"head")
    disk.open("log").write(4, [b"x" * 5000])
    found = [
        content(surviving(disk, PowerCutPolicy(fate, Fate.KEPT), seed), "log") for seed in SEEDS
    ]
    assert b"head" in found
    assert any(len(one) == 5004 and b"\0" in one for one in found)
    assert all(one.startswith(b"head") and set(one[4:]) <= {0, ord("x")} for one in found)


# -- names after a power cut ----------------------------------------------------------------------


def test_a_file_is_lost_with_its_name_although_it_was_synced():
    disk = SimulatedDisk()
    file = disk.open("log")
    file.write(0, [b"content"])
    file.sync()
    assert surviving(disk, DROPPED).list("") == []
    disk.sync_directory("")
    assert content(surviving(disk, DROPPED), "log") == b"content"


def test_a_directory_is_lost_with_its_name():
    disk = SimulatedDisk()
    disk.make_directory("a/b")
    disk.open("a/b/log")
    disk.sync_directory("a/b")
    assert surviving(disk, DROPPED).list("") == []
    disk.sync_directory("")
    assert surviving(disk, DROPPED).list("a") == []
    disk.sync_directory("a")
    assert surviving(disk, DROPPED).list("a/b") == ["log"]


def test_a_removal_may_be_undone():
    disk = durable_file(text=b"old")
    disk.remove("log")
    assert content(surviving(disk, DROPPED), "log") == b"old"
    disk.sync_directory("")
    assert not surviving(disk, DROPPED).exists("log")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_rename_is_atomic(policy):
    disk = durable_file("old")
    disk.rename("old", "new")
    for seed in SEEDS:
        assert surviving(disk, policy, seed).list("") in (["old"], ["new"])


def test_a_rename_between_directories_is_durable_in_both():
    disk = SimulatedDisk()
    disk.make_directory("from")
    disk.make_directory("to")
    disk.open("from/log")
    for directory in ("", "from"):
        disk.sync_directory(directory)
    disk.rename("from/log", "to/log")
    disk.open("from/log")
    for policy in POLICIES:
        for seed in SEEDS:
            disk_after = surviving(disk, policy, seed)
            assert "log" in disk_after.list("from") + disk_after.list("to")
    disk.sync_directory("from")
    assert surviving(disk, DROPPED).exists("from/log")
    assert surviving(disk, DROPPED).exists("to/log")


@pytest.mark.parametrize("fate", [Fate.TORN, Fate.SCATTERED])
def test_unsynced_names_of_a_directory_survive_in_order(fate):
    disk = SimulatedDisk()
    names = [f"{number:03}" for number in range(6)]
    for name in names:
        disk.open(name)
    found = {
        tuple(surviving(disk, PowerCutPolicy(Fate.KEPT, fate), seed).list("")) for seed in SEEDS
    }
    assert found <= {tuple(names[:count]) for count in range(7)}
    assert len(found) > 3


def test_directories_know_nothing_of_each_other():
    disk = SimulatedDisk()
    for directory in ("a", "b"):
        disk.make_directory(directory)
    disk.sync_directory("")
    disk.open("a/1")
    disk.open("b/1")
    policy = PowerCutPolicy(Fate.KEPT, Fate.SCATTERED)
    after = [surviving(disk, policy, seed) for seed in SEEDS]
    assert {(len(one.list("a")), len(one.list("b"))) for one in after} == {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    }


# -- moments --------------------------------------------------------------------------------------


def replace(disk: SimulatedDisk) -> None:
    write_small_file(disk, "meta", b"new" * 500)


def careless_replace(disk: SimulatedDisk) -> None:
    """The classic mistake: a rename without a sync of what is renamed."""
    file = disk.open("meta.tmp")
    file.write(0, [b"new" * 500])
    disk.rename("meta.tmp", "meta")
    disk.sync_directory("")


def outcomes(workload) -> set[bytes]:
    """What `meta` holds after a power cut, over all moments, policies and some seeds."""
    found = set()
    for moment in range(1, 100):
        disk = durable_file("meta", b"old" * 500)
        disk.hook, disk.moments = power_cut_at(moment), 0
        with contextlib.suppress(PowerCut):
            workload(disk)
        for policy in POLICIES:
            for seed in range(5):
                found.add(content(surviving(disk, policy, seed), "meta"))
        if disk.moments < moment:
            return found
    raise AssertionError("the workload never ended")


def test_every_moment_of_a_small_file_leaves_the_old_content_or_the_new():
    assert outcomes(replace) == {b"old" * 500, b"new" * 500}


def test_a_missing_sync_is_seen():
    assert outcomes(careless_replace) > {b"old" * 500, b"new" * 500}


def test_the_hook_is_called_before_and_after_each_change():
    seen = []
    disk = SimulatedDisk(lambda moment, operation: seen.append((moment, disk.exists("log"))))
    file = disk.open("log")
    file.write(0, [b"12", b"3"])
    file.read(0, 3)
    disk.open("log")
    file.sync()
    assert seen == [(1, False), (2, True), (3, True), (4, True), (5, True), (6, True)]
    assert disk.operations == [
        Operation("create", "log"),
        Operation("write", "log", 0, 3),
        Operation("sync", "log"),
    ]


@pytest.mark.parametrize("moment", [3, 4])
def test_without_power_nothing_goes_on(moment):
    disk = SimulatedDisk(power_cut_at(moment))
    file = disk.open("log")
    with pytest.raises(PowerCut, match="write"):
        file.write(0, [b"content"])
    for call in (file.sync, file.size, lambda: disk.list(""), lambda: disk.open("log")):
        with pytest.raises(PowerCut):
            call()
    assert content(surviving(disk, KEPT), "log") == (b"content" if moment == 4 else b"")


# -- failures -------------------------------------------------------------------------------------


def test_a_full_disk_takes_a_part_and_says_which_file():
    disk = SimulatedDisk()
    disk.fail("write", nth=2)
    file = disk.open("log")
    file.write(0, [b"1234"])
    with pytest.raises(StorageFailed, match="no space left for simulated disk:log"):
        file.write(4, [b"5678"])
    assert file.read(0, 10) == b"123456"
    assert file.write(4, [b"5678"]) == 4


def test_a_failed_sync_loses_its_pages_for_good():
    disk = SimulatedDisk()
    file = disk.open("log")
    disk.sync_directory("")
    file.write(0, [b"lost"])
    disk.fail("sync")
    with pytest.raises(StorageFailed, match=r"cannot sync simulated disk:log: Input/output error"):
        file.sync()
    file.write(4, [b"more"])
    file.sync()
    assert file.read(0, 8) == b"lostmore"
    assert content(surviving(disk, KEPT), "log") == b"\0\0\0\0more"


def test_failures_can_last():
    disk = SimulatedDisk()
    disk.fail("rename", times=2)
    disk.open("a")
    for _ in range(2):
        with pytest.raises(StorageFailed, match="cannot rename"):
            disk.rename("a", "b")
    disk.rename("a", "b")
    assert disk.list("") == ["b"]


def test_describe_names_the_disk(tmp_path: Path):
    assert SimulatedDisk().describe("a/b") == "simulated disk:a/b"
