"""P1, P2, P3: the power goes at every moment of a broker's life; what was acknowledged is there.

Method: the script of `workload` runs once to see the state after each step. Then it runs once for
every moment at which its disk changes (before and after each write, sync, rename, removal, ...),
and the power goes there. The disk comes back with what was not synced dropped, kept, torn or
scattered. The recovered state must be the one after the last acknowledged step, or the one after
the step under way, and nothing else: half a transaction is neither. Then the step is sent again, as
a client does, the script goes on, and must end where it ends without a power cut.

Recovery is cut at each of its own moments too, and the next recovery must reach the same state.
"""

import contextlib
import os
import random
from typing import Any, NamedTuple

import pytest

from ottla.ports.clock import SimulatedClock
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import (
    POLICIES,
    PowerCut,
    PowerCutPolicy,
    SimulatedDisk,
    power_cut_at,
)
from tests.crash.workload import CONFIG, Script, observe

SOAK = bool(os.environ.get("OTTLA_SOAK"))


def open_broker(disk: SimulatedDisk) -> InProcessBroker:
    return InProcessBroker(disk, SimulatedClock(), CONFIG)


def states_of_the_script() -> tuple[list[dict[str, Any]], int]:
    """The state after each step (the first: before any), and how many moments it all takes."""
    disk = SimulatedDisk()
    broker = open_broker(disk)
    broker.sync()
    states = [observe(broker)]
    script = Script()
    client = broker.connect()
    for step in script.steps:
        script.run_step(client, step)
        broker.sync()
        states.append(observe(broker))
    broker.core.close()
    return states, disk.moments


STATES, MOMENTS = states_of_the_script()


class Life(NamedTuple):
    """A script up to a power cut: the steps handed in, and those that must have survived."""

    script: Script
    sent: int
    durable: int

    @property
    def allowed(self) -> list[dict[str, Any]]:
        return STATES[self.durable : self.sent + 1]


def run_until_power_cut(disk: SimulatedDisk) -> Life:
    """The script until the power goes. An answer counts at once, whatever is synced after it."""
    script = Script()
    sent = durable = 0
    with contextlib.suppress(PowerCut):
        broker = open_broker(disk)
        broker.sync()
        client = broker.connect()
        for step in script.steps:
            message = step.message()
            sent += 1
            pending = client.send(message, step.version)
            if pending.answered and step.answered_when_durable:
                durable = sent
            broker.sync()
            assert pending.response is not None, step.name
            script.learn(step, message, pending.response)
            if step.answered_when_durable:
                durable = sent
        broker.core.close()
    return Life(script, sent, durable)


def test_the_script_is_long_enough_to_mean_something() -> None:
    assert len(STATES) > 40
    assert MOMENTS > 300
    final = STATES[-1]
    assert final["orders-0"]["committed"] != final["orders-0"]["records"]
    assert final["orders-0"]["last stable offset"] < final["orders-0"]["high watermark"] or (
        final["payments-0"]["last stable offset"] < final["payments-0"]["high watermark"]
    )


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: f"{one.writes.name}-{one.names.name}")
def test_what_was_acknowledged_survives_a_power_cut_at_every_moment(policy: PowerCutPolicy) -> None:
    for moment in range(1, MOMENTS + 1):
        check_power_cut(moment, policy)


def check_power_cut(moment: int, policy: PowerCutPolicy) -> None:
    """Cut the power at the moment, recover, look, and go on to the end."""
    disk = SimulatedDisk(power_cut_at(moment))
    life = run_until_power_cut(disk)
    recovered = open_broker(disk.after_power_cut(policy, random.Random(moment)))
    recovered.sync()
    state = observe(recovered)
    assert state in life.allowed, (moment, life.sent, life.script.steps[life.sent - 1].name)
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


def test_recovery_can_be_cut_at_each_of_its_own_moments() -> None:
    rng = random.Random(7)
    stops = range(1, MOMENTS + 1) if SOAK else rng.sample(range(1, MOMENTS + 1), 40)
    for moment in stops:
        disk = SimulatedDisk(power_cut_at(moment))
        run_until_power_cut(disk)
        policy = rng.choice(POLICIES)
        expected = _state_after(disk, policy, moment)
        cut = 0
        while True:
            cut += 1
            again = disk.after_power_cut(policy, random.Random(moment))
            again.hook = power_cut_at(cut)
            try:
                open_broker(again)
            except PowerCut:
                twice = again.after_power_cut(rng.choice(POLICIES), random.Random(cut))
                broker = open_broker(twice)
                broker.sync()
                assert observe(broker) == expected, (moment, cut)
                continue
            break
        assert cut > 3


def _state_after(disk: SimulatedDisk, policy: PowerCutPolicy, seed: int) -> dict[str, Any]:
    broker = open_broker(disk.after_power_cut(policy, random.Random(seed)))
    broker.sync()
    return observe(broker)
