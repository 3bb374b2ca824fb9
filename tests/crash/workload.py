"""A scripted life of a broker, one request a step, and a way to see all of its state.

Every step is one request, and so one frame of the journal or none. The script touches what must
survive: topics made and deleted, idempotent batches over several partitions and segments,
transactions of both versions committed, aborted, fenced and left open, offsets plain and in
transactions, checkpoints in between.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from ottla.broker.config import BrokerConfig
from ottla.log.checkpoint import state_of
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.message import Message
from ottla.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_topics import DeleteTopicsRequest
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.records import Record, build_batch, iterate_batches, read_records

CONFIG = BrokerConfig(
    checkpoint_bytes=2_500,
    journal_allocate_bytes=1_100,
    segment_bytes=700,
    auto_create_topics=False,
)
TOPICS = ("orders", "payments")


class Step(NamedTuple):
    """One request. `retriable`: sent again after a crash it changes nothing that it did before."""

    name: str
    message: Callable[[], Message]
    version: int
    retriable: bool = True


@dataclass
class Producer:
    """What a client keeps: its producer id and epoch, and the next sequence per partition."""

    transactional_id: str | None
    producer_id: int = -1
    epoch: int = -1
    sequences: dict[tuple[str, int], int] = field(default_factory=dict)
    has_written: bool = False  # and was told so, in a transaction that has not ended

    def produce(self, topic: str, partitions: dict[int, list[str]]) -> ProduceRequest:
        """A request with these values; the same request again has the same sequences."""
        data = []
        for index, values in partitions.items():
            sequence = self.sequences.get((topic, index), 0)
            batch = build_batch(
                [Record(i, 1_700_000_000_000, None, v.encode(), []) for i, v in enumerate(values)],
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                base_sequence=sequence,
                transactional=self.transactional_id is not None,
            )
            data.append(PartitionProduceData(index=index, records=batch))
        return ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout_ms=1000,
            topic_data=[TopicProduceData(name=topic, partition_data=data)],
        )

    def advance(self, topic: str, partitions: dict[int, list[str]]) -> None:
        for index, values in partitions.items():
            key = (topic, index)
            self.sequences[key] = self.sequences.get(key, 0) + len(values)


class Script:
    """The steps, and the client state that they share."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.plain = Producer(None)
        self.first = Producer("transfers")
        self.second = Producer("reports")
        self._write()

    def run_step(self, client: InProcessClient, step: Step) -> Message:
        """Send the step's request and take over what the answer says."""
        message = step.message()
        response: Any = client.request(message, step.version)
        self.learn(step, message, response)
        return response

    def learn(self, step: Step, message: Any, response: Any) -> None:
        if isinstance(message, InitProducerIdRequest):
            assert response.error_code == 0, (step.name, response)
            producer = self._producer_of(message.transactional_id)
            producer.producer_id, producer.epoch = response.producer_id, response.producer_epoch
            producer.sequences.clear()
            producer.has_written = False
        elif isinstance(message, ProduceRequest):
            for topic in response.responses:
                for one in topic.partition_responses:
                    assert one.error_code == 0, (step.name, response)
            self._producer_of(message.transactional_id).has_written = True
        elif isinstance(message, EndTxnRequest):
            assert response.error_code == 0, (step.name, response)
            producer = self._producer_of(message.transactional_id)
            producer.has_written = False
            if step.version >= 5:
                producer.producer_id, producer.epoch = response.producer_id, response.producer_epoch
                producer.sequences.clear()

    def _producer_of(self, transactional_id: str | None) -> Producer:
        return {None: self.plain, "transfers": self.first, "reports": self.second}[transactional_id]

    # -- the script ---------------------------------------------------------------------------

    def _write(self) -> None:
        self._add("make topics", self._create(*TOPICS, "gone"), 7)
        self._add(
            "init plain",
            lambda: InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000),
            4,
            False,
        )
        self._produce(self.plain, "orders", {0: ["a0", "a1"], 1: ["b0"]}, 9)
        self._produce(self.plain, "gone", {0: ["x"]}, 9)
        self._add("commit offset", lambda: _offset_commit("readers", 1), 8)
        self._init(self.first)
        self._transaction(self.first, "c", commit=True)
        self._produce(self.plain, "orders", {0: ["a2"], 1: ["b1", "b2"]}, 9)
        self._transaction(self.first, "d", commit=False)
        self._add("delete gone", lambda: DeleteTopicsRequest(topic_names=["gone"]), 5)
        self._init(self.second)
        self._transaction_2(self.second, "e", commit=True)
        self._transaction_2(self.second, "f", commit=False)
        self._open(self.first, "g")
        self._produce(self.plain, "payments", {0: ["p" * 300]}, 9)
        self._init(self.first)  # fences and aborts what "g" left open
        self._transaction(self.first, "h", commit=True)
        self._open(self.second, "i")
        self._open(self.first, "j")

    def _add(
        self, name: str, message: Callable[[], Message], version: int, retriable: bool = True
    ) -> None:
        self.steps.append(Step(name, message, version, retriable))

    def _create(self, *names: str) -> Callable[[], Message]:
        return lambda: CreateTopicsRequest(
            topics=[CreatableTopic(name=n, num_partitions=2, replication_factor=1) for n in names],
            timeout_ms=1000,
        )

    def _init(self, producer: Producer) -> None:
        message = InitProducerIdRequest(
            transactional_id=producer.transactional_id, transaction_timeout_ms=60_000
        )
        self._add(f"init {producer.transactional_id}", lambda: message, 4, False)

    def _produce(
        self, producer: Producer, topic: str, values: dict[int, list[str]], version: int
    ) -> None:
        """The sequences move on when the next step is made, so that a retry has the old ones."""
        made: list[ProduceRequest] = []

        def message() -> Message:
            if not made:
                made.append(producer.produce(topic, values))
                producer.advance(topic, values)
            return made[0]

        self._add(f"produce {next(iter(values.values()))[0][:3]}", message, version)

    def _open(self, producer: Producer, name: str) -> None:
        """Begin a transaction the old way, and write."""
        partitions = [AddPartitionsToTxnTopic(name=topic, partitions=[0, 1]) for topic in TOPICS]
        self._add(
            f"add partitions {name}",
            lambda: AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=producer.transactional_id or "",
                v3_and_below_producer_id=producer.producer_id,
                v3_and_below_producer_epoch=producer.epoch,
                v3_and_below_topics=partitions,
            ),
            3,
        )
        self._produce(producer, "orders", {0: [f"{name}0"], 1: [f"{name}1"]}, 9)
        self._produce(producer, "payments", {1: [f"{name}2", f"{name}3"]}, 9)

    def _transaction(self, producer: Producer, name: str, *, commit: bool) -> None:
        self._open(producer, name)
        transactional_id = producer.transactional_id or ""
        self._add(
            f"add offsets {name}",
            lambda: AddOffsetsToTxnRequest(
                transactional_id=transactional_id,
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                group_id="readers",
            ),
            3,
        )
        self._add(f"offsets {name}", lambda: _txn_offsets(producer, 10 + len(name)), 3)
        self._end(producer, name, commit, 3)

    def _transaction_2(self, producer: Producer, name: str, *, commit: bool) -> None:
        """Transaction version 2: partitions and groups are added by being used (KIP-890)."""
        self._produce(producer, "payments", {0: [f"{name}0"], 1: [f"{name}1"]}, 12)
        self._add(f"offsets {name}", lambda: _txn_offsets(producer, 20), 5)
        self._end(producer, name, commit, 5)

    def _end(self, producer: Producer, name: str, commit: bool, version: int) -> None:
        made: list[EndTxnRequest] = []

        def message() -> Message:
            if not made:
                made.append(
                    EndTxnRequest(
                        transactional_id=producer.transactional_id or "",
                        producer_id=producer.producer_id,
                        producer_epoch=producer.epoch,
                        committed=commit,
                    )
                )
            return made[0]

        self._add(f"{'commit' if commit else 'abort'} {name}", message, version)


