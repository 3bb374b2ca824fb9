"""More files than descriptors: contents, threads, removal, and a process that runs short.

Method: a real directory with a limit of a few descriptors; the process's own limit is lowered in a
process of its own.
"""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ottla.ports.disk import RealDisk
from ottla.ports.errors import StorageFailed
from ottla.ports.open_files import OpenFiles, files_max


def descriptors_into(directory: Path) -> int:
    """How many of this process's descriptors are files of the directory."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        count += target.startswith(f"{directory}/f")
    return count


def test_files_keep_their_contents_whatever_is_closed_behind_them(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path, open_files_max=4)
    files = [disk.open(f"f{number}") for number in range(40)]
    for number, file in enumerate(files):
        file.write(0, [b"%d" % number, b"!"])
    for file in files[::-1]:
        file.sync()
    assert descriptors_into(tmp_path) == 4
    assert [file.read(0, 9) for file in files] == [b"%d!" % number for number in range(40)]
    assert [file.size() for file in files[:3]] == [2, 2, 2]
    files[0].truncate(1)
    files[0].allocate(4)
    assert files[0].read(0, 9) == b"0\0\0\0"
    for file in files:
        file.close()
    assert descriptors_into(tmp_path) == 0
    disk.close()


def test_a_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path, open_files_max=1)
    first = disk.open("f1")
    disk.open("f2")
    disk.remove("f1")
    with pytest.raises(StorageFailed, match="No such file"):
        first.read(0, 1)
    assert not disk.exists("f1")
    disk.close()


def test_a_descriptor_in_use_stays_and_a_closed_file_ends_with_its_last_use(
    tmp_path: Path,
) -> None:
    files = OpenFiles(1)
    first = files.open(str(tmp_path / "f1"))
    descriptor = files.take(first)
    second = files.open(str(tmp_path / "f2"))
    assert os.pwrite(descriptor, b"a", 0) == 1
    files.close(first)
    assert os.pwrite(descriptor, b"b", 1) == 1
    files.give_back(first)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"c", 2)
    with pytest.raises(ValueError, match="was closed"):
        files.take(first)
    files.close(second)
    assert len(files) == 0


def test_threads_share_few_descriptors(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path, open_files_max=3)
    files = [disk.open(f"f{number}") for number in range(12)]
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(200):
            file = files[(number * 5 + turn) % 12]
            text = b"%02d" % ((number * 5 + turn) % 12)
            file.write(0, [text])
            if file.read(0, 2) != text:
                wrong.append(f"{number} {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    disk.close()


def test_half_of_what_the_process_may_have_is_for_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= files_max() <= 4_096
    assert files_max() <= max(16, soft // 2)


def test_a_process_that_runs_short_closes_files_that_it_does_not_use(tmp_path: Path) -> None:
    program = """
import os, resource, sys
from ottla.ports.disk import RealDisk
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
disk = RealDisk(sys.argv[1], open_files_max=1000)
files = [disk.open(f"f{n}") for n in range(200)]
for n, file in enumerate(files):
    file.write(0, [b"%d" % n])
assert [file.read(0, 9) for file in files] == [b"%d" % n for n in range(200)]
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
