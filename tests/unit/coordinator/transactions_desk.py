"""A coordinator at hand: each call is one operation whose records are applied at once."""

from collections.abc import Iterable

from msgspec.structs import replace

from ottla.coordinator.records import (
    CoordinatorRecord,
    MarkerRecord,
    OffsetsEnded,
    TransactionRecord,
)
from ottla.coordinator.transaction_states import TransactionState
from ottla.coordinator.transactions import ProducerReply, TransactionCoordinator
from ottla.ports.errors import ErrorCode

ID = "orders"
TIMEOUT_MS = 60_000
A, B, C = ("a", 0), ("b", 0), ("b", 1)


class Desk:
    """`log` holds every record written, `last` those of the last operation."""

    def __init__(self, coordinator: TransactionCoordinator | None = None) -> None:
        self.coordinator = coordinator or TransactionCoordinator()
        self.now_ms = 1_000_000
        self.log: list[CoordinatorRecord] = []
        self.last: list[CoordinatorRecord] = []

    def write(self, records: Iterable[CoordinatorRecord]) -> None:
        self.last = list(records)
        self.log += self.last
        for record in self.last:
            if not isinstance(record, MarkerRecord | OffsetsEnded):
                self.coordinator.apply(record)

    def init(
        self,
        name: str | None = ID,
        producer: tuple[int, int] = (-1, -1),
        timeout_ms: int = TIMEOUT_MS,
        *,
        two_phase: bool = False,
        keep_prepared: bool = False,
    ) -> ProducerReply:
        outcome = self.coordinator.init_producer_id(
            name,
            timeout_ms,
            *producer,
            self.now_ms,
            two_phase=two_phase,
            keep_prepared=keep_prepared,
        )
        self.write(outcome.records)
        return outcome.reply

    def started(self, name: str = ID) -> tuple[int, int]:
        """Producer id and epoch of a new instance."""
        error, producer_id, epoch = self.init(name)
        assert error is ErrorCode.NONE
        return producer_id, epoch

    def add(
        self, producer: tuple[int, int], *partitions: tuple[str, int], name: str = ID
    ) -> ErrorCode:
        outcome = self.coordinator.add_partitions(name, *producer, partitions, self.now_ms)
        self.write(outcome.records)
        return outcome.reply

    def add_offsets(
        self, producer: tuple[int, int], group_id: str = "group", name: str = ID
    ) -> ErrorCode:
        outcome = self.coordinator.add_offsets(name, *producer, group_id, self.now_ms)
        self.write(outcome.records)
        return outcome.reply

    def produce(
        self,
        producer: tuple[int, int],
        *partitions: tuple[str, int],
        version: int = 12,
        name: str = ID,
    ) -> list[ErrorCode] | None:
        outcome = self.coordinator.admit_produce(name, *producer, partitions, version, self.now_ms)
        self.write(outcome.records)
        return outcome.reply

    def commit_offsets(
        self, producer: tuple[int, int], version: int = 5, group_id: str = "group", name: str = ID
    ) -> ErrorCode:
        outcome = self.coordinator.admit_offset_commit(
            name, *producer, group_id, version, self.now_ms
        )
        self.write(outcome.records)
        return outcome.reply

    def end(
        self, producer: tuple[int, int], commit: bool, version: int, name: str = ID
    ) -> ProducerReply:
        outcome = self.coordinator.end_transaction(name, *producer, commit, version, self.now_ms)
        self.write(outcome.records)
        return outcome.reply

    def tick(self, delta_ms: int = 0) -> list[str]:
        self.now_ms += delta_ms
        outcome = self.coordinator.on_timer(self.now_ms)
        self.write(outcome.records)
        return outcome.reply

    def record(self, name: str = ID) -> TransactionRecord:
        record = self.coordinator.transaction(name)
        assert record is not None
        return record

    def state(self, name: str = ID) -> TransactionState:
        return TransactionState(self.record(name).state)

    def markers(self) -> list[tuple[tuple[str, int], int, int, bool]]:
        """(partition, producer id, epoch, commit) of the last operation's markers."""
        return [
            ((each.topic, each.partition), each.producer_id, each.producer_epoch, each.commit)
            for each in self.last
            if isinstance(each, MarkerRecord)
        ]

    def aged(self, epoch: int = 32_766, name: str = ID) -> tuple[int, int]:
        """A producer whose epoch is near its end."""
        producer_id, _ = self.started(name)
        self.write([replace(self.record(name), producer_epoch=epoch)])
        return producer_id, epoch
