"""Promise: a plan says what each hop guarantees, and refuses before anything is started.

Method: descriptions whose expressions name columns that the file, or a step before, does not give.
"""

import gzip
from pathlib import Path
from typing import Any

import pytest

from ottla.pipeline.config import build
from ottla.pipeline.errors import ConfigError
from ottla.pipeline.plan import Plan, make_plan


def plan(directory: Path, **changes: Any) -> Plan:
    (directory / "in.csv").write_text("id,city,amount,at\n1,Oslo,2,2024-01-01\n")
    (directory / "steps.py").write_text("def f(row):\n    return row\n")
    description = {"from": "file:in.csv", "to": "sqlite:out.db?table=t", **changes}
    return make_plan(build("p", description, directory))


def test_each_hop_tells_its_mechanism(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        timestamp="at",
        dedupe={"key": ["id", "city"], "window": "36h"},
        steps=[{"filter": "amount > 0"}, {"rename": {"city": "town"}}, {"python": "steps.py:f"}],
        aggregate={"by": ["town"], "window": "1d", "grace": "90m", "values": {"n": "count()"}},
    )
    assert [hop.name for hop in made.hops] == [
        "from",
        "dedupe",
        "filter",
        "rename",
        "python",
        "aggregate",
        "to",
        "errors",
    ]
    assert all(hop.guarantee == "exactly once" and hop.mechanism for hop in made.hops)
    text = made.text()
    assert "by id, city, remembered for 36h" in text
    assert "n = count() by town per 1d" in text
    assert "rows later than 90m after their window are dead letters" in text
    assert "table t, replacing by town, window_start" in text
    assert "keep it free of effects" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp": "att"}, "timestamp: att: there is no column 'att' here; did you mean 'at'"),
        ({"dedupe": "idd"}, "dedupe: idd: there is no column 'idd'"),
        ({"dedupe": {"key": ["id", "citty"]}}, "did you mean 'city'"),
        ({"steps": [{"filter": "amuont > 1"}]}, "did you mean 'amount'"),
        ({"steps": [{"set": {"a": "b", "b": "1"}}]}, "set.a: b: there is no column 'b'"),
        ({"steps": [{"drop": ["id"]}, {"filter": "id"}]}, "there is no column 'id'"),
        ({"steps": [{"select": ["id"]}, {"filter": "city"}]}, "there is no column 'city'"),
        ({"steps": [{"rename": {"id": "no"}}, {"filter": "id"}]}, "there is no column 'id'"),
        ({"steps": [{"python": "steps.py:g"}]}, "steps.py has no function 'g'"),
        ({"aggregate": {"by": ["citi"], "values": {"n": "count()"}}}, "did you mean 'city'"),
        ({"aggregate": {"by": ["city"], "values": {"n": "sum(x)"}}}, "there is no column 'x'"),
        ({"to": {"url": "sqlite:out.db", "key": "key"}}, "to.key: there is no column 'key'"),
    ],
)
def test_a_column_that_is_not_there_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, **changes)
    assert reason in str(caught.value)


def test_behind_a_python_step_any_column_may_be_there(tmp_path: Path) -> None:
    plan(tmp_path, steps=[{"python": "steps.py:f"}, {"filter": "whatever"}])


def test_a_python_file_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_like_this\n")
    with pytest.raises(ConfigError, match=r"bad.py cannot be loaded: ModuleNotFoundError"):
        plan(tmp_path, steps=[{"python": "bad.py:f"}])


def test_compressed_files_and_files_that_come_later(tmp_path: Path) -> None:
    (tmp_path / "in.tsv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfid\tb\n"))
    made = plan(tmp_path, **{"from": "file:in.tsv.gz", "dedupe": "id"})
    assert "read from its beginning again after a restart" in made.text()
    with pytest.raises(ConfigError, match="no column 'a'"):
        plan(tmp_path, **{"from": "file:in.tsv.gz", "dedupe": "a"})
    assert "no file matches yet" in plan(tmp_path, **{"from": "file:later.csv"}).text()
