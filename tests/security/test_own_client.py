"""Ottla's own clients, applications and pipelines on a broker that asks who they are."""

import contextlib
import json
import sqlite3
import textwrap

import pytest

import ottla
from ottla.client import Admin, Partition, TimedOut, TopicSpec
from ottla.client.settings import as_url

PASSWORD = "won:der/land@100%"


@pytest.fixture(scope="module")
def broker(server_pair, tmp_path_factory):
    with ottla.Broker(
        tmp_path_factory.mktemp("broker"),
        security_protocol="sasl_ssl",
        tls_cert=server_pair.certificate,
        tls_key=server_pair.key,
        users={"alice": PASSWORD},
        two_phase_commit=True,
    ) as broker:
        yield broker


@pytest.fixture
def alice(ca):
    return {"username": "alice", "password": PASSWORD, "ssl_ca": str(ca)}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_producer_consumer_and_admin(broker, alice, mechanism):
    topic = f"topic-{mechanism}"
    alice["sasl_mechanism"] = mechanism
    admin = Admin(broker.bootstrap_servers, **alice)
    admin.create_topics([TopicSpec(topic)])
    producer = ottla.Producer(broker.bootstrap_servers, transactional_id=topic, **alice)
    with producer, producer.transaction() as transaction:
        transaction.send(topic, "key", "value")
    assert admin.end_offsets([Partition(topic, 0)]) == {Partition(topic, 0): 2}
    url = as_url(broker.bootstrap_servers, alice)
    with ottla.Consumer(url, "group") as consumer:
        consumer.assign({Partition(topic, 0): 0})
        ((_, (message,)),) = consumer.consume(1, 30)
        assert (message.key(), message.value()) == (b"key", b"value")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_producer_with_two_phases(broker, alice, mechanism):
    alice["sasl_mechanism"] = mechanism
    name = f"two-phase-{mechanism}"
    admin = Admin(broker.bootstrap_servers, **alice)
    admin.create_topics([TopicSpec(name)])
    with ottla.TwoPhaseProducer(broker.bootstrap_servers, name, **alice) as producer:
        producer.begin()
        producer.send(name, b"value")
        producer.prepare()
        producer.commit()
    partition = Partition(name, 0)
    assert admin.end_offsets([partition]) == {partition: 2}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"password": "wrong"}, "Authentication failed"),
        ({"sasl_mechanism": "PLAIN", "password": "wrong"}, "Invalid username or password"),
        ({"ssl_ca": None}, "certificate verify failed"),
    ],
)
def test_who_is_not_let_in_is_told_why(broker, alice, changes, told):
    alice |= changes
    if alice["ssl_ca"] is None:
        del alice["ssl_ca"]
    quick = {"timeout_ms": 200, **alice}
    with pytest.raises(ottla.NotLetIn, match=told):
        again_and_again(Admin(broker.bootstrap_servers, **quick).partition_counts)
    producer = ottla.Producer(broker.bootstrap_servers, **quick)
    producer.send("topic", "key", "value")
    with pytest.raises(ottla.NotLetIn, match=told):
        again_and_again(producer.flush)
    with ottla.Consumer(broker.bootstrap_servers, "group", **quick) as consumer:
        consumer.subscribe(["topic"])
        with pytest.raises(ottla.NotLetIn, match=told):
            again_and_again(lambda: consumer.consume(1, 0.1))


def again_and_again(call):
    """Until it says something else than that it had no time."""
    while True:
        with contextlib.suppress(TimedOut):
            call()


def test_an_application(broker, alice, tmp_path):
    with ottla.Producer(broker.bootstrap_servers, **alice) as producer:
        for number in range(10):
            producer.send("numbers", str(number % 2), json.dumps(number))
    app = ottla.App("adding", broker.bootstrap_servers, state_dir=tmp_path, **alice)
    counts = app.stream("numbers").group_by_key().count("counted")
    counts.current().to("counts")
    admin = Admin(broker.bootstrap_servers, **alice)
    app.run(until=lambda: admin.end_offsets([Partition("counts", 0)])[Partition("counts", 0)] > 0)
    with ottla.Consumer(broker.bootstrap_servers, "reader", **alice) as consumer:
        consumer.assign({Partition("counts", 0): 0})
        assert consumer.consume(100, 30)


def test_a_pipeline(broker, alice, tmp_path, monkeypatch):
    """Its broker is a URL whose password comes from the environment, and is not shown."""
    monkeypatch.setenv("BROKER", as_url(broker.bootstrap_servers, alice))
    (tmp_path / "rows.csv").write_text("n\n1\n2\n3\n")
    file = tmp_path / "rows.yaml"
    file.write_text(
        textwrap.dedent(
            """
            secured:
              broker: ${BROKER}
              from: file:rows.csv
              to: sqlite:rows.db?table=numbers
            """
        )
    )
    pipeline = ottla.Pipeline.load(file)
    assert "alice" not in pipeline.plan()
    assert f"sasl_ssl://{broker.bootstrap_servers}" in pipeline.plan()
    pipeline.run()
    rows = sqlite3.connect(tmp_path / "rows.db").execute("select n from numbers order by n")
    assert rows.fetchall() == [(1,), (2,), (3,)]
    rows.connection.close()
