"""Real clients log in to Ottla and to Apache Kafka, rightly and wrongly, and are told the same.

Method: each test runs on both brokers, with the same users and certificates. Where a client tells
why it was refused, the text is asserted: it is Kafka's.
"""

import asyncio
import gc
import logging
import re
import ssl
import warnings

import confluent_kafka
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from tests import kafka_runner
from tests.conftest import unavailable
from tests.security.brokers import SCRAM, USERS, add_users, let_write, ottla_listeners
from tests.security.java_logins import java_logins

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
    from kafka.errors import KafkaTimeoutError

MECHANISMS = ("PLAIN", *SCRAM)
RIGHT, WRONG, NOBODY = ("alice", USERS["alice"]), ("alice", "wrong"), ("nobody", "wonderland")
_INVALID = "Authentication failed during authentication due to invalid credentials with SASL "
REFUSAL = {mechanism: f"{_INVALID}mechanism {mechanism}" for mechanism in SCRAM}
REFUSAL["PLAIN"] = "Authentication failed: Invalid username or password"


@pytest.fixture(scope="module")
def ottla_secured(tmp_path_factory, server_pair, ca):
    with ottla_listeners(tmp_path_factory.mktemp("ottla"), server_pair, ca) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def kafka_secured(kafka_authorizing, kafka_listeners):
    add_users(kafka_authorizing)
    let_write(kafka_authorizing, "User:alice", "kafka-python")
    return kafka_listeners.addresses


