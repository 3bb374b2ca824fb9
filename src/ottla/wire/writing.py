"""Writers of the protocol's primitive types, for the generated messages: the reverse of `reading`.

Each appends a value to a bytearray. A value that does not fit its type is a mistake in this
process, not in the peer's bytes, and raises whatever Python raises for it.
"""

from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import TypeVar, cast

from ottla.ports.invariants import invariant

T = TypeVar("T")
WriteItem = Callable[[bytearray, T], None]
Bytes = bytes | bytearray | memoryview
Records = Bytes | Sequence[Bytes]  # record batches, in one piece or in several

_pack_int16 = Struct(">h").pack
_pack_int32 = Struct(">i").pack

_ONE_PIECE = (bytes, bytearray, memoryview)
_NULL_INT16 = _pack_int16(-1)
_NULL_INT32 = _pack_int32(-1)


def not_null(value: T | None) -> T:
    """A field that may be null in other versions than the one being written."""
    invariant(value is not None, "a field is null in a version that does not allow it")
    return cast(T, value)


def write_uvarint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def write_string(out: bytearray, value: str) -> None:
    encoded = value.encode()
    out += _pack_int16(len(encoded))
    out += encoded


def write_nullable_string(out: bytearray, value: str | None) -> None:
    if value is None:
        out += _NULL_INT16
    else:
        write_string(out, value)


def write_compact_string(out: bytearray, value: str) -> None:
    encoded = value.encode()
    length = len(encoded)
    if length < 0x7F:
        out.append(length + 1)
    else:
        write_uvarint(out, length + 1)
    out += encoded


def write_compact_nullable_string(out: bytearray, value: str | None) -> None:
    if value is None:
        out.append(0)
    else:
        write_compact_string(out, value)


def write_bytes(out: bytearray, value: Bytes) -> None:
    out += _pack_int32(len(value))
    out += value


def write_nullable_bytes(out: bytearray, value: Bytes | None) -> None:
    if value is None:
        out += _NULL_INT32
    else:
        write_bytes(out, value)


def write_compact_bytes(out: bytearray, value: Bytes) -> None:
    write_uvarint(out, len(value) + 1)
    out += value


def write_compact_nullable_bytes(out: bytearray, value: Bytes | None) -> None:
    if value is None:
        out.append(0)
    else:
        write_compact_bytes(out, value)


def write_nullable_records(out: bytearray, value: Records | None) -> None:
    if value is None:
        out += _NULL_INT32
    elif isinstance(value, _ONE_PIECE):
        write_bytes(out, value)
    else:
        out += _pack_int32(sum(map(len, value)))
        for piece in value:
            out += piece


def write_compact_nullable_records(out: bytearray, value: Records | None) -> None:
    if value is None:
        out.append(0)
    elif isinstance(value, _ONE_PIECE):
        write_compact_bytes(out, value)
    else:
        write_uvarint(out, sum(map(len, value)) + 1)
        for piece in value:
            out += piece


def write_array(out: bytearray, items: Sequence[T], write: WriteItem[T]) -> None:
    out += _pack_int32(len(items))
    for item in items:
        write(out, item)


def write_nullable_array(out: bytearray, items: Sequence[T] | None, write: WriteItem[T]) -> None:
    if items is None:
        out += _NULL_INT32
    else:
        write_array(out, items, write)


def write_compact_array(out: bytearray, items: Sequence[T], write: WriteItem[T]) -> None:
    count = len(items)
    if count < 0x7F:
        out.append(count + 1)
    else:
        write_uvarint(out, count + 1)
    for item in items:
        write(out, item)


def write_compact_nullable_array(
    out: bytearray, items: Sequence[T] | None, write: WriteItem[T]
) -> None:
    if items is None:
        out.append(0)
    else:
        write_compact_array(out, items, write)


def write_ints(out: bytearray, numbers: Sequence[int], code: str) -> None:
    """An array of integers of one struct code."""
    out += _pack_int32(len(numbers))
    out += pack(f">{len(numbers)}{code}", *numbers)


def write_nullable_ints(out: bytearray, numbers: Sequence[int] | None, code: str) -> None:
    if numbers is None:
        out += _NULL_INT32
    else:
        write_ints(out, numbers, code)


def write_compact_ints(out: bytearray, numbers: Sequence[int], code: str) -> None:
    write_uvarint(out, len(numbers) + 1)
    out += pack(f">{len(numbers)}{code}", *numbers)


def write_compact_nullable_ints(out: bytearray, numbers: Sequence[int] | None, code: str) -> None:
    if numbers is None:
        out.append(0)
    else:
        write_compact_ints(out, numbers, code)


def write_strings(out: bytearray, strings: Sequence[str]) -> None:
    write_array(out, strings, write_string)


def write_nullable_strings(out: bytearray, strings: Sequence[str] | None) -> None:
    write_nullable_array(out, strings, write_string)


def write_compact_strings(out: bytearray, strings: Sequence[str]) -> None:
    write_compact_array(out, strings, write_compact_string)


def write_compact_nullable_strings(out: bytearray, strings: Sequence[str] | None) -> None:
    write_compact_nullable_array(out, strings, write_compact_string)


def write_nullable(out: bytearray, value: T | None, write: WriteItem[T]) -> None:
    """A struct that may be null."""
    if value is None:
        out.append(0xFF)
    else:
        out.append(1)
        write(out, value)


def write_tags(out: bytearray, tags: Sequence[tuple[int, Bytes]]) -> None:
    """The tagged fields of a struct, given in the order of their tags. Mostly there are none."""
    if not tags:
        out.append(0)
        return
    write_uvarint(out, len(tags))
    for tag, value in tags:
        write_uvarint(out, tag)
        write_uvarint(out, len(value))
        out += value
