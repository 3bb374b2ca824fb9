"""Compaction against a model: whatever was written, each key has its last committed value.

Method: random lives of one compacted topic from fixed seeds: batches of an idempotent producer,
transactions that overlap and are committed or aborted, tombstones, time, compactions, restarts
after a power cut. After each compaction and restart a read_committed consumer must make the model's
table of the log, and must come to the same from every offset that it may start at.
"""

from random import Random

import pytest

from tests.unit.log.old_data import Desk, Pair
from tests.unit.log.test_compaction import EAGER, Writer

SEEDS = range(12)
STEPS = 60


class Model:
    """What a consumer must find: key -> value, and what open transactions hold back."""

    def __init__(self) -> None:
        self.table: dict[str, str] = {}
        self.log: list[tuple[int, str, str | None]] = []
        self.open: dict[str, list[tuple[int, str, str | None]]] = {}

    def commit(self, records: list[tuple[int, str, str | None]]) -> None:
        self.log += records

    def stable(self) -> dict[str, str]:
        """The table of all that lies before the first open transaction."""
        first = min((records[0][0] for records in self.open.values() if records), default=1 << 60)
        table: dict[str, str] = {}
        for _, key, value in sorted(one for one in self.log if one[0] < first):
            table.pop(key, None)
            if value is not None:
                table[key] = value
        return table


class Life:
    """One random life."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.desk = Desk()
        self.desk.create(**EAGER, delete_retention_ms="3000")
        self.model = Model()
        self.writers = {name: Writer(self.desk, name) for name in ("left", "right")}
        self.sequence = 0
        self.counter = 0

    def pairs(self) -> list[Pair]:
        found: list[Pair] = []
        for _ in range(self.rng.randint(1, 3)):
            self.counter += 1
            value = None if self.rng.random() < 0.2 else f"v{self.counter}"
            found.append((f"k{self.rng.randrange(6)}", value))
        return found

    def plain(self) -> None:
        pairs = self.pairs()
        offset = self.desk.write(
            *pairs, producer_id=10_000, producer_epoch=0, base_sequence=self.sequence
        )
        self.sequence += len(pairs)
        self.model.commit([(offset + at, str(k), v) for at, (k, v) in enumerate(pairs)])

    def transactional(self) -> None:
        name = self.rng.choice(sorted(self.writers))
        pairs = self.pairs()
        offset = self.desk.partition.next_offset
        self.writers[name].write(pairs)
        records = [(offset + at, str(k), v) for at, (k, v) in enumerate(pairs)]
        self.model.open.setdefault(name, []).extend(records)

    def end(self) -> None:
        if self.model.open:
            name = self.rng.choice(sorted(self.model.open))
            commit = self.rng.random() < 0.6
            self.writers[name].end(commit=commit)
            records = self.model.open.pop(name)
            if commit:
                self.model.commit(records)

    def compact(self) -> None:
        self.desk.broker.advance(self.rng.choice((1_000, 2_500)))
        self.check()

    def restart(self) -> None:
        """Power cuts abort what is open; the writers begin anew, the plain producer goes on."""
        self.desk = self.desk.power_cut()
        self.model.open.clear()
        self.writers = {name: Writer(self.desk, name) for name in self.writers}
        self.check()

    def check(self) -> None:
        expected = self.model.stable()
        assert table(self.desk, 0) == expected
        partition = self.desk.partition
        whole = self.desk.records(committed=True)
        for offset in range(partition.last_stable_offset + 1):
            assert self.desk.records(committed=True, start=offset) == [
                one for one in whole if one[0] >= offset
            ]


def table(desk: Desk, start: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, key, value in desk.records(committed=True, start=start):
        found.pop(str(key), None)
        if value is not None:
            found[str(key)] = value
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_table_is_that_of_the_model(seed: int) -> None:
    life = Life(seed)
    steps = [life.plain] * 5 + [life.transactional] * 5 + [life.end] * 4 + [life.compact] * 3
    for _ in range(STEPS):
        life.rng.choice([*steps, life.restart])()
    life.compact()
    assert life.desk.partition.generation > 0
