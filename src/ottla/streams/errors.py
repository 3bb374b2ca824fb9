"""What goes wrong in a streams application, each with its place and the next step."""

from ottla.ports.errors import DataDamaged, InvariantBroken, StorageFailed
from ottla.ports.failpoints import FailpointHit

# Never the fault of one record: these stop the work whatever the policy for bad records is.
NOT_THE_RECORD = (DataDamaged, InvariantBroken, StorageFailed, FailpointHit, MemoryError)


class StreamsError(Exception):
    """A streams application cannot go on. The text says where, why and what to do."""


class TopologyError(StreamsError):
    """The topology as written cannot run: a missing name, a name used twice, a clash of types."""


class StepFailed(StreamsError):  # noqa: N818 - says what happened
    """User code or a serde failed on one record.

    Attributes: `step` (name of the step), `topic`, `partition`, `offset` (of the record, or of
    the record whose time closed the window that failed). The cause is the original exception.
    """

    def __init__(self, step: str, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"step {step!r} failed on {topic}-{partition} at offset {offset}: {reason}. Nothing of "
            "this transaction was committed. Correct the step and start again, or let the "
            'application go on with App(..., errors="dead_letter")'
        )
        self.step = step
        self.topic = topic
        self.partition = partition
        self.offset = offset


class StateInUse(StreamsError):  # noqa: N818
    """Another process holds the state directory."""


class StateMismatch(StreamsError):  # noqa: N818
    """The state on disk does not belong to this topology, or to this cluster."""