def _offset_commit(group_id: str, offset: int) -> OffsetCommitRequest:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    return OffsetCommitRequest(
        group_id=group_id,
        topics=[OffsetCommitRequestTopic(name="orders", partitions=[partition])],
    )


def _txn_offsets(producer: Producer, offset: int) -> TxnOffsetCommitRequest:
    partition = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    return TxnOffsetCommitRequest(
        transactional_id=producer.transactional_id or "",
        group_id="readers",
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        topics=[TxnOffsetCommitRequestTopic(name="orders", partitions=[partition])],
    )


# -- seeing all of it --------------------------------------------------------------------------


def observe(broker: InProcessBroker) -> dict[str, Any]:
    """Everything durable, as plain values: equal states are equal values."""
    core = broker.core
    seen: dict[str, Any] = {
        "transactions": sorted(map(msgspec.json.encode, core.transactions.snapshot())),
        "groups": sorted(map(msgspec.json.encode, core.groups.snapshot())),
    }
    for topic in core.catalog.topics():
        for partition in topic.partitions:
            state = state_of(partition)
            seen[str(partition.name)] = {
                "id": topic.topic_id,
                "records": _records(partition, read_committed=False),
                "committed": _records(partition, read_committed=True),
                "high watermark": partition.high_watermark,
                "last stable offset": partition.last_stable_offset,
                "producers": sorted(map(str, state.producers)),
            }
    return seen


def _records(partition: Any, *, read_committed: bool) -> list[tuple[int, bytes]]:
    """Offsets and values as a consumer gets them, aborted ones left out for read_committed."""
    found: list[tuple[int, bytes]] = []
    offset, end = partition.log_start_offset, partition.end_offset(read_committed)
    while offset < end:
        read = partition.read(offset, 400, read_committed, whole_batch=True)
        before = offset
        aborted = {(one.producer_id, one.first_offset) for one in read.aborted}
        open_aborted = {pid for pid, first in aborted if first < offset}
        view = memoryview(read.records)
        for header, batch in iterate_batches(view):
            open_aborted |= {pid for pid, first in aborted if first == header.base_offset}
            if header.is_control:
                open_aborted.discard(header.producer_id)
            elif not (
                read_committed and header.is_transactional and header.producer_id in open_aborted
            ):
                found += [
                    (record.offset, record.value or b"")
                    for record in read_records(batch)
                    if record.offset >= offset
                ]
            offset = header.last_offset + 1
        assert offset > before, (str(partition.name), offset, end)
    return found
