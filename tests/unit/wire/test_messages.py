"""Every message at every version: it comes back as it was, and hostile bytes do no harm.

Method: messages are made from the schema tables (`samples`), so a new table is covered without a
new test. Hostile bytes are all truncations of a message, random mutations of it, and long runs of
bytes that claim many elements; each must decode or raise ProtocolError, within bounded memory.
"""

import contextlib
import random
import tracemalloc

import pytest

from ottla.ports.errors import InvariantBroken, ProtocolError
from ottla.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from ottla.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from ottla.wire.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.writing import Records
from tests.unit.wire.samples import Case, apis, cases, samples

CASES = cases()
REQUESTS = [case for case in CASES if case.kind == "Request"]
APIS = [api.name for api in apis()]


def cases_of(name: str) -> list[Case]:
    return [case for case in CASES if case.api.name == name]


@pytest.mark.parametrize("name", APIS)
def test_a_message_comes_back_as_it_was(name: str):
    for case in cases_of(name):
        for message in samples(case, count=6):
            encoded = bytes(message.encode(case.version))
            behind = memoryview(b"\x99" * 3 + encoded + b"\x99")
            decoded, position = case.message.decode(behind, 3, case.version)
            assert decoded == message, case
            assert position == 3 + len(encoded), case
            assert decoded.encode(case.version) == encoded, case


@pytest.mark.parametrize("name", APIS)
def test_a_message_cut_short_is_refused(name: str):
    for case in cases_of(name):
        for message in samples(case, count=4):
            encoded = memoryview(bytes(message.encode(case.version)))
            step = 1 + len(encoded) // 100
            for length in range(0, len(encoded), step):
                with pytest.raises(ProtocolError):
                    case.message.decode(encoded[:length], 0, case.version)


