"""No frame crashes, hangs or bloats the broker, with or without an authorizer: every API at random.

Method: requests of every API and version from the schema's samples, whole and mutated (bytes
changed, cut, doubled, lengths made huge), and frames of random bytes, go into a broker in this
process under tracemalloc. Each is answered or refused as no protocol; no handler and no rule fails;
what one frame makes the broker hold is bounded, and so is what all leave behind. The seed is fixed,
and OTTLA_SOAK=1 takes many.
"""

import logging
import os
import random
import tracemalloc

import pytest

from ottla.broker.config import BrokerConfig
from ottla.broker.registry import REGISTRY
from ottla.ports.errors import ProtocolError
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.frame import SIZE_BYTES, encode_request
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.metadata import MetadataRequest
from tests.unit.wire.samples import Case, apis, samples

SOAK = os.environ.get("OTTLA_SOAK") == "1"
SEEDS = range(100 if SOAK else 1)
SAMPLES = 4  # of each API and version
FRAME_BYTES_MAX = 24 * 1_048_576  # that one frame may make the broker hold
LEFT_BYTES_MAX = 96 * 1_048_576  # that all frames together may leave behind
CONFIG = BrokerConfig(segment_bytes=65_536, journal_allocate_bytes=0)
WITH_RIGHTS = BrokerConfig(
    segment_bytes=65_536,
    journal_allocate_bytes=0,
    authorizer=True,
    allow_everyone_if_no_acl_found=True,
)
HUGE = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff", b"\xff\xff\xff\xff\x07", b"\x00" * 4)


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """The frame with one thing wrong; the API key stays, so that something is asked."""
    changed = bytearray(frame)
    at = rng.randrange(2, len(changed))
    match rng.randrange(5):
        case 0:
            changed[at] = rng.randrange(256)
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = changed[2 : rng.randrange(2, len(changed))]
        case 3:
            changed[at : at + 4] = rng.choice(HUGE)
        case 4:
            del changed[at : at + rng.randrange(1, 9)]
    return bytes(changed)


def frames(rng: random.Random) -> list[bytes]:
    """All APIs at all versions that are served, in any order, and some frames of nothing."""
    schemas = {int(api.key): api for api in apis()}
    found = [rng.randbytes(rng.randrange(200)) for _ in range(100)]
    for key, one in REGISTRY.items():
        for version in range(one.min_version, one.max_version + 1):
            for message in samples(Case(schemas[key], "Request", version), SAMPLES):
                whole = bytes(encode_request(key, version, 1, "fuzz", message))[SIZE_BYTES:]
                found += [whole, mutated(whole, rng), mutated(whole, rng)]
    rng.shuffle(found)
    return found


@pytest.mark.parametrize("config", [CONFIG, WITH_RIGHTS], ids=["open", "with-rights"])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_frame(config: BrokerConfig, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    disk = SimulatedDisk()
    broker = InProcessBroker(disk, config=config)
    create = CreateTopicsRequest([CreatableTopic("a", 2, 1), CreatableTopic("", 1, 1)])
    broker.connect().request(create, 7)
    taken = refused = 0
    tracemalloc.start()
    try:
        begun, _ = tracemalloc.get_traced_memory()
        with caplog.at_level(logging.ERROR):
            for frame in frames(rng):
                client = broker.connect()
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                try:
                    broker.core.handle(client.connection, memoryview(frame), lambda answer: None)
                    taken += 1
                except ProtocolError:
                    refused += 1
                broker.sync()
                client.close()
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before < FRAME_BYTES_MAX, frame[:200]
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [record.getMessage() for record in caplog.records] == []
    assert left - begun < LEFT_BYTES_MAX
    assert taken > 500
    assert refused > 500
    assert broker.connect().request(MetadataRequest(topics=None), 12) is not None
    InProcessBroker(disk, config=config)
