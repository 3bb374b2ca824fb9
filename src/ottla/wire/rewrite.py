"""Batches made of other batches: what a broker does to a batch beyond giving it an offset.

A topic may demand the broker's time or another codec, and compaction leaves records out. What is
kept of a batch stands as it stood: its offsets, its producer's id, epoch and sequences. Records
are moved as bytes; only the time that each is counted from may have to be written anew, where a
delete horizon takes the place of the base timestamp (KIP-534).
"""

from collections.abc import Iterator
from typing import NamedTuple

from ottla.ports.errors import ProtocolError
from ottla.ports.limits import DECOMPRESSED_BYTES_MAX
from ottla.wire.compression import Compression, compress, decompress
from ottla.wire.records import (
    COMPRESSION_MASK,
    DELETE_HORIZON,
    HEADER_BYTES,
    LOG_APPEND_TIME,
    BatchHeader,
    join_batch,
    read_varint,
    write_varint,
)
from ottla.wire.writing import Bytes


class RawRecord(NamedTuple):
    """One record's bytes, without its length, and what a broker looks at in it."""

    offset: int
    timestamp: int
    key: bytes | None
    has_value: bool
    body: bytes


def read_raw_records(batch: Bytes, header: BatchHeader) -> Iterator[RawRecord]:
    """The records of a batch. Raises ProtocolError if they are not what the header says."""
    data, position = _payload(batch, header), 0
    try:
        for _ in range(header.record_count):
            length, start = read_varint(data, position)
            position = start + length
            if length < 0 or position > len(data):
                raise ProtocolError(f"a record of {length} bytes")
            yield _raw_record(data, start, position, header)
    except IndexError as cause:
        raise ProtocolError("a record is cut short") from cause
    if position != len(data):
        raise ProtocolError(f"{len(data) - position} bytes after the last record")


def _raw_record(data: bytes, start: int, end: int, header: BatchHeader) -> RawRecord:
    timestamp_delta, at = read_varint(data, start + 1)
    offset_delta, at = read_varint(data, at)
    key_bytes, at = read_varint(data, at)
    key = None
    if key_bytes >= 0:
        key = data[at : at + key_bytes]
        at += key_bytes
    value_bytes, at = read_varint(data, at)
    if at + max(value_bytes, 0) > end:
        raise ProtocolError("a record is not as long as it says")
    timestamp = header.base_timestamp + timestamp_delta
    if header.attributes & LOG_APPEND_TIME:
        timestamp = header.max_timestamp
    return RawRecord(
        header.base_offset + offset_delta, timestamp, key, value_bytes >= 0, data[start:end]
    )


def _payload(batch: Bytes, header: BatchHeader) -> bytes:
    payload = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    if header.compression == Compression.NONE:
        return bytes(payload)
    return decompress(header.compression, payload, DECOMPRESSED_BYTES_MAX)


def with_log_append_time(batch: Bytes, header: BatchHeader, now_ms: int) -> bytes:
    """The batch with the broker's time: every record has `now_ms`."""
    body = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    return _joined(header._replace(max_timestamp=now_ms), header.attributes | LOG_APPEND_TIME, body)


def with_create_time(batch: Bytes, header: BatchHeader) -> bytes:
    """The batch as one whose records have the times that their producer gave."""
    body = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    return _joined(header, header.attributes & ~LOG_APPEND_TIME, body)


def with_codec(
    batch: Bytes, header: BatchHeader, codec: Compression, level: int | None = None
) -> bytes:
    """The batch compressed with another codec. Raises ProtocolError if it cannot be read."""
    payload = _payload(batch, header)
    body = compress(codec, payload, level)
    return _joined(header, header.attributes & ~COMPRESSION_MASK | codec, body)


def with_records(
    header: BatchHeader, records: list[RawRecord], delete_horizon_ms: int | None
) -> bytes:
    """The batch with these of its records, at least one; a horizon of None leaves its base time."""
    attributes, base_timestamp, shift_ms = header.attributes, header.base_timestamp, 0
    if delete_horizon_ms is not None:
        attributes |= DELETE_HORIZON
        shift_ms, base_timestamp = base_timestamp - delete_horizon_ms, delete_horizon_ms
    payload = bytearray()
    for record in records:
        body = _shifted(record.body, shift_ms) if shift_ms else record.body
        write_varint(payload, len(body))
        payload += body
    max_timestamp = max(record.timestamp for record in records)
    changed = header._replace(
        base_timestamp=base_timestamp, max_timestamp=max_timestamp, record_count=len(records)
    )
    body = compress(header.compression, payload)
    return _joined(changed, attributes, body)


def without_records(header: BatchHeader) -> bytes:
    """The batch with no record: what is left to say is its offsets and its producer's sequences."""
    return _joined(header._replace(record_count=0), header.attributes & ~COMPRESSION_MASK, b"")


def _shifted(body: bytes, shift_ms: int) -> bytes:
    """A record whose batch counts from a time that is `shift_ms` earlier."""
    delta_ms, rest = read_varint(body, 1)
    out = bytearray(body[:1])
    write_varint(out, delta_ms + shift_ms)
    return bytes(out) + body[rest:]


def _joined(header: BatchHeader, attributes: int, body: Bytes) -> bytes:
    return join_batch(
        body,
        (header.base_offset, header.partition_leader_epoch),
        (attributes, header.last_offset_delta, header.base_timestamp, header.max_timestamp),
        (header.producer_id, header.producer_epoch, header.base_sequence, header.record_count),
    )
