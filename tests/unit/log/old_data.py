"""A broker in this process whose topics have small segments, and what a test does to old data."""

from collections.abc import Iterator
from random import Random
from typing import Any

from ottla.broker.config import BrokerConfig
from ottla.log.partition import Partition, Read
from ottla.ports.clock import SimulatedClock
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import POLICIES, SimulatedDisk
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
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch, iterate_batches, read_marker, read_records

CONFIG = BrokerConfig(
    segment_bytes=400,
    journal_allocate_bytes=0,
    retention_check_interval_ms=1_000,
    cleaner_backoff_ms=1_000,
)
Pair = tuple[str | None, str | None]


class Desk:
    """One broker, one client, one topic `t`, of one partition where nothing else is said."""

    def __init__(self, disk: SimulatedDisk | None = None, clock: SimulatedClock | None = None):
        self.disk = disk or SimulatedDisk()
        self.clock = clock or SimulatedClock()
        self.broker = InProcessBroker(self.disk, self.clock, CONFIG)
        self.client: InProcessClient = self.broker.connect()

    def create(self, partitions: int = 1, **configs: str) -> None:
        pairs = [CreatableTopicConfig(name.replace("_", "."), v) for name, v in configs.items()]
        topic = CreatableTopic(
            name="t", num_partitions=partitions, replication_factor=1, configs=pairs
        )
        response: Any = self.client.request(CreateTopicsRequest(topics=[topic]), 7)
        assert response.topics[0].error_code == 0, response.topics[0]

    @property
    def partitions(self) -> list[Partition]:
        topic = self.broker.core.catalog.topic("t")
        assert topic is not None
        return topic.partitions

    @property
    def partition(self) -> Partition:
        return self.partitions[0]

    def send(self, records: bytes, transactional_id: str | None = None, partition: int = 0) -> Any:
        data = PartitionProduceData(index=partition, records=records)
        request = ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=1_000,
            topic_data=[TopicProduceData(name="t", partition_data=[data])],
        )
        response: Any = self.client.request(request, 12 if transactional_id else 9)
        return response.responses[0].partition_responses[0]

    def write(self, *pairs: Pair, partition: int = 0, **fields: Any) -> int:
        """Produce one batch of (key, value) with the time of the clock; its base offset."""
        now_ms = self.clock.now_ms()
        records = [Record(0, now_ms, _bytes(key), _bytes(value)) for key, value in pairs]
        answer = self.send(build_batch(records, **fields), partition=partition)
        assert answer.error_code == 0, answer
        return int(answer.base_offset)

    def roll(self) -> None:
        """Let the next batch begin a segment."""
        self.partition.segment_bytes = 1

    def unroll(self) -> None:
        self.partition.segment_bytes = CONFIG.segment_bytes or 0

    def delete_records(self, offset: int, partition: int = 0) -> tuple[int, int]:
        """DeleteRecords for `t`; error code and low watermark."""
        wanted = DeleteRecordsPartition(partition_index=partition, offset=offset)
        topic = DeleteRecordsTopic(name="t", partitions=[wanted])
        response: Any = self.client.request(DeleteRecordsRequest(topics=[topic]), 2)
        answer = response.topics[0].partitions[0]
        return answer.error_code, answer.low_watermark

    def records(
        self, *, committed: bool = False, start: int = 0
    ) -> list[tuple[int, str | None, str | None]]:
        """Offset, key and value of all that a consumer gets from `start` on."""
        found: list[tuple[int, str | None, str | None]] = []
        partition = self.partition
        begin = max(start, partition.log_start_offset)
        offset, end = begin, partition.end_offset(committed)
        while offset < end:
            read = partition.read(offset, 1 << 20, committed, whole_batch=True)
            if not read.records:
                break
            for header, _ in iterate_batches(read.records):
                offset = header.last_offset + 1
            found += [
                (one.offset, _text(one.key), _text(one.value))
                for one in visible_records(read, committed=committed)
                if one.offset >= begin
            ]
        return found

    def batches(self) -> list[Any]:
        """The headers of all batches."""
        return [
            header
            for segment in self.partition.segments
            for _, header in segment.walk(0)
            if header.last_offset >= self.partition.log_start_offset
        ]

    def files(self) -> list[str]:
        """The files of the partition, as paths under its directory."""
        directory = self.partition.name.directory
        names = []
        for name in self.disk.list(directory):
            inside = self.disk.list(f"{directory}/{name}")
            names += [f"{name}/{one}" for one in inside] if inside else [name]
        return names

    def log_files(self) -> list[str]:
        return [name for name in self.files() if name.endswith(".log")]

    def power_cut(self) -> "Desk":
        """A broker on what is durable now."""
        return Desk(self.disk.after_power_cut(POLICIES[0], Random(0)), self.clock)


def visible_records(read: Read, *, committed: bool) -> Iterator[Record]:
    """The records of a fetch that a consumer gives to its user, found as Java's consumer does."""
    to_come = sorted(read.aborted, key=lambda one: one.first_offset, reverse=True)
    aborted: set[int] = set()
    for header, batch in iterate_batches(read.records):
        while to_come and to_come[-1].first_offset <= header.last_offset:
            aborted.add(to_come.pop().producer_id)
        if header.is_control:
            if header.record_count and not read_marker(batch).commit:
                aborted.discard(header.producer_id)
        elif not (committed and header.is_transactional and header.producer_id in aborted):
            yield from read_records(batch)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode()
