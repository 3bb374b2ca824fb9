"""Transactions under everything at once, against a naive model and against what must never be.

Several transactional.ids, each with clients of both protocol versions, zombies with any identity
that was ever given, retries, time-outs, expiry, and a crash at any moment that loses what was not
synced. After every step the coordinator is compared with the model (`transactions_book`), and with
itself rebuilt from its records and from a snapshot.

Beside the model there is a `World`: what partitions and groups would hold. It knows neither the
coordinator nor the model, and keeps the promises by itself: no transaction gets a second marker in
a partition, its outcome is the same everywhere, for offsets too, nothing is written below a fence,
epochs never fall, a producer id belongs to one producer for good, and nothing stays open.
"""

import copy
import os
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import replace

from ottla.coordinator.records import (
    CoordinatorRecord,
    MarkerRecord,
    OffsetsEnded,
    TransactionalIdExpired,
    TransactionRecord,
)
from ottla.coordinator.transaction_states import TransactionState
from ottla.coordinator.transactions import TransactionCoordinator
from tests.properties.transactions_book import NEVER, OK, Book, Partition, Producer

NAMES = ["x", "y"]
PARTITIONS: list[Partition] = [("t", 0), ("t", 1), ("u", 0)]
GROUPS = ["g", "h"]
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Written:
    """Data or an offset that was accepted: `transaction` says what it belongs to."""

    place: Partition | str
    producer: Producer
    transaction: tuple[str, int]


Entry = CoordinatorRecord | Written
Frame = list[Entry]


@dataclass
class World:
    """What the frames of the journal did to partitions and groups."""

    epochs: dict[tuple[Partition, int], int] = field(default_factory=dict)
    open: dict[tuple[Partition | str, int], list[Written]] = field(default_factory=dict)
    outcomes: dict[tuple[str, int], set[bool]] = field(default_factory=dict)
    marked: set[tuple[Partition, tuple[str, int]]] = field(default_factory=set)
    highest: dict[int, int] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)

    def take(self, frame: Frame) -> None:
        ends = [each for each in frame if isinstance(each, MarkerRecord | OffsetsEnded)]
        for entry in frame:
            if isinstance(entry, Written):
                self._write(entry)
            elif isinstance(entry, MarkerRecord):
                self._mark(entry)
            elif isinstance(entry, OffsetsEnded):
                for group in entry.group_ids:
                    self._end((group, entry.producer_id), entry.commit)
            elif isinstance(entry, TransactionRecord):
                self._raise(entry)
                self.ended[entry.transactional_id] += entry.state != TransactionState.ONGOING
                commit = entry.state == TransactionState.COMPLETE_COMMIT
                assert all(each.commit == commit for each in ends), "one result in one frame"

    def _write(self, entry: Written) -> None:
        producer_id, epoch = entry.producer
        if not isinstance(entry.place, str):
            key = (entry.place, producer_id)
            assert epoch >= self.epochs.get(key, -1), "a fenced producer has written"
            self.epochs[key] = epoch
        self.open.setdefault((entry.place, producer_id), []).append(entry)

    def _mark(self, marker: MarkerRecord) -> None:
        partition = (marker.topic, marker.partition)
        key = (partition, marker.producer_id)
        epoch = self.epochs.get(key, -1)
        if marker.transaction_version >= 2:
            assert marker.producer_epoch > epoch, "a version 2 marker fences what it ends"
        assert marker.producer_epoch >= epoch
        self.epochs[key] = marker.producer_epoch
        for transaction in self._end(key, marker.commit):
            assert (partition, transaction) not in self.marked, "a second marker"
            self.marked.add((partition, transaction))

    def _end(self, key: tuple[Partition | str, int], commit: bool) -> set[tuple[str, int]]:
        ended = {entry.transaction for entry in self.open.pop(key, [])}
        assert len(ended) <= 1, "one marker ended two transactions"
        for transaction in ended:
            self.outcomes.setdefault(transaction, set()).add(commit)
            assert len(self.outcomes[transaction]) == 1, "a torn transaction"
        return ended

    def _raise(self, record: TransactionRecord) -> None:
        producer_id, epoch = record.producer_id, record.producer_epoch
        assert epoch >= self.highest.get(producer_id, 0), "an epoch fell"
        assert epoch <= 32_766
        self.highest[producer_id] = epoch
        owner = self.owners.setdefault(producer_id, record.transactional_id)
        assert owner == record.transactional_id, "a producer id has two owners"


class TransactionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.coordinator = TransactionCoordinator()
        self.book = Book()
        self.world = World()
        self.clock = 1_000_000
        self.base: list[CoordinatorRecord] = []  # a checkpoint, and the journal after it
        self.journal: list[Frame] = []
        self.durable = 0
        self.checkpoint_world = World()
        self.books: list[Book] = [copy.deepcopy(self.book)]  # after each frame of the journal
        self.given: list[tuple[int, str, Producer]] = []  # at which frame, to whom, what
        self.fresh_ids: set[int] = set()

    # -- the broker around the coordinator ------------------------------------------------------

    def commit(self, frame: Frame) -> None:
        """Append a frame, apply it, and compare what it does with what the model did."""
        for entry in frame:
            if not isinstance(entry, MarkerRecord | OffsetsEnded | Written):
                self.coordinator.apply(entry)
        effects = [
            ("marker", (e.topic, e.partition), e.producer_id, e.producer_epoch, e.commit)
            if isinstance(e, MarkerRecord)
            else ("offsets", e.producer_id, tuple(e.group_ids), e.commit)
            for e in frame
            if isinstance(e, MarkerRecord | OffsetsEnded)
        ]
        assert effects == self.book.effects
        self.book.effects = []
        self.world.take(frame)
        self.journal.append(frame)
        self.books.append(copy.deepcopy(self.book))

    def give(self, name: str, producer: Producer) -> None:
        self.given.append((len(self.journal), name, producer))

    def transaction(self, name: str) -> tuple[str, int]:
        """The open transaction, or else the next one, by the number of those before."""
        return name, self.world.ended[name]

    def identity(self, data: st.DataObject, name: str) -> Producer:
        """Mostly the newest identity given, else an older one, one of others, or an invention."""
        known = [producer for _, owner, producer in self.given if owner == name]
        others = [producer for _, _, producer in self.given]
        kind = data.draw(st.sampled_from(["newest"] * 12 + ["before"] * 5 + ["any", "odd"]))
        if kind == "odd" or not others:
            return data.draw(st.sampled_from([(0, 0), (0, 1), (1, 0), (999, 3)]))
        if kind == "any" or not known:
            return data.draw(st.sampled_from(others))
        return known[-1] if kind == "newest" or len(known) == 1 else known[-2]

    # -- what clients do ------------------------------------------------------------------------

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        again=st.sampled_from([False, False, True]),
        timeout=st.sampled_from([60_000] * 8 + [900_000, 900_001, 0]),
        two_phase=st.sampled_from([False, False, False, True]),
        keep=st.booleans(),
    )
    def init(
        self,
        data: st.DataObject,
        name: str,
        again: bool,
        timeout: int,
        two_phase: bool,
        keep: bool,
    ) -> None:
        given = self.identity(data, name) if again else None
        outcome = self.coordinator.init_producer_id(
            name,
            timeout,
            *(given or (-1, -1)),
            self.clock,
            two_phase=two_phase,
            keep_prepared=keep,
        )
        error, producer = self.book.init(
            name, given, timeout, self.clock, two_phase=two_phase, keep=keep
        )
        assert outcome.reply == (error, *producer)
        self.commit([*outcome.records])
        if error == OK:
            self.give(name, producer)

    @rule()
    def init_without_transactions(self) -> None:
        outcome = self.coordinator.init_producer_id(None, 0, -1, -1, self.clock)
        error, producer = self.book.init(None, None, 0, self.clock)
        assert outcome.reply == (error, *producer)
        assert producer[0] not in self.fresh_ids | set(self.world.owners), "used before"
        self.fresh_ids.add(producer[0])
        self.commit([*outcome.records])

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        partitions=st.lists(st.sampled_from(PARTITIONS), min_size=1, max_size=3, unique=True),
    )
    def add_partitions(self, data: st.DataObject, name: str, partitions: list[Partition]) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.add_partitions(name, *producer, partitions, self.clock)
        assert outcome.reply == self.book.add(name, producer, partitions, [], self.clock)
        self.commit([*outcome.records])

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        partitions=st.lists(st.sampled_from(PARTITIONS), min_size=1, max_size=2, unique=True),
        version=st.sampled_from([9, 10, 11, 12, 13]),
    )
    def produce(
        self, data: st.DataObject, name: str, partitions: list[Partition], version: int
    ) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.admit_produce(name, *producer, partitions, version, self.clock)
        errors = self.book.produce(name, producer, partitions, version, self.clock)
        assert (outcome.reply or [OK] * len(partitions)) == errors
        written: Frame = [
            Written(partition, producer, self.transaction(name))
            for partition, error in zip(partitions, errors, strict=True)
            if error == OK
        ]
        self.commit([*outcome.records, *written])

    @rule(data=st.data(), name=st.sampled_from(NAMES), group=st.sampled_from(GROUPS))
    def add_offsets(self, data: st.DataObject, name: str, group: str) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.add_offsets(name, *producer, group, self.clock)
        assert outcome.reply == self.book.add(name, producer, [], [group], self.clock)
        self.commit([*outcome.records])

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        group=st.sampled_from(GROUPS),
        version=st.sampled_from([3, 4, 5]),
    )
    def commit_offsets(self, data: st.DataObject, name: str, group: str, version: int) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.admit_offset_commit(name, *producer, group, version, self.clock)
        error = self.book.offsets(name, producer, group, version, self.clock)
        assert outcome.reply == error
        written: Frame = [Written(group, producer, self.transaction(name))] if error == OK else []
        self.commit([*outcome.records, *written])

    @rule(data=st.data(), name=st.sampled_from(NAMES), commit=st.booleans())
    def end_version_1(self, data: st.DataObject, name: str, commit: bool) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.end_transaction(name, *producer, commit, 1, self.clock)
        assert outcome.reply == (self.book.end_1(name, producer, commit, self.clock), -1, -1)
        self.commit([*outcome.records])

    @rule(data=st.data(), name=st.sampled_from(NAMES), commit=st.booleans())
    def end_version_2(self, data: st.DataObject, name: str, commit: bool) -> None:
        producer = self.identity(data, name)
        outcome = self.coordinator.end_transaction(name, *producer, commit, 2, self.clock)
        error, after = self.book.end_2(name, producer, commit, self.clock)
        assert outcome.reply == (error, *after)
        self.commit([*outcome.records])
        if error == OK:
            self.give(name, after)

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        version=st.sampled_from([1, 2]),
        commit=st.booleans(),
    )
    def whole_transaction(self, data: st.DataObject, name: str, version: int, commit: bool) -> None:
        """As a good client does it: the states after it are where retries and zombies matter."""
        self.add_partitions(data, name, PARTITIONS[:2])
        self.produce(data, name, PARTITIONS[:2], 10 if version == 1 else 12)
        self.commit_offsets(data, name, "g", 5)
        if version == 1:
            self.end_version_1(data, name, commit)
        else:
            self.end_version_2(data, name, commit)

    # -- what time does -------------------------------------------------------------------------

    @rule(delta=st.sampled_from([*[0, 1, 30_000, 59_999, 60_000] * 4, 900_000, 8 * DAY_MS]))
    def time_passes(self, delta: int) -> None:
        self.clock += delta
        deadline = self.coordinator.next_deadline_ms()
        outcome = self.coordinator.on_timer(self.clock)
        assert sorted(outcome.reply) == sorted(self.book.overdue(self.clock))
        for name in outcome.reply:
            self.book.time_out(name, self.clock)
        for record in outcome.records:
            if isinstance(record, TransactionalIdExpired):
                idle_since = self.book.idle_since(record.transactional_id)
                assert idle_since is not None
                assert self.clock - idle_since >= 7 * DAY_MS
                del self.book.entries[record.transactional_id]
        for name in self.book.entries:
            idle_since = self.book.idle_since(name)
            assert idle_since is None or self.clock - idle_since <= 7 * DAY_MS + HOUR_MS + 1_000
        if outcome.records:
            assert deadline is not None
            assert deadline <= self.clock
        self.commit([*outcome.records])

    @precondition(lambda self: self.book.entries)
    @rule(data=st.data(), epoch=st.sampled_from([32_763, 32_765, 32_766]))
    def grow_old(self, data: st.DataObject, epoch: int) -> None:
        """Many InitProducerIds at once, as one record: how else would epochs run out here."""
        name = data.draw(st.sampled_from(sorted(self.book.entries)))
        entry = self.book.entries[name]
        producer_id, current = entry.now
        if entry.state == "Ongoing" or current >= epoch:
            return
        record = self.coordinator.transaction(name)
        assert record is not None
        entry.now, entry.before, entry.state = (producer_id, epoch), None, "Empty"
        entry.began = -1
        frame: Frame = [
            replace(
                record,
                producer_epoch=epoch,
                last_producer_epoch=-1,
                previous_producer_id=-1,
                state=TransactionState.EMPTY,
                start_timestamp_ms=-1,
            )
        ]
        self.commit(frame)
        self.give(name, entry.now)

    # -- what the disk does ---------------------------------------------------------------------

    @rule(checkpoint=st.booleans())
    def sync(self, checkpoint: bool) -> None:
        """All is durable; with a checkpoint a snapshot takes the journal's place."""
        self.durable = len(self.journal)
        if not checkpoint:
            return
        self.base = self.coordinator.snapshot()
        self.checkpoint_world = copy.deepcopy(self.world)
        self.given = [(0, name, producer) for _, name, producer in self.given]
        self.journal, self.durable = [], 0
        self.books = [copy.deepcopy(self.book)]

    @rule(lost=st.sampled_from([0, 0, 1, 2, 5]))
    def crash(self, lost: int) -> None:
        """Some of what was not synced is gone, and was not acknowledged; all else is as it was."""
        self.durable = max(self.durable, len(self.journal) - lost)
        del self.journal[self.durable :]
        del self.books[self.durable + 1 :]
        self.given = [each for each in self.given if each[0] <= self.durable]
        self.book = copy.deepcopy(self.books[-1])
        self.book.crash()
        self.coordinator = self.rebuilt()
        self.world = copy.deepcopy(self.checkpoint_world)
        for frame in self.journal:
            self.world.take(frame)
        # Fresh ids stay in `fresh_ids` even if their reservation was lost: not so acknowledged.
        self.fresh_ids = {each for each in self.fresh_ids if each < self.book.reserved}

    def rebuilt(self) -> TransactionCoordinator:
        coordinator = TransactionCoordinator()
        records = [entry for frame in self.journal for entry in frame]
        for record in (*self.base, *records):
            if not isinstance(record, MarkerRecord | OffsetsEnded | Written):
                coordinator.apply(record)
        return coordinator

    # -- what always holds ----------------------------------------------------------------------

    @initialize()
    def first_producers(self) -> None:
        for name in NAMES:
            outcome = self.coordinator.init_producer_id(name, 60_000, -1, -1, self.clock)
            error, producer = self.book.init(name, None, 60_000, self.clock)
            assert outcome.reply == (error, *producer)
            self.commit([*outcome.records])
            self.give(name, producer)

    @invariant()
    def the_model_agrees(self) -> None:
        records = {each.transactional_id: each for each in self.coordinator.transactions()}
        assert set(records) == set(self.book.entries)
        for name, entry in self.book.entries.items():
            record = records[name]
            assert (record.producer_id, record.producer_epoch) == entry.now
            assert record.identity_in_log == (entry.kept or entry.now)
            assert TransactionState(record.state).label == entry.state
            assert record.partitions == entry.partitions
            assert record.group_ids == entry.groups
            assert record.timeout_ms == entry.timeout
            assert record.start_timestamp_ms == entry.began
            assert record.last_update_timestamp_ms == entry.used

    @invariant()
    def what_is_open_in_the_world_is_open_in_the_coordinator(self) -> None:
        for (place, producer_id), written in self.world.open.items():
            if written:
                record = self.coordinator.transaction(written[-1].transaction[0])
                assert record is not None
                assert record.identity_in_log[0] == producer_id
                assert place in record.partitions or place in record.group_ids

    @invariant()
    def a_replay_and_a_snapshot_give_the_same(self) -> None:
        snapshot = self.coordinator.snapshot()
        replayed = self.rebuilt()
        assert replayed.snapshot() == snapshot
        loaded = TransactionCoordinator()
        for record in snapshot:
            loaded.apply(record)
        assert loaded.snapshot() == snapshot
        for entry in self.book.entries.values():
            if entry.state == "Ongoing" and entry.timeout != NEVER:
                for coordinator in (self.coordinator, replayed, loaded):
                    deadline = coordinator.next_deadline_ms()
                    assert deadline is not None
                    assert deadline <= entry.began + entry.timeout

    def teardown(self) -> None:
        """When time passes, nothing stays open but what waits for somebody else's decision."""
        self.time_passes(900_000)
        for name, entry in self.book.entries.items():
            if entry.state == "Ongoing":
                assert entry.timeout == NEVER
                outcome = self.coordinator.end_transaction(name, *entry.now, True, 2, self.clock)
                error, after = self.book.end_2(name, entry.now, True, self.clock)
                assert outcome.reply == (OK, *after) == (error, *after)
                self.commit([*outcome.records])
        for record in self.coordinator.transactions():
            assert record.state != TransactionState.ONGOING
        assert not any(self.world.open.values())
        self.the_model_agrees()


SOAK = bool(os.environ.get("OTTLA_SOAK"))
TransactionMachine.TestCase.settings = settings(
    max_examples=10_000 if SOAK else 500,
    stateful_step_count=40,
    deadline=None,
    derandomize=not SOAK,
    database=None,
)
TestTransactionMachine = TransactionMachine.TestCase
