"""The workers that are no Python: built once into ${XDG_CACHE_HOME:-~/.cache}/ottla-workers.

A build is kept under the digest of its sources, and is made in a directory beside it that takes the
final name when it is whole: one that is killed leaves nothing half made, two make it once.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import kafka_runner

HERE = Path(__file__).parent
GO = "go1.26.0"  # what go/go.mod asks for
_FETCHES_ITS_SUCCESSOR = (1, 21)  # the first Go that does
_BUILD_LIMIT_S = 600


class WorkerUnavailable(Exception):  # noqa: N818 - says what is the case
    """A worker cannot be built here; the text says what is missing."""


def go_worker() -> list[str]:
    """The command that runs go/*.go (franz-go)."""
    go = _program("go", "Go")

    def build(directory: Path) -> None:
        environment = os.environ | {"GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"}
        command = [_recent(go), "build", "-o", str(directory / "worker"), "."]
        _run(command, HERE / "go", environment)

    return [str(_built("go", build) / "worker")]


def node_worker() -> list[str]:
    """The command that runs node/worker.js (kafkajs)."""
    node = _program("node", "Node.js 18 or later")
    npm = _program("npm", "npm")

    def build(directory: Path) -> None:
        for name in ("package.json", "package-lock.json", "worker.js"):
            shutil.copy(HERE / "node" / name, directory)
        _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], directory, os.environ)

    return [node, str(_built("node", build) / "worker.js")]


def _recent(go: str) -> str:
    """This Go, if it can fetch a newer one by itself; else that newer one, fetched as a module."""
    numbers = re.findall(r"\d+", _run([go, "env", "GOVERSION"], HERE, os.environ))
    if tuple(map(int, numbers[:2])) >= _FETCHES_ITS_SUCCESSOR:
        return go
    platform = _run([go, "env", "GOOS", "GOARCH"], HERE, os.environ).split()
    module = f"golang.org/toolchain@v0.0.1-{GO}.{'-'.join(platform)}"
    root = Path(json.loads(_run([go, "mod", "download", "-json", module], HERE, os.environ))["Dir"])
    for program in [*(root / "bin").iterdir(), *(root / "pkg" / "tool").glob("*/*")]:
        program.chmod(0o755)  # a module's files are not executable
    return str(root / "bin" / "go")


def _program(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise WorkerUnavailable(f"{what} is needed for this client: no `{name}` on the PATH")
    return found


def _built(language: str, build: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256()
    for source in sorted((HERE / language).iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ottla-workers"
    final = cache / f"{language}-{digest.hexdigest()[:16]}"
    if final.exists():
        return final
    with (
        kafka_runner.alone(cache),
        tempfile.TemporaryDirectory(dir=cache, prefix=f"{language}-") as making,
    ):
        if not final.exists():
            built = Path(making) / "built"
            built.mkdir()
            build(built)
            built.rename(final)
    return final


def _run(command: list[str], directory: Path, environment: Mapping[str, str]) -> str:
    ran = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_LIMIT_S,
        check=False,
    )
    if ran.returncode:
        raise WorkerUnavailable(f"{' '.join(command)}: {(ran.stderr or ran.stdout)[-2000:]}")
    return ran.stdout
