"""What a pipeline's description, its files, its data and those who look at it can do, and cannot.

Method: descriptions, files and rows as somebody would make them who means harm, read by the code
that reads all others. A description is its author's and may do what the author may, as a program
may; what is in files, topics and databases comes from anybody.
"""

import ast
import gzip
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ottla
from ottla.pipeline.config import load
from ottla.pipeline.errors import ConfigError, PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.plan import make_plan
from ottla.pipeline.sources import files
from ottla.pipeline.sources.files import FilePosition, FileReader, find_files
from ottla.pipeline.sources.rows import row_format
from ottla.pipeline.urls import FileSource, redacted

CANARY = "canary/7d@1e"  # with what means something in a URL


def described(directory: Path, text: str) -> PipelineSpec:
    (directory / "p.yaml").write_text(text)
    return load(directory / "p.yaml")


def source_of(directory: Path, glob: str) -> FileSource:
    spec = described(directory, f"p:\n  from: 'file:{glob}'\n  to: kafka:out\n")
    assert isinstance(spec.source, FileSource)
    return spec.source


# -- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "from: 'file:in.csv?types=${SECRET}'",
        "from: 'file:in.csv?${SECRET}=1'",
        "from: 'file:in.csv?format=csv&format=${SECRET}'",
        "from: '${SECRET}'",
        "from: 'kafka:${SECRET}'",
        "to: 'sqlite:out.db?table=${SECRET}'",
        "to: 'sqlite://${SECRET}/out.db'",
        "dedupe: {key: id, window: '${SECRET}'}",
        "dedupe: {key: id, by: '${SECRET}'}",
        "steps: [{filter: 'id == ${SECRET}'}]",
        "steps: [{filter: 'id == nothing(\"${SECRET}\")'}]",
        "steps: [{python: '${SECRET}:enrich'}]",
        "aggregate: {by: id, values: {n: '${SECRET}'}}",
    ],
)
def test_a_complaint_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    lines = {"from": "from: file:in.csv", "to": "to: kafka:out"}
    lines[line.partition(":")[0]] = line
    with pytest.raises(ConfigError) as caught:
        described(tmp_path, "p:\n  " + "\n  ".join(lines.values()) + "\n")
    assert "${SECRET}" in str(caught.value)
    assert not any(part in str(caught.value) for part in ("canary", "7d", "1e"))


def test_a_plan_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    spec = described(
        tmp_path,
        """
p:
  from: kafka:in
  broker: "sasl_ssl://u:${SECRET}@127.0.0.1:1"
  dedupe: 'sha256(id + "${SECRET}")'
  steps: [{filter: 'id != "${SECRET}"'}, {set: {hashed: 'sha256("${SECRET}")'}}]
  aggregate: {by: hashed, values: {n: 'max(coalesce(n, "${SECRET}"))'}}
  to: "postgresql://u:${SECRET}@127.0.0.1:1/db"
""",
    )
    for shown in (make_plan(spec).text(), repr(make_plan(spec))):
        assert "canary" not in shown
        assert "${SECRET}" in shown


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:canary@h/db",
        "postgresql://u:can/canary@h/db",
        "postgresql://u:can@canary@h/db",
        "postgresql://u:can:canary?#@h/db",
        "postgresql://h/db?user=u&password=canary",
        "postgresql://h/db?PASSWORD=canary&sslmode=require",
        "postgresql://h/db?sslpassword=canary",
    ],
)
def test_a_password_is_not_shown_however_it_is_written(address: str) -> None:
    assert "canary" not in redacted(address)
    assert redacted(address).startswith("postgresql://")
    assert "h/db" in redacted(address)


@pytest.mark.parametrize("password", ["canary%zz", "x@canary", "x/canary", "x:canary"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    tmp_path: Path, password: str
) -> None:
    """`ottla check`, as a process: what it prints, what it keeps."""
    (tmp_path / "in.csv").write_text("id\n1\n")
    (tmp_path / "p.yaml").write_text(
        "p:\n  from: file:in.csv\n  to: postgresql://u:${SECRET}@127.0.0.1:1/db?table=t\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ottla", "check", "p.yaml"],
        cwd=tmp_path,
        env={**os.environ, "SECRET": password},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert "NOT OK  destination postgresql://u:***@127.0.0.1:1/db?table=t: " in done.stdout
    assert "canary" not in done.stdout + done.stderr
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"canary" in content for content in kept)


# -- descriptions --------------------------------------------------------------------------------


def test_aliases_of_aliases_are_not_unfolded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="unfolds to more than 100000 values"):
        described(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("text", ["p: " + "[" * 5_000, "p: " + "{a: " * 5_000])
def test_a_description_that_is_too_deep_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        described(tmp_path, text)


def test_a_description_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has more than 1048576 bytes"):
        described(tmp_path, "# " + "x" * (1 << 20))


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch made']",
        "!!python/name:os.system",
        "!!python/object/new:subprocess.Popen [['touch', 'made']]",
        "!thing {a: b}",
    ],
)
def test_a_tag_makes_no_object(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="tag"):
        described(tmp_path, f"p:\n  from: file:in.csv\n  to: kafka:out\n  dedupe: {value}\n")
    assert not (tmp_path / "made").exists()
    assert not Path("made").exists()


