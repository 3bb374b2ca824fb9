"""A connection answers in the order of its requests, holds a bounded amount, and fails alone."""

import asyncio
import logging
import re
import socket
import struct

import pytest

from ottla.ports.limits import IN_FLIGHT_REQUESTS_MAX
from ottla.server import connection, server
from ottla.server.listener import ConnectionLimits
from tests.unit.server.core import Core, framed, running


def numbered(word: bytes, count: int) -> list[bytes]:
    return [b"%s %d" % (word, number) for number in range(count)]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_replies_leave_in_the_order_of_the_requests(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(b"later a", b"now b", b"later c", b"now d")
            await one.until(lambda: len(one.core.seen) == 4)
            one.core.later[b"c"]()
            one.server.settle()
            client.send(b"now e")
            await one.until(lambda: len(one.core.seen) == 5)
            one.core.later[b"a"]()
            one.server.settle()
            assert await client.receive(5) == [b"a", b"b", b"c", b"d", b"e"]

    run(scenario())


def test_a_request_without_an_answer_holds_nobody_up(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(b"silent a", b"now b", b"silent c", b"silent d", b"now e")
            assert await client.receive(2) == [b"b", b"e"]

    run(scenario())


def test_who_has_used_more_than_its_quota_is_answered_and_then_waits(run):
    async def scenario():
        async with running(Core()) as one:
            client, other = await one.connect(), await one.connect()
            client.send(b"mute a", b"now b")
            assert await client.receive() == [b"a"]
            assert one.core.seen == [b"a"]
            other.send(b"now c")
            assert await other.receive() == [b"c"]
            assert await client.receive() == [b"b"]
            assert one.core.clock.monotonic_ms() >= one.core.muted_until_ms

    run(scenario())


def test_connections_do_not_wait_for_each_other(run):
    async def scenario():
        async with running(Core()) as one:
            first, second = await one.connect(), await one.connect()
            first.send(b"later a")
            await one.until(lambda: one.core.later)
            second.send(b"now b")
            assert await second.receive() == [b"b"]

    run(scenario())


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
def test_frames_may_come_in_any_pieces(run, piece_bytes):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            stream = b"".join(map(framed, numbered(b"now", 40)))
            for at in range(0, len(stream), piece_bytes):
                client.writer.write(stream[at : at + piece_bytes])
                await client.writer.drain()
            assert await client.receive(40) == numbers(40)

    run(scenario())


def test_rubbish_closes_only_its_connection_and_says_so(run, caplog):
    async def scenario():
        async with running(Core()) as one:
            good, bad = await one.connect(), await one.connect()
            host, port = bad.writer.get_extra_info("sockname")
            bad.send(b"garbage")
            assert await bad.ended() == b""
            good.send(b"now a")
            assert await good.receive() == [b"a"]
            assert (
                f"closed the connection of {host}:{port}: this is not the protocol" in caplog.text
            )
            assert len(one.core.open) == 1

    with caplog.at_level(logging.WARNING):
        run(scenario())


@pytest.mark.parametrize("size", [-1, 2**31 - 1, 0x47455420])
def test_a_size_that_cannot_be_closes_the_connection(run, size, caplog):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.writer.write(struct.pack(">i", size) + b"rest")
            assert await client.ended() == b""
            assert one.core.seen == []
            assert one.server.held_bytes == 0

    run(scenario())
    assert f"a frame of {size} bytes" in caplog.text


def test_requests_in_flight_are_bounded_by_number(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(*numbered(b"later", 350))
            await one.until(lambda: len(one.core.seen) >= IN_FLIGHT_REQUESTS_MAX)
            client.send(b"now last")
            (await one.connect()).send(b"now other")
            await one.until(lambda: b"other" in one.core.seen)
            assert len(one.core.seen) == IN_FLIGHT_REQUESTS_MAX + 1
            for number in range(350):
                await one.until(lambda number=number: b"%d" % number in one.core.later)
                one.core.later[b"%d" % number]()
                one.server.settle()
            assert await client.receive(351) == [*numbers(350), b"last"]

    run(scenario())


def test_requests_in_flight_are_bounded_by_their_size(run, monkeypatch):
    monkeypatch.setattr(connection, "IN_FLIGHT_BYTES_MAX", 1_000)

    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            texts = [b"%d" % number + b"x" * 600 for number in range(4)]
            client.send(*(b"later " + text for text in texts))
            await one.until(lambda: len(one.core.seen) == 2)
            (await one.connect()).send(b"now other")
            await one.until(lambda: b"other" in one.core.seen)
            assert len(one.core.seen) == 3
            for text in texts:
                await one.until(lambda text=text: text in one.core.later)
                one.core.later[text]()
                one.server.settle()
            assert await client.receive(4) == texts

    run(scenario())


def test_who_does_not_read_is_not_served(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect(limit=1_000)
            client.send(*[b"big 1000000"] * 60)
            await one.until(lambda: one.core.seen)
            (await one.connect()).send(b"now other")
            await one.until(lambda: b"other" in one.core.seen)
            assert len(one.core.seen) < 20
            replies = await client.receive(60)
            assert {len(reply) for reply in replies} == {1_000_000}

    run(scenario())


def test_who_asks_for_more_than_it_reads_is_cut_off(run, monkeypatch, caplog):
    monkeypatch.setattr(connection, "UNSENT_BYTES_MAX", 20_000_000)

    async def scenario():
        async with running(Core()) as one:
            client = await one.connect(limit=1_000)
            client.send(b"big 90000000", b"now never")
            await client.ended()
            assert b"never" not in one.core.seen

    run(scenario())
    assert "asks for more than it reads" in caplog.text


def test_all_requests_together_are_bounded(run, monkeypatch, caplog):
    monkeypatch.setattr(connection, "HELD_BYTES_MAX", 10_000)

    async def scenario():
        async with running(Core()) as one:
            first, second = await one.connect(), await one.connect()
            first.writer.write(struct.pack(">i", 50_000) + b"x" * 6_000)
            await one.until(lambda: one.server.held_bytes >= 6_000)
            second.writer.write(struct.pack(">i", 50_000) + b"x" * 6_000)
            assert await second.ended() == b""
            await one.until(lambda: one.server.held_bytes == 6_004)
            await first.close()
            await one.until(lambda: one.server.held_bytes == 0)

    run(scenario())
    assert "hold more than 10000 bytes" in caplog.text


def test_what_was_answered_is_no_longer_held(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(b"later a", b"now b")
            await one.until(lambda: len(one.core.seen) == 2)
            assert one.server.held_bytes == len(b"later anow b")
            one.core.later[b"a"]()
            one.server.settle()
            await client.receive(2)
            assert one.server.held_bytes == 0

    run(scenario())


def test_a_client_that_vanished_is_forgotten_and_its_answers_with_it(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(b"later a", b"later b")
            await one.until(lambda: len(one.core.later) == 2)
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
            await one.until(lambda: not one.core.open)
            one.core.later[b"a"]()
            one.server.settle()
            other = await one.connect()
            other.send(b"now c")
            assert await other.receive() == [b"c"]

    run(scenario())


def test_a_client_that_has_sent_its_last_is_closed(run):
    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            client.send(b"now a")
            assert await client.receive() == [b"a"]
            client.writer.write_eof()
            assert await client.ended() == b""
            await one.until(lambda: not one.core.open)

    run(scenario())


@pytest.mark.parametrize("limits", [ConnectionLimits(total=2), ConnectionLimits(per_ip=2)])
def test_connections_are_bounded_in_number(run, limits, caplog):
    async def scenario():
        async with running(Core(), limits=limits) as one:
            first, second, third = [await one.connect() for _ in range(3)]
            assert await third.ended() == b""
            await first.close()
            await one.until(lambda: len(one.core.open) == 1)
            fourth = await one.connect()
            for client in (second, fourth):
                client.send(b"now a")
                assert await client.receive() == [b"a"]

    run(scenario())
    assert re.search("2 connections.* are open, and that is the limit", caplog.text)


def test_idle_connections_are_closed_and_waiting_ones_are_not(run, monkeypatch):
    monkeypatch.setattr(server, "_SWEEP_S", 0.02)
    monkeypatch.setattr(server, "CONNECTION_IDLE_MS_MAX", 50)

    async def scenario():
        async with running(Core()) as one:
            idle, waiting = await one.connect(), await one.connect()
            waiting.send(b"later a")
            assert await idle.ended() == b""
            one.core.later[b"a"]()
            one.server.settle()
            assert await waiting.receive() == [b"a"]

    run(scenario())


def test_a_young_connection_is_not_idle(run, monkeypatch):
    monkeypatch.setattr(server, "_SWEEP_S", 0.01)

    async def scenario():
        async with running(Core()) as one:
            client = await one.connect()
            await asyncio.sleep(0.05)
            client.send(b"now a")
            assert await client.receive() == [b"a"]

    run(scenario())
