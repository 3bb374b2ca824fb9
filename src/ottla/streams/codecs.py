"""The forms of a stored value: live in the layers of a store, and bytes on disk and in changelogs.

A live form is immutable: plain values as they are, everything else as its MessagePack bytes. User
code that changes an aggregate in place can so never change what another transaction will see.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ottla.ports.errors import DataDamaged
from ottla.streams.topology import STATE_FORMAT_VERSION

FORMAT = bytes([STATE_FORMAT_VERSION])  # before every value, on disk and in the changelog
_SCALARS = frozenset((int, float, str, bool))
_first = struct.Struct(">qiq")
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


class _Deleted:
    def __repr__(self) -> str:
        return "DELETED"


DELETED = _Deleted()


@dataclass(frozen=True, slots=True)
class Codec:
    """Between the live form of a value and its bytes; `encode` puts the format before them."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def freeze(value: Any) -> Any:
    """The live form of a value of the user: itself if immutable, else its MessagePack bytes."""
    return value if value.__class__ in _SCALARS else _pack(value)


def thaw(live: Any) -> Any:
    """A fresh value from its live form."""
    return _unpack(live) if live.__class__ is bytes else live


def _decode_user(data: bytes) -> Any:
    value = _unpack(data)
    return value if value.__class__ in _SCALARS else data


def _encode(live: Any) -> bytes:
    return FORMAT + _pack(live)


def _encode_user(live: Any) -> bytes:
    return FORMAT + (live if live.__class__ is bytes else _pack(live))


def _decode_tuple(data: bytes) -> tuple[Any, ...]:
    return tuple(_unpack(data))


USER = Codec(_encode_user, _decode_user)  # scalars, or MessagePack bytes
TUPLE = Codec(_encode, _decode_tuple)  # slots of aggregations
SCALAR = Codec(_encode, _unpack)  # the one slot of one aggregation
FIRST = Codec(FORMAT.__add__, bytes)  # of a dedupe: clock, partition, offset, packed
pack_first = _first.pack
unpack_first = _first.unpack


def decode_value(codec: Codec, data: bytes | None, store: str) -> Any:
    """A live value from its bytes. Raises DataDamaged on a format not known."""
    if data is None or data[:1] != FORMAT:
        found = "nothing" if not data else data[:1].hex()
        raise DataDamaged(
            f"store {store!r} has a value of format {found}; this version "
            f"reads format {FORMAT.hex()}. A newer version wrote it, or something else did"
        )
    return codec.decode(data[1:])
