"""P12: the tests can see. Each known way to break exactly-once is planted, and must be caught.

Method: one function is replaced by one with the bug; then the power-cut test runs as it is, at a
sample of moments, or a short scripted life is compared with what it must be. A planted bug that
goes through unseen fails here.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ottla.broker.broker import Broker
from ottla.broker.request import Request
from ottla.coordinator import transaction_steps, transactions
from ottla.coordinator.offsets import OffsetStore
from ottla.coordinator.records import MarkerRecord
from ottla.coordinator.transactions import TransactionCoordinator
from ottla.log import checkpoint, recovery
from ottla.log.journal import (
    DIRECTORY,
    SPARE,
    JournalFile,
    JournalWrite,
    remove_files_before,
)
from ottla.log.partition import Partition
from ottla.log.producers import ProducerState
from ottla.log.store import CheckpointTicket
from ottla.log.transactions_index import TransactionsIndex
from ottla.ports.disk import Disk
from ottla.ports.errors import DataDamaged, InvariantBroken, KafkaError
from ottla.testing.simulated_disk import POLICIES, SimulatedDisk
from ottla.wire.messages.add_partitions_to_txn import AddPartitionsToTxnResponse
from tests.crash import test_power_cut as power_cut

CAUGHT = (AssertionError, DataDamaged, InvariantBroken, KafkaError, KeyError, IndexError)
Plant = Callable[[pytest.MonkeyPatch], None]


def harness() -> None:
    """The power-cut and kill tests at every other moment, with disks of all fates in turn."""
    disk = SimulatedDisk()
    power_cut.run_until_the_end(disk)
    for moment in range(1, disk.moments + 1, 2):
        power_cut.check_kill(moment)
        power_cut.check_power_cut(moment, POLICIES[moment // 2 % len(POLICIES)])
        power_cut.check_power_cut(moment, POLICIES[0])


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "park", lambda self, send, answer: send(answer))


def show_what_is_not_durable(patch: pytest.MonkeyPatch) -> None:
    append = Broker.append

    def append_and_advance(self: Broker, frame: Any, *, deferred: bool = False) -> None:
        append(self, frame, deferred=deferred)
        for partition in frame.partitions:
            partition.high_watermark = partition.next_offset

    patch.setattr(Broker, "append", append_and_advance)


def no_journal_sync(patch: pytest.MonkeyPatch) -> None:
    def run(self: JournalWrite) -> None:
        self.file.write(self.file_position, self.buffers)
        if self.next_file is not None:
            self.next_file.create()

    patch.setattr(JournalWrite, "run", run)


def no_directory_sync_for_a_new_journal_file(patch: pytest.MonkeyPatch) -> None:
    create = JournalFile.create

    def create_without(self: JournalFile) -> None:
        disk: Any = self.disk
        kept = disk.sync_directory
        disk.sync_directory = lambda path: None
        try:
            create(self)
        finally:
            disk.sync_directory = kept

    patch.setattr(JournalFile, "create", create_without)


def a_used_file_gets_its_name_before_its_header(patch: pytest.MonkeyPatch) -> None:
    def create(self: JournalFile) -> None:
        if self.disk.exists(f"{DIRECTORY}/{SPARE}"):
            self.disk.rename(f"{DIRECTORY}/{SPARE}", self.path)
            self.disk.sync_directory(DIRECTORY)
        self._write_header(self.file())
        self.file().sync()
        self.disk.sync_directory(DIRECTORY)

    patch.setattr(JournalFile, "create", create)


def checkpoint_before_the_segments_are_synced(patch: pytest.MonkeyPatch) -> None:
    def run(self: CheckpointTicket) -> None:
        checkpoint.write_checkpoint(self.disk, self.checkpoint)

    patch.setattr(CheckpointTicket, "run", run)


def journal_removed_before_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    run = CheckpointTicket.run

    def run_late(self: CheckpointTicket) -> None:
        remove_files_before(self.disk, self.checkpoint.journal_position)
        run(self)

    patch.setattr(CheckpointTicket, "run", run_late)


def checkpoint_written_in_place(patch: pytest.MonkeyPatch) -> None:
    def write(disk: Disk, path: str, content: bytes) -> None:
        file = disk.open(path)
        file.truncate(0)
        file.write(0, [content])
        file.sync()
        file.close()
        disk.sync_directory("")

    patch.setattr(checkpoint, "write_small_file", write)


def recovery_forgets_the_producers(patch: pytest.MonkeyPatch) -> None:
    restore = checkpoint.restore_partition

    def restore_and_forget(partition: Partition, state: Any) -> None:
        restore(partition, state)
        partition.producers.entries.clear()

    patch.setattr(recovery, "restore_partition", restore_and_forget)


def the_window_holds_one_batch_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    restore = checkpoint.restore_partition

    def restore_one(partition: Partition, state: Any) -> None:
        restore(partition, state)
        for entry in partition.producers.entries.values():
            while len(entry.batches) > 1:
                entry.batches.popleft()

    patch.setattr(recovery, "restore_partition", restore_one)


def recovery_skips_the_tail(patch: pytest.MonkeyPatch) -> None:
    read = recovery.read_frames

    def read_less(disk: Disk, position: int, scan: Any) -> Any:
        frames = list(read(disk, position, scan))
        yield from frames[:-1]

    patch.setattr(recovery, "read_frames", read_less)


def markers_durable_before_the_decision(patch: pytest.MonkeyPatch) -> None:
    commit = Broker.commit

    def commit_apart(self: Broker, records: Any, *, deferred: bool = False) -> None:
        everything = list(records)
        markers = [one for one in everything if isinstance(one, MarkerRecord)]
        if markers:
            commit(self, markers)
            ticket = self.begin_sync()
            assert ticket is not None
            ticket.run()
            self.complete_sync(ticket)
        commit(
            self,
            [one for one in everything if not isinstance(one, MarkerRecord)],
            deferred=deferred,
        )

    patch.setattr(Broker, "commit", commit_apart)


def acknowledge_before_the_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "park_for_write", lambda self, send, answer: send(answer))


def nobody_is_shut_out_after_a_power_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TransactionCoordinator, "after_power_loss", lambda self, now_ms: [])


def only_what_is_open_is_shut_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transactions, "shut_out", lambda *those: [])


def a_transaction_begins_without_the_disk(patch: pytest.MonkeyPatch) -> None:
    commit, respond = Broker.commit, Request.respond

    def commit_later(self: Broker, records: Any, *, deferred: bool = False) -> None:
        commit(self, records, deferred=True)

    def respond_early(self: Request[Any], response: Any) -> None:
        early = isinstance(response, AddPartitionsToTxnResponse)
        (self.respond_when_written if early else lambda one: respond(self, one))(response)

    patch.setattr(Broker, "commit", commit_later)
    patch.setattr(Request, "respond", respond_early)


IN_THE_LIFE_OF_A_BROKER: list[Plant] = [
    acknowledge_before_the_sync,
    acknowledge_before_the_write,
    nobody_is_shut_out_after_a_power_cut,
    only_what_is_open_is_shut_out,
    a_transaction_begins_without_the_disk,
    no_journal_sync,
    no_directory_sync_for_a_new_journal_file,
    a_used_file_gets_its_name_before_its_header,
    checkpoint_before_the_segments_are_synced,
    journal_removed_before_the_checkpoint,
    checkpoint_written_in_place,
    recovery_forgets_the_producers,
    the_window_holds_one_batch_after_a_restart,
    recovery_skips_the_tail,
    markers_durable_before_the_decision,
]


@pytest.mark.parametrize("plant", IN_THE_LIFE_OF_A_BROKER, ids=lambda plant: plant.__name__)
def test_a_planted_bug_of_durability_is_caught(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(CAUGHT):
        harness()


# -- bugs that need no crash -------------------------------------------------------------------


def last_stable_offset_is_the_high_watermark(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TransactionsIndex, "last_stable_offset", lambda self, mark: mark)


def last_stable_offset_of_the_youngest(patch: pytest.MonkeyPatch) -> None:
    def youngest(self: TransactionsIndex) -> int | None:
        return max(self.open.values(), default=None)

    patch.setattr(TransactionsIndex, "first_unstable_offset", youngest)


def aborted_transactions_are_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Partition, "_aborted", lambda self, offset, bound: [])


def a_new_instance_does_not_abort_the_old_transaction(patch: pytest.MonkeyPatch) -> None:
    steps = transaction_steps.raise_epoch

    def without_endings(*arguments: Any, **named: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(transaction_steps, "_endings", lambda *those: [])
            return steps(*arguments, **named)

    patch.setattr(transactions, "raise_epoch", without_endings)


def a_retry_is_stored_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProducerState, "check", lambda self, header, *, must_start_at_zero: None)


def offsets_are_committed_before_their_transaction(patch: pytest.MonkeyPatch) -> None:
    apply = OffsetStore.apply

    def apply_at_once(self: OffsetStore, record: Any) -> None:
        if getattr(record, "producer_id", -1) >= 0 and hasattr(record, "offset"):
            record = replace(record, producer_id=-1, producer_epoch=-1)
        apply(self, record)

    patch.setattr(OffsetStore, "apply", apply_at_once)


IN_NORMAL_LIFE: list[Plant] = [
    last_stable_offset_is_the_high_watermark,
    last_stable_offset_of_the_youngest,
    aborted_transactions_are_not_told,
    a_new_instance_does_not_abort_the_old_transaction,
    offsets_are_committed_before_their_transaction,
]


@pytest.mark.parametrize("plant", IN_NORMAL_LIFE, ids=lambda plant: plant.__name__)
def test_a_planted_bug_of_isolation_changes_what_the_script_shows(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(CAUGHT):
        compare_with_the_usual_life()


def compare_with_the_usual_life() -> None:
    assert power_cut.states_of_the_script() == power_cut.STATES


def test_a_stored_retry_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script sent on after a crash ends with one record too many."""
    a_retry_is_stored_again(monkeypatch)
    with pytest.raises(CAUGHT):
        harness()
