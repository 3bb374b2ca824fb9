"""What a client sends, however it is made, costs the broker a bounded amount: threat by threat.

Method: hostile frames go into a broker in this process. What it allocates on the way is measured
by tracemalloc, and compared with a bound that does not depend on what the client claims.
"""

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from ottla.broker.config import BrokerConfig
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.ports.limits import ARRAY_ELEMENTS_MAX, TAGGED_FIELDS_MAX
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.api import ApiKey
from ottla.wire.compression import Compression, compress, decompress
from ottla.wire.frame import SIZE_BYTES, decode_request_header, encode_request
from ottla.wire.messages import fetch
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.describe_groups import DescribeGroupsRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch
from ottla.wire.writing import write_uvarint

MEGABYTE = 1_048_576
REQUEST_BUDGET_BYTES = 64 * MEGABYTE  # ARRAY_ELEMENTS_MAX objects, and what they hold
PARTITIONS = 200


def peak_bytes(action: Callable[[], object]) -> int:
    """How much more memory `action` held at its worst moment than before it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        action()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


@pytest.fixture
def broker() -> InProcessBroker:
    return InProcessBroker(config=BrokerConfig(journal_allocate_bytes=0))


@pytest.fixture
def client(broker: InProcessBroker) -> InProcessClient:
    client = broker.connect()
    client.request(CreateTopicsRequest([CreatableTopic("topic", PARTITIONS, 1)]), 7)
    return client


def give(broker: InProcessBroker, frame: bytes) -> list[Any]:
    """A frame as it is, without its size, on a connection of its own; the answers to it."""
    answers: list[Any] = []
    broker.core.handle(broker.connect().connection, memoryview(frame), answers.append)
    return answers


def header(key: int, version: int, tags: bytes = b"\x00") -> bytes:
    return struct.pack(">hhih", key, version, 1, -1) + tags


# -- arrays: CVE-2026-111108 ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0x7FFFFFF0, ARRAY_ELEMENTS_MAX + 1])
def test_cve_2026_111108_a_count_is_no_promise(broker: InProcessBroker, count: int) -> None:
    """Nothing is allocated on the word of a count, however large the frame that it is in."""
    old = header(ApiKey.METADATA, 4)[:-1] + struct.pack(">i", count) + bytes(4 * MEGABYTE)
    compact = bytearray(header(ApiKey.METADATA, 9))
    write_uvarint(compact, min(count, 0x7FFFFFFE) + 1)
    compact += bytes(4 * MEGABYTE)
    for frame in (old, bytes(compact)):

        def refused(frame: bytes = frame) -> None:
            with pytest.raises(ProtocolError):
                give(broker, frame)

        assert peak_bytes(refused) < MEGABYTE


def test_cve_2026_111108_a_byte_may_be_an_object_but_not_too_often(broker: InProcessBroker) -> None:
    """The most objects that a request may ask for: names of one byte, each in a struct."""
    body = bytearray(header(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0))
    write_uvarint(body, ARRAY_ELEMENTS_MAX + 1)
    body += b"\x02x\x00" * ARRAY_ELEMENTS_MAX  # a name of one byte, no tagged fields
    body += struct.pack(">i", 2_000) + b"\xff\x00"
    assert peak_bytes(lambda: give(broker, bytes(body))) < REQUEST_BUDGET_BYTES


# -- tagged fields: CVE-2026-111115 ---------------------------------------------------------------


@pytest.mark.parametrize("count", [TAGGED_FIELDS_MAX + 1, 1_000_000])
def test_cve_2026_111115_tagged_fields_are_few(broker: InProcessBroker, count: int) -> None:
    """In the header, which is read before anything is known of the client, and in the body."""
    tags = bytearray()
    write_uvarint(tags, count)
    for number in range(count):
        write_uvarint(tags, number)
        tags.append(0)

    def refused() -> None:
        with pytest.raises(ProtocolError, match="tagged fields"):
            decode_request_header(memoryview(header(ApiKey.METADATA, 9, bytes(tags))))
        with pytest.raises(ProtocolError, match="tagged fields"):
            give(broker, header(ApiKey.METADATA, 9) + b"\x01\x00\x00\x00" + tags)

    assert peak_bytes(refused) < MEGABYTE + 2 * len(tags)


def test_tagged_fields_that_nobody_knows_are_passed_over(broker: InProcessBroker) -> None:
    tags = bytearray([TAGGED_FIELDS_MAX])
    for number in range(TAGGED_FIELDS_MAX):
        write_uvarint(tags, 100 + number)
        tags += b"\x01x"
    answers = give(broker, header(ApiKey.METADATA, 9, bytes(tags)) + b"\x01\x00\x00\x00\x00")
    broker.sync()
    assert len(answers) == 1


def test_a_varint_has_an_end(broker: InProcessBroker) -> None:
    for varint in (b"\xff" * 5, b"\xff" * 10, b"\x80" * 100_000):
        with pytest.raises(ProtocolError):
            give(broker, header(ApiKey.METADATA, 9) + varint)


# -- answers that would be larger than what asks for them -----------------------------------------


@pytest.mark.parametrize(
    ("request_of", "version"),
    [
        (lambda n: MetadataRequest([MetadataRequestTopic(name="topic")] * n), 9),
        (lambda n: DescribeConfigsRequest([DescribeConfigsResource(2, "topic", None)] * n), 4),
        (lambda n: DescribeGroupsRequest(["group"] * n), 5),
    ],
)
def test_naming_a_thing_again_and_again_makes_one_answer(
    client: InProcessClient, request_of: Callable[[int], Any], version: int
) -> None:
    once: Any = client.request(request_of(1), version)
    assert client.request(request_of(50_000), version) == once


def test_a_fetch_that_waits_holds_its_partitions_and_not_its_request(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    """A partition that is named often is one partition, as in Kafka."""
    wanted = fetch.FetchTopic("topic", partitions=[fetch.FetchPartition(0, partition_max_bytes=1)])
    request = fetch.FetchRequest(max_wait_ms=300_000, min_bytes=1, topics=[wanted] * 3_000)
    frame = bytes(encode_request(ApiKey.FETCH, 11, 1, "c", request))[SIZE_BYTES:]
    answers: list[Any] = []
    tracemalloc.start()
    try:
        for _ in range(5):
            answers += give(broker, frame)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answers == []
    assert held < MEGABYTE // 2


def test_one_request_makes_a_bounded_number_of_partitions(client: InProcessClient) -> None:
    topics = [CreatableTopic(f"many-{number}", 5_001, 1) for number in range(2)]
    answer: Any = client.request(CreateTopicsRequest(topics), 7)
    assert {one.error_code for one in answer.topics} == {ErrorCode.POLICY_VIOLATION}


# -- decompression --------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [codec for codec in Compression if codec])
def test_a_decompression_bomb_is_cut_off(codec: Compression) -> None:
    """CVE-2026-111073 is the same for telemetry: what unfolds is bounded while it unfolds."""
    bomb = compress(codec, bytes(64 * MEGABYTE))
    assert len(bomb) < 4 * MEGABYTE

    def refused() -> None:
        with pytest.raises(ProtocolError):
            decompress(codec, bomb, MEGABYTE)

    # zstd folds 32,000 bytes into one, and is given a kilobyte at a time.
    assert peak_bytes(refused) < 40 * MEGABYTE


def test_a_produced_bomb_is_never_opened(client: InProcessClient) -> None:
    batch = build_batch([Record(value=bytes(900_000))] * 64, compression=Compression.ZSTD)
    assert len(batch) < MEGABYTE // 16
    data = TopicProduceData(name="topic", partition_data=[PartitionProduceData(0, batch)])

    def produced() -> None:
        answer: Any = client.request(ProduceRequest(None, -1, 1_000, [data]), 9)
        assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NONE

    assert peak_bytes(produced) < 4 * MEGABYTE


# -- who pretends to be somebody else -------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 12, 13, 16])
def test_cve_2018_1288_a_fetch_is_no_replica(client: InProcessClient, version: int) -> None:
    """Kafka once let a client that claimed to be a replica move the log's truth."""
    described: Any = client.request(MetadataRequest([MetadataRequestTopic(name="topic")]), 12)
    topic_id = described.topics[0].topic_id
    partition = fetch.FetchPartition(0, partition_max_bytes=MEGABYTE)
    request = fetch.FetchRequest(
        replica_id=3,
        replica_state=fetch.ReplicaState(3, 1),
        max_wait_ms=0,
        topics=[fetch.FetchTopic("topic", topic_id, [partition])],
    )
    answer: Any = client.request(request, version)
    refused = answer.responses[0].partitions[0]
    assert refused.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert not refused.records


def test_cve_2018_17196_a_producer_id_belongs_to_its_transactional_id(
    client: InProcessClient,
) -> None:
    """A batch with another one's producer id under one's own TransactionalId is refused."""
    mine: Any = client.request(InitProducerIdRequest("mine", 60_000), 4)
    others: Any = client.request(InitProducerIdRequest("others", 60_000), 4)
    assert mine.producer_id != others.producer_id
    batch = build_batch(
        [Record(value=b"x")],
        producer_id=others.producer_id,
        producer_epoch=others.producer_epoch,
        base_sequence=0,
        transactional=True,
    )
    data = TopicProduceData(name="topic", partition_data=[PartitionProduceData(0, batch)])
    answer: Any = client.request(ProduceRequest("mine", -1, 1_000, [data]), 12)
    code = answer.responses[0].partition_responses[0].error_code
    assert code == ErrorCode.INVALID_PRODUCER_ID_MAPPING
