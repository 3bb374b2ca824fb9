"""The protocol's primitive types at their edges: lengths that need another byte, null, nonsense."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.ports.errors import ProtocolError
from ottla.wire import reading, writing

EDGES = [0, 1, 126, 127, 128, 129, 16_383, 16_384, (1 << 21) - 1, 1 << 21, (1 << 28) - 1, 1 << 28]
LENGTHS = [0, 1, 125, 126, 127, 128, 20_000]


def varint(value: int) -> bytearray:
    out = bytearray()
    writing.write_uvarint(out, value)
    return out


@pytest.mark.parametrize("value", [*EDGES, (1 << 31) - 1])
def test_varints_come_back(value: int):
    encoded = varint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert reading.read_uvarint(memoryview(encoded + b"\xff"), 0) == (value, len(encoded))


@given(st.integers(0, (1 << 31) - 1))
def test_all_varints_come_back(value: int):
    encoded = varint(value)
    assert reading.read_uvarint(memoryview(encoded), 0) == (value, len(encoded))


@pytest.mark.parametrize(
    "encoded", [varint(1 << 31), varint((1 << 35) - 1), b"\xff" * 4 + b"\x80", b"\x80" * 10]
)
def test_a_varint_above_31_bits_is_refused(encoded: bytes):
    with pytest.raises(ProtocolError, match="31 bits"):
        reading.read_uvarint(memoryview(encoded), 0)


@pytest.mark.parametrize("encoded", [b"", b"\x80", b"\xff\xff", b"\x80" * 3, b"\x80" * 4])
def test_a_varint_cut_short_ends_the_buffer(encoded: bytes):
    with pytest.raises(IndexError):
        reading.read_uvarint(memoryview(encoded), 0)


@pytest.mark.parametrize("form", ["", "compact_", "nullable_", "compact_nullable_"])
@pytest.mark.parametrize("length", LENGTHS)
def test_strings_and_bytes_come_back(form: str, length: int):
    for kind, value in (("string", "x" * length), ("bytes", b"x" * length)):
        out = bytearray(b"before")
        getattr(writing, f"write_{form}{kind}")(out, value)
        read = getattr(reading, f"read_{form}{kind}")
        assert read(memoryview(out), 6) == (value, len(out))


@pytest.mark.parametrize("form", ["", "compact_", "nullable_", "compact_nullable_"])
@pytest.mark.parametrize("length", LENGTHS)
def test_arrays_come_back(form: str, length: int):
    for kind, items, extra in (
        ("ints", list(range(length)), ["q"]),
        ("strings", ["a"] * length, []),
    ):
        out = bytearray(b"before")
        getattr(writing, f"write_{form}{kind}")(out, items, *extra)
        read = getattr(reading, f"read_{form}{kind}")
        budget = [length]
        assert read(memoryview(out), 6, budget, *extra) == (items, len(out))
        assert budget == [0]
        if length:
            with pytest.raises(ProtocolError, match=f"{length} elements"):
                read(memoryview(out), 6, [length - 1], *extra)


@pytest.mark.parametrize("form", ["nullable_", "compact_nullable_"])
def test_null_comes_back(form: str):
    for kind, budget, extra in (
        ("string", [], []),
        ("bytes", [], []),
        ("ints", [[9]], ["i"]),
        ("strings", [[9]], []),
        ("array", [[9]], [None]),
    ):
        out = bytearray()
        getattr(writing, f"write_{form}{kind}")(out, None, *extra)
        read = getattr(reading, f"read_{form}{kind}")
        assert read(memoryview(out), 0, *budget, *extra) == (None, len(out))


@pytest.mark.parametrize("form", ["", "nullable_"])
@pytest.mark.parametrize("length", [-2, -100, -32_768])
def test_a_negative_length_other_than_null_is_refused(form: str, length: int):
    """Positions only grow: a negative length would read the same bytes again."""
    with pytest.raises(ProtocolError):
        getattr(reading, f"read_{form}string")(memoryview(struct.pack(">h", length)), 0)
    data = memoryview(struct.pack(">i", length))
    with pytest.raises(ProtocolError):
        getattr(reading, f"read_{form}bytes")(data, 0)
    for kind in ("ints", "strings"):
        with pytest.raises(ProtocolError):
            getattr(reading, f"read_{form}{kind}")(data, 0, [9], *(["i"] if kind == "ints" else []))


@pytest.mark.parametrize("kind", ["string", "bytes"])
def test_null_is_refused_where_it_may_not_be(kind: str):
    data = memoryview(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError):
        getattr(reading, f"read_{kind}")(data, 0)
    with pytest.raises(ProtocolError, match="null"):
        getattr(reading, f"read_compact_{kind}")(memoryview(b"\x00"), 0)


def test_a_uuid_is_made_once():
    raw = bytes(range(16))
    assert reading.uuid_of(raw).bytes == raw
    assert reading.uuid_of(raw) is reading.uuid_of(raw)
