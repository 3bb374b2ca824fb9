"""Streams: applications that read, compute with state, and write, exactly once.

`app` is where to begin; `dsl` is the language; `topology` what it says; `compiler` makes loops of
it; `task`, `state`, `commit` are the guarantee; `worker` is the life of a process.
"""

from ottla.streams.aggregations import Aggregation, Count, Max, Mean, Min, Sum
from ottla.streams.app import App
from ottla.streams.errors import (
    StateInUse,
    StateMismatch,
    StepFailed,
    StreamsError,
    TopologyError,
)
from ottla.streams.serdes import Serde
from ottla.streams.windows import Hopping, Tumbling, Windowed

__all__ = [
    "Aggregation",
    "App",
    "Count",
    "Hopping",
    "Max",
    "Mean",
    "Min",
    "Serde",
    "StateInUse",
    "StateMismatch",
    "StepFailed",
    "StreamsError",
    "Sum",
    "TopologyError",
    "Tumbling",
    "Windowed",
]
