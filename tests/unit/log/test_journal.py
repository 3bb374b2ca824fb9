"""P1, P11: what the journal acknowledged is read back whole, a torn tail is cut, damage is refused.

Method: frames of known content on a simulated disk; every cut and every flipped byte of the file.
"""

import contextlib
import itertools
import random

import pytest

from ottla.log.journal import (
    DIRECTORY,
    FILE_HEADER_BYTES,
    FRAME_OVERHEAD_BYTES,
    SPARE,
    Journal,
    Scan,
    file_name,
    read_frames,
    remove_files_before,
)
from ottla.ports.disk import Disk
from ottla.ports.errors import DataDamaged
from ottla.testing.simulated_disk import POLICIES, PowerCut, SimulatedDisk, power_cut_at

BODIES = [b"first", b"second" * 10, b"", b"fourth"]


def new_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_directory(DIRECTORY)
    return disk


def sync(journal: Journal, *, roll: bool = False) -> None:
    write = journal.take(roll=roll)
    write.run()
    journal.complete(write)


def read_all(disk: Disk, position: int = 0) -> tuple[list[bytes], Scan]:
    scan = Scan(position)
    return [bytes(body) for body in read_frames(disk, position, scan)], scan


def written(bodies: list[bytes], *, together: bool) -> SimulatedDisk:
    """A disk with these frames, synced one by one or all together."""
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    for body in bodies:
        journal.append([body[:2], body[2:]])
        if not together:
            sync(journal)
    if together:
        sync(journal)
    return disk


def content_of(disk: Disk, position: int = 0) -> bytes:
    file = disk.open(file_name(position))
    return file.read(0, file.size())


def with_content(content: bytes) -> SimulatedDisk:
    disk = new_disk()
    disk.open(file_name(0)).write(0, [content])
    return disk


def test_frames_come_back_in_order_and_positions_count_on() -> None:
    bodies, scan = read_all(written(BODIES, together=False))
    assert bodies == BODIES
    assert scan.end_position == sum(FRAME_OVERHEAD_BYTES + len(body) for body in BODIES)
    assert scan.torn_bytes == 0


def test_a_frame_is_durable_only_after_complete() -> None:
    journal = Journal(new_disk(), 0, sync=True)
    journal.append([b"x"])
    assert journal.has_pending
    assert (journal.durable_position, journal.written_position) == (0, FRAME_OVERHEAD_BYTES + 1)
    sync(journal)
    assert journal.durable_position == journal.written_position
    assert not journal.has_pending


def test_every_cut_of_the_file_leaves_the_whole_frames_before_it() -> None:
    content = content_of(written(BODIES, together=True))
    ends = [FILE_HEADER_BYTES]
    for body in BODIES:
        ends.append(ends[-1] + FRAME_OVERHEAD_BYTES + len(body))
    for length in range(FILE_HEADER_BYTES, len(content)):
        bodies, scan = read_all(with_content(content[:length]))
        whole = sum(end <= length for end in ends) - 1
        assert bodies == BODIES[:whole], length
        assert scan.torn_bytes == len(content[ends[whole] : length].rstrip(b"\0"))


def test_a_flipped_byte_is_refused_when_a_later_frame_shows_it_was_durable() -> None:
    disk = written([*BODIES, b"last"], together=False)
    content = content_of(disk)
    last_frame = len(content.rstrip(b"\0")) - FRAME_OVERHEAD_BYTES - len(b"last")
    for at in range(FILE_HEADER_BYTES, last_frame):
        flipped = content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]
        with pytest.raises(DataDamaged, match=r"00000000000000000000\.log"):
            read_all(with_content(flipped))


def test_a_flipped_byte_in_the_file_header_is_refused() -> None:
    content = content_of(written(BODIES, together=False))
    for at in range(FILE_HEADER_BYTES):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(DataDamaged):
            read_all(with_content(flipped))


def test_frames_of_one_sync_may_reach_the_disk_in_any_order() -> None:
    """A hole in what was never acknowledged is a torn tail, though a whole frame follows it."""
    content = content_of(written(BODIES, together=True))
    first_end = FILE_HEADER_BYTES + FRAME_OVERHEAD_BYTES + len(BODIES[0])
    holed = content[:first_end] + b"\0" * 30 + content[first_end + 30 :]
    bodies, scan = read_all(with_content(holed))
    assert bodies == BODIES[:1]
    assert scan.torn_bytes == len(content[first_end:].rstrip(b"\0"))


