"""A client that says exactly what it is told to, at the version that it is told to.

It retries what Apache Kafka answers while it is still busy with something before: the markers of
the last transaction, the leader of a new topic, its internal topics. Ottla never answers these.
"""

import socket
import time
from collections.abc import Mapping
from typing import Any

from ottla.ports.errors import ErrorCode
from ottla.wire.api import API
from ottla.wire.frame import decode_response_header, encode_request
from ottla.wire.message import Message
from ottla.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.find_coordinator import FindCoordinatorRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.records import Record, build_batch

_LIMIT_S = 20.0
BUSY = {
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_ENOUGH_REPLICAS,  # CONCURRENT_TRANSACTIONS, for a Produce that does not know it
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
}


class Raw:
    """One connection."""

    def __init__(self, bootstrap_servers: str, *, limit_s: float = _LIMIT_S) -> None:
        host, _, port = bootstrap_servers.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=limit_s)
        self._correlation_id = 0

    def close(self) -> None:
        self._socket.close()

    def find_coordinator(self, kind: int, key: str) -> None:
        """FindCoordinator for a group (0) or a transactional id (1), until there is one."""
        answer = self.ask(3, FindCoordinatorRequest(key=key, key_type=kind))
        deadline = time.monotonic() + _LIMIT_S
        while answer.error_code != ErrorCode.NONE:
            assert time.monotonic() < deadline, f"no coordinator: error {answer.error_code}"
            time.sleep(0.02)
            answer = self.ask(3, FindCoordinatorRequest(key=key, key_type=kind))

    def ask(self, version: int, request: Message) -> Any:
        """Send a request, wait for its response.

        Raises ConnectionError when the broker closes, TimeoutError when it does not answer.
        """
        self._correlation_id += 1
        key = request.API_KEY
        frame = encode_request(key, version, self._correlation_id, "raw", request)
        self._socket.sendall(frame)
        response = memoryview(self._read(int.from_bytes(self._read(4), "big")))
        correlation_id, position = decode_response_header(response, key, version)
        assert correlation_id == self._correlation_id
        body, end = API[key].response.decode(response, position, version)
        assert end == len(response)
        return body

    def _read(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the broker closed the connection")
            parts += part
        return parts


class RawProducer:
    """A producer id and epoch, and the requests made with them. All answers are error codes."""

    def __init__(self, raw: Raw, transactional_id: str | None, topic: str) -> None:
        self._raw = raw
        self._transactional_id = transactional_id
        self._topic = topic
        self.producer_id = -1
        self.epoch = -1

    def init(
        self, version: int = 4, *, timeout_ms: int = 60_000, identity: tuple[int, int] = (-1, -1)
    ) -> ErrorCode:
        """InitProducerId; takes over what it is given."""
        request = InitProducerIdRequest(self._transactional_id, timeout_ms, *identity)
        answer = self._patiently(version, request)
        if answer.error_code == ErrorCode.NONE:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return ErrorCode(answer.error_code)

    def produce(
        self,
        sequence: int,
        *,
        version: int = 9,
        partition: int = 0,
        epoch: int | None = None,
        count: int = 1,
        **batch: Any,
    ) -> tuple[ErrorCode, int]:
        """Produce `count` records; the error and the base offset."""
        records = [Record(0, int(time.time() * 1000), b"k", b"v", [])] * count
        content = build_batch(
            records,
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            base_sequence=sequence,
            **({"transactional": self._transactional_id is not None} | batch),
        )
        return self.produce_bytes(content, version=version, partition=partition)

    def produce_bytes(
        self, content: bytes, *, version: int = 9, partition: int = 0, acks: int = -1
    ) -> tuple[ErrorCode, int]:
        """Produce a batch, or what is given as one."""
        topic = TopicProduceData(
            name=self._topic, partition_data=[PartitionProduceData(partition, content)]
        )
        request = ProduceRequest(self._transactional_id, acks, 10_000, [topic])
        deadline = time.monotonic() + _LIMIT_S
        while True:
            answer = self._raw.ask(version, request).responses[0].partition_responses[0]
            if answer.error_code not in BUSY or time.monotonic() > deadline:
                return ErrorCode(answer.error_code), answer.base_offset
            time.sleep(0.02)

    def add_partitions(
        self, partitions: Mapping[str, list[int]], *, version: int = 3, epoch: int | None = None
    ) -> list[ErrorCode]:
        """AddPartitionsToTxn, as clients send it."""
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self._transactional_id or "",
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch if epoch is None else epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(*topic) for topic in partitions.items()],
        )
        deadline = time.monotonic() + _LIMIT_S
        while True:
            codes = {
                (topic.name, partition.partition_index): ErrorCode(partition.partition_error_code)
                for topic in self._raw.ask(version, request).results_by_topic_v3_and_below
                for partition in topic.results_by_partition
            }
            if not BUSY & set(codes.values()) or time.monotonic() > deadline:
                return [codes[name, number] for name in partitions for number in partitions[name]]
            time.sleep(0.02)

    def add_offsets(self, group_id: str, *, version: int = 3) -> ErrorCode:
        """AddOffsetsToTxn."""
        identity = (self._transactional_id or "", self.producer_id, self.epoch)
        answer = self._patiently(version, AddOffsetsToTxnRequest(*identity, group_id))
        return ErrorCode(answer.error_code)

    def commit_offset(
        self,
        group_id: str,
        offset: int,
        *,
        version: int = 3,
        epoch: int | None = None,
        generation_id: int = -1,
        member_id: str = "",
    ) -> ErrorCode:
        """TxnOffsetCommit for partition 0."""
        request = TxnOffsetCommitRequest(
            self._transactional_id or "",
            group_id,
            self.producer_id,
            self.epoch if epoch is None else epoch,
            generation_id,
            member_id,
            None,
            [
                TxnOffsetCommitRequestTopic(
                    self._topic, [TxnOffsetCommitRequestPartition(0, offset, -1, "")]
                )
            ],
        )
        deadline = time.monotonic() + _LIMIT_S
        while True:
            answer = self._raw.ask(version, request).topics[0].partitions[0]
            if answer.error_code not in BUSY or time.monotonic() > deadline:
                return ErrorCode(answer.error_code)
            time.sleep(0.02)

    def end(self, commit: bool, *, version: int = 3, epoch: int | None = None) -> ErrorCode:
        """EndTxn; from v5 on it takes over the epoch that it is given."""
        identity = (self.producer_id, self.epoch if epoch is None else epoch)
        request = EndTxnRequest(self._transactional_id or "", *identity, commit)
        answer = self._patiently(version, request)
        if version >= 5 and answer.error_code == ErrorCode.NONE:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return ErrorCode(answer.error_code)

    def _patiently(self, version: int, request: Message) -> Any:
        deadline = time.monotonic() + _LIMIT_S
        while True:
            answer = self._raw.ask(version, request)
            if answer.error_code not in BUSY or time.monotonic() > deadline:
                return answer
            time.sleep(0.02)
