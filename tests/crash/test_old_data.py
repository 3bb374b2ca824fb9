"""P1, P3: the power goes at every moment of retention, DeleteRecords and compaction too.

Method: a script of produces, transactions, deletions and time that passes runs once to see what
consumers see after each step; then once for every moment at which its disk changes, with the power
cut there. What consumers see afterwards must be what they saw after the last acknowledged step, or
after the step under way. Of a compacted topic that is the last value of each key with its offset:
compaction may have happened or not, and must not be seen. Then the broker goes on: it compacts what
is left, no file is on the disk that its checkpoint does not know, and a restart sees the same.

`make soak` cuts at every moment, `make test` at every fifth.
"""

import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from ottla.broker.config import BrokerConfig
from ottla.log.partition import Partition
from ottla.log.segment import Segment
from ottla.ports.clock import SimulatedClock
from ottla.ports.errors import DataDamaged, StorageFailed
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import POLICIES, PowerCut, SimulatedDisk, power_cut_at
from ottla.wire.message import Message
from ottla.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch, iterate_batches
from tests.unit.log.old_data import visible_records

CONFIG = BrokerConfig(
    checkpoint_bytes=3_000,
    journal_allocate_bytes=1_100,
    segment_bytes=400,
    retention_check_interval_ms=1_000,
    cleaner_backoff_ms=1_000,
)
TOPICS: dict[str, dict[str, str]] = {
    "table": {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "2000",
    },
    "events": {"retention.ms": "8000"},
    "purged": {"retention.ms": "-1"},
}
Pairs = list[tuple[str, str | None]]
SOAK = bool(os.environ.get("OTTLA_SOAK"))


class Step(NamedTuple):
    """One request with its version, or milliseconds that pass. A transaction's is one of many."""

    message: Message | int
    version: int = 0


class Writer:
    """Batches of one producer."""

    def __init__(self, producer_id: int, transactional_id: str | None = None) -> None:
        self.producer_id, self.transactional_id = producer_id, transactional_id
        self.epoch = 0
        self._sequences: dict[str, int] = {}

    def produce(self, topic: str, pairs: Pairs, now_ms: int) -> Step:
        sequence = self._sequences.get(topic, 0)
        self._sequences[topic] = sequence + len(pairs)
        batch = build_batch(
            [
                Record(0, now_ms, key.encode(), None if value is None else value.encode())
                for key, value in pairs
            ],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            transactional=self.transactional_id is not None,
        )
        data = PartitionProduceData(index=0, records=batch)
        request = ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout_ms=1_000,
            topic_data=[TopicProduceData(name=topic, partition_data=[data])],
        )
        return Step(request, 12 if self.transactional_id else 9)

    def end(self, *, commit: bool) -> Step:
        request = EndTxnRequest(
            transactional_id=self.transactional_id or "",
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=commit,
        )
        self.epoch += 1
        self._sequences.clear()
        return Step(request, 5)


def script() -> list[Step]:
    """The steps. Producer ids are given out from 0, epochs rise by one with each transaction."""
    return [*_steps()]


def _steps() -> Iterator[Step]:
    now_ms = SimulatedClock().now_ms()
    topics = [
        CreatableTopic(
            name=name,
            num_partitions=1,
            replication_factor=1,
            configs=[CreatableTopicConfig(key, value) for key, value in configs.items()],
        )
        for name, configs in TOPICS.items()
    ]
    yield Step(CreateTopicsRequest(topics=topics), 7)
    yield Step(InitProducerIdRequest(transactional_id="w", transaction_timeout_ms=60_000), 4)
    plain, writer = Writer(1_000_000), Writer(0, "w")
    for turn in range(3):
        for number in range(3):
            text = f"{turn}.{number} " + "v" * 40
            yield plain.produce("table", [(f"k{number}", text), ("same", text)], now_ms)
            yield plain.produce("events", [(f"e{turn}.{number}", text)], now_ms)
            yield plain.produce("purged", [(f"p{turn}.{number}", text)], now_ms)
        yield writer.produce("table", [(f"k{turn}", f"txn {turn}"), ("txn", f"{turn}")], now_ms)
        yield writer.end(commit=turn % 2 == 0)
        yield plain.produce("table", [(f"k{turn}", None)], now_ms)
        yield from _seconds(3)
        now_ms += 3_000
        wanted = DeleteRecordsPartition(partition_index=0, offset=turn * 3 + 2)
        topic = DeleteRecordsTopic(name="purged", partitions=[wanted])
        yield Step(DeleteRecordsRequest(topics=[topic]), 2)
    yield from _seconds(9)
    yield plain.produce("events", [("last", "e")], now_ms + 9_000)


