"""P11 for people: `ottla log` tells what is in a directory, finds damage, and never writes.

Method: directories as a clean stop and as kill -9 leave them. A byte of each file is changed, or a
file is cut or removed: `check` then names that file, or else a broker would not notice either.
"""

import random
import shutil
from pathlib import Path

import orjson
import pytest

from ottla import Broker
from ottla.ports.disk import RealDisk
from ottla.ports.shadow_disk import ShadowDisk
from ottla.testing.in_process import InProcessBroker
from tests.cli.conftest import Cli

CLI = Cli("127.0.0.1:1")  # it asks no broker
SECRET = "canary-7d1e"


def fill(cli: Cli) -> None:
    cli("topics", "create", "orders", "-p", "2")
    cli("produce", "orders", "-p", "0", "-K", ":", "-H", "h=1", answer="k:v\nk2:v2\n")
    cli("produce", "orders", "-p", "1", "--transactional-id", "t", answer="in a transaction\n")
    for _ in range(3):  # enough for entries in the indexes
        cli("produce", "orders", "-p", "0", answer=("x" * 3_000 + "\n") * 4)
    bad = b'{"value":"a"}\n{\n'
    cli("produce", "orders", "-p", "1", "--transactional-id", "t", "-f", "json", answer=bad, code=2)
    cli("consume", "orders", "-g", "readers", "-e")
    cli("users", "add", "alice", "--password-file", "-", answer=f"{SECRET}\n")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As a clean stop leaves one, and as a kill does, with something new in the journal."""
    root = tmp_path_factory.mktemp("data")
    with Broker(root / "broker") as broker:
        fill(Cli(broker.bootstrap_servers))
        broker.stop()
        shutil.copytree(root / "broker", root / "stopped")
        broker.start()
        Cli(broker.bootstrap_servers)("produce", "orders", "-p", "0", answer="newer\n")
        Cli(broker.bootstrap_servers)("consume", "orders", "-e")
        broker.kill()
        shutil.copytree(root / "broker", root / "killed")
    for journal in (root / "killed/journal").iterdir():  # the room that was allocated ahead
        journal.write_bytes(journal.read_bytes().rstrip(b"\0") + bytes(100))
    return {"stopped": root / "stopped", "killed": root / "killed"}


@pytest.fixture(params=["stopped", "killed"])
def directory(request: pytest.FixtureRequest, directories: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(directories[request.param], tmp_path / "copy"))


def seen(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file with its times and its bytes."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mtime_ns,
            path.stat().st_size,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(directory.rglob("*"))
    }


def test_what_is_in_each_file(directory: Path, request: pytest.FixtureRequest) -> None:
    killed = request.node.callspec.params["directory"] == "killed"
    before = seen(directory)
    for path in directory.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    shown = CLI("log", "check", str(directory)).out
    assert "ok      checkpoint: state at journal position" in shown
    assert " frames, " in shown
    assert "0000.log: 4 batches, 14 records, offsets 0 to 14, " in shown
    assert "0000.index: 2 entries, 16 bytes" in shown
    assert "a broker starts on it: 2 partitions" in shown
    assert ("73 bytes that the journal has too" in shown) is killed
    found = CLI("log", "check", str(directory), "-o", "json").json
    assert found["damage"] is None
    assert {each["path"].partition("/")[0] for each in found["files"]} == {
        *("checkpoint", "journal", "topics")
    }
    assert seen(directory) == before


def test_dump_shows_state_batches_and_records(directory: Path) -> None:
    before = seen(directory)
    shown = CLI("log", "dump", str(directory), "--records").out
    assert "TopicRecord(name='orders'" in shown
    assert "marker=commit" in shown
    assert "    offset=0 " in shown
    assert "key=k value=v headers=[['h', '1']]" in shown
    lines = CLI("log", "dump", str(directory), "topics", "-r", "-o", "json").lines
    entries = [orjson.loads(line) for line in lines]
    assert {each["value"] for each in entries if "value" in each} >= {"v", "in a transaction"}
    assert "ScramCredential('alice'" in shown
    assert SECRET not in shown
    only = CLI("log", "dump", str(directory), "checkpoint").lines
    assert all(line.startswith("file=checkpoint ") for line in only)
    assert "nothing to show" in CLI("log", "dump", str(directory), "nowhere", code=4).err
    assert seen(directory) == before


def test_damage_is_found_with_its_file_and_place(directory: Path) -> None:
    rng = random.Random(5)
    files = [
        path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock" and path.stat().st_size
    ]
    found = 0
    for path in files:
        content = path.read_bytes()
        used = len(content.rstrip(b"\0"))  # without the room allocated ahead
        for at in sorted(rng.sample(range(used), min(used, 3))):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
            found += judged(directory, path)
        path.write_bytes(content[: used // 2])
        found += judged(directory, path)
        path.write_bytes(content)
    assert found >= 10
    CLI("log", "check", str(directory))


def judged(directory: Path, path: Path) -> bool:
    """Whether the damage is found. Where it is not, a broker that starts must not mind either."""
    before = seen(directory)
    told = CLI("log", "check", str(directory), code=None)
    assert seen(directory) == before
    if told.code == 0:
        return False
    assert told.code == 5, told.err
    assert str(path) in told.err
    CLI("log", "dump", str(directory), "-r", code=None)
    return True


def test_a_missing_file_is_named(directory: Path) -> None:
    for path in sorted(directory.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix in (".log", ".index") and content:
            path.unlink()
            told = CLI("log", "check", str(directory), code=None)
            assert told.code in (0, 5)
            assert told.code == 0 or path.name in told.err
            path.write_bytes(content)


def test_a_batch_that_does_not_follow_is_damage(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    """Its checksum does not cover where it stands."""
    copy = Path(shutil.copytree(directories["stopped"], tmp_path / "copy"))
    (log,) = (copy / "topics").glob("orders-0.*/*.log")
    content = bytearray(log.read_bytes())
    second = 12 + int.from_bytes(content[8:12], "big")
    content[second + 7] += 1
    log.write_bytes(content)
    told = CLI("log", "check", str(copy), code=5).err
    assert f"{log}: a batch of offset 3 follows offset 1 at byte {second}" in told
    dumped = CLI("log", "dump", str(copy), f"topics/{log.parent.name}", code=5)
    assert len(dumped.lines) == 1
    assert f"at byte {second}" in dumped.err


def test_not_while_a_broker_runs(tmp_path: Path) -> None:
    with Broker(tmp_path / "data") as broker:
        for command in ("check", "dump"):
            told = CLI("log", command, str(broker.data_dir), code=4).err
            assert "a broker runs on" in told
            assert "stop the broker" in told
    CLI("log", "check", str(tmp_path / "data"))


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    assert "is no directory" in CLI("log", "check", str(tmp_path / "no"), code=4).err
    assert "is no data directory" in CLI("log", "check", str(tmp_path), code=4).err


def test_a_broker_recovers_in_the_shadow_as_on_the_disk(directories: dict[str, Path]) -> None:
    """And what it writes there is read back, and is on no disk."""
    before = seen(directories["killed"])
    disk = ShadowDisk(directories["killed"])
    first = InProcessBroker(disk)
    assert first.core.recovered.frames > 0
    first.core.close()
    again = InProcessBroker(disk)
    assert again.core.recovered.frames == 0
    assert again.core.recovered.partitions == first.core.recovered.partitions == 2
    disk.close()
    assert seen(directories["killed"]) == before


def test_a_shadow_file_is_a_file(tmp_path: Path) -> None:
    """The same random writes, cuts and reads on a shadow and on a disk."""
    rng = random.Random(3)
    for name in ("real", "shadow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(range(200)))
    real_disk, shadow = RealDisk(tmp_path / "real"), ShadowDisk(tmp_path / "shadow")
    files = real_disk.open("file"), shadow.open("file")
    for _ in range(300):
        at, length = rng.randrange(400), rng.randrange(100)
        if rng.random() < 0.3:
            for file in files:
                file.truncate(at)
        else:
            for file in files:
                file.write(at, [rng.randbytes(0), bytes([at % 256]) * length])
        assert files[0].size() == files[1].size()
        at, length = rng.randrange(500), rng.randrange(200)
        assert files[0].read(at, length) == files[1].read(at, length)
    files[0].close()
    real_disk.close()
    shadow.rename("file", "other")
    assert (shadow.exists("file"), shadow.list("")) == (False, ["other"])
    shadow.remove("other")
    assert shadow.list("") == []
    shadow.close()
    assert (tmp_path / "shadow/file").read_bytes() == bytes(range(200))
