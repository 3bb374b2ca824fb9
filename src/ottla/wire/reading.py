"""Readers of the protocol's primitive types, for the generated messages.

Each takes a buffer and a position and returns the value and the position behind it. They rely on
the rules that `ottla.wire.message` states: IndexError and struct.error mean that the buffer ended,
a slice may be shorter than asked for, and the caller compares the last position with the end.

A `compact` length is an unsigned varint of the length plus one, 0 being null (KIP-482); the older
form is an int16 (strings) or int32, -1 being null.
"""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct, unpack_from
from typing import TypeVar
from uuid import UUID

from ottla.ports.errors import ProtocolError
from ottla.ports.limits import TAGGED_FIELDS_MAX
from ottla.wire.message import Budget

T = TypeVar("T")
ReadItem = Callable[[memoryview, int, Budget], tuple[T, int]]

_unpack_int16 = Struct(">h").unpack_from
_unpack_int32 = Struct(">i").unpack_from

INT_SIZES_BYTES = {"b": 1, "h": 2, "i": 4, "q": 8}


def read_uvarint(buffer: memoryview, position: int) -> tuple[int, int]:
    """An unsigned varint of at most 31 bits: seven a byte, the lowest first, the top bit for more.

    Unrolled: the top bit of the byte read last says whether `value` is complete.
    """
    value = buffer[position]
    if value < 1 << 7:
        return value, position + 1
    value = value & 0x7F | buffer[position + 1] << 7
    if value < 1 << 14:
        return value, position + 2
    value = value & 0x3FFF | buffer[position + 2] << 14
    if value < 1 << 21:
        return value, position + 3
    value = value & 0x1F_FFFF | buffer[position + 3] << 21
    if value < 1 << 28:
        return value, position + 4
    value = value & 0xFFF_FFFF | buffer[position + 4] << 28
    if value < 1 << 31:
        return value, position + 5
    raise ProtocolError("a varint is longer than 31 bits")


@lru_cache(maxsize=4096)
def uuid_of(raw: bytes) -> UUID:
    """The UUID of 16 bytes. Few topics are asked for often, and making a UUID is slow."""
    return UUID(bytes=raw)


def read_string(buffer: memoryview, position: int) -> tuple[str, int]:
    (length,) = _unpack_int16(buffer, position)
    if length < 0:
        raise ProtocolError(f"a string of length {length}")
    position += 2
    end = position + length
    return buffer[position:end].tobytes().decode(), end


def read_nullable_string(buffer: memoryview, position: int) -> tuple[str | None, int]:
    if _unpack_int16(buffer, position) == (-1,):
        return None, position + 2
    return read_string(buffer, position)


def read_compact_string(buffer: memoryview, position: int) -> tuple[str, int]:
    length = buffer[position] - 1
    position += 1
    if length > 126:
        length, position = read_uvarint(buffer, position - 1)
        length -= 1
    if length < 0:
        raise ProtocolError("a string is null that must not be")
    end = position + length
    return buffer[position:end].tobytes().decode(), end


def read_compact_nullable_string(buffer: memoryview, position: int) -> tuple[str | None, int]:
    length, position = read_uvarint(buffer, position)
    if length == 0:
        return None, position
    end = position + length - 1
    return buffer[position:end].tobytes().decode(), end


def read_bytes(buffer: memoryview, position: int) -> tuple[memoryview, int]:
    (length,) = _unpack_int32(buffer, position)
    if length < 0:
        raise ProtocolError(f"bytes of length {length}")
    position += 4
    end = position + length
    return buffer[position:end], end


def read_nullable_bytes(buffer: memoryview, position: int) -> tuple[memoryview | None, int]:
    if _unpack_int32(buffer, position) == (-1,):
        return None, position + 4
    return read_bytes(buffer, position)


def read_compact_bytes(buffer: memoryview, position: int) -> tuple[memoryview, int]:
    value, position = read_compact_nullable_bytes(buffer, position)
    if value is None:
        raise ProtocolError("bytes are null that must not be")
    return value, position


def read_compact_nullable_bytes(buffer: memoryview, position: int) -> tuple[memoryview | None, int]:
    length, position = read_uvarint(buffer, position)
    if length == 0:
        return None, position
    end = position + length - 1
    return buffer[position:end], end


def read_count(buffer: memoryview, position: int, budget: Budget) -> tuple[int, int]:
    """The number of elements of an array, charged to the budget."""
    (count,) = _unpack_int32(buffer, position)
    budget[0] -= count
    if count < 0 or budget[0] < 0:
        raise ProtocolError(f"an array of {count} elements")
    return count, position + 4


def read_compact_count(buffer: memoryview, position: int, budget: Budget) -> tuple[int, int]:
    """The number of elements of a compact array, charged to the budget."""
    count = buffer[position] - 1
    position += 1
    if count > 126:
        count, position = read_uvarint(buffer, position - 1)
        count -= 1
    budget[0] -= count
    if count < 0 or budget[0] < 0:
        raise ProtocolError(f"an array of {count} elements")
    return count, position


