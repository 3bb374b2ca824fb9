"""P1, P2, P3: a broker ends at every moment of its life; what was acknowledged is there.

Method: the script of `workload` runs once to see the state after each step. Then it runs once for
every moment at which its disk changes (before and after each write, sync, rename, removal, ...),
and ends there, in one of two ways.

The process is killed: what was written to the files stays. The recovered state must be the one
after the last answered step, or the one after the step under way, and nothing else: half a
transaction is neither. Then the step is sent again, as a client does, the script goes on, and must
end where it ends without a kill.

The power goes: the disk comes back with what was not synced dropped, kept, torn or scattered. What
an open transaction wrote may be gone, though it was answered. So all that is open is aborted: the
recovered state must be one of those above after such an abort, or an earlier one as long as nothing
but writes of open transactions lies between. No client may commit what it had written before the
cut, and a new instance of each goes on.

Recovery is cut at each of its own moments too, and the next recovery must reach the same state.
"""

import contextlib
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from ottla.ports.clock import SimulatedClock
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import (
    POLICIES,
    PowerCut,
    PowerCutPolicy,
    SimulatedDisk,
    power_cut_at,
)
from ottla.testing.unsynced import Fate
from ottla.wire.message import Message
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import ProduceRequest
from ottla.wire.messages.txn_offset_commit import TxnOffsetCommitRequest
from tests.crash.workload import CONFIG, Producer, Script, Step, observe

SOAK = bool(os.environ.get("OTTLA_SOAK"))


KILL = PowerCutPolicy(Fate.KEPT, Fate.KEPT)


def open_broker(disk: SimulatedDisk, *, boot_id: str = "") -> InProcessBroker:
    """A broker on the disk; without a boot id the power may have gone since the last one."""
    return InProcessBroker(disk, SimulatedClock(), replace(CONFIG, boot_id=boot_id))


def states_of_the_script() -> list[dict[str, Any]]:
    """The state after each step; the first is the one before any."""
    broker = open_broker(SimulatedDisk())
    broker.sync()
    states = [observe(broker)]
    script = Script()
    client = broker.connect()
    for step in script.steps:
        script.run_step(client, step)
        broker.sync()
        states.append(observe(broker))
    return states


def states_after_a_power_cut() -> list[dict[str, Any]]:
    """The state after each step, with a recovery that cannot know whether something is missing."""
    states = []
    for count in range(len(STATES)):
        disk = SimulatedDisk()
        broker = open_broker(disk)
        script, client = Script(), broker.connect()
        for step in script.steps[:count]:
            script.run_step(client, step)
        broker.sync()
        recovered = open_broker(disk.after_power_cut(KILL, random.Random(0)))
        recovered.sync()
        states.append(observe(recovered))
    return states


class Life(NamedTuple):
    """A script up to its end: the steps handed in, those answered, those that must be durable."""

    script: Script
    sent: int
    answered: int
    durable: int

    @property
    def name(self) -> str:
        return self.script.steps[max(self.sent - 1, 0)].name


def run_until_the_end(disk: SimulatedDisk) -> Life:
    """The script until the disk stops. An answer counts at once, whatever is synced after it."""
    script = Script()
    sent = answered = durable = 0
    with contextlib.suppress(PowerCut):
        broker = open_broker(disk, boot_id="one")
        broker.settle()
        client = broker.connect()
        for step in script.steps:
            message = step.message()
            sent += 1
            pending = client.send(message, step.version)
            if pending.answered:
                answered = sent
            broker.settle()
            assert pending.response is not None, step.name
            script.learn(step, message, pending.response)
            answered = sent
            if not _writes_in_a_transaction(message):
                durable = sent
        broker.core.close()
    return Life(script, sent, answered, durable)


def _writes_in_a_transaction(message: Message) -> bool:
    """Its answer does not promise that the disk has it."""
    return isinstance(message, TxnOffsetCommitRequest) or (
        isinstance(message, ProduceRequest) and message.transactional_id is not None
    )


def moments_of_the_script() -> int:
    disk = SimulatedDisk()
    run_until_the_end(disk)
    return disk.moments


STATES = states_of_the_script()
STATES_AFTER_A_POWER_CUT = states_after_a_power_cut()
MOMENTS = moments_of_the_script()


def test_the_script_is_long_enough_to_mean_something() -> None:
    assert len(STATES) > 40
    assert MOMENTS > 300
    final = STATES[-1]
    assert final["orders-0"]["committed"] != final["orders-0"]["records"]
    assert final["orders-0"]["last stable offset"] < final["orders-0"]["high watermark"] or (
        final["payments-0"]["last stable offset"] < final["payments-0"]["high watermark"]
    )


def test_what_was_acknowledged_survives_a_kill_at_every_moment() -> None:
    for moment in range(1, MOMENTS + 1):
        check_kill(moment)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: f"{one.writes.name}-{one.names.name}")
def test_what_was_acknowledged_survives_a_power_cut_at_every_moment(policy: PowerCutPolicy) -> None:
    for moment in range(1, MOMENTS + 1):
        check_power_cut(moment, policy)