@pytest.mark.parametrize("name", APIS)
def test_a_damaged_message_decodes_or_is_refused(name: str):
    rng = random.Random(name)
    for case in cases_of(name):
        for message in samples(case, count=4):
            encoded = message.encode(case.version)
            for _ in range(20 if encoded else 0):
                damaged = bytearray(encoded)
                for _ in range(rng.randrange(1, 4)):
                    damaged[rng.randrange(len(damaged))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
                try:
                    _, position = case.message.decode(memoryview(damaged), 0, case.version)
                except ProtocolError:
                    continue
                assert position <= len(damaged)


@pytest.mark.parametrize("pattern", [b"\x01", b"\x02", b"\x00", b"\x7f", b"\xff", b"\0\0\x03\0"])
def test_memory_is_bounded_by_the_bytes_that_came(pattern: bytes):
    """A few bytes become an object at most: nothing is taken for elements that are only claimed."""
    hostile = memoryview(pattern * (4000 // len(pattern)))
    tracemalloc.start()
    try:
        for case in REQUESTS:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with contextlib.suppress(ProtocolError):
                case.message.decode(hostile, 0, case.version)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 100 * len(hostile) + 20_000, case
    finally:
        tracemalloc.stop()


def test_elements_are_charged_to_one_budget_for_all_arrays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ottla.wire.message.ARRAY_ELEMENTS_MAX", 20)
    few = ProduceRequest(topic_data=[TopicProduceData("t") for _ in range(20)])
    ProduceRequest.decode(memoryview(few.encode(9)), 0, 9)
    partitions = [PartitionProduceData(index) for index in range(10)]
    many = ProduceRequest(topic_data=[TopicProduceData("t", partition_data=partitions)] * 2)
    with pytest.raises(ProtocolError, match="elements"):
        ProduceRequest.decode(memoryview(many.encode(9)), 0, 9)


def test_tagged_fields_are_charged_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ottla.wire.message.ARRAY_ELEMENTS_MAX", 20)
    body = EndTxnRequest("t", 1, 1, True).encode(3)
    for count, is_refused in ((20, False), (21, True)):
        tagged = memoryview(body[:-1] + bytes([count]) + b"\x63\x00" * count)
        if is_refused:
            with pytest.raises(ProtocolError, match="tagged fields"):
                EndTxnRequest.decode(tagged, 0, 3)
        else:
            assert EndTxnRequest.decode(tagged, 0, 3)[1] == len(tagged)


def test_a_large_claim_is_refused_at_once():
    claim = memoryview(b"\x7f\xff\xff\xff")
    with pytest.raises(ProtocolError, match="2147483647 elements"):
        MetadataRequest.decode(claim, 0, 0)


def test_unknown_tagged_fields_are_skipped():
    body = EndTxnRequest("txn", 7, 1, True).encode(3)
    assert body[-1] == 0
    extended = memoryview(body[:-1] + b"\x02" + b"\x63\x03abc" + b"\xe8\x07\x00")
    assert EndTxnRequest.decode(extended, 0, 3) == (EndTxnRequest("txn", 7, 1, True), len(extended))


def test_a_tagged_field_is_as_long_as_it_says():
    message = FetchRequest(cluster_id="abc")
    encoded = message.encode(12)
    assert encoded.endswith(b"\x01" + b"\x00\x04" + b"\x04abc")
    encoded[-5] = 3
    with pytest.raises(ProtocolError, match="tagged field 0"):
        FetchRequest.decode(memoryview(encoded), 0, 12)


def test_null_is_refused_where_it_means_nothing():
    for null in (b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe"):
        with pytest.raises(ProtocolError):
            MetadataRequest.decode(memoryview(null), 0, 0)
    assert MetadataRequest.decode(memoryview(b"\xff\xff\xff\xff"), 0, 1)[0].topics is None
    with pytest.raises(ProtocolError, match="null"):
        EndTxnRequest.decode(memoryview(bytes(20)), 0, 3)


def test_text_that_is_not_utf_8_is_refused():
    encoded = EndTxnRequest("txn", 7, 1, True).encode(3)
    encoded[1] = 0xFF
    with pytest.raises(ProtocolError, match="utf-8"):
        EndTxnRequest.decode(memoryview(encoded), 0, 3)


def test_a_version_that_does_not_exist():
    with pytest.raises(ProtocolError, match="ProduceRequest has no version 2"):
        ProduceRequest.decode(memoryview(b""), 0, 2)
    with pytest.raises(InvariantBroken, match="ProduceRequest has no version 14"):
        ProduceRequest().encode(14)


def test_null_cannot_be_written_where_a_version_has_none():
    assert MetadataRequest(topics=None).encode(1) == b"\xff\xff\xff\xff"
    with pytest.raises(InvariantBroken, match="null"):
        MetadataRequest(topics=None).encode(0)


def test_records_are_views_on_the_way_in_and_pieces_on_the_way_out():
    piece = PartitionProduceData(3, b"one batch")
    buffer = ProduceRequest(topic_data=[TopicProduceData("t", partition_data=[piece])]).encode(9)
    decoded, _ = ProduceRequest.decode(memoryview(buffer), 0, 9)
    records = decoded.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    assert records.obj is buffer

    for version in (4, 12):
        whole = fetch_response(b"batch1batch2").encode(version)
        assert fetch_response([b"batch1", memoryview(b"batch2")]).encode(version) == whole
        assert fetch_response([]).encode(version) == fetch_response(b"").encode(version)


def fetch_response(records: Records) -> FetchResponse:
    partition = PartitionData(records=records)
    return FetchResponse(responses=[FetchableTopicResponse("t", partitions=[partition])])


def test_defaults_are_kafkas_and_not_shared():
    request = InitProducerIdRequest()
    assert (request.producer_id, request.producer_epoch) == (-1, -1)
    assert ProduceRequest().transactional_id is None
    assert MetadataRequest().allow_auto_topic_creation is True
    assert FetchRequest().max_bytes == 0x7FFF_FFFF
    assert AddPartitionsToTxnRequest().transactions == []
    first, second = FetchResponse(), FetchResponse()
    first.responses.append("changed")  # type: ignore[arg-type]
    assert second.responses == []


def test_structures_compare_by_their_fields():
    assert MetadataRequestTopic(name="a") == MetadataRequestTopic(name="a")
    assert MetadataRequestTopic(name="a") != MetadataRequestTopic(name="b")
    assert MetadataRequestTopic(name="a") != "a"
    assert repr(EndTxnRequest("t", 1, 2, True)) == (
        "EndTxnRequest(transactional_id='t', producer_id=1, producer_epoch=2, committed=True)"
    )
    with pytest.raises(TypeError, match="unhashable"):
        hash(EndTxnRequest())


# Bytes written by hand from the protocol's grammar: they hold whatever the tables say.

BY_HAND = [
    (EndTxnRequest("txn", 258, 3, True), 1, "0003 74786e 0000000000000102 0003 01"),
    (EndTxnRequest("txn", 258, 3, False), 3, "04 74786e 0000000000000102 0003 00 00"),
    (MetadataRequest(topics=[MetadataRequestTopic(name="a")]), 0, "00000001 0001 61"),
    (
        DescribeTopicPartitionsRequest(cursor=Cursor("a", 2)),
        0,
        "01 000007d0 01 02 61 00000002 00 00",
    ),
    (DescribeTopicPartitionsRequest(), 0, "01 000007d0 ff 00"),
    (
        # The maximum of a finalized feature stands before its minimum (KIP-584).
        ApiVersionsResponse(
            api_keys=[ApiVersion(18, 0, 4)],
            supported_features=[SupportedFeatureKey("f", 1, 2)],
            finalized_features_epoch=5,
            finalized_features=[FinalizedFeatureKey("f", 2, 1)],
            zk_migration_ready=False,
        ),
        3,
        "0000 02 0012 0000 0004 00 00000000 03"
        " 00 08 02 02 66 0001 0002 00"
        " 01 08 0000000000000005"
        " 02 08 02 02 66 0002 0001 00",
    ),
]


@pytest.mark.parametrize(("message", "version", "expected"), BY_HAND)
def test_bytes_written_by_hand(message, version: int, expected: str):
    encoded = bytes.fromhex(expected.replace(" ", ""))
    assert message.encode(version) == encoded
    assert type(message).decode(memoryview(encoded), 0, version) == (message, len(encoded))
