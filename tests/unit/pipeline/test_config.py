"""Promise: a description is understood whole, or refused with its place and the nearest right name.

Method: each mistake a person makes, with the file, line and column that must be named.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from ottla.pipeline.config import build, load
from ottla.pipeline.errors import ConfigError
from ottla.pipeline.model import FOREVER, Dedupe, Filter, PythonStep, SetColumns
from ottla.pipeline.urls import DatabaseSink, FileSource, KafkaTopic, redacted

WHOLE = """
flights:
  from: file:flights*.csv
  dedupe: {key: [year, month, day], window: 400d, by: event_time}
  steps:
    - filter: "dep_delay != None"
    - set: {hours: dep_delay / 60, late: hours > 1}
    - python: transforms.py:enrich
  timestamp: time_hour
  aggregate:
    by: [carrier]
    window: 1d
    grace: 2d
    values: {flights: count(), delay_sum: sum(dep_delay)}
    emit: current
  to: sqlite:flights.db?table=delays
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "p.yaml"
    path.write_text(text)
    (directory / "transforms.py").touch()
    return path


def test_three_lines_are_a_pipeline(tmp_path: Path) -> None:
    text = "orders:\n  from: file:orders*.csv\n  dedupe: id\n  to: sqlite:shop.db\n"
    spec = load(write(tmp_path, text))
    assert spec.name == "orders"
    assert isinstance(spec.source, FileSource)
    assert (spec.source.glob, spec.source.format) == (str(tmp_path / "orders*.csv"), "csv")
    [dedupe] = spec.steps
    assert isinstance(dedupe, Dedupe)
    assert (dedupe.window, dedupe.by) == (FOREVER, "processing_time")
    assert isinstance(spec.sink, DatabaseSink)
    assert (spec.sink.address, spec.sink.table) == (str(tmp_path / "shop.db"), "orders")
    assert spec.roles == ("source", "streams", "sink")


def test_everything(tmp_path: Path) -> None:
    spec = load(write(tmp_path, WHOLE))
    dedupe, keep, change, python = spec.steps
    assert isinstance(dedupe, Dedupe)
    assert dedupe.window == timedelta(days=400)
    assert isinstance(keep, Filter)
    assert keep.condition({"dep_delay": None}) is False
    assert isinstance(change, SetColumns)
    assert [name for name, _ in change.columns] == ["hours", "late"]
    assert python == PythonStep(str(tmp_path / "transforms.py"), "enrich")
    assert spec.aggregate is not None
    assert spec.aggregate.key_columns == ("carrier", "window_start")
    assert [value.shown for _, value in spec.aggregate.values] == ["count()", "sum(dep_delay)"]
    assert spec.sink_options.key == ("carrier", "window_start")


def test_the_same_from_python(tmp_path: Path) -> None:
    spec = load(write(tmp_path, WHOLE))
    again = build("flights", spec.description, tmp_path)
    assert again == spec


def test_without_transformation_there_is_no_streams_worker(tmp_path: Path) -> None:
    spec = build("p", {"from": "file:a.csv", "to": "sqlite:a.db"}, tmp_path)
    assert spec.roles == ("source", "sink")
    assert spec.output_topic == spec.input_topic == "p-input"
    topics = build("p", {"from": "kafka:a", "to": "kafka:b"}, tmp_path)
    assert topics.roles == ("streams",)
    assert isinstance(topics.sink, KafkaTopic)
    assert (topics.input_topic, topics.output_topic) == ("a", "b")


