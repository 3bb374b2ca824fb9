"""Promise: each source row arrives once and takes effect once in the sink, with dead letters part
of the same guarantee.

Whole pipelines with an embedded broker; what they leave in the database is compared with what plain
Python makes of the file. Some run undisturbed, some have every part killed at random moments.
"""

import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ottla.audit.ledger import Audit
from ottla.cli.audit import balance
from ottla.pipeline.config import build
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.inspect import inspect
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.runner import PipelineRun, RunResult
from ottla.server.process import Broker
from tests.pipeline.workers import dead_letters_in, rows_in

COUNT = 4_000
SALES: dict[str, Any] = {
    "from": "file:sales*.csv?bytes_per_transaction=30000",
    "timestamp": "at",
    "dedupe": {"key": "id", "window": "30d"},
    "aggregate": {
        "by": ["city"],
        "window": "1h",
        "grace": "1d",
        "values": {"sales": "count()", "total": "sum(amount)", "top": "max(amount)"},
    },
    "to": "sqlite:out.db?table=sales",
}


def write_sales(
    directory: Path, seed: int, count: int = COUNT
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """A file in which a tenth of the rows comes twice; what its aggregate must be."""
    chance = random.Random(seed)
    results: dict[tuple[str, str], list[int]] = defaultdict(list)
    with (directory / "sales.csv").open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["id", "city", "at", "amount"])
        for number in range(count):
            city = chance.choice(["Oslo", "Paris", "Lima", "Kyoto"])
            hour = f"2024-05-01T{number * 20 // count:02}"
            amount = chance.randrange(100)
            row = [number, city, f"{hour}:{chance.randrange(60):02}:00Z", amount]
            results[city, f"{hour}:00:00Z"].append(amount)
            for _ in range(2 if chance.random() < 0.1 else 1):
                write(row)
    return {key: (len(found), sum(found), max(found)) for key, found in results.items()}


def make(directory: Path, description: dict[str, Any], **changes: Any) -> PipelineSpec:
    return build("p", {**description, **changes}, directory)


def run(spec: PipelineSpec, **how: Any) -> RunResult:
    with PipelineRun(spec, spec.base / "state", **how) as pipeline:
        return pipeline.run()


