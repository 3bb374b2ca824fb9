"""Promise: what the documents show works as it is shown.

Method: every description in them is loaded and planned; lists are compared with the code.
"""

import re
from pathlib import Path

import pytest

from ottla.pipeline.config import load
from ottla.pipeline.functions import FUNCTIONS
from ottla.pipeline.plan import make_plan

ROOT = Path(__file__).parents[3]
DOCUMENTS = ("README.md", "docs/quickstart.md", "examples/flights/flights.yaml")


def descriptions() -> list[tuple[str, str]]:
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        blocks = [text] if name.endswith(".yaml") else re.findall(r"```yaml\n(.*?)```", text, re.S)
        found += [(f"{name}-{number}", _outdented(block)) for number, block in enumerate(blocks)]
    return found


def _outdented(block: str) -> str:
    lines = block.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines) + "\n"


@pytest.mark.parametrize(
    "text", [text for _, text in descriptions()], ids=[name for name, _ in descriptions()]
)
def test_descriptions_can_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DW_PASSWORD", "secret")
    (tmp_path / "p.yaml").write_text(text)
    (tmp_path / "transforms.py").write_text("def enrich(row):\n    return row\n")
    plan = make_plan(load(tmp_path / "p.yaml")).text()
    assert "exactly once" in plan
    assert "secret" not in plan


def test_the_functions_of_expressions_are_listed() -> None:
    text = (ROOT / "docs/quickstart.md").read_text()
    listed = re.search(r"`if else`, and `([a-z0-9_ ]+)`", text)
    assert listed is not None
    assert listed[1].split() == sorted([*FUNCTIONS, "get", "has"])
