"""Record batches of magic 2: what producers send, logs keep and consumers get, the same bytes.

    int64  base offset               int16  attributes         int64  producer id
    int32  batch length              int32  last offset delta  int16  producer epoch
    int32  partition leader epoch    int64  base timestamp     int32  base sequence
    int8   magic                     int64  max timestamp      int32  number of records
    uint32 CRC32C of all after it                              records, compressed together

Base offset and leader epoch stand before the checksum, so that a broker can set them and leave the
rest as the producer made it. A broker deals in headers only; records are read where a person or a
test wants to see them. In a record, lengths and deltas are zigzag varints.

A control batch holds one record that says how its producer's transaction ended: a marker.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct, error
from typing import NamedTuple

from crc32c import crc32c

from ottla.ports.errors import ProtocolError
from ottla.ports.invariants import invariant
from ottla.ports.limits import DECOMPRESSED_BYTES_MAX
from ottla.wire.compression import Compression, compress, decompress
from ottla.wire.writing import Bytes, write_uvarint

MAGIC = 2
HEADER_BYTES = 61
LENGTH_OFFSET_BYTES = 12  # what the batch length does not count: base offset and itself
CRC_START = 21  # the first byte that the checksum covers

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
SEQUENCE_MAX = 0x7FFF_FFFF

_HEADER = Struct(">qiibIhiqqqhii")
_AFTER_CRC = Struct(">hiqqqhii")
_LENGTH = Struct(">8xi")
_LENGTH_MIN = 14  # of a record of magic 0 without key and value, the smallest thing there was
_MAGIC_AT = 16
_ATTRIBUTES_LOW_AT = 22
_BEFORE_CRC = Struct(">qiibI")
_LENGTH_AND_CRC = Struct(">8xi5xI")
_CONTROL_KEY = Struct(">hh")
_MARKER_VALUE = Struct(">hi")
_MARKER_ABORT = 0
_MARKER_COMMIT = 1


class BatchHeader(NamedTuple):
    """The 61 bytes before the records."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL != 0

    @property
    def compression(self) -> int:
        """The codec: one of Compression, or 5 to 7, which do not exist."""
        return self.attributes & COMPRESSION_MASK

    @property
    def is_log_append_time(self) -> bool:
        """Whether all records carry the max timestamp, as the broker's clock set it."""
        return self.attributes & LOG_APPEND_TIME != 0

    @property
    def delete_horizon_ms(self) -> int | None:
        """When compaction may drop the batch's tombstones, or its marker (KIP-534)."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON else None

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """The sequence of the last record. After 2^31-1 comes 0, also inside a batch."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MAX

    @property
    def size_bytes(self) -> int:
        """The size of the whole batch."""
        return LENGTH_OFFSET_BYTES + self.batch_length


class Record(NamedTuple):
    """One record. `timestamp` is in milliseconds since 1970."""

    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Marker(NamedTuple):
    """How a transaction ended, as a control batch says it."""

    commit: bool
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    offset: int
    timestamp: int


def read_batch_header(buffer: Bytes, position: int = 0) -> BatchHeader:
    """The header of the batch at `position`; nothing behind it is looked at.

    `magic` is for the caller to judge: below 2 the fields after it mean something else. Raises
    ProtocolError if fewer than 61 bytes are there, or if the batch says that it is shorter.
    """
    try:
        header = BatchHeader._make(_HEADER.unpack_from(buffer, position))
    except error as cause:
        raise ProtocolError("a record batch is cut short in its header") from cause
    if header.batch_length < HEADER_BYTES - LENGTH_OFFSET_BYTES:
        raise ProtocolError(f"a record batch of length {header.batch_length}")
    return header


def first_batch_bytes(buffer: Bytes) -> int | None:
    """The size of the batch, of whatever magic, that `buffer` begins with; None if it is not whole.

    Raises ProtocolError, in Kafka's words, if no batch begins like this.
    """
    have = len(buffer)
    if have < LENGTH_OFFSET_BYTES:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length < _LENGTH_MIN:
        raise ProtocolError(
            f"Record size {length} is less than the minimum record overhead ({_LENGTH_MIN})"
        )
    if have <= _MAGIC_AT:
        return None
    if buffer[_MAGIC_AT] > MAGIC:
        magic = buffer[_MAGIC_AT] - 256 * (buffer[_MAGIC_AT] > 127)
        raise ProtocolError(f"Invalid magic found in record: {magic}")
    size_bytes = LENGTH_OFFSET_BYTES + length
    return int(size_bytes) if size_bytes <= have else None