def read_array(
    buffer: memoryview, position: int, budget: Budget, read: ReadItem[T]
) -> tuple[list[T], int]:
    count, position = read_count(buffer, position, budget)
    items = []
    for _ in range(count):
        item, position = read(buffer, position, budget)
        items.append(item)
    return items, position


def read_nullable_array(
    buffer: memoryview, position: int, budget: Budget, read: ReadItem[T]
) -> tuple[list[T] | None, int]:
    if _unpack_int32(buffer, position) == (-1,):
        return None, position + 4
    return read_array(buffer, position, budget, read)


def read_compact_array(
    buffer: memoryview, position: int, budget: Budget, read: ReadItem[T]
) -> tuple[list[T], int]:
    count, position = read_compact_count(buffer, position, budget)
    items = []
    for _ in range(count):
        item, position = read(buffer, position, budget)
        items.append(item)
    return items, position


def read_compact_nullable_array(
    buffer: memoryview, position: int, budget: Budget, read: ReadItem[T]
) -> tuple[list[T] | None, int]:
    if buffer[position] == 0:
        return None, position + 1
    return read_compact_array(buffer, position, budget, read)


def read_ints(
    buffer: memoryview, position: int, budget: Budget, code: str
) -> tuple[list[int], int]:
    """An array of integers of one struct code."""
    count, position = read_count(buffer, position, budget)
    return _ints(buffer, position, count, code)


def read_nullable_ints(
    buffer: memoryview, position: int, budget: Budget, code: str
) -> tuple[list[int] | None, int]:
    if _unpack_int32(buffer, position) == (-1,):
        return None, position + 4
    return read_ints(buffer, position, budget, code)


def read_compact_ints(
    buffer: memoryview, position: int, budget: Budget, code: str
) -> tuple[list[int], int]:
    count, position = read_compact_count(buffer, position, budget)
    return _ints(buffer, position, count, code)


def read_compact_nullable_ints(
    buffer: memoryview, position: int, budget: Budget, code: str
) -> tuple[list[int] | None, int]:
    if buffer[position] == 0:
        return None, position + 1
    return read_compact_ints(buffer, position, budget, code)


def _ints(buffer: memoryview, position: int, count: int, code: str) -> tuple[list[int], int]:
    numbers = list(unpack_from(f">{count}{code}", buffer, position))
    return numbers, position + count * INT_SIZES_BYTES[code]


def read_strings(buffer: memoryview, position: int, budget: Budget) -> tuple[list[str], int]:
    count, position = read_count(buffer, position, budget)
    strings = []
    for _ in range(count):
        string, position = read_string(buffer, position)
        strings.append(string)
    return strings, position


def read_nullable_strings(
    buffer: memoryview, position: int, budget: Budget
) -> tuple[list[str] | None, int]:
    if _unpack_int32(buffer, position) == (-1,):
        return None, position + 4
    return read_strings(buffer, position, budget)


def read_compact_strings(
    buffer: memoryview, position: int, budget: Budget
) -> tuple[list[str], int]:
    count, position = read_compact_count(buffer, position, budget)
    strings = []
    for _ in range(count):
        string, position = read_compact_string(buffer, position)
        strings.append(string)
    return strings, position


def read_compact_nullable_strings(
    buffer: memoryview, position: int, budget: Budget
) -> tuple[list[str] | None, int]:
    if buffer[position] == 0:
        return None, position + 1
    return read_compact_strings(buffer, position, budget)


def read_nullable(
    buffer: memoryview, position: int, budget: Budget, read: ReadItem[T]
) -> tuple[T | None, int]:
    """A struct that may be null: a byte that is -1 for null or 1, then the struct."""
    is_present = buffer[position]
    if is_present == 0xFF:
        return None, position + 1
    return read(buffer, position + 1, budget)


def read_tag_count(buffer: memoryview, position: int, budget: Budget) -> tuple[int, int]:
    """The number of tagged fields, few and charged to the budget."""
    count, position = read_uvarint(buffer, position)
    budget[0] -= count
    if budget[0] < 0 or count > TAGGED_FIELDS_MAX:
        raise ProtocolError(f"{count} tagged fields")
    return count, position


def read_tag(buffer: memoryview, position: int) -> tuple[int, int, int]:
    """A tagged field's tag, and where its value begins and ends."""
    tag, position = read_uvarint(buffer, position)
    size_bytes, position = read_uvarint(buffer, position)
    return tag, position, position + size_bytes


def end_tag(tag: int, position: int, end: int) -> None:
    """Check that the value of a tagged field was as long as it said."""
    if position != end:
        raise ProtocolError(f"the tagged field {tag} is not as long as it says")


def skip_tags(buffer: memoryview, position: int, budget: Budget) -> int:
    """The position behind tagged fields of which none is known."""
    count, position = read_tag_count(buffer, position, budget)
    for _ in range(count):
        _, _, position = read_tag(buffer, position)
    return position