def audit(spec: PipelineSpec) -> Audit:
    """Start the pipeline's broker once more and balance its books."""
    with Broker(spec.base / "state" / "broker") as broker:
        return balance(spec, inspect(spec, broker.bootstrap_servers))


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def results(directory: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    found = query(directory / "out.db", "SELECT city, window_start, sales, total, top FROM sales")
    return {(city, start): (sales, total, top) for city, start, sales, total, top in found}


class Killer:
    """Kills a random part every so many looks at the workers."""

    def __init__(self, seed: int, kills: int) -> None:
        self._chance = random.Random(seed)
        self._wait = 10
        self.left = kills

    def __call__(self, pipeline: PipelineRun) -> bool:
        self._wait -= 1
        if self._wait <= 0 and self.left:
            self._wait = self._chance.randrange(4, 20)
            part = self._chance.choice(["broker", "source", "streams", "sink"])
            if part != "broker":
                self.left -= pipeline.workers[part].kill()
            elif pipeline.broker is not None and pipeline.broker.running:
                pipeline.broker.kill()
                self.left -= 1
        return self.left > 0


def test_an_aggregate_is_that_of_the_file_without_its_repeats(tmp_path: Path) -> None:
    expected = write_sales(tmp_path, seed=1)
    spec = make(tmp_path, SALES)
    result = run(spec)
    assert result.finished
    assert results(tmp_path) == expected
    assert result.snapshot.duplicates == result.snapshot.rows_in - COUNT
    found = audit(spec)
    assert found.exact
    assert dict(found.ledger.lines())["deduplicated"] == result.snapshot.duplicates


@pytest.mark.parametrize("seed", [1, 2])
def test_with_every_part_killed_at_random_the_result_is_the_same(tmp_path: Path, seed: int) -> None:
    expected = write_sales(tmp_path, seed, count=60_000)
    killer = Killer(seed, kills=12)
    spec = make(tmp_path, SALES)
    assert run(spec, on_tick=killer).finished
    assert killer.left == 0
    assert results(tmp_path) == expected
    assert audit(spec).exact


def test_an_audit_finds_what_was_tampered_with(tmp_path: Path) -> None:
    write_sales(tmp_path, seed=6)
    spec = make(tmp_path, SALES)
    run(spec)
    change(tmp_path / "out.db", "UPDATE sales SET sales = sales + 1 WHERE rowid = 1")
    found = audit(spec)
    assert not found.exact
    [wrong] = [finding for finding in found.findings if not finding.agrees]
    assert (wrong.what, wrong.expected - wrong.found) == ("results in the destination", 1)


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.postgres
def test_into_postgres_with_every_part_killed(tmp_path: Path, postgres_url: str) -> None:
    expected = write_sales(tmp_path, seed=3, count=40_000)
    spec = make(tmp_path, SALES, to=f"{postgres_url}?table=sales")
    assert run(spec, on_tick=Killer(3, kills=8)).finished
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute(
            "SELECT city, to_char(window_start AT TIME ZONE 'UTC', "
            '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\'), sales, total, top FROM sales'
        ).fetchall()
    assert {(city, start): tuple(values) for city, start, *values in found} == expected


@pytest.mark.kafka
def test_on_apache_kafka_with_every_worker_killed(tmp_path: Path, kafka_bootstrap: str) -> None:
    expected = write_sales(tmp_path, seed=5, count=40_000)
    spec = build("kafka-sales", SALES, tmp_path)
    killer = Killer(5, kills=6)
    assert run(spec, bootstrap_servers=kafka_bootstrap, on_tick=killer).finished
    assert results(tmp_path) == expected
    assert balance(spec, inspect(spec, kafka_bootstrap)).exact


def test_over_several_partitions(tmp_path: Path) -> None:
    expected = write_sales(tmp_path, seed=4)
    assert run(make(tmp_path, SALES, partitions=3)).finished
    assert results(tmp_path) == expected


def test_run_again_it_goes_on_with_the_rows_that_are_new(tmp_path: Path) -> None:
    spec = make(tmp_path, {"from": "file:in*.csv", "to": "sqlite:out.db?table=t"})
    (tmp_path / "in1.csv").write_text("a\n1\n2\n")
    assert run(spec).snapshot.rows_out == 2
    assert run(spec).snapshot.rows_out == 0
    (tmp_path / "in2.csv").write_text("a\n3\n")
    assert run(spec).snapshot.rows_out == 1
    assert query(tmp_path / "out.db", "SELECT a FROM t ORDER BY a") == [(1,), (2,), (3,)]


def test_each_row_that_fails_is_a_dead_letter_with_file_line_and_reason(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(
        "def split(row):\n"
        "    if row['n'] == 5:\n"
        "        raise RuntimeError('five is right out')\n"
        "    return [row, {'n': 100 + row['n'], 's': 'made'}] if row['n'] == 6 else row\n"
    )
    rows = ["1,a", "2", "3,c", "4,drop", "5,e", "6,f", "7,7", "8,", "3,c"]
    (tmp_path / "in.csv").write_text("n,s\n" + "\n".join(rows) + "\n")
    spec = make(
        tmp_path,
        {
            "from": "file:in.csv",
            "dedupe": "content",
            "steps": [
                {"filter": "s != 'drop'"},
                {"python": "steps.py:split"},
                {"set": {"s": "upper(s)", "n": "s if s == '7' else n"}},
            ],
            "to": "sqlite:out.db?table=t",
        },
    )
    with PipelineRun(spec, tmp_path / "state") as pipeline:
        result = pipeline.run()
        dead = dead_letters_in(pipeline.bootstrap_servers, "p-dead-letters")
    assert result.finished
    assert query(tmp_path / "out.db", "SELECT n, s FROM t ORDER BY n") == [
        (1, "A"),
        (3, "C"),
        (6, "F"),
        (106, "MADE"),
    ]
    assert sorted(str(letter) for letter in dead) == [
        "in.csv:3: 2 columns are named, the row has 1",
        "in.csv:6: RuntimeError: five is right out",
        "in.csv:9: AttributeError: 'NoneType' object has no attribute 'lower'".replace(
            "lower", "upper"
        ),
    ]
    refused = query(tmp_path / "out.db", 'SELECT source, "column", reason FROM _ottla_dead_letters')
    assert refused == [("in.csv:8", "n", "'7' is text, the column is integer")]
    assert result.snapshot.dead == 4
    assert result.snapshot.duplicates == 1
    found = audit(spec)
    assert found.exact
    assert dict(found.ledger.lines()) == {
        "read": 9,
        "made": 1,
        "out": 4,
        "deduplicated": 1,
        "filtered": 1,
        "dead": 4,
        "open": 0,
    }


def test_a_row_without_a_key_is_a_dead_letter_and_not_a_duplicate(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,n\n1,1\n,2\n,3\n1,4\n")
    spec = make(tmp_path, {"from": "file:in.csv", "dedupe": "id", "to": "sqlite:out.db?table=t"})
    result = run(spec)
    assert query(tmp_path / "out.db", "SELECT id, n FROM t") == [(1, 1)]
    assert (result.snapshot.dead, result.snapshot.duplicates) == (2, 1)


def test_rows_that_come_after_their_window_are_dead_letters(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "k,at\na,2024-01-01\na,2024-01-05\na,2024-01-01T12:00:00Z\na,2024-01-05\n"
    )
    aggregate = {"by": ["k"], "window": "1d", "grace": "1d", "values": {"n": "count()"}}
    spec = make(
        tmp_path,
        {
            "from": "file:in.csv",
            "timestamp": "at",
            "aggregate": aggregate,
            "to": "sqlite:out.db?table=t",
        },
    )
    with PipelineRun(spec, tmp_path / "state") as pipeline:
        pipeline.run()
        [late] = dead_letters_in(pipeline.bootstrap_servers, "p-dead-letters")
    assert late.source == "in.csv:4"
    assert "after its window of time had closed" in late.reason
    assert audit(spec).exact
    assert query(tmp_path / "out.db", "SELECT window_start, n FROM t ORDER BY 1") == [
        ("2024-01-01T00:00:00Z", 1),
        ("2024-01-05T00:00:00Z", 2),
    ]


def test_from_topic_to_topic(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n\n1\n2\n3\n")
    first = make(tmp_path, {"from": "file:in.csv", "to": "kafka:numbers"})
    with PipelineRun(first, tmp_path / "state") as pipeline:
        assert pipeline.run().finished
        second = build(
            "q",
            {"from": "kafka:numbers", "steps": [{"filter": "n > 1"}], "to": "kafka:large"},
            tmp_path,
        )
        address = pipeline.bootstrap_servers
        with PipelineRun(second, tmp_path / "q", bootstrap_servers=address) as other:
            assert other.run().finished
        assert rows_in(address, "large") == [{"n": 2}, {"n": 3}]


def test_two_runs_of_one_pipeline_do_not_mix(tmp_path: Path) -> None:
    """The second run fences the workers of the first one, which then stops for good."""
    (tmp_path / "in.csv").write_text("n\n1\n")
    spec = make(tmp_path, {"from": "file:in.csv", "to": "sqlite:out.db?table=t"})
    finished = []

    def start_second(first: PipelineRun) -> bool:
        if not finished and first.snapshot().rows_out == 1:
            address = first.bootstrap_servers
            with PipelineRun(spec, tmp_path / "two", bootstrap_servers=address) as second:
                finished.append(second.run().finished)
            with (tmp_path / "in.csv").open("a") as file:
                file.write("2\n")
        return True

    with pytest.raises(PipelineStopped, match=r"another .*worker"):
        run(spec, follow=True, on_tick=start_second)
    assert finished == [True]
    assert query(tmp_path / "out.db", "SELECT n FROM t") == [(1,)]


def test_the_command_runs_a_description_and_says_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,v\n1,a\n1,a\n2,b\n3\x1b[2J\n")
    (tmp_path / "p.yaml").write_text(
        "p:\n  from: file:in.csv\n  dedupe: id\n  to: sqlite:out.db?table=t\n"
    )
    done = ottla("run", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 in" not in done.stdout
    assert "3 in · 1 deduplicated · 2 out · 1 dead · 0 lag" in done.stdout
    assert "1 rows are dead letters; ottla dlq p.yaml lists them" in done.stdout
    assert query(tmp_path / "out.db", "SELECT id, v FROM t ORDER BY id") == [(1, "a"), (2, "b")]
    listed = ottla("dlq", "p.yaml", "--raw", cwd=tmp_path)
    assert listed.stdout == "in.csv:5: 2 columns are named, the row has 1\n    3\\x1b[2J\n"
    told = ottla("status", "p.yaml", cwd=tmp_path)
    assert told.stdout == (
        "p\n"
        "  read       in.csv: 3 rows, 1 dead letters, up to line 5\n"
        "  open       0 rows before, 0 after the steps\n"
        "  delivered  2 records, 0 dead letters\n"
    )
    audited = ottla("audit", "p.yaml", cwd=tmp_path)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert audited.stdout.endswith("exact\n")
    checked = ottla("check", "p.yaml", cwd=tmp_path)
    assert checked.stdout.count("ok ") == 2
    kept = tmp_path / ".ottla" / "p"
    assert [path.stat().st_mode & 0o777 for path in (kept, kept / "broker")] == [0o700, 0o700]
    assert (kept / "pipeline.json").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in kept.iterdir()) == [
        "broker",
        "pipeline.json",
        "state",
    ]


def test_the_command_refuses_what_it_does_not_understand(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id\n1\n")
    text = "p:\n  from: file:in.csv\n  dedupe: idd\n  to: sqlite:out.db\n"
    (tmp_path / "p.yaml").write_text(text)
    done = ottla("run", "p.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no column 'idd' here; did you mean 'id'" in done.stderr
    (tmp_path / "p.yaml").write_text(text.replace("dedupe", "dedup"))
    done = ottla("plan", "p.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "p.yaml:3:3: p.dedup: there is no setting 'dedup' here" in done.stderr
    assert not (tmp_path / "out.db").exists()


def test_when_the_command_is_killed_nothing_of_it_stays_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    expected = write_sales(tmp_path, seed=8, count=40_000)
    (tmp_path / "p.json").write_text(json.dumps({"p": SALES}))  # JSON is YAML
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "ottla", "run", "p.json", "--quiet"], cwd=tmp_path
        )
        time.sleep(1.7)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while any(map(is_alive, children)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    done = ottla("run", "p.json", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert results(tmp_path) == expected
    assert ottla("audit", "p.json", cwd=tmp_path).returncode == 0


def is_alive(pid: str) -> bool:
    """Whether there is such a process, other than one that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ottla(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ottla", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=120,
    )


@pytest.mark.parametrize("emit", ["current", "final"])
def test_a_time_may_be_anything(tmp_path: Path, emit: str) -> None:
    """CVE-2026-111496: times come with the data, and a mad one must neither loop nor stop a run."""
    good = ["2023-11-14T22:13:20Z", 1_700_000_000_000, "9999-12-31T23:59:59Z"]
    mad = [10**30, 2**63 - 1, 2**63, -5, -(2**63), 1e308, "yesterday", None, True]
    rows = [{"id": number, "at": at, "v": 1} for number, at in enumerate([*good, *mad])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    description = {
        "from": "file:in.jsonl",
        "dedupe": {"key": "id", "window": "1d"},
        "timestamp": "at",
        "aggregate": {
            "by": "v",
            "window": "1h",
            "grace": "1m",
            "emit": emit,
            "values": {"n": "count()"},
        },
        "to": "sqlite:out.db?table=t",
    }
    spec = make(tmp_path, description)
    result = run(spec)
    assert (result.snapshot.dead, result.snapshot.restarts) == (len(mad), 0)
    last = [("9999-12-31T23:00:00Z", 1)] if emit == "current" else []
    found = query(tmp_path / "out.db", "SELECT window_start, n FROM t ORDER BY 1")
    assert found == [("2023-11-14T22:00:00Z", 2), *last]
