"""The brokers that are compared: Ottla as it comes, Apache Kafka as it comes, Kafka with fsync.

With `secured` each of them is spoken to by TLS, and its clients authenticate by SCRAM-SHA-256.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from tests.kafka_runner import Kafka, answers, free_port
from tests.security.certificates import Authority

import ottla

_USER, _PASSWORD = "bench", "a long password"
OTTLA = "Ottla"
KAFKA = "Kafka"
KAFKA_FLUSH = "Kafka, flush"  # log.flush.interval.messages=1


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that runs: what it is called, where it is, and what its start has cost."""

    name: str
    bootstrap_servers: str
    pid: int
    start_s: float
    access: Mapping[str, str] = field(default_factory=dict)  # settings of librdkafka

    @property
    def client(self) -> dict[str, str | int | float | bool]:
        """What every librdkafka client of it begins with."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, **self.access}

    def cpu_s(self) -> float:
        """Processor time that the broker has used since its start, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Resident memory now, in megabytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError(f"the broker {self.name} is gone")


@contextmanager
def run(name: str, directory: Path, *, secured: bool = False) -> Iterator[Running]:
    """The broker with this name, on a new directory."""
    authority = _authority(directory.with_name(f"{directory.name} keys")) if secured else None
    if name == OTTLA:
        began_s = time.monotonic()
        with _ottla(directory, authority) as broker:
            while not secured and not answers(broker.port):
                time.sleep(0.005)
            start_s = time.monotonic() - began_s
            yield Running(name, broker.bootstrap_servers, broker.pid, start_s, _access(authority))
        return
    properties = {"log.flush.interval.messages": "1"} if name == KAFKA_FLUSH else {}
    port = free_port()
    if authority is not None:
        properties |= _secured_kafka(authority, port)
    with Kafka(directory, properties=properties) as kafka:
        servers = kafka.bootstrap_servers
        if authority is not None:
            _add_user(servers)
            servers = f"127.0.0.1:{port}"
        yield Running(name, servers, kafka.pid, kafka.start_s, _access(authority))


def _ottla(directory: Path, authority: Authority | None) -> ottla.Broker:
    if authority is None:
        return ottla.Broker(directory)
    pair = authority.issue("server")
    return ottla.Broker(
        directory,
        security_protocol="sasl_ssl",
        tls_cert=pair.certificate,
        tls_key=pair.key,
        users={_USER: _PASSWORD},
    )


def _authority(directory: Path) -> Authority:
    directory.mkdir(parents=True)
    return Authority(directory)


def _access(authority: Authority | None) -> dict[str, str]:
    if authority is None:
        return {}
    return {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": _USER,
        "sasl.password": _PASSWORD,
        "ssl.ca.location": str(authority.ca),
    }


def _secured_kafka(authority: Authority, port: int) -> dict[str, str]:
    """One more listener, beside the plain one that the server itself uses."""
    pair = authority.issue("server")
    both = pair.key.with_suffix(".both")
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    plain, controller = "PLAINTEXT://127.0.0.1:{port}", "CONTROLLER://127.0.0.1:{controller_port}"
    return {
        "listeners": f"{plain},SASL_SSL://127.0.0.1:{port},{controller}",
        "advertised.listeners": f"{plain},SASL_SSL://127.0.0.1:{port}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }


def _add_user(bootstrap_servers: str) -> None:
    iterations = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8_192)
    user = UserScramCredentialUpsertion(_USER, iterations, _PASSWORD.encode())
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    admin.alter_user_scram_credentials([user])[_USER].result(30)


def start_and_idle(name: str, directory: Path) -> dict[str, float]:
    """Start a broker on a new directory: seconds to the first answer, megabytes when idle."""
    with run(name, directory) as broker:
        time.sleep(1)
        return {"start s": broker.start_s, "idle MB": broker.resident_mb()}
