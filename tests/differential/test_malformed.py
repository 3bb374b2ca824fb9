"""Bytes that are not quite the protocol: answered, or the connection closed, as Kafka does it.

What is compared is the outcome alone: an answer, a closed connection, or silence. The unit tests
of hostile bytes say more of Ottla; these say that Kafka does the same.
"""

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from ottla.broker import handlers
from ottla.broker.registry import REGISTRY
from ottla.wire.api import API
from ottla.wire.frame import encode_request
from tests.differential.allowed import TAKEN_FOR_NULL
from tests.differential.test_generated import served
from tests.unit.wire.samples import apis

handlers.load()
SERVED = [api for api in apis() if api.key in REGISTRY]
_LIMIT_S = 5.0
ANSWERED, CLOSED, SILENT = "answered", "closed", "silent"


def outcome(bootstrap_servers: str, frame: bytes) -> str:
    """What a broker does with these bytes on a connection of their own."""
    host, _, port = bootstrap_servers.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_LIMIT_S) as connection:
        try:
            connection.sendall(frame)
            head = connection.recv(8, socket.MSG_WAITALL)
        except TimeoutError:
            return SILENT
        except ConnectionError:
            return CLOSED
    return ANSWERED if len(head) == 8 else CLOSED


def request(key: int, version: int, body: bytes, client_id: bytes = b"\0\3raw") -> bytes:
    """A frame around any body at all."""
    flexible = key in API and version >= API[key].flexible_from
    content = struct.pack(">hhi", key, version, 7) + client_id + b"\0" * flexible + body
    return struct.pack(">i", len(content)) + content


def both(ours: str, theirs: str, frame: bytes) -> tuple[str, str]:
    return outcome(ours, frame), outcome(theirs, frame)


@pytest.fixture(scope="module")
def brokers(ottla_broker_session, kafka_bootstrap: str) -> tuple[str, str]:
    return ottla_broker_session.bootstrap_servers, kafka_bootstrap


@pytest.mark.kafka
@pytest.mark.parametrize("api", SERVED, ids=lambda api: api.name)
def test_a_version_that_nobody_serves_closes_the_connection(api, brokers) -> None:
    highest = max(served(broker)[api.key][1] for broker in brokers)
    for version in (highest + 1, 30_000, -1):
        ours, theirs = both(*brokers, request(api.key, version, b"\0" * 8))
        assert ours == theirs, (api.name, version)
        assert ours == (ANSWERED if api.name == "ApiVersions" else CLOSED)


@pytest.mark.kafka
@pytest.mark.parametrize("key", [-1, 4, 52, 1000, 32_767])
def test_a_key_that_nobody_serves_closes_the_connection(key: int, brokers) -> None:
    assert both(*brokers, request(key, 0, b"\0" * 8)) == (CLOSED, CLOSED)


def cut_and_stretched(api, version: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """An empty request of this version, cut short, with lengths that cannot be."""
    whole = bytes(encode_request(api.key, version, 7, "raw", API[api.key].request()))[4:]
    head = 8 + 5 + (version >= API[api.key].flexible_from)
    if len(whole) > head:
        yield "cut", whole[:-1]
    yield "an array of more than there is", whole[:head] + b"\x7f\xff\xff\xff" * 4
    yield "a length below null", whole[:head] + b"\xff\xfe" * 4
    yield "noise", whole[:head] + rng.randbytes(3)


@pytest.mark.kafka
@pytest.mark.parametrize("api", SERVED, ids=lambda api: api.name)
def test_what_cannot_be_read_closes_the_connection(api, brokers) -> None:
    ranges = [served(broker)[api.key] for broker in brokers]
    rng = random.Random(api.name)
    different = []
    for version in range(
        max(api.versions.first, *(lowest for lowest, _ in ranges)),
        min(highest for _, highest in ranges) + 1,
    ):
        for kind, content in cut_and_stretched(api, version, rng):
            ours, theirs = both(*brokers, struct.pack(">i", len(content)) + content)
            lenient = theirs == ANSWERED and api.name in TAKEN_FOR_NULL
            if ours != theirs and not lenient:
                different.append(f"v{version} {kind}: ottla {ours}, kafka {theirs}, {content!r}")
    assert not different, "\n".join(different)


@pytest.mark.kafka
@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 0),
        struct.pack(">i", 2**31 - 1) + b"\0" * 64,
        struct.pack(">ihh", 4, 18, 0),
        request(18, 0, b"", client_id=b"\x7f\xff"),
        request(18, 0, b"", client_id=b"\xff\xff"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        *("size below zero", "size zero", "size beyond the limit", "no header"),
        *("client id cut", "no client id", "http", "tls"),
    ],
)
def test_frames_and_headers(frame: bytes, brokers) -> None:
    ours, theirs = both(*brokers, frame)
    assert ours == theirs
