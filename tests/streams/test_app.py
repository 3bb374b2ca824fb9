"""An application as its user meets it: started in a program, asked while it runs, stopped.

Method: `App` in this process, on a thread, with its own broker or one of the two.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ottla
from ottla.client import Admin, Consumer, Partition, Producer, TopicSpec
from ottla.streams import StreamsError, TopologyError
from ottla.streams.app import App

Unique = Callable[[str], str]


@contextmanager
def running(app: App) -> Iterator[None]:
    """The application at work on a thread for the length of a block."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            app.run()
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        app.stop()
        thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def await_true(condition: Callable[[], Any], wait_s: float = 30.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def send(bootstrap_servers: str, topic: str, *pairs: tuple[str, str]) -> None:
    with Producer(bootstrap_servers) as producer:
        for key, value in pairs:
            producer.send(topic, key, value)
        producer.flush()


def test_without_bootstrap_servers_it_brings_a_broker(tmp_path: Path):
    with ottla.App("alone", state_dir=tmp_path) as app:
        Admin(app.bootstrap_servers).create_topics([TopicSpec("in")])
        app.stream("in").group_by_key().count("n").current().to("out")
        send(app.bootstrap_servers, "in", ("a", "1"), ("b", "2"), ("a", "3"))
        app.run(until=lambda: app.metrics().get("commits", 0) > 0)
        with Consumer(app.bootstrap_servers, "reader") as consumer:
            consumer.assign({Partition("out", 0): 0})
            found: dict[bytes | None, bytes | None] = {}
            await_true(lambda: found.update(read(consumer)) or len(found) == 2)
        assert found == {b"a": b"2", b"b": b"1"}
    again = ottla.App("alone", state_dir=tmp_path)
    with again:  # its data is still there
        assert "out" in Admin(again.bootstrap_servers).partition_counts()


def read(consumer: Consumer) -> dict[bytes | None, bytes | None]:
    return {
        message.key(): message.value()
        for _, messages in consumer.consume(100, 0.1)
        for message in messages
    }


def test_tables_can_be_asked_while_it_runs(bootstrap: str, unique: Unique, tmp_path: Path):
    topic = unique("in")
    Admin(bootstrap).create_topics([TopicSpec(topic, 3)])
    app = App(unique("app"), bootstrap, state_dir=tmp_path)
    app.stream(topic).group_by_key().count("n")
    send(bootstrap, topic, *[(f"k{n % 5}", str(n)) for n in range(50)])
    with running(app):
        await_true(lambda: app.metrics().get("records_in", 0) == 50)
        assert dict(app.query("n").all()) == {f"k{n}": 10 for n in range(5)}
        assert app.metrics()["lag"] == 0
        send(bootstrap, topic, ("k1", "51"))
        await_true(lambda: app.query("n").get("k1") == 11)
    assert app.query("n").get("k1") == 11  # saved
    assert app.metrics()["records_in"] == 51


def test_a_step_that_fails_stops_it_and_nothing_was_committed(
    bootstrap: str, unique: Unique, tmp_path: Path
):
    topic, out = unique("in"), unique("out")
    Admin(bootstrap).create_topics([TopicSpec(topic)])
    app = App(unique("app"), bootstrap, state_dir=tmp_path)
    app.stream(topic).map_values(lambda v: 1 // v, name="divide").to(out)
    send(bootstrap, topic, ("a", "1"), ("b", "0"))
    with pytest.raises(StreamsError, match=f"'divide' failed on {topic}-0 at offset 1"):
        app.run()
    assert Admin(bootstrap).end_offsets([Partition(out, 0)]) == {Partition(out, 0): 0} or (
        read_all(bootstrap, out) == []
    )


def read_all(bootstrap_servers: str, topic: str) -> list[bytes | None]:
    with Consumer(bootstrap_servers, "reader") as consumer:
        partition = Partition(topic, 0)
        consumer.assign({partition: 0})
        found: list[bytes | None] = []
        while not consumer.at_end(partition):
            for _, messages in consumer.consume(100, 0.1):
                found += [message.value() for message in messages]
        return found


def test_a_topic_that_does_not_exist_is_named(bootstrap: str, unique: Unique, tmp_path: Path):
    topic = unique("nowhere")
    app = App(unique("app"), bootstrap, state_dir=tmp_path)
    app.stream(topic).to("out")
    with pytest.raises(TopologyError, match=f"reads {topic}, which does not exist"):
        app.run()


def test_a_broker_that_is_not_there_is_told(tmp_path: Path):
    app = App("app", "127.0.0.1:1", state_dir=tmp_path, timeout_ms=500)
    app.stream("in").to("out")
    with pytest.raises(ottla.ClientError, match="Is the broker there"):
        app.run()


def test_a_repartition_topic_keeps_only_what_is_not_read_yet(
    ottla_broker_session: ottla.Broker,
    unique: Unique,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    bootstrap = ottla_broker_session.bootstrap_servers
    monkeypatch.setattr("ottla.streams.purge.PURGE_INTERVAL_MS", 50)
    topic, name = unique("in"), unique("app")
    Admin(bootstrap).create_topics([TopicSpec(topic)])
    moved = Partition(f"{name}-parity-repartition", 0)

    def app_in(directory: str) -> App:
        app = App(name, bootstrap, state_dir=tmp_path / directory, commit_interval_ms=20)
        app.stream(topic).group_by(lambda v: f"g{v % 2}", "parity", partitions=1).count("n")
        return app

    app, sent = app_in("first"), 0
    with running(app):

        def is_purged() -> bool:
            nonlocal sent
            send(bootstrap, topic, (str(sent), str(sent)))
            sent += 1
            return Admin(bootstrap).start_offsets([moved])[moved] > 0

        await_true(is_purged)
        await_true(lambda: sum(dict(app.query("n").all()).values()) == sent)
    # What was deleted is in the state, and the state in the changelog: a new worker has it all.
    again = app_in("second")
    with running(again):
        await_true(lambda: sum(dict(again.query("n").all()).values()) == sent)


def test_two_streams_of_a_topology_go_on_together(bootstrap: str, unique: Unique, tmp_path: Path):
    """Two inputs, a repartition to another number of partitions, one transaction for all of it."""
    left, right, out = unique("left"), unique("right"), unique("out")
    Admin(bootstrap).create_topics([TopicSpec(left, 2), TopicSpec(right, 3)])
    app = App(unique("app"), bootstrap, state_dir=tmp_path)
    merged = app.stream(left).merge(app.stream(right))
    merged.group_by(lambda v: f"g{v % 2}", "parity", partitions=4).count("n").current().to(out)
    send(bootstrap, left, *[(str(n), str(n)) for n in range(40) if n % 3])
    send(bootstrap, right, *[(str(n), str(n)) for n in range(40) if n % 3 == 0])
    with running(app):
        await_true(lambda: dict(app.query("n").all()) == {"g0": 20, "g1": 20})
