"""What a client's record batch must be before it is let in, and what the topic makes of it.

The batch stays opaque where it can: header and checksum are checked, no record is decoded and
nothing is decompressed. A topic that is compacted (every record needs a key), that bounds how old
a record may be or that demands a codec has its batches opened. The rules and the error codes are
those of Kafka's ProduceRequest and LogValidator, and so is their order: `has_transactional_batch`
looks at a request as a whole, `one_batch` at what it has for a partition, and once the coordinator
has been asked about transactions, `check_batch` at the batch itself.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ottla.log.config import LONG_MAX, LogConfig
from ottla.ports.errors import ErrorCode, KafkaError, ProtocolError
from ottla.wire.compression import Compression
from ottla.wire.records import (
    MAGIC,
    BatchHeader,
    check_crc,
    first_batch_bytes,
    is_transactional,
    read_batch_header,
)
from ottla.wire.rewrite import (
    RawRecord,
    read_raw_records,
    with_codec,
    with_create_time,
    with_log_append_time,
)
from ottla.wire.writing import Bytes

NO_TIMESTAMP = -1
_ZSTD_PRODUCE_VERSION = 7


class RecordsRefused(KafkaError):  # noqa: N818 - as the other kinds of errors are named
    """Some records of a batch are not what they must be, and so none is taken (KIP-467).

    `record_errors` are (number in the batch, reason).
    """

    def __init__(self, code: ErrorCode, message: str, record_errors: list[tuple[int, str]]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


class CheckedBatch(NamedTuple):
    """A batch as its topic takes it: the client's own bytes, or what was made of them."""

    records: memoryview
    header: BatchHeader


def has_transactional_batch(produced: Iterable[Bytes | None]) -> bool:
    """Whether one of the partitions' first batches is of a transaction; the rest is not looked at.

    Raises KafkaError(CORRUPT_MESSAGE) for what is no batch of any version.
    """
    try:
        return any(
            records is not None and first_batch_bytes(records) and is_transactional(records)
            for records in produced
        )
    except ProtocolError as error:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error


def one_batch(records: memoryview, produce_version: int) -> BatchHeader:
    """The header of the one batch that a request may hold for a partition. Raises KafkaError."""
    try:
        size_bytes = first_batch_bytes(records)
        if size_bytes is not None and size_bytes < len(records):
            first_batch_bytes(records[size_bytes:])  # what follows may be no batch at all
    except ProtocolError as error:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    if size_bytes is None:
        raise _invalid("a Produce request holds one record batch for a partition")
    try:
        header = read_batch_header(records)
    except ProtocolError as error:
        raise _invalid(str(error)) from error
    if header.magic != MAGIC:
        raise _invalid(f"record batches have magic {MAGIC}, not {header.magic}")
    if header.compression == Compression.ZSTD and produce_version < _ZSTD_PRODUCE_VERSION:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"zstd in a Produce request of version {produce_version}",
        )
    if size_bytes != len(records):
        raise _invalid(
            f"the batch says it has {size_bytes} bytes, and {len(records)} came: "
            "one batch for a partition in one request"
        )
    return header


def check_batch(
    records: memoryview, header: BatchHeader, config: LogConfig, now_ms: int
) -> CheckedBatch:
    """The batch as its topic takes it. Raises KafkaError."""
    _check_fields(records, header, config.message_bytes_max)
    try:
        _check_records(records, header, config, now_ms)
        checked = _as_demanded(records, header, config, now_ms)
    except ProtocolError as error:
        raise _invalid(str(error)) from error
    if checked.records is not records and len(checked.records) > config.message_bytes_max:
        raise _too_large(len(checked.records), config.message_bytes_max)
    if len(checked.records) > config.segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"the batch has {len(checked.records)} bytes, and a segment {config.segment_bytes}",
        )
    return checked


def _invalid(reason: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, reason)


def _too_large(size_bytes: int, bytes_max: int) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"the batch has {size_bytes} bytes, and the topic takes {bytes_max} at most",
    )


def _check_fields(records: memoryview, header: BatchHeader, bytes_max: int) -> None:
    if header.base_offset != 0:
        raise _invalid(f"a client's batch begins at offset 0, not {header.base_offset}")
    if len(records) > bytes_max:
        raise _too_large(len(records), bytes_max)
    if not check_crc(records):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "the checksum of the batch does not match")
    reason = ""
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        reason = (
            f"{header.record_count} records cannot end at offset delta {header.last_offset_delta}"
        )
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
        raise _invalid(reason)
    if header.compression > Compression.ZSTD:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"compression {header.compression}"
        )


def _check_records(
    records: memoryview, header: BatchHeader, config: LogConfig, now_ms: int
) -> None:
    """Refuse keys that are missing, and times that are out of range."""
    if config.log_append_time and header.is_log_append_time:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP, "a producer may not set the timestamp type LogAppendTime"
        )
    latest_ms = now_ms + config.timestamp_after_max_ms
    earliest_ms = now_ms - config.timestamp_before_max_ms
    checks_times = not config.log_append_time and (
        header.max_timestamp > latest_ms or config.timestamp_before_max_ms < LONG_MAX
    )
    if not checks_times and not config.compacts:
        return
    opened = [*read_raw_records(records, header)]
    if config.compacts:
        _refuse(
            ErrorCode.INVALID_RECORD,
            "Compacted topic cannot accept message without key",
            [at for at, record in enumerate(opened) if record.key is None],
        )
    if checks_times:
        wrong = [
            at
            for at, record in enumerate(opened)
            if not _is_in_range(record, earliest_ms, latest_ms)
        ]
        _refuse(
            ErrorCode.INVALID_TIMESTAMP,
            f"the timestamp should be within [{earliest_ms}, {latest_ms}]",
            wrong,
        )


def _is_in_range(record: RawRecord, earliest_ms: int, latest_ms: int) -> bool:
    return record.timestamp == NO_TIMESTAMP or earliest_ms <= record.timestamp <= latest_ms


def _refuse(code: ErrorCode, reason: str, places: list[int]) -> None:
    if places:
        raise RecordsRefused(
            code,
            f"One or more records have been rejected: {reason}",
            [(at, f"record {at}: {reason}") for at in places],
        )


def _as_demanded(
    records: memoryview, header: BatchHeader, config: LogConfig, now_ms: int
) -> CheckedBatch:
    """The batch with the codec and the kind of time that the topic demands."""
    changed = None
    if config.codec is not None and config.codec != header.compression:
        changed = with_codec(records, header, config.codec, config.codec_level)
        header = read_batch_header(changed)
    if config.log_append_time:
        changed = with_log_append_time(changed or records, header, now_ms)
    elif header.is_log_append_time:
        changed = with_create_time(changed or records, header)
    if changed is None:
        return CheckedBatch(records, header)
    return CheckedBatch(memoryview(changed), read_batch_header(changed))
