"""Kafka's own kafka-acls, on Ottla and on Apache Kafka: the same commands, the same words."""

import os
import re

import pytest

from tests import kafka_runner
from tests.conftest import unavailable

pytestmark = pytest.mark.kafka
SOAK = os.environ.get("OTTLA_SOAK") == "1"


def kafka_acls(bootstrap_servers: str, *arguments: str) -> str:
    """What the tool prints, without what depends on the order of a set."""
    try:
        done = kafka_runner.run_class(
            "org.apache.kafka.tools.AclCommand",
            *("--bootstrap-server", bootstrap_servers, *arguments),
        )
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    assert done.returncode == 0, done.stderr
    return "\n".join(sorted(line.strip() for line in done.stdout.splitlines() if line.strip()))


PRODUCER = ("--producer", "--topic", "tool-", "--resource-pattern-type", "prefixed")
ALICE = ("--allow-principal", "User:alice", "--allow-host", "10.0.0.1")


def test_rights_are_given_and_listed(authorizing: str) -> None:
    given = kafka_acls(authorizing, "--add", *PRODUCER, *ALICE)
    for operation in ("WRITE", "DESCRIBE", "CREATE"):
        entry = (
            rf"principal=User:alice, host=10\.0\.0\.1, operation={operation}, permissionType=ALLOW"
        )
        assert re.search(entry, given), given
    listed = kafka_acls(authorizing, "--list", "--topic", "tool-", *PRODUCER[3:])
    assert "ResourcePattern(resourceType=TOPIC, name=tool-, patternType=PREFIXED)" in listed
    assert listed.count("principal=User:alice") == 3


@pytest.mark.skipif(not SOAK, reason="a long campaign (OTTLA_SOAK=1): each command is a JVM")
def test_rights_are_taken_back(authorizing: str) -> None:
    deny = ("--deny-principal", "User:bob", "--operation", "Read", "--group", "tool-group")
    kafka_acls(authorizing, "--add", *deny)
    assert "permissionType=DENY" in kafka_acls(authorizing, "--list", "--group", "tool-group")
    kafka_acls(authorizing, "--remove", *deny, "--force")
    assert "User:bob" not in kafka_acls(authorizing, "--list", "--group", "tool-group")
