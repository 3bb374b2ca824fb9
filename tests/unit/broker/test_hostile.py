"""P9: no bytes from a client can crash the broker, or leave it other than it was.

Method: seeded valid requests of every served API and version, as they are, with bytes changed, cut
or added, go into a broker in this process. It must answer, or refuse the connection with a
ProtocolError; nothing else may come out, and no handler may have failed (that would be logged).
Afterwards an ordinary client works as ever, and the directory is as good as before: it recovers.
"""

import logging
import random

import pytest

from ottla.broker.config import BrokerConfig
from ottla.broker.registry import REGISTRY
from ottla.ports.errors import ProtocolError
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.api import API
from ottla.wire.frame import SIZE_BYTES, encode_request
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.metadata import MetadataRequest
from ottla.wire.records import Record, build_batch
from tests.crash.workload import Script
from tests.unit.wire import samples as samples_module
from tests.unit.wire.samples import Case, apis, samples

CONFIG = BrokerConfig(segment_bytes=4_096, journal_allocate_bytes=0)
SCHEMAS = {int(api.key): api for api in apis()}
MAY_NAME_THE_SCRIPT = {0, 8, 13, 19, 20, 22, 24, 25, 26, 28, 42, 47}
VERSIONS = [
    (key, version)
    for key, one in sorted(REGISTRY.items())
    for version in range(one.min_version, one.max_version + 1)
]


def frames(key: int, version: int, rng: random.Random) -> list[bytes]:
    """Valid requests, and the same with something wrong."""
    found = []
    for message in samples(Case(SCHEMAS[key], "Request", version), 50, tame=True):
        whole = bytes(encode_request(key, version, 1, "hostile", message))[SIZE_BYTES:]
        found.append(whole)
        for _ in range(4):
            changed = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            found.append(bytes(changed))
        found.append(whole[: rng.randrange(len(whole) + 1)])
        found.append(whole + bytes(rng.randrange(1, 9)))
    return found


def feed(broker: InProcessBroker, frame: bytes) -> bool:
    """One frame on a connection of its own; tells whether it was taken, or refused."""
    client = broker.connect()
    try:
        broker.core.handle(client.connection, memoryview(frame), lambda answer: None)
        taken = True
    except ProtocolError:
        client.close()
        taken = False
    broker.sync()
    return taken


@pytest.fixture(autouse=True)
def _names_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the samples name what is there, and carry real batches."""
    batch = build_batch([Record(value=b"x")], producer_id=1, producer_epoch=0, base_sequence=0)
    in_transaction = build_batch(
        [Record(value=b"y")], producer_id=1, producer_epoch=0, base_sequence=1, transactional=True
    )
    names = ["orders", "readers", "transfers", "", "é", "o" * 300]
    monkeypatch.setattr(samples_module, "STRINGS", names)
    monkeypatch.setattr(samples_module, "BYTES", [batch, in_transaction, b"", b"\xff" * 70])


@pytest.mark.parametrize("key", sorted(REGISTRY), ids=lambda key: API[key].name)
def test_no_request_makes_a_handler_fail(key: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(key)
    disk = SimulatedDisk()
    broker = InProcessBroker(disk, config=CONFIG)
    create = CreateTopicsRequest(
        topics=[CreatableTopic(name="orders", num_partitions=2, replication_factor=1)]
    )
    broker.connect().request(create, 7)
    with caplog.at_level(logging.ERROR):
        for version in (version for one, version in VERSIONS if one == key):
            for frame in frames(key, version, rng):
                feed(broker, frame)
    assert [record.getMessage() for record in caplog.records] == []
    broker.advance(700_000)
    response = broker.connect().request(MetadataRequest(topics=None), 12)
    assert response is not None
    InProcessBroker(disk, config=CONFIG)


def test_rubbish_between_honest_requests_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The script of the crash tests runs as ever while every second frame is hostile."""
    rng = random.Random(3)
    broker = InProcessBroker(config=CONFIG)
    script = Script()
    client = broker.connect()
    hostile = [
        frame
        for key, version in rng.sample(VERSIONS, 40)
        if key not in MAY_NAME_THE_SCRIPT
        for frame in frames(key, version, rng)
    ]
    with caplog.at_level(logging.ERROR):
        for step in script.steps:
            for frame in rng.sample(hostile, 5):
                feed(broker, frame)
            script.run_step(client, step)
    assert [record.getMessage() for record in caplog.records] == []
