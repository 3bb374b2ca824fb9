"""Sessions end and are renewed (KIP-368), and who uses a client notices nothing of it."""

import time
import warnings

import confluent_kafka
import pytest

import ottla

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from kafka import KafkaProducer

SESSION_MS = 1_500
ROUNDS = 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with ottla.Broker(
        tmp_path_factory.mktemp("broker"),
        security_protocol="sasl_plaintext",
        users={"alice": "wonderland"},
        max_reauth_ms=SESSION_MS,
    ) as broker:
        yield broker


def test_sessions_are_renewed(broker):
    """Whether a client renews its session in time or is disconnected and connects again."""
    failed = []
    librdkafka = confluent_kafka.Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "alice",
            "sasl.password": "wonderland",
            "log_level": 0,
        }
    )
    kafka_python = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="alice",
        sasl_plain_password="wonderland",
        retries=10,
    )

    def delivered(error, _):
        if error is not None:
            failed.append(error)

    end = time.monotonic() + ROUNDS * SESSION_MS / 1_000
    while time.monotonic() < end:
        librdkafka.produce("topic", b"value", on_delivery=delivered)
        assert librdkafka.flush(30) == 0
        kafka_python.send("topic", b"value", partition=0).get(30)
        time.sleep(0.02)
    kafka_python.close()
    assert failed == []
