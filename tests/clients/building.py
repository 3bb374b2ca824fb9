"""The workers that are no Python: built once into ${XDG_CACHE_HOME:-~/.cache}/ottla-workers.

A build is kept under the digest of its sources, and is made in a directory beside it that takes the
final name when it is whole: two runs at a time, or one that is killed, leave nothing half made.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
_BUILD_LIMIT_S = 600


class WorkerUnavailable(Exception):  # noqa: N818 - says what is the case
    """A worker cannot be built here; the text says what is missing."""


def go_worker() -> list[str]:
    """The command that runs go/*.go (franz-go)."""
    go = _program("go", "Go 1.21 or later")

    def build(directory: Path) -> None:
        # A Go that is older than the module asks for fetches the one that it asks for.
        environment = os.environ | {"GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"}
        _run([go, "build", "-o", str(directory / "worker"), "."], HERE / "go", environment)

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
    if not final.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{language}-") as making:
            built = Path(making) / "built"
            built.mkdir()
            build(built)
            if not final.exists():
                built.rename(final)
    return final


def _run(command: list[str], directory: Path, environment: Mapping[str, str]) -> None:
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
