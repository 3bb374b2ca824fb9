"""Apache Kafka's listeners with TLS and SASL, for the same certificates and users as Ottla's."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import ottla
from ottla.wire.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.wire.messages.describe_acls import DescribeAclsRequest
from tests import kafka_runner
from tests.differential.raw import Raw
from tests.security.certificates import Pair

USERS = {"alice": "wonderland", "bob": "builder"}
PROTOCOLS = ("sasl_ssl", "sasl_plaintext", "ssl")
SCRAM = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}
_SECURITY = "org.apache.kafka.common.security"


class KafkaListeners:
    """Three more listeners: SASL over TLS with all mechanisms, SASL without TLS, mutual TLS.

    `properties` are the broker's, `addresses` by protocol.
    """

    def __init__(self, directory: Path, server: Pair, ca: Path) -> None:
        keystore = directory / "keystore.pem"
        keystore.write_bytes(server.key.read_bytes() + server.certificate.read_bytes())
        ports = {protocol: kafka_runner.free_port() for protocol in PROTOCOLS}
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        more = "".join(f",{name.upper()}://{self.addresses[name]}" for name in PROTOCOLS)
        names = ["PLAINTEXT", *map(str.upper, PROTOCOLS)]
        controller = "CONTROLLER://127.0.0.1:{controller_port}"
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        self.properties = {
            "listeners": "PLAINTEXT://127.0.0.1:{port}," + controller + more,
            "advertised.listeners": "PLAINTEXT://127.0.0.1:{port}" + more,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,"
            + ",".join(f"{name}:{name}" for name in names),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(ca),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f"{_SECURITY}.plain.PlainLoginModule required {users};"
            ),
        }
        for protocol in ("sasl_ssl", "sasl_plaintext"):
            for mechanism in SCRAM:
                name = f"listener.name.{protocol}.{mechanism.lower()}.sasl.jaas.config"
                self.properties[name] = f"{_SECURITY}.scram.ScramLoginModule required;"


@contextmanager
def ottla_listeners(directory: Path, server: Pair, ca: Path) -> Iterator[dict[str, str]]:
    """The same, of an Ottla broker with the same users: addresses by protocol."""
    with ottla.Broker(
        directory,
        listen=[f"{protocol}://127.0.0.1:0" for protocol in PROTOCOLS],
        tls_cert=server.certificate,
        tls_key=server.key,
        tls_client_ca=ca,
        users=USERS,
    ) as broker:
        yield broker.addresses


def add_users(bootstrap_servers: str) -> None:
    """Give USERS their passwords, as an administrator does it on either broker."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for mechanism in SCRAM.values():
        wanted = [
            UserScramCredentialUpsertion(
                user, ScramCredentialInfo(mechanism, 8192), password.encode()
            )
            for user, password in USERS.items()
        ]
        for future in admin.alter_user_scram_credentials(wanted).values():
            future.result()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # Kafka's broker learns of it a moment later
        known = admin.describe_user_scram_credentials().result()
        if all(user in known and len(known[user].scram_credential_infos) == 2 for user in USERS):
            return
        time.sleep(0.05)
    raise TimeoutError(f"the users {list(USERS)} did not appear")


def let_write(bootstrap_servers: str, principal: str, prefix: str) -> None:
    """Rights on the cluster and on topics that begin with `prefix`.

    Without any ACL everyone has them, and other tests add some. User:ANONYMOUS keeps its own.
    """
    topic, cluster, literal, prefixed, everything, allow = 2, 4, 3, 4, 2, 3
    rights = [
        (cluster, "kafka-cluster", literal, "User:ANONYMOUS", "127.0.0.1", everything, allow),
        (cluster, "kafka-cluster", literal, principal, "*", everything, allow),
        (topic, prefix, prefixed, principal, "*", everything, allow),
    ]
    with contextlib.closing(Raw(bootstrap_servers)) as admin:
        answer = admin.ask(3, CreateAclsRequest([AclCreation(*right) for right in rights]))
        assert [each.error_code for each in answer.results] == [0] * len(rights)
        # Kafka answers before its broker part has heard of them. 1: any operation and permission.
        of_topics = DescribeAclsRequest(topic, prefix, prefixed, principal, None, 1, 1)
        while not admin.ask(3, of_topics).resources:
            time.sleep(0.02)
