"""For tests of what is built on Ottla: names that are loaded when they are first used.

`TopologyTestDriver` runs a stream application without a broker, `InProcessBroker` is a broker's
core with a clock and a disk (`SimulatedDisk`) that do what a test says. The pytest fixture
`ottla_broker`, a real broker in a process of its own, needs no import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.streams.testing import TopologyTestDriver as TopologyTestDriver
    from ottla.testing.in_process import InProcessBroker as InProcessBroker
    from ottla.testing.simulated_disk import SimulatedDisk as SimulatedDisk

_HOMES = {
    "InProcessBroker": "ottla.testing.in_process",
    "SimulatedDisk": "ottla.testing.simulated_disk",
    "TopologyTestDriver": "ottla.streams.testing",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ottla.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
