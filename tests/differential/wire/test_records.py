"""Record batches against those of kafka-python and aiokafka, both ways, for all codecs.

Method: uncompressed batches must be the same bytes; compressed ones must unfold to the same
records, as libraries choose their own levels and blocks.
"""

from typing import Any

import aiokafka.record.default_records as aiokafka_records
import pytest

from ottla.wire.compression import Compression
from ottla.wire.records import (
    Record,
    build_batch,
    build_marker,
    check_crc,
    read_batch_header,
    read_marker,
    read_records,
)
from tests.differential.wire import kafka_python

FIRST_MS = 1_700_000_000_000
RECORDS = [
    Record(0, FIRST_MS, b"key", b"value" * 40, (("header", b"1"), ("null", None))),
    Record(1, FIRST_MS + 70_000, None, None, ()),
    Record(2, FIRST_MS - 5, b"", b"", (("", b""),)),
    *(Record(3 + n, FIRST_MS + n, b"k%d" % n, b"v" * (n % 300), ()) for n in range(400)),
]
PRODUCER = {"producer_id": 1 << 40, "producer_epoch": 3, "base_sequence": 77}
LIBRARIES = {"kafka-python": kafka_python.default_records, "aiokafka": aiokafka_records}


# kafka-python does snappy only beside another library.
PAIRS = [
    pytest.param(library, codec, id=f"{name}-{codec.name.lower()}")
    for name, library in LIBRARIES.items()
    for codec in Compression
    if name != "kafka-python" or codec != Compression.SNAPPY or kafka_python.has_snappy()
]


def build_theirs(library: Any, codec: Compression, transactional: bool) -> bytes:
    builder = library.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(codec),
        is_transactional=transactional,
        batch_size=1 << 20,
        **PRODUCER,
    )
    for record in RECORDS:
        added = builder.append(
            record.offset,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
        assert added is not None
    return bytes(builder.build())


@pytest.mark.parametrize(("library", "codec"), PAIRS)
def test_we_read_what_they_build(library: Any, codec: Compression):
    batch = build_theirs(library, codec, transactional=True)
    header = read_batch_header(batch)
    assert check_crc(batch)
    assert header.size_bytes == len(batch)
    assert header.compression == codec
    assert header.is_transactional
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (1 << 40, 3, 77)
    assert header.record_count == len(RECORDS)
    assert (header.base_timestamp, header.max_timestamp) == (FIRST_MS, FIRST_MS + 70_000)
    assert read_records(batch) == RECORDS


@pytest.mark.parametrize(("library", "codec"), PAIRS)
def test_they_read_what_we_build(library: Any, codec: Compression):
    batch = build_batch(RECORDS, base_offset=1000, compression=codec, **PRODUCER)
    theirs = library.DefaultRecordBatch(bytearray(batch))
    assert theirs.validate_crc()
    assert theirs.compression_type == codec
    assert theirs.base_offset == 1000
    read = [Record(r.offset - 1000, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs]
    assert read == RECORDS


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("transactional", [False, True])
def test_an_uncompressed_batch_is_the_same_bytes(library: Any, transactional: bool):
    theirs = build_theirs(library, Compression.NONE, transactional)
    epoch = read_batch_header(theirs).partition_leader_epoch
    ours = build_batch(
        RECORDS, transactional=transactional, partition_leader_epoch=epoch, **PRODUCER
    )
    assert ours == theirs


@pytest.mark.parametrize("commit", [True, False])
def test_a_marker_is_one_to_kafka_python(commit: bool):
    marker = build_marker(commit, 4000, 5, FIRST_MS, coordinator_epoch=9, base_offset=12)
    theirs = kafka_python.default_records.DefaultRecordBatch(bytearray(marker))
    assert theirs.is_control_batch
    assert theirs.is_transactional
    (record,) = list(theirs)
    assert (record.commit, record.abort) == (commit, not commit)
    assert read_marker(marker).commit == commit