def test_rolling_begins_a_file_where_all_before_is_durable() -> None:
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    journal.append([b"old"])
    sync(journal, roll=True)
    middle = journal.written_position
    journal.append([b"new"])
    sync(journal)
    assert disk.list(DIRECTORY) == [file_name(0)[8:], file_name(middle)[8:]]
    assert read_all(disk)[0] == [b"old", b"new"]
    remove_files_before(disk, middle)
    assert read_all(disk, middle)[0] == [b"new"]


def reused() -> tuple[SimulatedDisk, int]:
    """A disk whose journal goes on in a used file, with frames as long as the old ones."""
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    for body in BODIES:
        journal.append([body])
    sync(journal, roll=True)
    remove_files_before(disk, journal.written_position)
    assert disk.exists(f"{DIRECTORY}/{SPARE}")
    journal.append([b"between"])
    sync(journal, roll=True)
    assert not disk.exists(f"{DIRECTORY}/{SPARE}")
    return disk, journal.written_position


def test_a_needless_file_is_used_again_and_its_old_frames_are_not_read() -> None:
    disk, position = reused()
    assert read_all(disk, position) == ([], Scan(position))
    for count in range(1, len(BODIES) + 1):
        again, position = reused()
        journal = Journal(again, position, sync=True)
        for body in BODIES[:count]:
            journal.append([body.upper()])
        sync(journal)
        bodies, scan = read_all(again, position)
        assert bodies == [body.upper() for body in BODIES[:count]]
        assert scan.torn_bytes == 0


def test_old_frames_are_old_by_their_positions_alone() -> None:
    """A power cut may keep a frame, and not the zeros that were written behind it."""
    disk, position = reused()
    old = content_of(disk, position)[FILE_HEADER_BYTES + FRAME_OVERHEAD_BYTES + len(BODIES[0]) :]
    lone = new_disk()
    journal = Journal(lone, position, sync=True)
    journal.append([BODIES[0]])
    sync(journal)
    end = FILE_HEADER_BYTES + journal.file_bytes
    lone.open(file_name(position)).write(end, [old])
    bodies, scan = read_all(lone, position)
    assert bodies == BODIES[:1]
    assert scan.torn_bytes == 0


def test_a_torn_frame_is_told_from_the_old_ones_behind_it() -> None:
    disk, position = reused()
    file = disk.open(file_name(position))
    other = new_disk()
    journal = Journal(other, position, sync=True)
    journal.append([b"torn" * 3])
    sync(journal)
    torn = content_of(other, position)[FILE_HEADER_BYTES:][: FRAME_OVERHEAD_BYTES + 6]
    file.write(FILE_HEADER_BYTES, [torn])
    bodies, scan = read_all(disk, position)
    assert bodies == []
    assert len(torn) <= scan.torn_bytes <= FRAME_OVERHEAD_BYTES + 12


def test_damage_in_a_used_file_is_refused() -> None:
    disk, position = reused()
    journal = Journal(disk, position, sync=True)
    for body in BODIES:
        journal.append([body])
        sync(journal)
    disk.open(file_name(position)).write(FILE_HEADER_BYTES + 3, [b"\xff"])
    with pytest.raises(DataDamaged, match="Restore"):
        read_all(disk, position)


def test_one_spare_file_is_kept_and_none_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    for _ in range(3):
        journal.append([b"x" * 100])
        sync(journal, roll=True)
    remove_files_before(disk, journal.written_position)
    assert disk.list(DIRECTORY) == [file_name(journal.written_position)[8:], SPARE]
    monkeypatch.setattr("ottla.log.journal._SPARE_BYTES_MAX", 150)
    disk.remove(f"{DIRECTORY}/{SPARE}")
    for size_bytes in (50, 200):
        journal.append([b"x" * size_bytes])
        sync(journal, roll=True)
        remove_files_before(disk, journal.written_position)
        assert disk.exists(f"{DIRECTORY}/{SPARE}") == (size_bytes == 50)
        if size_bytes == 50:
            disk.remove(f"{DIRECTORY}/{SPARE}")


