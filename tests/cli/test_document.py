"""docs/cli.md shows what happens: every example is run, in order, on a broker of its own.

Method: `$ ` begins a command for a shell; the lines after it are what it prints, on both of its
outputs; `[3]` is an exit code that is not 0; `...` stands for anything, alone for any lines.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ottla import Broker
from ottla.cli.main import app

DOCUMENT = Path(__file__).parents[2] / "docs/cli.md"


def examples() -> Iterator[tuple[str, str]]:
    """Each command with all that it prints."""
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(), re.S):
        for example in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = example.partition("\n")
            yield command, expected


def matches(expected: str, printed: str) -> bool:
    lines = (re.escape(line).replace(r"\.\.\.", ".*") for line in expected.splitlines())
    pattern = "".join("(.*\n)*?" if line == ".*" else f"{line}\n" for line in lines)
    return re.fullmatch(pattern, printed) is not None


def run(command: str, directory: Path, bootstrap_servers: str) -> str:
    """What it prints, and its exit code: in this process, or by a shell where it takes one."""
    environment = {"OTTLA_BOOTSTRAP_SERVERS": bootstrap_servers}
    if not re.search("[|<>]", command):
        _, *arguments = shlex.split(command)
        ran = CliRunner().invoke(app, arguments, env=environment, prog_name="ottla")
        return ran.output + (f"[{ran.exit_code}]\n" if ran.exit_code else "")
    done = subprocess.run(
        ["sh", "-c", f'ottla() {{ "{sys.executable}" -m ottla "$@"; }}\n{command}'],
        cwd=directory,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + (f"[{done.returncode}]\n" if done.returncode else "")


def test_what_the_document_shows_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    count = 0
    with Broker(tmp_path / "data") as broker:
        for command, expected in examples():
            if command.startswith("ottla log"):
                broker.stop()
            printed = run(command, tmp_path, broker.bootstrap_servers)
            assert matches(expected, printed), f"$ {command}\n{printed}\nand not\n{expected}"
            count += 1
    assert count > 25
