"""What somebody who is not known yet can make the broker hold, wait for, or do.

Method: a server with a real core on sockets in this process; limits of time are made short, and
what is awaited is always what the broker does, never a time.
"""

import asyncio
import logging
import struct
import tracemalloc

import pytest

from ottla.broker.quotas import QuotaRecord
from ottla.server import connection, server
from ottla.server.listener import ConnectionLimits
from ottla.server.run import OneLine
from ottla.wire.frame import SIZE_BYTES, encode_request
from ottla.wire.messages.api_versions import ApiVersionsRequest
from ottla.wire.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.wire.messages.sasl_handshake import SaslHandshakeRequest
from tests.security.speaking import guarded
from tests.unit.server.core import Core, running

SASL = {"protocol": "sasl_plaintext", "mechanisms": ("SCRAM-SHA-256", "PLAIN")}
KNOWN = {"protocol": "plaintext"}
VERSIONS = ApiVersionsRequest(client_software_name="test", client_software_version="1")


def request(message, version):
    """A request without its size, as Client.send wants it."""
    return bytes(encode_request(message.API_KEY, version, 7, "test", message))[SIZE_BYTES:]


def login(password):
    return (
        request(SaslHandshakeRequest(mechanism="PLAIN"), 1),
        request(SaslAuthenticateRequest(auth_bytes=f"\0alice\0{password}".encode()), 2),
    )


def big(size_bytes):
    """A Metadata request that is as long as asked for, whatever it means."""
    return struct.pack(">hhih", 3, 12, 1, 0) + bytes(size_bytes)


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 65_537, 0x16030100, 0x47455420])
def test_huge_or_negative_length(run, size, caplog):
    """Also the first bytes of TLS and of HTTP, read as a length."""

    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            client.writer.write(struct.pack(">i", size))
            assert await client.ended() == b""
            assert one.server.held_bytes == 0

    run(scenario())
    assert f"a frame of {size} bytes, at most 65536" in caplog.text


def test_frames_may_be_large_only_after_authentication(run):
    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            client.send(*login("wonderland"))
            await client.receive(2)
            client.send(request(VERSIONS, 3) + bytes(100_000))
            assert await client.receive()

            early = await one.connect()
            early.send(big(100_000))
            assert await early.ended() == b""

    run(scenario())


def test_a_claimed_length_takes_no_memory(run):
    """CVE-2022-34917: whoever is not known makes the broker keep what it has sent, no more."""

    async def scenario():
        async with running(Core(), listener=KNOWN) as one:
            clients = [await one.connect() for _ in range(20)]
            tracemalloc.start()
            for client in clients:
                client.writer.write(struct.pack(">i", 100_000_000) + b"x")
            await one.until(lambda: one.server.held_bytes == 20 * 5)
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak_bytes < 10_000_000

    run(scenario())


@pytest.mark.parametrize("sends", [b"", struct.pack(">i", 40) + b"begun"])
def test_slowloris_who_does_not_authenticate_in_time_is_closed(run, sends, monkeypatch, caplog):
    monkeypatch.setattr(connection, "HANDSHAKE_MS_MAX", 100)

    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            client.writer.write(sends)
            assert await client.ended() == b""
            await one.until(lambda: not one.server.held_bytes)

    run(scenario())
    assert "it has not authenticated in time" in caplog.text


def test_the_time_to_authenticate_is_over_once_it_is_done(run, monkeypatch):
    monkeypatch.setattr(connection, "HANDSHAKE_MS_MAX", 1_000)

    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            client.send(*login("wonderland"))
            await client.receive(2)
            late = await one.connect()
            assert await late.ended() == b""  # a connection that is younger has had its time
            client.send(request(VERSIONS, 3))
            assert await client.receive()

    run(scenario())


def test_slowloris_a_request_that_never_ends_is_given_up(run, monkeypatch, caplog):
    """Byte after byte does not help: the whole request has to be there in time."""
    monkeypatch.setattr(server, "_SWEEP_S", 0.02)
    monkeypatch.setattr(server, "FRAME_MS_MAX", 200)

    async def scenario():
        async with running(Core(), listener=KNOWN) as one:
            slow, quick = await one.connect(), await one.connect()
            slow.writer.write(struct.pack(">i", 1_000_000))

            async def drip():
                while True:
                    slow.writer.write(b"x")
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            assert await slow.ended() == b""
            dripping.cancel()
            quick.send(b"now a")
            assert await quick.receive() == [b"a"]

    run(scenario())
    assert "a request has not arrived whole in time" in caplog.text


