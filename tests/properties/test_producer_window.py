"""P2: the producer window against a naive model, over restarts.

The model knows only what the mission says: a batch is stored when it follows the last one; one of
the last five again is a duplicate, answered with its offset; anything else is out of order; an
older epoch is fenced, a newer one begins at 0. It keeps whole lists and computes sequences modulo
2^31 in its own way. The partition under test goes through checkpoints and restarts in between, and
at the end its log must hold exactly the model's batches, in order, each once.
"""

from dataclasses import dataclass, field
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ottla.log.checkpoint import restore_partition, state_of
from ottla.log.partition import Partition, PartitionName
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.records import Record, build_batch, iterate_batches, read_batch_header, read_records

MODULUS = 2**31
NAME = PartitionName("t", UUID(int=5), 0)
PRODUCERS = st.integers(0, 2)
SIZES = st.integers(1, 4)


@dataclass
class Sent:
    """A stored batch, as the model remembers it."""

    first: int
    count: int
    offset: int


@dataclass
class ModelProducer:
    """A client: its epoch, what it stored in this epoch, what comes next."""

    epoch: int = 0
    next_sequence: int = 0
    stored: list[Sent] = field(default_factory=list)


class ProducerWindow(RuleBasedStateMachine):
    """Producers that send in order, again, ahead, behind, and with other epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimulatedDisk()
        self.disk.make_directory("topics")
        self.partition = self._new_partition()
        self.producers = [ModelProducer() for _ in range(3)]
        self.log: list[str] = []
        self.now_ms = 1_700_000_000_000

    def _new_partition(self) -> Partition:
        partition = Partition(self.disk, NAME)
        partition.segment_bytes = 600
        return partition

    @initialize(starts=st.lists(st.sampled_from([0, MODULUS - 3]), min_size=3, max_size=3))
    def begin(self, starts: list[int]) -> None:
        """A producer that nobody knows may begin anywhere, also where sequences wrap."""
        for producer, start in zip(self.producers, starts, strict=True):
            producer.next_sequence = start

    def _send(self, which: int, epoch: int, sequence: int, count: int) -> int | ErrorCode:
        values = [f"{which}/{epoch}/{(sequence + i) % MODULUS}" for i in range(count)]
        batch = build_batch(
            [Record(0, self.now_ms, None, value.encode(), []) for value in values],
            producer_id=which,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
        view = memoryview(batch)
        try:
            appended = self.partition.append(
                view, read_batch_header(view), self.now_ms, must_start_at_zero=False
            )
        except KafkaError as error:
            return error.code
        if appended.buffers:
            self.log += values
        return appended.base_offset

    @rule(which=PRODUCERS, count=SIZES)
    def send_the_next(self, which: int, count: int) -> None:
        producer = self.producers[which]
        expected = len(self.log)
        got = self._send(which, producer.epoch, producer.next_sequence, count)
        assert got == expected
        assert len(self.log) == expected + count
        producer.stored.append(Sent(producer.next_sequence, count, expected))
        producer.next_sequence = (producer.next_sequence + count) % MODULUS

    @rule(which=PRODUCERS, back=st.integers(1, 8))
    def send_again(self, which: int, back: int) -> None:
        producer = self.producers[which]
        if back > len(producer.stored):
            return
        sent = producer.stored[-back]
        before = len(self.log)
        got = self._send(which, producer.epoch, sent.first, sent.count)
        assert got == (sent.offset if back <= 5 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
        assert len(self.log) == before

    @rule(which=PRODUCERS, gap=st.integers(1, 5), count=SIZES)
    def send_ahead(self, which: int, gap: int, count: int) -> None:
        producer = self.producers[which]
        if not producer.stored:
            return
        sequence = (producer.next_sequence + gap) % MODULUS
        got = self._send(which, producer.epoch, sequence, count)
        assert got == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    @rule(which=PRODUCERS)
    def send_part_of_the_last(self, which: int) -> None:
        producer = self.producers[which]
        if not producer.stored or producer.stored[-1].count < 2:
            return
        sent = producer.stored[-1]
        got = self._send(which, producer.epoch, sent.first, sent.count - 1)
        assert got == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    @rule(which=PRODUCERS, count=SIZES)
    def raise_the_epoch(self, which: int, count: int) -> None:
        """The old epoch is fenced by the first batch of the new one, which begins at 0."""
        producer = self.producers[which]
        if not producer.stored:
            return
        wrong = self._send(which, producer.epoch + 1, 1, count)
        assert wrong == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        old_epoch, old_sequence = producer.epoch, producer.next_sequence
        producer.epoch, producer.next_sequence, producer.stored = old_epoch + 1, 0, []
        self.send_the_next(which, count)
        fenced = self._send(which, old_epoch, old_sequence, 1)
        assert fenced == ErrorCode.INVALID_PRODUCER_EPOCH

    @rule()
    def restart(self) -> None:
        """From a checkpoint: nothing is forgotten."""
        self._sync()
        for store in self.partition.take_stores():
            store.run()
        state = state_of(self.partition)
        self.partition.close()
        self.partition = self._new_partition()
        restore_partition(self.partition, state)

    def _sync(self) -> None:
        for write in self.partition.take_writes():
            write.run()
        self.partition.written()
        self.partition.advance(self.partition.end())

    @invariant()
    def no_offset_is_given_twice_or_left_out(self) -> None:
        assert self.partition.next_offset == len(self.log)

    def teardown(self) -> None:
        """The log holds the model's records, in order, each once."""
        self._sync()
        seen: list[str] = []
        while len(seen) < len(self.log):
            read = self.partition.read(len(seen), 1 << 20, False, whole_batch=True)
            for _, batch in iterate_batches(memoryview(read.records)):
                seen += [(record.value or b"").decode() for record in read_records(batch)]
        assert seen == self.log


TestProducerWindow = ProducerWindow.TestCase
TestProducerWindow.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