def is_transactional(buffer: Bytes) -> bool:
    """Whether the batch that `buffer` begins with, a whole one, is of a transaction."""
    return (
        buffer[_MAGIC_AT] == MAGIC
        and len(buffer) > _ATTRIBUTES_LOW_AT
        and buffer[_ATTRIBUTES_LOW_AT] & TRANSACTIONAL != 0
    )


def check_crc(buffer: Bytes, position: int = 0) -> bool:
    """Whether the batch at `position` is all there and has the checksum that it says.

    The batch is one whose header was read. Raises ProtocolError if not even the checksum is there.
    """
    try:
        length, crc = _LENGTH_AND_CRC.unpack_from(buffer, position)
    except error as cause:
        raise ProtocolError("a record batch is cut short in its header") from cause
    end = position + LENGTH_OFFSET_BYTES + length
    covered = memoryview(buffer)[position + CRC_START : end]
    return end <= len(buffer) and bool(crc == crc32c(covered))


def iterate_batches(buffer: Bytes) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Each batch of `buffer`: its header, and all its bytes.

    A batch cut off at the end is left out: a broker may send one, and a consumer asks for it again.
    Raises ProtocolError for a batch that is not magic 2 or has an impossible length.
    """
    view = memoryview(buffer)
    position = 0
    while len(view) - position >= HEADER_BYTES:
        header = read_batch_header(view, position)
        if header.magic != MAGIC:
            raise ProtocolError(f"a record batch of magic {header.magic}")
        end = position + header.size_bytes
        if end > len(view):
            return
        yield header, view[position:end]
        position = end


def read_records(batch: Bytes, limit_bytes: int = DECOMPRESSED_BYTES_MAX) -> list[Record]:
    """The records of one batch, decompressed to at most `limit_bytes`.

    Raises ProtocolError if the batch is not what its header says. The checksum is not looked at.
    """
    header = read_batch_header(batch)
    if header.magic != MAGIC:
        raise ProtocolError(f"a record batch of magic {header.magic}")
    payload: Bytes = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    if len(payload) != header.size_bytes - HEADER_BYTES:
        raise ProtocolError("a record batch is cut short")
    if header.compression != Compression.NONE:
        payload = decompress(header.compression, payload, limit_bytes)
    if header.record_count < 0:
        raise ProtocolError(f"a record batch of {header.record_count} records")
    data = bytes(payload)
    records = []
    position = 0
    try:
        for _ in range(header.record_count):
            record, position = _read_record(data, position, header)
            records.append(record)
    except IndexError as cause:
        raise ProtocolError("a record is cut short") from cause
    except UnicodeDecodeError as cause:
        raise ProtocolError(f"a record header's key is not UTF-8: {cause}") from cause
    if position != len(data):
        raise ProtocolError(f"{len(data) - position} bytes after the last record")
    return records


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    partition_leader_epoch: int = 0,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
    compression: int = Compression.NONE,
) -> bytes:
    """A batch of at least one record. Offsets follow `base_offset`, whatever the records say."""
    invariant(records, "a batch has at least one record")
    base_timestamp = records[0].timestamp
    payload = bytearray()
    for delta, record in enumerate(records):
        _write_record(payload, record, delta, record.timestamp - base_timestamp)
    attributes = compression | TRANSACTIONAL * transactional | CONTROL * control
    timestamps = base_timestamp, max(record.timestamp for record in records)
    return join_batch(
        compress(compression, payload) if compression else payload,
        (base_offset, partition_leader_epoch),
        (attributes, len(records) - 1, *timestamps),
        (producer_id, producer_epoch, base_sequence, len(records)),
    )


def join_batch(
    body: Bytes,
    placed: tuple[int, int],
    described: tuple[int, int, int, int],
    produced: tuple[int, int, int, int],
) -> bytes:
    """The batch with `body` as its records: offset and leader epoch, then what the CRC covers."""
    covered = _AFTER_CRC.pack(*described, *produced)
    crc = crc32c(body, crc32c(covered))
    length = HEADER_BYTES - LENGTH_OFFSET_BYTES + len(body)
    before = _BEFORE_CRC.pack(placed[0], length, placed[1], MAGIC, crc)
    return b"".join((before, covered, body))


def build_marker(
    commit: bool,
    producer_id: int,
    producer_epoch: int,
    timestamp_ms: int,
    coordinator_epoch: int = 0,
    base_offset: int = 0,
) -> bytes:
    """The control batch that ends a producer's transaction in a partition."""
    return join_batch(
        _marker_record(_MARKER_COMMIT if commit else _MARKER_ABORT, coordinator_epoch),
        (base_offset, 0),
        (TRANSACTIONAL | CONTROL, 0, timestamp_ms, timestamp_ms),
        (producer_id, producer_epoch, NO_SEQUENCE, 1),
    )


