"""The loop around the core: one sync for all that came together, timers, and both ways to end."""

import asyncio
import logging

import pytest

from ottla.ports.errors import InvariantBroken, StorageFailed
from ottla.server import server
from tests.unit.server.core import Core, Ticket, running


@pytest.fixture
def threads(monkeypatch):
    """Every sync is given to the thread, so that a test can hold it there."""
    monkeypatch.setattr(server, "_QUICK_SYNC_S", -1.0)


def test_requests_that_arrive_together_share_a_sync(run, threads):
    async def scenario():
        async with running(Core()) as one:
            clients = [await one.connect() for _ in range(3)]
            for client in clients:
                client.send(b"durable a", b"durable b")
            for client in clients:
                assert await client.receive(2) == [b"a", b"b"]
            assert len(one.core.tickets) <= 3
            assert {ticket.thread for ticket in one.core.tickets} == {"ottla-sync"}

    run(scenario())


def test_what_arrives_during_a_sync_shares_the_next_one(run, threads):
    core = Core()
    core.prepare = lambda ticket: ticket.may_end.clear()

    async def scenario():
        async with running(core) as one:
            first, second = await one.connect(), await one.connect()
            first.send(b"durable a")
            await one.until(lambda: core.tickets)
            for text in (b"b", b"c", b"d"):
                second.send(b"durable " + text)
                await one.until(lambda text=text: text in core.seen)
            assert len(core.tickets) == 1
            core.tickets[0].may_end.set()
            assert await first.receive() == [b"a"]
            await one.until(lambda: len(core.tickets) == 2)
            second.send(b"now e")
            await one.until(lambda: b"e" in core.seen)
            core.tickets[1].may_end.set()
            assert await second.receive(4) == [b"b", b"c", b"d", b"e"]
            assert len(core.tickets) == 2

    run(scenario())


def test_a_small_request_that_is_alone_is_synced_at_once(run, monkeypatch):
    monkeypatch.setattr(server, "_QUICK_SYNC_S", 5.0)
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            for _ in range(2):
                client.send(b"durable a")
                assert await client.receive() == [b"a"]
            client.send(b"durable b", b"durable c")
            assert await client.receive(2) == [b"b", b"c"]
            client.send(b"durable " + b"x" * 20_000)
            await client.receive()
            threads = [ticket.thread for ticket in core.tickets]
            assert threads == ["MainThread", "MainThread", "ottla-sync", "ottla-sync"]

    run(scenario())