def test_a_client_that_is_not_read_has_its_time_later(run, monkeypatch):
    """What waits because the broker does not read it is not the client's fault."""
    monkeypatch.setattr(server, "_SWEEP_S", 0.01)
    monkeypatch.setattr(server, "FRAME_MS_MAX", 50)
    monkeypatch.setattr(connection, "IN_FLIGHT_REQUESTS_MAX", 1)

    async def scenario():
        async with running(Core(), listener=KNOWN) as one:
            client, bystander = await one.connect(), await one.connect()
            client.writer.write(struct.pack(">i", 7) + b"later a" + struct.pack(">i", 5) + b"no")
            await one.until(lambda: one.core.seen)
            for _ in range(5):  # some sweeps pass
                bystander.writer.write(struct.pack(">i", 5) + b"now x")
                await bystander.receive()
                await asyncio.sleep(0.03)
            client.writer.write(b"w b")
            one.core.later[b"a"]()
            one.server.settle()
            assert await client.receive(2) == [b"a", b"b"]

    run(scenario())


def test_brute_force_a_failure_is_answered_late_and_ends_the_connection(run, caplog):
    """The answer comes, with its reason; what was sent after it is not looked at."""

    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            begun_s = one.server.loop_time()
            client.send(*login("wrong"), *login("wonderland"))
            _, refused = await client.receive(2)
            assert one.server.loop_time() - begun_s >= 0.1
            assert b"Authentication failed: Invalid username or password" in refused
            assert await client.ended() == b""

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "refused 127.0.0.1" in caplog.text
    assert "PLAIN: not the password of 'alice'" in caplog.text
    assert "wrong" not in caplog.text
    assert "wonderland" not in caplog.text


def test_floods_connections_are_bounded_for_each_address(run, caplog):
    async def scenario():
        limits = ConnectionLimits(total=100, per_ip=3)
        async with running(guarded().core, listener=SASL, limits=limits) as one:
            clients = [await one.connect() for _ in range(3)]
            for _ in range(5):
                assert await (await one.connect()).ended() == b""
            await clients[0].close()

            async def served():
                client = await one.connect()
                client.send(request(VERSIONS, 3))
                try:
                    return await client.receive()
                except (asyncio.IncompleteReadError, ConnectionError):
                    return None

            while not await served():  # until the one that was closed is gone
                await asyncio.sleep(0.01)

    run(scenario())
    assert caplog.text.count("turned 127.0.0.1 away: 3 connections from there are open") >= 1


def test_log_poisoning_what_a_client_says_is_no_line_of_the_log():
    """Whatever finds its way into a message: a line feed, an escape sequence, a change of side."""
    said = "SCRAM: eve\n2026-01-01 00:00:00,000 WARNING all is well\x1b[2J\u202e\r"
    record = logging.LogRecord("ottla", logging.WARNING, "", 0, "refused %s: %s", ("x", said), None)
    line = OneLine("%(levelname)s %(message)s").format(record)
    assert line.isprintable()
    assert line.startswith("WARNING refused x: SCRAM: eve\\n2026")


def test_floods_a_log_is_not_filled_by_those_who_are_turned_away(run, caplog):
    async def scenario():
        limits = ConnectionLimits(total=1)
        async with running(guarded().core, listener=SASL, limits=limits) as one:
            await one.connect()
            for _ in range(20):
                assert await (await one.connect()).ended() == b""

    run(scenario())
    assert caplog.text.count("turned 127.0.0.1 away") == 1


def test_floods_a_connection_that_comes_too_soon_is_held_and_then_closed(run):
    """KIP-612. The clock by which the rate is measured stands still until the test moves it."""
    broker = guarded()
    broker.core.quotas.apply(QuotaRecord((("ip", None),), "connection_creation_rate", 10))

    async def scenario():
        async with running(broker.core, listener=SASL) as one:
            while not broker.core.quotas.connection_throttle_ms("127.0.0.1", 0):
                pass  # a hundred come in at once
            early = await one.connect()
            early.send(request(VERSIONS, 3))
            assert await early.ended() == b""
            broker.clock.advance(11_000)
            late = await one.connect()
            late.send(request(VERSIONS, 3))
            assert await late.receive()

    run(scenario())


def test_cve_2026_111115_tagged_fields_of_a_request_header(run):
    """Many tagged fields of two bytes, before authentication: no object for each of them."""
    header = struct.pack(">hhih", 18, 3, 1, -1)
    tags = b"\xb0\xea\x01" + b"\x01\x00" * 30_000  # 30,000 of them

    async def scenario():
        async with running(guarded().core, listener=SASL) as one:
            client = await one.connect()
            tracemalloc.start()
            client.send(header + tags)
            await client.ended()
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak_bytes < 2_000_000

    run(scenario())


def test_cve_2026_111108_an_array_that_claims_more_than_it_has(run):
    """SaslHandshake and ApiVersions have no array; Metadata's is not read before authentication."""
    metadata = struct.pack(">hhihi", 3, 1, 1, -1, 2**31 - 1)

    async def scenario():
        for listener in (SASL, KNOWN):
            async with running(guarded().core, listener=listener) as one:
                client = await one.connect()
                tracemalloc.start()
                client.send(metadata)
                assert await client.ended() == b""
                _, peak_bytes = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert peak_bytes < 10_000_000

    run(scenario())