@lru_cache(maxsize=64)
def _marker_record(kind: int, coordinator_epoch: int) -> bytes:
    """A marker's one record: the same for all producers and times, and written at every commit."""
    key, value = _CONTROL_KEY.pack(0, kind), _MARKER_VALUE.pack(0, coordinator_epoch)
    payload = bytearray()
    _write_record(payload, Record(key=key, value=value), 0, 0)
    return bytes(payload)


def read_marker(batch: Bytes) -> Marker:
    """What a control batch says.

    Versions above 0 of key and value may add fields at their ends (KIP-98), which are skipped.
    Raises ProtocolError if the batch is not a transaction's marker.
    """
    header = read_batch_header(batch)
    if not header.is_control:
        raise ProtocolError("a marker that is not a control batch")
    records = read_records(batch)
    if len(records) != 1:
        raise ProtocolError(f"a marker of {len(records)} records")
    try:
        _, kind = _CONTROL_KEY.unpack_from(records[0].key or b"")
        _, coordinator_epoch = _MARKER_VALUE.unpack_from(records[0].value or b"")
    except error as cause:
        raise ProtocolError("a marker is cut short") from cause
    if kind not in (_MARKER_ABORT, _MARKER_COMMIT):
        raise ProtocolError(f"a control record of type {kind} is not a marker")
    return Marker(
        kind == _MARKER_COMMIT,
        header.producer_id,
        header.producer_epoch,
        coordinator_epoch,
        header.base_offset,
        header.base_timestamp,
    )


def _read_record(data: bytes, position: int, header: BatchHeader) -> tuple[Record, int]:
    length, position = read_varint(data, position)
    end = position + length
    if length < 0 or end > len(data):
        raise ProtocolError(f"a record of {length} bytes")
    position += 1  # the record's attributes, of which none is defined
    timestamp_delta, position = read_varint(data, position)
    offset_delta, position = read_varint(data, position)
    key, position = _read_nullable(data, position)
    value, position = _read_nullable(data, position)
    header_count, position = read_varint(data, position)
    if header_count < 0:
        raise ProtocolError(f"a record of {header_count} headers")
    headers = []
    for _ in range(header_count):
        header_key, position = _read_nullable(data, position)
        header_value, position = _read_nullable(data, position)
        if header_key is None:
            raise ProtocolError("a record header without a key")
        headers.append((header_key.decode(), header_value))
    if position != end:
        raise ProtocolError(f"a record of {length} bytes is not as long as it says")
    timestamp = header.base_timestamp + timestamp_delta
    if header.is_log_append_time:
        timestamp = header.max_timestamp
    offset = header.base_offset + offset_delta
    return Record(offset, timestamp, key, value, tuple(headers)), position


def _read_nullable(data: bytes, position: int) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position)
    if length < 0:
        return None, position
    end = position + length
    return data[position:end], end


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits: 0, -1, 1, -2 ... are 0, 1, 2, 3 ..."""
    byte = data[position]
    position += 1
    value = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if value >> 64 or shift > 70:
            raise ProtocolError("a varint is longer than 64 bits")
    return value >> 1 ^ -(value & 1), position


def _write_record(out: bytearray, record: Record, offset_delta: int, timestamp_delta: int) -> None:
    body = bytearray(1)  # the record's attributes
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    _write_nullable(body, record.key)
    _write_nullable(body, record.value)
    write_varint(body, len(record.headers))
    for key, value in record.headers:
        _write_nullable(body, key.encode())
        _write_nullable(body, value)
    write_varint(out, len(body))
    out += body


def _write_nullable(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(1)  # -1
    else:
        write_varint(out, len(value))
        out += value


def write_varint(out: bytearray, value: int) -> None:
    write_uvarint(out, value << 1 if value >= 0 else ~value << 1 | 1)
