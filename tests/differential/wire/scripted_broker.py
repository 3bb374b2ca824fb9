"""A broker of six answers, made of the wire alone: enough for librdkafka to produce and to fetch.

It keeps what is produced and serves the batches it was given. It knows one topic of one partition.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from ottla.ports.errors import ErrorCode
from ottla.wire.api import API, ApiKey
from ottla.wire.frame import FrameReader, RequestHeader, decode_request_header, encode_response
from ottla.wire.message import Message
from ottla.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from ottla.wire.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.wire.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.wire.messages.init_producer_id import InitProducerIdResponse
from ottla.wire.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.wire.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)

TOPIC = "scripted"
TOPIC_ID = UUID(int=7)
PRODUCER_ID = 4000


class ScriptedBroker:
    """Listens on a free port of 127.0.0.1 until `close`."""

    def __init__(self, batches: list[bytes] | None = None) -> None:
        self.produced: list[bytes] = []
        self.batches = batches or []
        self.versions_seen: dict[ApiKey, int] = {}
        self._answers: dict[int, Callable[[Any], Message]] = {
            ApiKey.API_VERSIONS: self._api_versions,
            ApiKey.METADATA: self._metadata,
            ApiKey.INIT_PRODUCER_ID: self._init_producer_id,
            ApiKey.PRODUCE: self._produce,
            ApiKey.FETCH: self._fetch,
            # Without it librdkafka takes us for a broker too old for lz4.
            ApiKey.FIND_COORDINATOR: self._find_coordinator,
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Close all sockets and wait for the threads."""
        for connection in [self._listener, *self._connections]:
            with suppress(OSError):  # the client may have been first
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        reader = FrameReader()
        try:
            while data := connection.recv(1 << 16):
                for frame in reader.feed(data):
                    header, position = decode_request_header(frame)
                    connection.sendall(self._answer(header, frame, position))
        except OSError:
            return

    def _answer(self, header: RequestHeader, frame: memoryview, position: int) -> bytearray:
        key, version = header.api_key, header.api_version
        request, end = API[key].request.decode(frame, position, version)
        assert end == len(frame)
        self.versions_seen[ApiKey(key)] = version
        return encode_response(key, version, header.correlation_id, self._answers[key](request))

    def _api_versions(self, request: Any) -> Message:
        served = [API[key] for key in self._answers]
        return ApiVersionsResponse(
            api_keys=[ApiVersion(api.key, api.min_version, api.max_version) for api in served]
        )

    def _metadata(self, request: Any) -> Message:
        partition = MetadataResponsePartition(leader_id=1, replica_nodes=[1], isr_nodes=[1])
        partition.leader_epoch = 0
        topic = MetadataResponseTopic(name=TOPIC, topic_id=TOPIC_ID, partitions=[partition])
        broker = MetadataResponseBroker(1, "127.0.0.1", self.port)
        return MetadataResponse(
            brokers=[broker], cluster_id="scripted", controller_id=1, topics=[topic]
        )

    def _find_coordinator(self, request: Any) -> Message:
        error_code = ErrorCode.COORDINATOR_NOT_AVAILABLE
        coordinators = [
            Coordinator(key=key, error_code=error_code) for key in request.coordinator_keys
        ]
        return FindCoordinatorResponse(error_code=error_code, coordinators=coordinators)

    def _init_producer_id(self, request: Any) -> Message:
        return InitProducerIdResponse(producer_id=PRODUCER_ID, producer_epoch=0)

    def _produce(self, request: Any) -> Message:
        answers = []
        for topic in request.topic_data:
            for partition in topic.partition_data:
                self.produced.append(bytes(partition.records))
            answers.append(
                TopicProduceResponse(
                    topic.name,
                    topic.topic_id,
                    [
                        PartitionProduceResponse(partition.index)
                        for partition in topic.partition_data
                    ],
                )
            )
        return ProduceResponse(answers)

    def _fetch(self, request: Any) -> Message:
        answers = []
        for topic in request.topics:
            for partition in topic.partitions:
                rest = self.batches[partition.fetch_offset :]
                data = PartitionData(
                    partition.partition,
                    high_watermark=len(self.batches),
                    last_stable_offset=len(self.batches),
                    log_start_offset=0,
                    aborted_transactions=[],
                    records=rest[:2],
                )
                answers.append(FetchableTopicResponse(topic.topic, topic.topic_id, [data]))
        return FetchResponse(responses=answers)