def test_a_new_file_has_room_that_was_written_ahead() -> None:
    disk = new_disk()
    journal = Journal(disk, 0, sync=True, allocate_bytes=1 << 20)
    assert len(content_of(disk)) == FILE_HEADER_BYTES + (1 << 20)
    journal.append([b"x"])
    write = journal.take(roll=False)
    assert write.allocate_to == 0
    write.run()
    journal.complete(write)
    journal.append([b"x" * (1 << 20)])
    assert journal.take(roll=False).allocate_to > 1 << 21
    assert read_all(disk)[0] == [b"x"]


def test_a_disk_too_full_for_room_ahead_still_takes_frames() -> None:
    disk = new_disk()
    disk.fail("write", nth=2)
    journal = Journal(disk, 0, sync=True, allocate_bytes=1 << 20)
    journal.append([b"x"])
    sync(journal)
    assert read_all(disk)[0] == [b"x"]


@pytest.mark.parametrize("begun", [False, True])
def test_the_power_may_go_at_any_moment_of_making_a_file(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`begun`: a process has made it, and the power goes when the next one begins it anew."""
    monkeypatch.setattr("ottla.log.journal._ZEROS", bytes(1_024))
    seen = 0
    for moment in range(1, 40):
        disk = new_disk()
        disk.sync_directory("")
        if begun:
            Journal(disk, 0, sync=True).close()
        disk.hook = power_cut_at(disk.moments + moment)
        with contextlib.suppress(PowerCut):
            Journal(disk, 0, sync=True, allocate_bytes=4_096)
        for policy, seed in itertools.product(POLICIES, range(5)):
            survivor = disk.after_power_cut(policy, random.Random(seed))
            if survivor.exists(file_name(0)):
                assert read_all(survivor)[0] == []
                seen += 1
    assert seen > 100


def test_a_file_that_never_held_a_good_frame_begins_anew_with_room() -> None:
    """What a crash left of its first frames must not come back behind the new ones."""
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    for body in BODIES:
        journal.append([body])
    sync(journal)
    disk.open(file_name(0)).write(FILE_HEADER_BYTES + 5, [b"\xff"])
    journal = Journal(disk, 0, sync=True, allocate_bytes=1 << 20)
    assert len(content_of(disk)) == FILE_HEADER_BYTES + (1 << 20)
    journal.append([BODIES[0]])
    sync(journal)
    assert read_all(disk)[0] == BODIES[:1]


def test_a_missing_file_is_refused() -> None:
    disk = new_disk()
    journal = Journal(disk, 0, sync=True)
    positions = []
    for body in (b"one", b"two", b"three"):
        journal.append([body])
        sync(journal, roll=True)
        positions.append(journal.written_position)
    disk.remove(file_name(positions[0]))
    with pytest.raises(DataDamaged, match="missing or was cut"):
        read_all(disk)
    with pytest.raises(DataDamaged, match="is missing"):
        read_all(disk, 7)


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    import struct

    from crc32c import crc32c

    header = struct.pack(">8sIQ", b"OTTLAJNL", 9, 0)
    disk = with_content(header + struct.pack(">I", crc32c(header)))
    with pytest.raises(DataDamaged, match="format version 9"):
        read_all(disk)


def test_a_file_that_is_not_a_journal_is_refused() -> None:
    disk = new_disk()
    disk.open(f"{DIRECTORY}/notes.txt").write(0, [b"x"])
    with pytest.raises(DataDamaged, match=r"notes\.txt"):
        read_all(disk)


def test_durability_os_claims_no_sync_that_did_not_happen() -> None:
    """After a power cut such frames are a torn tail, never damage: none was promised."""
    disk = new_disk()
    journal = Journal(disk, 0, sync=False)
    for body in BODIES:
        journal.append([body])
        sync(journal)
    assert [op.kind for op in disk.operations if op.path == file_name(0)].count("sync") == 1
    content = content_of(disk)
    at = FILE_HEADER_BYTES + 2
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    assert read_all(with_content(flipped))[0] == []
