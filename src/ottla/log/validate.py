"""What a client's record batch must be before it is let in.

The batch stays opaque: header and checksum are checked, no record is decoded and nothing is
decompressed. The rules and the error codes are those of Kafka's LogValidator and ProduceRequest.
"""

from ottla.ports.errors import ErrorCode, KafkaError, ProtocolError
from ottla.wire.compression import Compression
from ottla.wire.records import (
    HEADER_BYTES,
    BatchHeader,
    check_crc,
    read_batch_header,
)

TIMESTAMP_AFTER_MAX_MS = 3_600_000  # message.timestamp.after.max.ms
_ZSTD_PRODUCE_VERSION = 7


def check_batch(
    records: memoryview, bytes_max: int, produce_version: int, now_ms: int
) -> BatchHeader:
    """The header of the one batch that a Produce request may hold for a partition.

    `bytes_max` is the topic's max.message.bytes. Raises KafkaError.
    """
    if len(records) < HEADER_BYTES:
        raise KafkaError(
            ErrorCode.INVALID_RECORD, "a Produce request holds one record batch for a partition"
        )
    try:
        header = read_batch_header(records)
    except ProtocolError as error:
        raise KafkaError(ErrorCode.INVALID_RECORD, str(error)) from error
    if header.magic != 2:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
            if header.magic in (0, 1)
            else ErrorCode.INVALID_RECORD,
            f"record batches have magic 2, not {header.magic}",
        )
    if len(records) > bytes_max:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the batch has {len(records)} bytes, and the topic takes {bytes_max} at most",
        )
    if header.size_bytes != len(records):
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"the batch says it has {header.size_bytes} bytes, and {len(records)} came: "
            "one batch for a partition in one request",
        )
    if not check_crc(records):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "the checksum of the batch does not match")
    _check_fields(header, produce_version, now_ms)
    return header


def _check_fields(header: BatchHeader, produce_version: int, now_ms: int) -> None:
    reason = ""
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        reason = (
            f"{header.record_count} records cannot end at offset delta {header.last_offset_delta}"
        )
    elif header.base_offset != 0:
        reason = f"a client's batch begins at offset 0, not {header.base_offset}"
    elif header.is_control:
        reason = "control batches are the broker's alone"
    elif header.producer_id >= 0 and (header.producer_epoch < 0 or header.base_sequence < 0):
        reason = (
            f"producer id {header.producer_id} with epoch {header.producer_epoch} and "
            f"sequence {header.base_sequence}"
        )
    elif header.is_transactional and header.producer_id < 0:
        reason = "a transactional batch needs a producer id"
    if reason:
        raise KafkaError(ErrorCode.INVALID_RECORD, reason)
    if header.compression > Compression.ZSTD or (
        header.compression == Compression.ZSTD and produce_version < _ZSTD_PRODUCE_VERSION
    ):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"compression {header.compression} in a Produce request of version {produce_version}",
        )
    if header.max_timestamp > now_ms + TIMESTAMP_AFTER_MAX_MS:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.max_timestamp} is more than {TIMESTAMP_AFTER_MAX_MS} ms ahead of "
            f"the broker's clock {now_ms}",
        )
