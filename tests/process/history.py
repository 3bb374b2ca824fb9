"""What was written and what was read, and the anomalies between the two.

Producers note their transactions with the outcome that they know of, consumers what they saw in the
order in which they saw it. Values are unique in a history. The checker knows nothing of the broker:
it judges from the two ends only, by the rules of Jepsen's Kafka workload as far as they apply to a
log without cycles of reads and writes:

- an outcome is UNKNOWN when the commit was tried and its answer did not come. Such a transaction
  must have been committed if any of its values was read; then all of them must be there;
- a COMMITTED value that a complete reading has not seen is lost; an ABORTED one that anybody has
  seen is an aborted read; a value that nobody wrote is made up;
- a value at two places is a duplicate; two values at one place are inconsistent offsets;
- the values of one producer in one partition are in the order of its sending;
- one consumer sees a partition's offsets rise, and passes over no record that another one has seen.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

Partition = tuple[str, int]


class Outcome(Enum):
    """What a producer knows of its transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class Write(NamedTuple):
    """A record that was sent."""

    partition: Partition
    value: str


class Seen(NamedTuple):
    """A record that was read."""

    partition: Partition
    offset: int
    value: str


@dataclass
class Transaction:
    """Records that stand or fall together; a record of a plain producer is one of its own."""

    process: str
    writes: list[Write]
    outcome: Outcome = Outcome.UNKNOWN


@dataclass
class Reading:
    """What one consumer saw from one beginning on. A complete one has read all there is."""

    process: str
    seen: list[Seen] = field(default_factory=list)
    complete: bool = False


class Anomaly(NamedTuple):
    """Something that must not be."""

    kind: str
    text: str


@dataclass
class History:
    """Transactions of each process in the order in which it made them, and all readings."""

    transactions: list[Transaction] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def check(self) -> list[Anomaly]:
        """All anomalies; an empty list is what a correct broker gives."""
        return [
            *self._places(),
            *self._outcomes(),
            *self._writing_order(),
            *self._reading_order(),
        ]

    def _values_at(self) -> dict[tuple[Partition, int], set[str]]:
        found: dict[tuple[Partition, int], set[str]] = defaultdict(set)
        for reading in self.readings:
            for seen in reading.seen:
                found[seen.partition, seen.offset].add(seen.value)
        return found

    def _places_of(self) -> dict[str, set[tuple[Partition, int]]]:
        found: dict[str, set[tuple[Partition, int]]] = defaultdict(set)
        for place, values in self._values_at().items():
            for value in values:
                found[value].add(place)
        return found

    def _places(self) -> Iterator[Anomaly]:
        for place, values in self._values_at().items():
            if len(values) > 1:
                yield Anomaly("inconsistent offset", f"{place} holds {sorted(values)}")
        written = {write for t in self.transactions for write in t.writes}
        values_written = {write.value for write in written}
        for value, places in self._places_of().items():
            if len(places) > 1:
                yield Anomaly("duplicate", f"{value} is at {sorted(places)}")
            for partition, offset in places:
                if value not in values_written:
                    yield Anomaly("made up", f"{value} at {partition} {offset}")
                elif Write(partition, value) not in written:
                    yield Anomaly("misplaced", f"{value} is in {partition}")

    def _outcomes(self) -> Iterator[Anomaly]:
        seen_by_anyone = set(self._places_of())
        complete = [
            {seen.value for seen in reading.seen} for reading in self.readings if reading.complete
        ]
        for transaction in self.transactions:
            values = [write.value for write in transaction.writes]
            read = [value for value in values if value in seen_by_anyone]
            if transaction.outcome is Outcome.ABORTED:
                for value in read:
                    yield Anomaly("aborted read", f"{value} of {transaction.process}")
                continue
            if transaction.outcome is Outcome.UNKNOWN and not read:
                continue
            for values_read in complete:
                lost = [value for value in values if value not in values_read]
                if lost and len(lost) < len(values):
                    yield Anomaly("torn", f"{lost} of {values} by {transaction.process}")
                elif lost:
                    yield Anomaly("lost", f"{lost} by {transaction.process}")

    def _writing_order(self) -> Iterator[Anomaly]:
        places_of = self._places_of()
        last: dict[tuple[str, Partition], tuple[int, str]] = {}
        for transaction in self.transactions:
            for partition, value in transaction.writes:
                offsets = [at for where, at in places_of.get(value, ()) if where == partition]
                if not offsets:
                    continue
                key = (transaction.process, partition)
                before = last.get(key)
                if before is not None and before[0] > min(offsets):
                    yield Anomaly("order", f"{value} is before {before[1]} in {partition}")
                last[key] = (min(offsets), value)

    def _reading_order(self) -> Iterator[Anomaly]:
        known: dict[Partition, list[int]] = defaultdict(list)
        for partition, offset in sorted(self._values_at()):
            known[partition].append(offset)
        rank = {
            partition: {offset: index for index, offset in enumerate(offsets)}
            for partition, offsets in known.items()
        }
        for reading in self.readings:
            offsets_seen: dict[Partition, list[int]] = defaultdict(list)
            for seen in reading.seen:
                offsets_seen[seen.partition].append(seen.offset)
            for partition, offsets in offsets_seen.items():
                for before, after in pairwise(offsets):
                    step = rank[partition][after] - rank[partition][before]
                    where = f"{reading.process} went from {before} to {after} in {partition}"
                    if step < 1:
                        yield Anomaly("step back", where)
                    elif step > 1:
                        yield Anomaly("skip", where)
