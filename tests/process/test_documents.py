"""Promise: docs/exactly-once.md tells what happens: its programs print what it says they print.

Method: each program is run as a reader would, in an empty directory with those that it imports.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "exactly-once.md"
_PROGRAM = re.compile(r"```python\n# (\w+)\.py\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.S)
PROGRAMS = {name: text for name, text, _ in _PROGRAM.findall(DOCUMENT.read_text())}
OUTPUTS = {name: output for name, _, output in _PROGRAM.findall(DOCUMENT.read_text()) if output}


def test_each_idea_has_a_program() -> None:
    assert len(OUTPUTS) >= 7
    assert DOCUMENT.read_text().count("```python") == len(PROGRAMS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_program_prints_what_the_document_says(name: str, tmp_path: Path) -> None:
    for each, text in PROGRAMS.items():
        (tmp_path / f"{each}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == OUTPUTS[name], done.stderr
    assert done.returncode == 0, done.stderr