def test_a_write_is_put_off_only_while_others_share_it(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()

            for syncs, put_off in (([b"durable a"], False), ([b"durable a", b"durable b"], True)):
                client.send(*syncs)
                await client.receive(len(syncs))
                client.send(b"written c")
                assert await client.receive() == [b"c"]
                assert core.tickets[-2].was_put_off
                assert core.tickets[-1].was_put_off == put_off

    run(scenario())


def test_a_slow_disk_is_left_to_the_thread(run, monkeypatch):
    monkeypatch.setattr(server, "_QUICK_SYNC_S", 0.1)
    core = Core()
    core.prepare = lambda ticket: setattr(ticket, "lasts_s", 0.11)

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            for _ in range(3):
                client.send(b"durable a")
                assert await client.receive() == [b"a"]
            core.prepare = lambda ticket: None
            for _ in range(2):
                client.send(b"durable a")
                assert await client.receive() == [b"a"]
            threads = [ticket.thread for ticket in core.tickets]
            assert threads == ["MainThread", *["ottla-sync"] * 3, "MainThread"]

    run(scenario())


def test_what_is_only_written_needs_no_thread_and_says_nothing_of_the_disk(run, monkeypatch):
    monkeypatch.setattr(server, "_QUICK_SYNC_S", 0.1)
    core = Core()

    def prepare(ticket: Ticket) -> None:
        ticket.syncs = False
        ticket.lasts_s = 0.11

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            core.prepare = prepare
            client.send(b"durable a", b"durable b")
            assert await client.receive(2) == [b"a", b"b"]
            core.prepare = lambda ticket: None
            client.send(b"durable c")
            assert await client.receive() == [b"c"]
            assert [ticket.thread for ticket in core.tickets] == ["MainThread"] * 2

    run(scenario())


@pytest.mark.parametrize("requests", [1, 2])
def test_a_failed_sync_stops_everything_and_answers_nobody(run, requests):
    core = Core()

    def prepare(ticket: Ticket) -> None:
        ticket.error = StorageFailed("cannot sync data/journal: Input/output error")

    core.prepare = prepare

    async def scenario():
        async with running(core) as one:
            first, second = await one.connect(), await one.connect()
            second.send(b"later b")
            await one.until(lambda: core.later)
            first.send(*[b"durable a"] * requests)
            assert await first.ended() == b""
            assert await second.ended() == b""
            with pytest.raises(StorageFailed, match="data/journal"):
                await one.task
            with pytest.raises(ConnectionRefusedError):
                await one.connect()

    run(scenario())


@pytest.mark.parametrize(("word", "error"), [(b"disk", StorageFailed), (b"bug", InvariantBroken)])
def test_a_core_that_cannot_go_on_stops_everything(run, word, error):
    async def scenario():
        async with running(Core()) as one:
            first, second = await one.connect(), await one.connect()
            first.send(b"later a")
            await one.until(lambda: one.core.later)
            second.send(b"now b", word, b"now c")
            assert await first.ended() == b""
            assert await second.ended() == b""
            assert b"c" not in one.core.seen
            with pytest.raises(error):
                await one.task

    run(scenario())


def test_an_unexpected_error_stops_everything_and_is_logged(run, caplog):
    core = Core()

    def broken() -> None:
        raise ZeroDivisionError("nobody thought of it")

    core.on_timer = broken

    async def scenario():
        async with running(core) as one:
            core.deadline_ms = core.clock.monotonic_ms()
            one.server.settle()
            with pytest.raises(InvariantBroken, match="nobody thought of it"):
                await one.task

    run(scenario())
    assert "Traceback" in caplog.text


def test_trouble_of_the_operating_system_stops_nothing(run, caplog):
    async def scenario():
        async with running(Core()) as one:
            error = OSError(24, "Too many open files")
            asyncio.get_running_loop().call_exception_handler(
                {"message": "socket.accept() out of system resource", "exception": error}
            )
            client = await one.connect()
            client.send(b"now a")
            assert await client.receive() == [b"a"]

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "Too many open files" in caplog.text


def test_stop_answers_what_was_taken_in(run, threads):
    core = Core()
    core.prepare = lambda ticket: ticket.may_end.clear()

    async def scenario():
        async with running(core) as one:
            client, waiting = await one.connect(), await one.connect()
            waiting.send(b"later never")
            client.send(b"durable a")
            await one.until(lambda: core.tickets and core.later)
            client.send(b"durable b")
            await one.until(lambda: b"b" in core.seen)
            one.server.stop()
            with pytest.raises(ConnectionRefusedError):
                await one.connect()
            client.send(b"durable too-late")
            await asyncio.sleep(0.05)
            for number in (0, 1):
                await one.until(lambda number=number: len(core.tickets) > number)
                core.tickets[number].may_end.set()
            assert await client.receive(2) == [b"a", b"b"]
            assert await client.ended() == b""
            assert await waiting.ended() == b""
            await one.task
            assert b"too-late" not in core.seen
            assert core.open == []

    run(scenario())


def test_a_disk_that_fails_during_the_stop_is_still_a_failure(run, threads):
    core = Core()
    core.prepare = lambda ticket: ticket.may_end.clear()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            client.send(b"durable a")
            await one.until(lambda: core.tickets)
            one.server.stop()
            core.tickets[0].error = StorageFailed("cannot sync data/journal")
            core.tickets[0].may_end.set()
            assert await client.ended() == b""
            with pytest.raises(StorageFailed):
                await one.task

    run(scenario())


def test_stop_waits_for_a_checkpoint_and_syncs_go_on_beside_it(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            core.checkpoint_due = True
            client.send(b"durable a")
            assert await client.receive() == [b"a"]
            await one.until(lambda: core.checkpoints and core.checkpoints[0].thread)
            assert core.checkpoints[0].thread == "ottla-checkpoint"
            client.send(b"durable b")
            assert await client.receive() == [b"b"]
            assert core.checkpoints_done == 0
            one.server.stop()
            await asyncio.sleep(0.05)
            assert not one.task.done()
            core.checkpoints[0].may_end.set()
            await one.task
            assert core.checkpoints_done == 1

    run(scenario())


def test_a_compaction_runs_beside_everything_and_is_given_up_at_a_stop(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            core.housekeeping.due = True
            client.send(b"now a")
            assert await client.receive() == [b"a"]
            housekeeping = core.housekeeping
            await one.until(lambda: housekeeping.running and housekeeping.running.thread)
            assert housekeeping.running.thread == "ottla-cleaner"
            client.send(b"durable b")
            assert await client.receive() == [b"b"]
            assert housekeeping.done == []
            one.server.stop()
            await one.task
            assert housekeeping.done == [housekeeping.running]

    run(scenario())


def test_a_bug_in_a_compaction_stops_everything(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            core.housekeeping.due = True
            client.send(b"now a")
            await one.until(lambda: core.housekeeping.running)
            core.housekeeping.running.error = InvariantBroken("two segments are one")
            core.housekeeping.running.may_end.set()
            with pytest.raises(InvariantBroken, match="two segments"):
                await one.task

    run(scenario())


def test_a_failed_checkpoint_stops_everything(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            core.checkpoint_due = True
            client.send(b"durable a")
            await client.receive()
            core.checkpoints[0].error = StorageFailed("cannot rename data/checkpoint.tmp")
            core.checkpoints[0].may_end.set()
            with pytest.raises(StorageFailed, match="rename"):
                await one.task

    run(scenario())


def test_the_timer_fires_at_the_earliest_deadline(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            begun_ms = core.clock.monotonic_ms()
            core.deadline_ms = begun_ms + 60_000
            client.send(b"now a")
            await client.receive()
            core.deadline_ms = begun_ms + 100
            client.send(b"now b")
            await client.receive()
            await one.until(lambda: core.fired_ms)
            assert 100 <= core.fired_ms[0] - begun_ms < 2_000

    run(scenario())


def test_a_deadline_that_moved_away_is_met_all_the_same(run):
    core = Core()

    async def scenario():
        async with running(core) as one:
            client = await one.connect()
            begun_ms = core.clock.monotonic_ms()
            for delay_ms in (30, 120):
                core.deadline_ms = begun_ms + delay_ms
                client.send(b"now a")
                await client.receive()
            await one.until(lambda: core.fired_ms)
            assert core.fired_ms[0] - begun_ms >= 120

    run(scenario())
