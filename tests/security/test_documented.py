"""Every test that docs/security.md names is there, under that name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:tests/[\w/]+/)?test_\w+\.py)(?:::(\w+))?`")


def test_the_tests_that_the_page_names_are_there():
    named = NAMED.findall((ROOT / "docs/security.md").read_text())
    assert len(named) > 30
    missing = []
    for file, name in named:
        path = ROOT / file if "/" in file else ROOT / "tests/security" / file
        defined = f"def {name}(", f"class {name}:"
        if not path.exists() or (name and not any(d in path.read_text() for d in defined)):
            missing.append(f"{file}::{name}")
    assert missing == []