def _seconds(count: int) -> Iterator[Step]:
    """Time in which retention and compaction look once a step."""
    yield from (Step(1_000) for _ in range(count))


def run(broker: InProcessBroker, client: InProcessClient, step: Step) -> None:
    if isinstance(step.message, int):
        broker.advance(step.message)
    else:
        answer: Any = client.request(step.message, step.version)
        assert _errors(answer) == [], (step, answer)
    broker.sync()


def _errors(answer: Any) -> list[int]:
    """All error codes but 0."""
    rows = [answer, *getattr(answer, "topics", ())]
    for topic in getattr(answer, "topics", ()) or ():
        rows += getattr(topic, "partitions", ())
    for topic in getattr(answer, "responses", ()):
        rows += topic.partition_responses
    codes = [getattr(row, "error_code", 0) for row in rows]
    return [code for code in codes if code]


# -- seeing ------------------------------------------------------------------------------------


def view(broker: InProcessBroker) -> dict[str, Any]:
    """What read_committed consumers make of the topics."""
    seen: dict[str, Any] = {}
    for name, configs in TOPICS.items():
        partition = broker.core.catalog.partition(name, 0)
        if partition is None:
            continue
        records = _committed(partition)
        if configs.get("cleanup.policy") == "compact":
            table = {key: (offset, value) for offset, key, value in records}
            seen[name] = {key: one for key, one in table.items() if one[1] is not None}
        else:
            seen[name] = (partition.log_start_offset, records)
    return seen


def _committed(partition: Partition) -> list[tuple[int, bytes, bytes | None]]:
    found: list[tuple[int, bytes, bytes | None]] = []
    offset, end = partition.log_start_offset, partition.end_offset(True)
    while offset < end:
        read = partition.read(offset, 400, True, whole_batch=True)
        if not read.records:
            break
        found += [
            (one.offset, one.key or b"", one.value)
            for one in visible_records(read, committed=True)
            if one.offset >= offset
        ]
        for header, _ in iterate_batches(read.records):
            offset = header.last_offset + 1
    return found


def leftovers(broker: InProcessBroker) -> list[str]:
    """Files of partitions that no segment knows."""
    disk, found = broker.disk, []
    for partitions in broker.core.store.partitions.values():
        for partition in partitions:
            directory = partition.name.directory
            known = {name for segment in partition.segments for name in segment.file_names()}
            for name in disk.list(directory):
                inside = disk.list(f"{directory}/{name}")
                names = [f"{name}/{one}" for one in inside] or [name]
                found += [f"{directory}/{one}" for one in names if one not in known]
    return found


# -- the test ----------------------------------------------------------------------------------


def open_broker(disk: SimulatedDisk, clock: SimulatedClock | None = None) -> InProcessBroker:
    return InProcessBroker(disk, clock or SimulatedClock(), CONFIG)


def views_of_the_script() -> tuple[list[dict[str, Any]], int, list[str]]:
    disk = SimulatedDisk()
    broker = open_broker(disk)
    broker.sync()
    client = broker.connect()
    views = [view(broker)]
    for step in script():
        run(broker, client, step)
        views.append(view(broker))
    return views, disk.moments, [f"{one.kind} {one.path}" for one in disk.operations]