@pytest.fixture(scope="module", params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def addresses(request):
    return request.getfixturevalue(f"{request.param}_secured")


class TestConfluentKafka:
    def outcome(self, address, **settings):
        """The node that was found, or why there is none."""
        errors = []
        client = confluent_kafka.Producer(
            {
                "bootstrap.servers": address,
                "error_cb": errors.append,
                "log_level": 0,
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )
        while not errors:
            try:
                (node,) = client.list_topics(timeout=0.2).brokers.values()
                return f"{node.host}:{node.port}"
            except confluent_kafka.KafkaException:
                client.poll(0.05)
        # Most errors come before, or with, the news that no broker is left.
        errors.sort(key=lambda error: error.code() == confluent_kafka.KafkaError._ALL_BROKERS_DOWN)
        return re.sub(r" \(after .*", "", errors[0].str().partition(": ")[2] or "disconnected")

    def login(self, addresses, protocol, mechanism, who, ca):
        return self.outcome(
            addresses[protocol],
            security_protocol=protocol,
            sasl_mechanism=mechanism,
            sasl_username=who[0],
            sasl_password=who[1],
            ssl_ca_location=str(ca),
        )

    @pytest.mark.parametrize("mechanism", MECHANISMS)
    def test_right_and_wrong_passwords(self, addresses, ca, mechanism):
        found = self.login(addresses, "sasl_ssl", mechanism, RIGHT, ca)
        assert found == addresses["sasl_ssl"], "each listener tells its own address"
        for who in (WRONG, NOBODY):
            told = self.login(addresses, "sasl_ssl", mechanism, who, ca)
            assert told.endswith(REFUSAL[mechanism])

    def test_a_mechanism_that_is_not_offered(self, addresses, ca):
        told = self.login(addresses, "sasl_plaintext", "PLAIN", RIGHT, ca)
        assert told == (
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's "
            "supported mechanisms: SCRAM-SHA-512,SCRAM-SHA-256"
        ) or told.endswith("SCRAM-SHA-256,SCRAM-SHA-512")
        found = self.login(addresses, "sasl_plaintext", "SCRAM-SHA-512", RIGHT, ca)
        assert found == addresses["sasl_plaintext"]

    def test_mutual_tls(self, addresses, ca, client_pair):
        known = {"security_protocol": "ssl", "ssl_ca_location": str(ca)}
        pair = {
            "ssl_certificate_location": str(client_pair.certificate),
            "ssl_key_location": str(client_pair.key),
        }
        assert self.outcome(addresses["ssl"], **known, **pair) == addresses["ssl"]
        # Python's event loops do not send TLS's alert: Ottla's log has the reason.
        nameless = self.outcome(addresses["ssl"], **known)
        assert nameless == "disconnected" or "alert bad certificate" in nameless
        stranger = self.outcome(addresses["ssl"], security_protocol="ssl", **pair)
        assert "certificate verify failed" in stranger


def of_kafka_python(addresses, mechanism, who, ca):
    return {
        "bootstrap_servers": addresses["sasl_ssl"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": who[0],
        "sasl_plain_password": who[1],
        "ssl_cafile": str(ca),
    }


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python(addresses, ca, mechanism):
    settings = of_kafka_python(addresses, mechanism, RIGHT, ca)
    topic = f"kafka-python-{mechanism}"
    producer = KafkaProducer(**settings)
    producer.send(topic, b"value", partition=0).get(30)
    producer.close()
    consumer = KafkaConsumer(topic, auto_offset_reset="earliest", **settings)
    assert next(consumer).value == b"value"
    consumer.close()


def test_kafka_python_with_a_wrong_password(addresses, ca):
    settings = of_kafka_python(addresses, "SCRAM-SHA-256", WRONG, ca)
    with pytest.raises(KafkaTimeoutError):
        KafkaAdminClient(bootstrap_timeout_ms=500, **settings)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_aiokafka(addresses, ca, mechanism, caplog):
    async def login(protocol, who):
        client = AIOKafkaClient(
            bootstrap_servers=addresses[protocol],
            security_protocol=protocol.upper(),
            sasl_mechanism=mechanism,
            sasl_plain_username=who[0],
            sasl_plain_password=who[1],
            ssl_context=ssl.create_default_context(cafile=ca) if protocol == "sasl_ssl" else None,
        )
        try:
            await client.bootstrap()
        finally:
            await client.close()
            await asyncio.sleep(0.05)  # aiokafka lets go of a refused connection a moment later
            gc.collect()  # what it leaves behind is reported here, and not in another test

    asyncio.run(login("sasl_ssl", RIGHT))
    for who in (WRONG, NOBODY):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "aiokafka"), pytest.raises(KafkaConnectionError):
            asyncio.run(login("sasl_ssl", who))
        assert f"[Error 58] SaslAuthenticationFailed: {REFUSAL[mechanism]}" in caplog.text
    if mechanism == "PLAIN":
        with caplog.at_level(logging.ERROR, "aiokafka"), pytest.raises(KafkaConnectionError):
            asyncio.run(login("sasl_plaintext", RIGHT))
        assert "[Error 33] UnsupportedSaslMechanismError" in caplog.text


@pytest.mark.kafka
def test_java(ottla_secured, kafka_secured, ca, client_pair, tmp_path):
    """Both brokers in one process of Java's, which takes its time to start."""
    keystore = tmp_path / "client.pem"
    keystore.write_bytes(client_pair.key.read_bytes() + client_pair.certificate.read_bytes())
    cases = []
    for addresses in (ottla_secured, kafka_secured):
        cases += java_cases(addresses, ca, keystore)
    try:
        outcomes = java_logins(tmp_path, [settings for settings, _ in cases])
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    told = [outcome.partition("[")[0] for outcome in outcomes]
    assert told == [expected for _, expected in cases]


def java_cases(addresses, ca, keystore):
    """Settings of a login, and what should come of it."""
    truststore = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(ca)}

    def login(protocol, mechanism, who):
        module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
        return {
            "bootstrap.servers": addresses[protocol],
            "security.protocol": protocol.upper(),
            "sasl.mechanism": mechanism,
            "sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f'username="{who[0]}" password="{who[1]}";',
            **truststore,
        }

    mutual = {
        "bootstrap.servers": addresses["ssl"],
        "security.protocol": "SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        **truststore,
    }
    cases = [(mutual, addresses["ssl"])]
    for mechanism in MECHANISMS:
        refused = f"SaslAuthenticationException: {REFUSAL[mechanism]}"
        cases += [
            (login("sasl_ssl", mechanism, RIGHT), addresses["sasl_ssl"]),
            (login("sasl_ssl", mechanism, WRONG), refused),
            (login("sasl_ssl", mechanism, NOBODY), refused),
        ]
    for mechanism in SCRAM:
        right = login("sasl_plaintext", mechanism, RIGHT)
        cases.append((right, addresses["sasl_plaintext"]))
    unsupported = (
        "UnsupportedSaslMechanismException: Client SASL mechanism 'PLAIN' not enabled in the "
        "server, enabled mechanisms are "
    )
    cases.append((login("sasl_plaintext", "PLAIN", RIGHT), unsupported))
    return cases
