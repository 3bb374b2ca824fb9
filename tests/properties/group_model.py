"""What the group machine compares with: a driver with a disk, and naive models of offsets."""

from ottla.coordinator.groups import GroupCoordinatorRecord
from ottla.coordinator.records import CoordinatorRecord, GroupOutcome
from ottla.wire.messages.join_group import JoinGroupResponse
from ottla.wire.messages.sync_group import SyncGroupResponse
from tests.unit.coordinator.group_driver import Driver

Reply = JoinGroupResponse | SyncGroupResponse
Event = tuple[object, ...]


class UnsyncedDriver(Driver):
    """A Driver whose records are durable, and whose answers are seen, only after `sync_disk`."""

    def __init__(self, initial_rebalance_delay_ms: int) -> None:
        self.frames: list[list[GroupCoordinatorRecord]] = []
        self.durable = 0
        self._unseen: list[tuple[int, int, Reply]] = []
        super().__init__(initial_rebalance_delay_ms)

    def commit(self, records: list[CoordinatorRecord]) -> None:  # type: ignore[override]
        if records:
            self.frames.append(list(records))  # type: ignore[arg-type]
            for record in records:
                self.groups.apply(record)  # type: ignore[arg-type]

    def _take(self, outcome: GroupOutcome) -> None:
        self.commit(outcome.records)
        for token, reply in outcome.replies:
            assert token in self.parked, f"token {token} is answered twice"
            self.parked.discard(token)
            self._unseen.append((len(self.frames), token, reply))
        self._show()

    def _show(self) -> None:
        for _, token, reply in [entry for entry in self._unseen if entry[0] <= self.durable]:
            self.answers[token] = reply
        self._unseen = [entry for entry in self._unseen if entry[0] > self.durable]

    def sync_disk(self) -> None:
        self.durable = len(self.frames)
        self._show()

    def crash(self, kept: int, *, from_snapshot: bool) -> None:
        """Keep `kept` of the frames, of which all durable ones are some; start anew."""
        assert self.durable <= kept <= len(self.frames)
        del self.frames[kept:]
        self.durable = kept
        self._unseen.clear()
        self.parked.clear()
        self.groups = self._new_coordinator()
        for frame in self.frames:
            for record in frame:
                self.groups.apply(record)
        if from_snapshot:
            snapshot = self.groups.snapshot()
            self.groups = self._new_coordinator()
            for known in snapshot:
                self.groups.apply(known)  # type: ignore[arg-type]
            assert self.groups.snapshot() == snapshot


def committed_by(events: list[Event]) -> dict[tuple[str, int], int]:
    """Naively: per partition the last written of the offsets that count."""
    found: dict[tuple[str, int], int] = {}
    for at, event in enumerate(events):
        if event[0] not in ("plain", "pending"):
            continue
        _, partition, offset, producer_id = event
        later = events[at + 1 :]
        if ("delete", partition) in later or ("delete group",) in later:
            continue
        ends = [end for end in later if end[:2] == ("end", producer_id)]
        if event[0] == "plain" or (ends and ends[0][2]):
            found[partition] = offset  # type: ignore[index, assignment]
    return found


def unstable_by(events: list[Event]) -> set[object]:
    """Naively: the partitions with an offset of a transaction that has not ended."""
    found = set()
    for at, event in enumerate(events):
        if event[0] == "pending":
            _, partition, _, producer_id = event
            over = (
                ("delete", partition),
                ("delete group",),
                ("end", producer_id, True),
                ("end", producer_id, False),
            )
            if not any(end in events[at + 1 :] for end in over):
                found.add(partition)
    return found
