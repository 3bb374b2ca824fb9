"""Transactions as the protocol describes them, in the plainest form: dicts and literal numbers.

Written from the description of Kafka's protocol (KIP-98, KIP-360, KIP-588, KIP-890, KIP-939), not
from the coordinator, and it imports nothing of it. Error codes are written as numbers. What a call
would make the broker write besides its own state is left in `effects`: ("marker", partition,
producer id, epoch, commit) and ("offsets", producer id, groups, commit).
"""

from dataclasses import dataclass, field

OK, UNKNOWN_EPOCH, BAD_STATE, UNMAPPED, BAD_TIMEOUT = 0, 47, 48, 49, 50
BAD_REQUEST, FENCED, ABORTABLE = 42, 90, 120
NEVER = 2_147_483_647  # the time-out of two-phase commit

Producer = tuple[int, int]  # producer id and epoch
Partition = tuple[str, int]


@dataclass
class Entry:
    """One transactional.id."""

    now: Producer
    before: Producer | None  # the same producer before its last bump
    timeout: int
    state: str = "Empty"
    partitions: list[Partition] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    began: int = -1
    used: int = 0
    kept: Producer | None = None  # who began what is open, when another is to end it


@dataclass
class Book:
    """All of them, and the producer ids."""

    entries: dict[str, Entry] = field(default_factory=dict)
    next_producer_id: int = 0
    reserved: int = 0
    effects: list[tuple[object, ...]] = field(default_factory=list)

    def crash(self) -> None:
        """What was not reserved on disk was never given out; what was reserved may have been."""
        self.next_producer_id = self.reserved

    def fresh(self) -> int:
        producer_id = self.next_producer_id
        self.next_producer_id += 1
        if producer_id >= self.reserved:
            self.reserved = producer_id + 1000
        return producer_id

    def init(
        self,
        name: str | None,
        given: Producer | None,
        timeout: int,
        clock: int,
        *,
        two_phase: bool = False,
        keep: bool = False,
    ) -> tuple[int, Producer]:
        nobody = (-1, -1)
        if name is None:
            return OK, (self.fresh(), 0)
        if name == "":
            return BAD_REQUEST, nobody
        if two_phase:
            timeout = NEVER
        elif timeout <= 0 or timeout > 900_000:
            return BAD_TIMEOUT, nobody
        if name not in self.entries:
            entry = Entry((self.fresh(), 0), None, timeout, used=clock)
            self.entries[name] = entry
            return OK, entry.now
        entry = self.entries[name]
        if given is not None and given != entry.now:
            if given == entry.before and entry.state != "Ongoing":
                return OK, entry.now
            return FENCED, nobody
        bumps = 1
        if entry.state == "Ongoing" and keep:
            entry.kept = entry.kept or entry.now
            self._bump(entry, 1)
            entry.before, entry.used = None, clock
            entry.timeout = max(timeout, entry.timeout)
            return OK, entry.now
        if entry.state == "Ongoing":
            self._finish(entry, False, entry.now[1] + 1)
            if given is None:
                bumps = 2  # Kafka: one to fence, one for the new instance
        self._bump(entry, bumps)
        entry.before = given
        entry.state, entry.began, entry.used, entry.timeout = "Empty", -1, clock, timeout
        return OK, entry.now

    def _bump(self, entry: Entry, bumps: int) -> None:
        producer_id, epoch = entry.now
        entry.before = entry.now
        if epoch + bumps > 32766:
            entry.now = (self.fresh(), 0)
        else:
            entry.now = (producer_id, epoch + bumps)

    def _finish(self, entry: Entry, commit: bool, marker_epoch: int) -> None:
        producer_id = entry.now[0]
        if entry.kept is not None:
            producer_id, marker_epoch = entry.kept[0], entry.kept[1] + 1
        for partition in entry.partitions:
            self.effects.append(("marker", partition, producer_id, marker_epoch, commit))
        if entry.groups:
            self.effects.append(("offsets", producer_id, tuple(entry.groups), commit))
        entry.partitions, entry.groups, entry.kept = [], [], None

    def _who(self, name: str, producer: Producer) -> int:
        if name == "":
            return BAD_REQUEST
        if name not in self.entries or self.entries[name].now[0] != producer[0]:
            return UNMAPPED
        if self.entries[name].now[1] != producer[1]:
            return FENCED
        return OK

    def _who_adds(self, name: str, producer: Producer) -> int:
        error = self._who(name, producer)
        return BAD_STATE if error == OK and self.entries[name].kept else error

    def add(
        self,
        name: str,
        producer: Producer,
        partitions: list[Partition],
        groups: list[str],
        clock: int,
    ) -> int:
        error = self._who_adds(name, producer)
        if error:
            return error
        entry = self.entries[name]
        new = [each for each in partitions if each not in entry.partitions]
        new_groups = [each for each in groups if each not in entry.groups]
        if entry.state == "Ongoing" and not new and not new_groups:
            return OK
        if entry.state != "Ongoing":
            entry.state, entry.began = "Ongoing", clock
        entry.partitions += new
        entry.groups += new_groups
        entry.used = clock
        return OK

    def produce(
        self, name: str, producer: Producer, partitions: list[Partition], version: int, clock: int
    ) -> list[int]:
        error = self._who_adds(name, producer)
        if error == FENCED:
            error = UNKNOWN_EPOCH
        if error:
            return [error for _ in partitions]
        if version >= 12:
            self.add(name, producer, partitions, [], clock)
            return [OK for _ in partitions]
        absent = ABORTABLE if version == 11 else BAD_STATE
        inside = self.entries[name].partitions
        return [OK if each in inside else absent for each in partitions]

    def offsets(self, name: str, producer: Producer, group: str, version: int, clock: int) -> int:
        error = self._who_adds(name, producer)
        if error == FENCED:
            error = UNKNOWN_EPOCH
        if error:
            return error
        if version >= 5:
            return self.add(name, producer, [], [group], clock)
        if group in self.entries[name].groups:
            return OK
        return ABORTABLE if version == 4 else BAD_STATE

    def end_1(self, name: str, producer: Producer, commit: bool, clock: int) -> int:
        """EndTxn before KIP-890."""
        error = self._who(name, producer)
        if error:
            return error
        entry = self.entries[name]
        result = "CompleteCommit" if commit else "CompleteAbort"
        if entry.state == "Ongoing":
            self._finish(entry, commit, entry.now[1])
            entry.state, entry.used = result, clock
            return OK
        return OK if entry.state == result else BAD_STATE

    def end_2(
        self, name: str, producer: Producer, commit: bool, clock: int
    ) -> tuple[int, Producer]:
        """EndTxn since KIP-890: every row of its table."""
        nobody = (-1, -1)
        if name == "":
            return BAD_REQUEST, nobody
        if name not in self.entries:
            return UNMAPPED, nobody
        entry = self.entries[name]
        if producer != entry.now and producer != entry.before:
            return (UNMAPPED if producer[0] != entry.now[0] else FENCED), nobody
        retry = producer != entry.now
        if retry:
            if entry.state in ("Empty", "Ongoing"):
                return FENCED, nobody
            if (entry.state == "CompleteCommit") == commit:
                return OK, entry.now
            return BAD_STATE, nobody
        if commit and entry.state != "Ongoing":
            return BAD_STATE, nobody
        self._raise_and_end(entry, commit, clock)
        return OK, entry.now

    def _raise_and_end(self, entry: Entry, commit: bool, clock: int) -> None:
        if entry.state != "Ongoing":
            entry.began = clock
        self._finish(entry, commit, entry.now[1] + 1)
        self._bump(entry, 1)
        entry.state, entry.used = "CompleteCommit" if commit else "CompleteAbort", clock

    def overdue(self, clock: int) -> list[str]:
        return [
            name
            for name, entry in self.entries.items()
            if entry.state == "Ongoing"
            and entry.timeout != NEVER
            and clock - entry.began >= entry.timeout
        ]

    def time_out(self, name: str, clock: int) -> None:
        self._raise_and_end(self.entries[name], False, clock)

    def idle_since(self, name: str) -> int | None:
        """When it was last used; None while a transaction is open."""
        entry = self.entries[name]
        return None if entry.state == "Ongoing" else entry.used
