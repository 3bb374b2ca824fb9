"""What has happened since the start, counted where it happens; nothing here is durable.

`server/metrics.py` shows it. Kept apart from the state, so that no decision can rest on it.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from ottla.log.partition import Appended
from ottla.ports.errors import ErrorCode, KafkaError

_FENCED = (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH)


class Ending(StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    TIMED_OUT = "timed out"
    TAKEN_OVER = "taken over"
    """Aborted because a new instance of its producer came."""


class Counters:
    """Counts since the start."""

    def __init__(self) -> None:
        self.duplicates = 0  # batches that were there already
        self.out_of_order = 0  # batches refused, for one before them is missing
        self.fenced = 0  # requests refused, for their producer was shut out
        self.ended: Counter[Ending] = Counter()

    def produced(self, results: Iterable[Appended | KafkaError]) -> None:
        """What became of the batches of a Produce."""
        for result in results:
            if isinstance(result, KafkaError):
                self.refused(result.code)
            elif not result.buffers:
                self.duplicates += 1

    def refused(self, error: ErrorCode) -> None:
        """A request of a producer was answered with `error`, or with NONE."""
        if error is not ErrorCode.NONE:
            self.fenced += error in _FENCED
            self.out_of_order += error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