def check_kill(moment: int) -> None:
    """Kill at the moment, recover, look, and go on to the end."""
    disk = SimulatedDisk(power_cut_at(moment))
    life = run_until_the_end(disk)
    recovered = open_broker(disk.after_power_cut(KILL, random.Random(moment)), boot_id="one")
    recovered.sync()
    state = observe(recovered)
    assert state in STATES[life.answered : life.sent + 1], (moment, life.name)
    _finish(recovered, life, STATES.index(state))


def _finish(broker: InProcessBroker, life: Life, done: int) -> None:
    """Send the step under way again and go on to the end, which must be the usual one."""
    rest = life.script.steps[min(max(life.sent - 1, 0), done) :]
    if any(not step.retriable for step in rest):
        return  # a new producer id or epoch: the end is right but differs in its numbers
    client = broker.connect()
    for step in rest:
        life.script.run_step(client, step)
    broker.sync()
    assert observe(broker) == STATES[-1]


def check_power_cut(moment: int, policy: PowerCutPolicy) -> None:
    """Cut the power at the moment, recover, look, and let the clients find out."""
    disk = SimulatedDisk(power_cut_at(moment))
    life = run_until_the_end(disk)
    recovered = open_broker(disk.after_power_cut(policy, random.Random(moment)), boot_id="two")
    recovered.sync()
    state = observe(recovered)
    if life.answered == len(life.script.steps) and state == STATES[-1]:
        return  # it was closed in good order: nothing is missing, and nobody need be shut out
    assert state in STATES_AFTER_A_POWER_CUT[life.durable : life.sent + 1], (moment, life.name)
    client = recovered.connect()
    under_way = life.script.steps[life.sent - 1].message() if life.sent > life.answered else None
    for producer, version in ((life.script.first, 3), (life.script.second, 5)):
        ends_now = getattr(under_way, "transactional_id", None) == producer.transactional_id
        if producer.has_written and not (
            ends_now and isinstance(under_way, EndTxnRequest | InitProducerIdRequest)
        ):
            _cannot_commit(client, producer, version)
    if recovered.core.catalog.topic("orders") is not None:
        _a_new_instance_goes_on(recovered)


def _cannot_commit(client: InProcessClient, producer: Producer, version: int) -> None:
    """What it was told is written may be gone: neither a commit nor one more batch may succeed."""
    name = producer.transactional_id or ""
    produced: Any = client.request(
        Producer(name, producer.producer_id, producer.epoch).produce("orders", {1: ["late"]}),
        9 if version < 5 else 12,
    )
    assert produced.responses[0].partition_responses[0].error_code != 0, producer
    end = EndTxnRequest(name, producer.producer_id, producer.epoch, committed=True)
    ended: Any = client.request(end, version)
    assert ended.error_code != 0, producer


def _a_new_instance_goes_on(broker: InProcessBroker) -> None:
    """Everything proceeds: nothing is left open, and a transaction of a new instance is seen."""
    client, script = broker.connect(), Script()
    script.run_step(client, Step("init", lambda: InitProducerIdRequest("reports", 60_000), 4))
    producer = script.second
    produced: Any = client.request(producer.produce("orders", {0: ["new"]}), 12)
    assert produced.responses[0].partition_responses[0].error_code == 0
    end = EndTxnRequest("reports", producer.producer_id, producer.epoch, committed=True)
    ended: Any = client.request(end, 5)
    assert ended.error_code == 0
    broker.sync()
    for topic in broker.core.catalog.topics():
        for partition in topic.partitions:
            assert partition.last_stable_offset == partition.high_watermark


@pytest.mark.parametrize("power_goes", [False, True], ids=["killed", "power cut"])
def test_recovery_can_be_cut_at_each_of_its_own_moments(power_goes: bool) -> None:
    rng = random.Random(7)
    stops = range(1, MOMENTS + 1) if SOAK else rng.sample(range(1, MOMENTS + 1), 25)
    for moment in stops:
        disk = SimulatedDisk(power_cut_at(moment))
        run_until_the_end(disk)
        policy = rng.choice(POLICIES)
        boot_ids = ("two", "three", "four") if power_goes else ("one", "one", "one")
        allowed = _states_after(disk.after_power_cut(policy, random.Random(moment)), boot_ids)
        cut = 0
        while True:
            cut += 1
            again = disk.after_power_cut(policy, random.Random(moment))
            again.hook = power_cut_at(cut)
            try:
                open_broker(again, boot_id=boot_ids[0]).sync()
            except PowerCut:
                twice = again.after_power_cut(rng.choice(POLICIES), random.Random(cut))
                assert _state_after(twice, boot_ids[1]) in allowed, (moment, cut)
                continue
            break
        assert cut > 3


def _states_after(disk: SimulatedDisk, boot_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a recovery may find that follows 0, 1, 2, ... others: each can raise the epochs."""
    states = []
    for boot_id in boot_ids:
        states.append(_state_after(disk, boot_id))
        disk = disk.after_power_cut(KILL, random.Random(0))
    return states


def _state_after(disk: SimulatedDisk, boot_id: str) -> dict[str, Any]:
    broker = open_broker(disk, boot_id=boot_id)
    broker.sync()
    return observe(broker)