@pytest.mark.parametrize(
    "text",
    [
        "().__class__.__base__.__subclasses__()",
        "__import__('os').system('true')",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "id.__class__",
        "f'{id.__class__}'",
        "'{0.__class__}'.format(id)",
        "9 ** 9 ** 9",
        "1 << 10_000_000_000",
        "(x := 1)",
        "open('/etc/passwd')",
    ],
)
def test_an_expression_reaches_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        described(
            tmp_path, f'p:\n  from: kafka:in\n  to: kafka:out\n  steps:\n    - filter: "{text}"\n'
        )


def test_nothing_is_unpickled_and_nothing_imported_by_a_name_in_the_data() -> None:
    """CVE-2026-86792 imported what a setting named. A pipeline's own functions are a file's."""
    refused = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
    imports = ("import_module", "exec_module")
    found = set()
    root = Path(ottla.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [each.name for each in node.names]
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not refused & {name.partition(".")[0] for name in names}, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("eval", "exec", "__import__") or called.endswith(imports):
                    found.add(str(path.relative_to(root)))
    assert found == {
        "__init__.py",  # the package's own names, at their first use, also in the next
        "testing/__init__.py",
        "broker/handlers/__init__.py",  # the handlers that are there
        "wire/api.py",  # the messages that are there
        "streams/compiler.py",  # loops made of a topology, which is its author's program
        "streams/operators.py",
        "pipeline/expressions.py",  # what the translator let through
        "pipeline/steps.py",  # a file that the description names
    }


# -- files ---------------------------------------------------------------------------------------


def read(source: FileSource, path: Path) -> int:
    """How many rows a file has."""
    reader = FileReader(str(path), source, FilePosition(path.name))
    try:
        return sum(len(parsed.rows) for parsed in reader.batches(finish=True))
    finally:
        reader.close()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_line_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    """Also of a file that unfolds to a thousand times its size."""
    monkeypatch.setattr(files, "_ROW_BYTES_MAX", 4 << 20)
    path = tmp_path / ("in.jsonl.gz" if compressed else "in.jsonl")
    content = b'{"a": 1}\n' + b" " * (16 << 20)
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(PipelineStopped, match="line 2 has more than 4194304 bytes"):
        read(source_of(tmp_path, path.name), path)


def test_a_compressed_file_that_is_damaged_stops_the_pipeline(tmp_path: Path) -> None:
    whole = gzip.compress(b"id\n" + b"".join(b"%d\n" % n for n in range(50_000)))
    path = tmp_path / "in.csv.gz"
    for content in (whole[:-4_000], whole[:60] + bytes(100) + whole[160:], b"no gzip"):
        path.write_bytes(content)
        spec = described(tmp_path, "p:\n  from: file:in.csv.gz\n  dedupe: id\n  to: kafka:out\n")
        assert isinstance(spec.source, FileSource)
        with pytest.raises(PipelineStopped, match="cannot be read"):
            read(spec.source, path)
    with pytest.raises(ConfigError, match="cannot be read"):
        make_plan(spec)


def test_a_wildcard_finds_no_link_to_elsewhere(tmp_path: Path) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "secret.csv"
    inbox.mkdir()
    outside.write_text("secret\n")
    (inbox / "a.csv").write_text("id\n")
    (inbox / "b.csv").symlink_to(inbox / "a.csv")
    os.mkfifo(inbox / "pipe.csv")
    (tmp_path / "link").symlink_to(inbox)
    assert len(find_files(source_of(tmp_path, "inbox/*.csv"))) == 2
    assert len(find_files(source_of(tmp_path, "link/*.csv"))) == 2
    (inbox / "c.csv").symlink_to(outside)
    for glob in ("inbox/*.csv", "inbox/[c].csv"):
        with pytest.raises(PipelineStopped, match="link to a place outside"):
            find_files(source_of(tmp_path, glob))
    assert find_files(source_of(tmp_path, "inbox/c.csv")) == [str(inbox / "c.csv")]


@pytest.mark.parametrize("names", [b"id,\xff\xfe\n1,2\n", b"id,\x1b[2J\n1,2\n", b"id,a\x00b\n"])
def test_names_of_columns_that_are_no_text_stop_the_pipeline(tmp_path: Path, names: bytes) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(names)
    with pytest.raises(PipelineStopped, match=r"in\.csv:1: the (names|line)") as caught:
        read(source_of(tmp_path, "in.csv"), path)
    assert str(caught.value).isprintable()


def test_a_field_has_an_end(tmp_path: Path) -> None:
    """A quote that is opened and never closed, or a field that is a whole file."""
    path = tmp_path / "in.csv"
    path.write_text('id,text\n1,"' + "x" * 300_000 + "\n" + "2,y\n" * 3)
    reader = FileReader(str(path), source_of(tmp_path, "in.csv"), FilePosition(path.name))
    parsed = list(reader.batches(finish=True))
    reader.close()
    assert sum(len(each.rows) for each in parsed) == 3
    [dead] = [letter for each in parsed for letter in each.dead]
    assert dead.source == "in.csv:2"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_dead_letters_or_refused(content: bytes) -> None:
    for kind in ("csv", "tsv", "jsonl"):
        try:
            parsed = row_format(kind, "f", {}, infer=True).parse(content, 1, last=True)
        except PipelineStopped:
            continue
        assert parsed.used_bytes == len(content)
        assert all(isinstance(orjson.loads(row), dict) for row in parsed.rows)