VIEWS, MOMENTS, OPERATIONS = views_of_the_script()


class Life(NamedTuple):
    """How far a script came before the power went."""

    sent: int
    acknowledged: int
    clock: SimulatedClock

    @property
    def allowed(self) -> list[dict[str, Any]]:
        return VIEWS[self.acknowledged : self.sent + 1]


def live(disk: SimulatedDisk) -> Life:
    """The script until the power goes."""
    clock = SimulatedClock()
    sent = acknowledged = 0
    with contextlib.suppress(PowerCut):
        broker = open_broker(disk, clock)
        broker.sync()
        client = broker.connect()
        for step in script():
            sent += 1
            run(broker, client, step)
            acknowledged = sent
    return Life(sent, acknowledged, clock)


def check(moment: int, policy_number: int) -> None:
    """Cut the power at the moment, recover, look; let the broker go on, restart it, look again."""
    disk = SimulatedDisk(power_cut_at(moment))
    life = live(disk)
    policy = POLICIES[policy_number % len(POLICIES)]
    recovered = open_broker(disk.after_power_cut(policy, random.Random(moment)), life.clock)
    recovered.sync()
    seen = view(recovered)
    assert seen in life.allowed, (moment, policy, life.sent)
    recovered.advance(1_500)
    assert view(recovered).get("table") == seen.get("table"), (moment, policy)
    before = view(recovered)
    recovered.core.close()
    again = open_broker(recovered.disk, life.clock)  # type: ignore[arg-type]
    assert view(again) == before, (moment, policy)
    assert leftovers(again) == [], (moment, policy)


def test_the_script_does_what_it_is_for() -> None:
    text = "\n".join(OPERATIONS)
    assert text.count("make_directory") >= 3
    assert "/compacted-1/" in text
    assert "/compacted-2/" in text
    assert "remove topics/events" in text
    assert "remove topics/purged" in text
    final = VIEWS[-1]
    assert final["events"][0] > 0
    assert final["purged"][0] == 8
    assert final["table"][b"txn"][1] == b"2"


def test_what_consumers_see_survives_a_power_cut_at_every_moment() -> None:
    for moment in range(1, MOMENTS + 1, 1 if SOAK else 5):
        check(moment, moment)


def test_the_same_when_nothing_survives_that_was_not_synced() -> None:
    for moment in range(1, MOMENTS + 1, 1 if SOAK else 15):
        check(moment, 0)


def test_a_recovery_that_is_cut_leaves_what_the_next_one_needs() -> None:
    rng = random.Random(11)
    for moment in rng.sample(range(1, MOMENTS + 1), 8):
        disk = SimulatedDisk(power_cut_at(moment))
        life = live(disk)
        policy = rng.choice(POLICIES)
        for cut in range(1, 400, 3):
            torn = disk.after_power_cut(policy, random.Random(moment))
            torn.hook = power_cut_at(cut)
            try:
                open_broker(torn, life.clock)
            except PowerCut:
                twice = torn.after_power_cut(rng.choice(POLICIES), random.Random(cut))
                broker = open_broker(twice, life.clock)
                broker.sync()
                assert view(broker) in life.allowed, (moment, cut)
                continue
            break


def test_files_that_go_before_their_checkpoint_are_missed(patch_doom: None) -> None:
    def campaign() -> None:
        for moment in range(1, MOMENTS + 1, 2):
            check(moment, moment)

    with pytest.raises((DataDamaged, AssertionError, StorageFailed)):
        campaign()


@pytest.fixture
def patch_doom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: segments are removed at once, while the last checkpoint names them."""
    doom = Partition.doom

    def doom_at_once(self: Partition, segments: Sequence[Segment]) -> None:
        doom(self, segments)
        for segment in self.take_doomed():
            segment.remove()

    monkeypatch.setattr(Partition, "doom", doom_at_once)
