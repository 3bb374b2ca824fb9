"""Promise: each record of the output topic takes effect in the destination once.

The sink worker itself, between a real broker and a real database: killed, without its database,
with a topic that was made anew, with records that are no rows.
"""

import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from ottla.client import Admin, Producer, TopicSpec
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.reports import Reporter
from ottla.pipeline.sinks.delivery import SinkWorker
from ottla.pipeline.sinks.sink import Position
from ottla.pipeline.worker import EXIT_STOPPED
from ottla.server.process import Broker
from tests.pipeline.workers import finish, make_spec, start_worker, stop
from tests.postgres_runner import running_postgres

COUNT = 3_000


def fill(broker: Broker, values: list[bytes | None], topic: str = "rows") -> None:
    """Put values into a topic, in transactions of a hundred."""
    Admin(broker.bootstrap_servers).create_topics([TopicSpec(topic)])
    with Producer(broker.bootstrap_servers, transactional_id="fill") as producer:
        for start in range(0, len(values), 100):
            with producer.transaction():
                rows = values[start : start + 100]
                producer.send_rows(topic, ((None, value, 0) for value in rows))


def json_rows(count: int) -> list[bytes | None]:
    return [orjson.dumps({"n": n, "_source": f"in.csv:{n + 2}"}) for n in range(count)]


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def wait_for_offset(path: Path, least: int) -> None:
    """Until the sink's position is behind `least` records."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = query(path, "SELECT records_total FROM _ottla_offsets")
        if found and found[0][0] >= least:
            return
        time.sleep(0.05)
    raise AssertionError("the sink did not get there in time")


def test_killed_again_and_again_every_record_is_in_once(
    ottla_broker: Broker, tmp_path: Path
) -> None:
    fill(ottla_broker, json_rows(COUNT))
    spec = make_spec(tmp_path, **{"from": "kafka:rows"})
    for failpoint in ("sink.before_positions", "sink.before_commit", "sink.after_commit"):
        worker = start_worker(
            "sink", spec, ottla_broker.bootstrap_servers, failpoints=f"{failpoint}=exit"
        )
        assert finish(worker)[0] == -signal.SIGKILL
        fill(ottla_broker, [b'{"n": -1}'])
    worker = start_worker("sink", spec, ottla_broker.bootstrap_servers)
    wait_for_offset(tmp_path / "out.db", COUNT + 3)
    stop(worker)
    assert finish(worker)[0] == 0
    found = query(tmp_path / "out.db", "SELECT n FROM t ORDER BY n")
    assert [n for (n,) in found] == [-1, -1, -1, *range(COUNT)]


def test_records_that_are_no_rows_are_dead_letters(ottla_broker: Broker, tmp_path: Path) -> None:
    fill(ottla_broker, [b'{"n": 1}', b"{", None, b"[1]", b"\xff", b'{"n": "x"}', b'{"n": 2}'])
    spec = make_spec(tmp_path, **{"from": "kafka:rows"})
    worker = start_worker("sink", spec, ottla_broker.bootstrap_servers)
    wait_for_offset(tmp_path / "out.db", 7)
    stop(worker)
    finish(worker)
    assert query(tmp_path / "out.db", "SELECT n FROM t ORDER BY n") == [(1,), (2,)]
    dead = query(tmp_path / "out.db", 'SELECT "offset", reason FROM _ottla_dead_letters')
    assert [offset for offset, _ in dead] == [1, 2, 3, 4, 5]
    assert [reason.partition(":")[0] for _, reason in dead] == [
        "not JSON",
        "the record has no value",
        "JSON, but not an object",
        "not JSON",
        "'x' is text, the column is integer",
    ]


def test_a_topic_made_anew_stops_the_sink(ottla_broker: Broker, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, **{"from": "kafka:rows"})
    fill(ottla_broker, json_rows(10))
    worker = start_worker("sink", spec, ottla_broker.bootstrap_servers)
    wait_for_offset(tmp_path / "out.db", 10)
    stop(worker)
    finish(worker)
    Admin(ottla_broker.bootstrap_servers).delete_topics(["rows"])
    fill(ottla_broker, json_rows(10))
    code, said = finish(start_worker("sink", spec, ottla_broker.bootstrap_servers))
    assert code == EXIT_STOPPED
    assert "topic rows was deleted and made anew" in said


def test_records_deleted_before_they_were_delivered_stop_the_sink(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, **{"from": "kafka:rows"})
    worker = SinkWorker(spec, "127.0.0.1:1", Reporter("sink"), threading.Event())
    worker._positions = {0: Position(1, 5)}
    worker._check_retention({0: 5})
    with pytest.raises(PipelineStopped, match=r"retention overran the sink.*rows-0@5.*at 9"):
        worker._check_retention({0: 9})


@pytest.mark.postgres
def test_a_database_that_is_away_is_waited_for_and_nothing_is_lost(
    ottla_broker: Broker, tmp_path: Path
) -> None:
    with running_postgres() as server:
        spec = make_spec(tmp_path, **{"from": "kafka:rows", "to": f"{server.url()}?table=t"})
        fill(ottla_broker, json_rows(COUNT))
        reports: list[dict[str, Any]] = []
        stop = threading.Event()
        report = Reporter("sink", lambda line: reports.append(orjson.loads(line)))
        worker = SinkWorker(spec, ottla_broker.bootstrap_servers, report, stop)
        server.stop()
        thread = threading.Thread(target=worker.run)
        thread.start()
        wait_until(lambda: any(each["state"] == "waiting" for each in reports))
        server.start()
        wait_until(lambda: reports[-1].get("rows") == COUNT)
        server.stop(signal.SIGQUIT)
        reports.clear()
        fill(ottla_broker, json_rows(COUNT))
        wait_until(lambda: any(each["state"] == "waiting" for each in reports))
        server.start()
        wait_until(lambda: reports[-1].get("rows") == 2 * COUNT)
        stop.set()
        thread.join()
        with psycopg.connect(server.url()) as connection:
            found = connection.execute("SELECT n, count(*) FROM t GROUP BY n").fetchall()
        assert sorted(found) == [(n, 2) for n in range(COUNT)]
        reasons = {each["reason"] for each in reports if each["state"] == "waiting"}
        assert all(f"127.0.0.1:{server.port}" in reason for reason in reasons)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    """SQLite is given a limit of pages, which it reports as a full disk."""
    from ottla.pipeline.sinks.sqlite import SqliteSink
    from tests.pipeline.conftest import Destination
    from tests.pipeline.sink_process import batch

    sink = Destination("sqlite", str(tmp_path / "data.db")).sink()
    assert isinstance(sink, SqliteSink)
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(batch(epoch, 0, 10))
    sink._db.execute("PRAGMA max_page_count = 8")
    with pytest.raises(PipelineStopped, match=rf"no space left for {tmp_path}/data.db: the disk"):
        sink.write(batch(epoch, 10, 20_000))
    assert sink.recorded()[0].next_offset == 10
    sink.close()
