"""What a topic's configs make of a client's batch: refused, let in as it is, or rewritten."""

from typing import Any

import pytest

from ottla.log.config import log_config
from ottla.log.validate import CheckedBatch, RecordsRefused, check_batch, one_batch
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.compression import Compression
from ottla.wire.records import (
    LOG_APPEND_TIME,
    Record,
    build_batch,
    check_crc,
    read_batch_header,
    read_records,
)
from ottla.wire.rewrite import with_log_append_time

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def checked(batch: bytes, **configs: str) -> CheckedBatch:
    wanted = {name.replace("_", "."): value for name, value in configs.items()}
    records = memoryview(batch)
    return check_batch(records, one_batch(records, 9), log_config(wanted), NOW_MS)


def code_of(batch: bytes, **configs: str) -> tuple[ErrorCode, list[int]]:
    with pytest.raises(KafkaError) as caught:
        checked(batch, **configs)
    error = caught.value
    places = [at for at, _ in error.record_errors] if isinstance(error, RecordsRefused) else []
    return error.code, places


def batch(*times_ms: int, key: bytes | None = b"k", **fields: Any) -> bytes:
    return build_batch([Record(0, one, key, b"v" * 50) for one in times_ms], **fields)


def test_a_batch_that_fits_is_let_in_as_it_is() -> None:
    for configs in ({}, {"cleanup_policy": "compact"}, {"compression_type": "gzip"}):
        sent = memoryview(batch(NOW_MS, compression=Compression.GZIP))
        got = checked(sent, **configs)  # type: ignore[arg-type]
        assert bytes(got.records) == bytes(sent)
        assert got.header == read_batch_header(sent)


@pytest.mark.parametrize("codec", list(Compression))
def test_the_broker_s_time_replaces_that_of_every_record(codec: Compression) -> None:
    sent = batch(5, NOW_MS + 9 * HOUR_MS, compression=codec, producer_id=3, producer_epoch=1,
                 base_sequence=8)  # fmt: skip
    records, header = checked(sent, message_timestamp_type="LogAppendTime")
    assert check_crc(records)
    assert header.is_log_append_time
    assert (header.compression, header.base_sequence, header.max_timestamp) == (codec, 8, NOW_MS)
    assert [one.timestamp for one in read_records(records)] == [NOW_MS, NOW_MS]


def test_a_producer_may_not_say_that_it_is_the_broker() -> None:
    stamped = with_log_append_time(batch(NOW_MS), read_batch_header(batch(NOW_MS)), NOW_MS)
    assert code_of(stamped, message_timestamp_type="LogAppendTime") == (
        ErrorCode.INVALID_TIMESTAMP,
        [],
    )
    records, header = checked(stamped)
    assert check_crc(records)
    assert not header.attributes & LOG_APPEND_TIME


def test_times_out_of_range_are_named_record_by_record() -> None:
    bounds = {
        "message_timestamp_before_max_ms": str(HOUR_MS),
        "message_timestamp_after_max_ms": "1000",
    }
    sent = batch(NOW_MS, NOW_MS - HOUR_MS - 1, -1, NOW_MS + 1_001, NOW_MS - HOUR_MS)
    assert code_of(sent, **bounds) == (ErrorCode.INVALID_TIMESTAMP, [1, 3])
    assert code_of(batch(NOW_MS + HOUR_MS + 1)) == (ErrorCode.INVALID_TIMESTAMP, [0])
    checked(sent, message_timestamp_type="LogAppendTime", **bounds)


def test_a_compacted_topic_needs_keys() -> None:
    keyless = batch(NOW_MS, NOW_MS, key=None)
    for policy in ("compact", "compact,delete"):
        assert code_of(keyless, cleanup_policy=policy) == (ErrorCode.INVALID_RECORD, [0, 1])
    checked(keyless, cleanup_policy="delete")
    checked(batch(NOW_MS, key=b""), cleanup_policy="compact")


def test_records_that_cannot_be_read_are_refused_where_they_are_opened() -> None:
    whole = batch(NOW_MS, compression=Compression.GZIP)
    header = read_batch_header(whole)
    liar = with_log_append_time(whole, header._replace(record_count=2, last_offset_delta=1), 5)
    assert code_of(liar, cleanup_policy="compact")[0] == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", list(Compression))
@pytest.mark.parametrize("name", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
def test_a_topic_s_codec(codec: Compression, name: str) -> None:
    sent = batch(NOW_MS, NOW_MS - 5, compression=codec)
    records, header = checked(sent, compression_type=name)
    assert check_crc(records)
    assert Compression(header.compression).name.lower() == name.replace("uncompressed", "none")
    assert read_records(records) == read_records(sent)


@pytest.mark.parametrize(
    ("name", "low", "high", "usual"),
    [("gzip", "1", "9", "-1"), ("lz4", "1", "17", "9"), ("zstd", "-100", "19", "3")],
)
def test_the_level_of_a_topic_s_codec(name: str, low: str, high: str, usual: str) -> None:
    """KIP-390: a topic may spend more or less work on a batch, which is the same batch."""
    sent = build_batch([Record(value=f"{n * 7_919 % 4_001}".encode() * 3) for n in range(500)])

    def made(**levels: str) -> memoryview:
        records, header = checked(sent, compression_type=name, **levels)
        assert check_crc(records)
        assert Compression(header.compression).name.lower() == name
        assert read_records(records) == read_records(sent)
        return records

    def at(level: str) -> memoryview:
        return made(**{f"compression_{name}_level": level})

    assert len(at(low)) > len(at(high))
    assert made() == at(usual)
    another = "zstd" if name == "gzip" else "gzip"
    assert made(**{f"compression_{another}_level": "1"}) == made()


def test_sizes() -> None:
    large = batch(*[NOW_MS] * 50)
    assert code_of(large, max_message_bytes="1000") == (ErrorCode.MESSAGE_TOO_LARGE, [])
    folded = batch(*[NOW_MS] * 50, compression=Compression.GZIP)
    checked(folded, max_message_bytes="1000")
    unfolded = {"max_message_bytes": "1000", "compression_type": "uncompressed"}
    assert code_of(folded, **unfolded) == (ErrorCode.MESSAGE_TOO_LARGE, [])
    assert code_of(large, segment_bytes="1000") == (ErrorCode.RECORD_LIST_TOO_LARGE, [])
