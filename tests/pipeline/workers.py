"""Workers of a pipeline as processes, one at a time, and a look into topics."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ottla.pipeline.config import build
from ottla.pipeline.dead_letters import DeadLetter, dead_letter_of
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.topics import read_topic
from ottla.pipeline.worker import BROKER_VARIABLE, STOP


def make_spec(directory: Path, **changes: Any) -> PipelineSpec:
    """A pipeline from in*.csv in `directory` to an SQLite file beside it."""
    description = {"from": "file:in*.csv", "to": "sqlite:out.db?table=t", **changes}
    return build("p", description, directory)


def start_worker(
    role: str,
    spec: PipelineSpec,
    bootstrap_servers: str,
    *,
    failpoints: str = "",
    follow: bool = False,
) -> subprocess.Popen[bytes]:
    """A worker; it ends at once if its standard input is closed."""
    content = {
        "name": spec.name,
        "base": str(spec.base),
        "description": spec.description,
        "state_dir": str(spec.base / "state"),
        "follow": follow,
    }
    file = spec.base / "pipeline.json"
    file.write_text(json.dumps(content))
    return subprocess.Popen(
        [sys.executable, "-m", "ottla.pipeline.worker", role, str(file)],
        env={
            **os.environ,
            "OTTLA_FAILPOINTS": failpoints,
            BROKER_VARIABLE: bootstrap_servers,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a worker to end in good order."""
    assert process.stdin is not None
    process.stdin.write(STOP)
    process.stdin.flush()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a worker; its exit code and what it said for people."""
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read()
        said = process.stderr.read().decode()
    return process.returncode, said


def run_worker(
    role: str, spec: PipelineSpec, bootstrap_servers: str, failpoints: str = ""
) -> tuple[int, str]:
    """Run a worker that ends by itself."""
    return finish(start_worker(role, spec, bootstrap_servers, failpoints=failpoints))


def rows_in(bootstrap_servers: str, topic: str) -> list[dict[str, Any]]:
    """The committed rows of a topic."""
    return [json.loads(m.value() or b"") for m in read_topic(bootstrap_servers, topic)]


def dead_letters_in(bootstrap_servers: str, topic: str) -> list[DeadLetter]:
    """The committed dead letters of a topic."""
    return [dead_letter_of(message) for message in read_topic(bootstrap_servers, topic)]
