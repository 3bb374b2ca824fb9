"""Record batches.

Method: what is built is read back (Hypothesis makes the records), and compared once with a batch
written by hand. Every byte is damaged in turn: the checksum tells, and reading without it raises
ProtocolError or gives records, never anything else.
"""

import random
from struct import pack, pack_into

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.ports.errors import InvariantBroken, ProtocolError
from ottla.wire.compression import Compression
from ottla.wire.records import (
    CRC_START,
    HEADER_BYTES,
    BatchHeader,
    Marker,
    Record,
    build_batch,
    build_marker,
    check_crc,
    iterate_batches,
    read_batch_header,
    read_marker,
    read_records,
)

nullable_bytes = st.none() | st.binary(max_size=200)
records = st.builds(
    Record,
    offset=st.just(0),
    timestamp=st.integers(-1, 1 << 45),
    key=nullable_bytes,
    value=nullable_bytes,
    headers=st.lists(st.tuples(st.text(max_size=8), nullable_bytes), max_size=3).map(tuple),
)
THREE = [
    Record(0, 1_700_000_000_000, b"k", b"value" * 50, (("h", b"1"), ("n", None))),
    Record(0, 1_700_000_000_007, None, None),
    Record(0, 1_700_000_000_003, b"", b""),
]


@settings(max_examples=60, deadline=None)
@given(
    batch=st.lists(records, min_size=1, max_size=12),
    base_offset=st.integers(0, 1 << 60),
    codec=st.sampled_from(Compression),
    transactional=st.booleans(),
)
def test_records_come_back(
    batch: list[Record], base_offset: int, codec: Compression, transactional: bool
):
    built = build_batch(
        batch,
        base_offset=base_offset,
        producer_id=1 << 40,
        producer_epoch=7,
        base_sequence=9,
        transactional=transactional,
        compression=codec,
    )
    header = read_batch_header(built)
    assert header.size_bytes == len(built)
    assert header.compression == codec
    assert header.is_transactional == transactional
    assert not header.is_control
    assert header.base_timestamp == batch[0].timestamp
    assert header.max_timestamp == max(record.timestamp for record in batch)
    assert (header.producer_id, header.producer_epoch) == (1 << 40, 7)
    assert header.last_sequence == 9 + len(batch) - 1
    assert header.last_offset == base_offset + len(batch) - 1
    assert check_crc(built)
    assert read_records(built) == [
        record._replace(offset=base_offset + index) for index, record in enumerate(batch)
    ]


def test_a_batch_written_by_hand():
    one = (
        "12"  # the record has 9 bytes
        "00 00 00"  # attributes, timestamp delta, offset delta
        "02 61"  # key "a"
        "04 6262"  # value "bb"
        "00"  # headers
    )
    covered = bytes.fromhex(
        "0010 00000000 0000000000000005 0000000000000005"
        "0000000000000101 0002 00000003 00000001".replace(" ", "")
        + one.replace(" ", "")
    )
    expected = pack(">qiibI", 8, 9 + len(covered), 0, 2, crc32c(covered)) + covered
    built = build_batch(
        [Record(timestamp=5, key=b"a", value=b"bb")],
        base_offset=8,
        producer_id=257,
        producer_epoch=2,
        base_sequence=3,
        transactional=True,
    )
    assert built == expected
    assert read_batch_header(built) == BatchHeader(
        8, 9 + len(covered), 0, 2, crc32c(covered), 0x10, 0, 5, 5, 257, 2, 3, 1
    )


def test_sequences_wrap_inside_a_batch():
    header = read_batch_header(build_batch(THREE, base_sequence=0x7FFF_FFFE))
    assert header.last_sequence == 0
    assert read_batch_header(build_batch(THREE)).last_sequence == -1


def test_a_log_append_time_stands_for_all_records():
    batch = bytearray(build_batch(THREE))
    batch[22] |= 0x08
    pack_into(">q", batch, 35, 77)
    assert read_batch_header(batch).is_log_append_time
    assert [record.timestamp for record in read_records(batch)] == [77, 77, 77]


def test_offset_and_leader_epoch_are_not_under_the_checksum():
    batch = bytearray(build_batch(THREE))
    pack_into(">q", batch, 0, 1000)
    pack_into(">i", batch, 12, 5)
    assert check_crc(batch)
    assert [record.offset for record in read_records(batch)] == [1000, 1001, 1002]


@pytest.mark.parametrize("codec", Compression)
def test_a_damaged_byte_is_told_by_the_checksum_and_harms_nobody(codec: Compression):
    batch = build_batch(THREE, compression=codec)
    for position in range(CRC_START - 4, len(batch)):
        damaged = bytearray(batch)
        damaged[position] ^= 0x55
        assert not check_crc(damaged)
        try:
            read_records(damaged)
        except ProtocolError:
            continue


@pytest.mark.parametrize("codec", Compression)
def test_a_batch_cut_short_is_refused(codec: Compression):
    batch = build_batch(THREE, compression=codec)
    for length in range(len(batch)):
        with pytest.raises(ProtocolError):
            read_records(batch[:length])
        if length >= CRC_START:
            assert not check_crc(batch[:length])
        else:
            with pytest.raises(ProtocolError):
                check_crc(batch[:length])


def test_records_that_contradict_their_batch_are_refused():
    rng = random.Random(1)
    batch = build_batch(THREE)
    for _ in range(3000):
        damaged = bytearray(batch)
        position = rng.randrange(HEADER_BYTES - 4, len(batch))
        damaged[position] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
        try:
            read_records(damaged)
        except ProtocolError:
            continue