BASE = "p:\n  from: file:a.csv\n  to: sqlite:a.db\n"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (BASE + "  dedup: id\n", "4:3", "there is no setting 'dedup' here; did you mean 'dedupe'?"),
        ("p:\n  from: file:a.csv\n", "2:3", "'to' is missing"),
        ("p: 7\n", "1:4", "a mapping is needed here, not 7"),
        ("p:\n  from: flie:a.csv\n  to: sqlite:a.db\n", "2:9", "did you mean 'file'?"),
        ("p:\n  from: file:a.xml\n  to: sqlite:a.db\n", "2:9", "say which format"),
        ("p:\n  from: file:a.csv?format=cvs\n  to: sqlite:a.db\n", "2:9", "did you mean 'csv'?"),
        ("p:\n  from: file:a.csv\n  to: sqlite:a.db?tabel=x\n", "3:7", "did you mean 'table'?"),
        ("p:\n  from: file:a.csv\n  to: sqlite:a.db?table=x;y\n", "3:7", "no name for a table"),
        ("p:\n  from: file://host/a.csv\n  to: sqlite:a.db\n", "2:9", "another machine"),
        (BASE + "  steps:\n  - filtr: x\n", "5:5", "did you mean 'filter'?"),
        (BASE + "  steps:\n  - filter: x\n    set: {a: b}\n", "5:5", "each step is one entry"),
        (BASE + "  steps:\n  - filter: 'x ==='\n", "5:13", "is not an expression"),
        (BASE + "  steps:\n  - set: {a: uper(x)}\n", "5:14", "did you mean 'upper'?"),
        (BASE + "  steps:\n  - set: {'a-b': x}\n", "5:11", "no name for a column"),
        (BASE + "  steps:\n  - python: transforms\n", "5:13", "transforms.py:enrich"),
        (BASE + "  steps:\n  - python: nowhere.py:f\n", "5:13", "there is no file"),
        (BASE + "  dedupe: {key: id, window: 3}\n", "4:29", "'3' is not a length of time"),
        (BASE + "  dedupe: {key: id, window: 0s}\n", "4:29", "longer than nothing"),
        (BASE + "  dedupe: {key: id, by: event_time}\n", "4:25", "add timestamp"),
        (BASE + "  dedupe: {key: id, by: evnt_time}\n", "4:25", "did you mean 'event_time'?"),
        (BASE + "  dedupe: {window: 3d}\n", "4:11", "'key' is missing"),
        (BASE + "  aggregate: {by: a, values: {n: cuont()}}\n", "4:34", "did you mean 'count'?"),
        (BASE + "  aggregate: {by: a, values: {n: sum()}}\n", "4:34", "sum takes one expression"),
        (BASE + "  aggregate: {by: a, values: {n: a + 1}}\n", "4:34", "is needed here"),
        (BASE + "  aggregate: {by: a, values: {a: count()}}\n", "4:31", "choose another"),
        (BASE + "  aggregate: {by: a, values: {n: count()}, grace: 1d}\n", "4:51", "add window"),
        (BASE + "  aggregate: {by: [a, a], values: {n: count()}}\n", "4:19", "none of them twice"),
        (BASE + "  partitions: 0\n", "4:15", "at least 1"),
        (BASE + "  partitions: yes\n", "4:15", "a whole number"),
        (BASE + "  broker: ${OTTLA_NOT_SET}\n", "4:11", "OTTLA_NOT_SET is not set"),
        ("p:\n  from: kafka:a\n  to: kafka:a\n", "3:7", "run in a circle"),
        ("p:\n  from: kafka:a b\n  to: kafka:c\n", "2:9", "no name for a topic"),
        ("p q:\n  from: kafka:a\n  to: kafka:c\n", "1:1", "a pipeline's name"),
        ("p:\n  from: [a\n", "3:1", "this is not YAML"),
        (
            "p:\n  from: kafka:a\n  to: {url: sqlite:a, colums: {}}\n",
            "3:23",
            "did you mean 'columns'",
        ),
        (
            "p:\n  from: kafka:a\n  to: {url: sqlite:a, columns: {n: int}}\n",
            "3:36",
            "'int' is not one of the choices; did you mean 'integer'?",
        ),
        (
            BASE.replace("sqlite:a.db", "{url: sqlite:a.db, key: x}")
            + "  aggregate: {by: a, values: {n: count()}}\n",
            "3:31",
            "leave key out",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, text: str, place: str, reason: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert reason in str(caught.value)


def test_from_python_a_mistake_is_named_with_its_path(tmp_path: Path) -> None:
    description = {"from": "file:a.csv", "to": "sqlite:a.db", "steps": [{"filter": "x**2"}]}
    with pytest.raises(ConfigError, match=r"^p\.steps\[0\]\.filter: 'x\*\*2': Pow is not allowed"):
        build("p", description, tmp_path)


def test_a_file_with_several_pipelines_needs_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + BASE.replace("p:", "q:"))
    assert load(path, "q").name == "q"
    with pytest.raises(ConfigError, match="has 2 pipelines, say which one: p, q"):
        load(path)
    with pytest.raises(ConfigError, match="has no pipeline 'r'; known here: p, q"):
        load(path, "r")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is empty; three lines make a pipeline"):
        load(write(tmp_path, "\n"))


def test_the_environment_is_used_and_passwords_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    url = "postgresql://u:${PASSWORD}@h/db?table=s.t&sslmode=require&application=${APP:-x}"
    spec = build("p", {"from": "file:a.csv", "to": url}, tmp_path)
    assert isinstance(spec.sink, DatabaseSink)
    assert spec.sink.address == "postgresql://u:hunter2@h/db?sslmode=require&application=x"
    assert spec.sink.table == "s.t"
    assert "hunter2" not in repr(spec)
    assert redacted("postgresql://u:p@h/db?password=q") == "postgresql://u:***@h/db?password=***"