@pytest.mark.parametrize("count", [-1, 2, 4, 0x7FFF_FFFF])
def test_a_wrong_record_count_is_refused(count: int):
    batch = bytearray(build_batch(THREE))
    pack_into(">i", batch, 57, count)
    with pytest.raises(ProtocolError):
        read_records(batch)
    empty = batch_of("", -1)
    with pytest.raises(ProtocolError, match="a record batch of -1 records"):
        read_records(empty)
    assert read_records(batch_of("", 0)) == []


def batch_of(payload: str, count: int) -> bytes:
    """A batch with these bytes, in hexadecimal, for its records."""
    records_part = bytes.fromhex(payload.replace(" ", ""))
    batch = bytearray(build_batch([Record()])[:HEADER_BYTES]) + records_part
    pack_into(">i", batch, 8, len(batch) - 12)
    pack_into(">i", batch, 57, count)
    return bytes(batch)


def test_a_record_is_what_it_says():
    assert read_records(batch_of("0c 00 00 00 01 01 00", 1)) == [Record()]
    # Any negative length is null, as in Kafka.
    assert read_records(batch_of("0c 00 00 00 03 05 00", 1)) == [Record()]
    far = "1e 00 feffffffffffffffff01 00 01 01 00"
    assert read_records(batch_of(far, 1)) == [Record(timestamp=(1 << 63) - 1)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("0e 00 00 00 01 01 00 ff", "a record of 7 bytes is not as long as it says"),
        ("0a 00 00 00 01 01 00", "a record of 5 bytes is not as long as it says"),
        ("0c 00 00 00 01 01 01", "a record of -1 headers"),
        ("10 00 00 00 01 01 02 01 01", "a record header without a key"),
        ("12 00 00 00 01 01 02 02 ff 01", "not UTF-8"),
        ("0b 00 00 00 01 01 00", "a record of -6 bytes"),
        ("0e 00 00 00 01 01 00", "a record of 7 bytes"),
        ("1e 00 80808080808080808002 00 01 01 00", "longer than 64 bits"),
        ("80808080808080808080 00", "longer than 64 bits"),
        ("ffffffffffffffffffff01", "longer than 64 bits"),
    ],
)
def test_a_record_that_is_not_what_it_says_is_refused(payload: str, reason: str):
    with pytest.raises(ProtocolError, match=reason):
        read_records(batch_of(payload, 1))


def test_a_checksum_over_a_part_of_the_batch_does_not_count():
    batch = bytearray(build_batch(THREE))
    pack_into(">i", batch, 8, len(batch) - 12 + 1)
    assert read_batch_header(batch).crc == crc32c(batch[CRC_START:])
    assert not check_crc(batch)


def test_decompression_stops_at_the_limit():
    batch = build_batch([Record(value=bytes(1_000_000))], compression=Compression.ZSTD)
    assert len(batch) < 200
    assert len(read_records(batch)[0].value or b"") == 1_000_000
    with pytest.raises(ProtocolError, match="more than 999999 bytes"):
        read_records(batch, limit_bytes=999_999)


def test_batches_one_after_the_other():
    first, second = build_batch(THREE), build_batch(THREE, base_offset=3)
    stream = first + second
    read = list(iterate_batches(stream))
    assert [header.base_offset for header, _ in read] == [0, 3]
    assert [bytes(batch) for _, batch in read] == [first, second]
    # A broker may cut the last batch at max bytes: it is left out.
    assert len(list(iterate_batches(stream[:-1]))) == 1
    assert len(list(iterate_batches(stream[: len(first) + 60]))) == 1
    assert list(iterate_batches(b"")) == []


def test_a_batch_of_another_kind_is_refused():
    old = bytearray(build_batch(THREE))
    old[16] = 1
    assert read_batch_header(old).magic == 1
    with pytest.raises(ProtocolError, match="magic 1"):
        list(iterate_batches(old))
    with pytest.raises(ProtocolError, match="magic 1"):
        read_records(old)


@pytest.mark.parametrize("length", [-1, -(1 << 31), 0, 48])
def test_an_impossible_batch_length_is_refused(length: int):
    batch = bytearray(build_batch(THREE))
    pack_into(">i", batch, 8, length)
    with pytest.raises(ProtocolError, match="a record batch of length"):
        read_batch_header(batch)


def test_an_empty_batch_cannot_be_built():
    with pytest.raises(InvariantBroken):
        build_batch([])


@pytest.mark.parametrize("commit", [True, False])
def test_markers_come_back(commit: bool):
    marker = build_marker(commit, 4000, 5, 1_700_000_000_000, coordinator_epoch=2, base_offset=44)
    header = read_batch_header(marker)
    assert header.is_control
    assert header.is_transactional
    assert (header.base_sequence, header.record_count, header.compression) == (-1, 1, 0)
    assert check_crc(marker)
    assert read_marker(marker) == Marker(commit, 4000, 5, 2, 44, 1_700_000_000_000)
    (record,) = read_records(marker)
    assert record.key == bytes([0, 0, 0, commit])
    assert record.value == bytes([0, 0, 0, 0, 0, 2])


def test_what_is_no_marker_is_refused():
    with pytest.raises(ProtocolError, match="not a control batch"):
        read_marker(build_batch(THREE))
    for key, value in (
        (b"\0\0", bytes(6)),
        (b"\0\0\0\1", b""),
        (None, None),
        (b"\0\0\0\2", b"\0" * 6),
    ):
        with pytest.raises(ProtocolError, match="marker"):
            read_marker(build_batch([Record(key=key, value=value)], control=True))
    with pytest.raises(ProtocolError, match="2 records"):
        read_marker(build_batch(THREE[:2], control=True))
