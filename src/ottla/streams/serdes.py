"""Serdes: how keys and values become bytes. A tombstone (None) never reaches a serde.

A serde is named where a stream begins and where it ends ("json", "str", "bytes", "int64",
"msgpack"), or given as a `Serde` of one's own. Names are part of the identity of stored state.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from ottla.streams.errors import TopologyError


@dataclass(frozen=True, slots=True)
class Serde:
    """A pair of functions and the name of the format. `identity` says that both do nothing."""

    name: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    identity: bool = False


def _text_to_bytes(value: Any) -> bytes:
    if value.__class__ is not str:
        raise TypeError(
            f"the serde 'str' was given {value!r}, a {type(value).__name__}: "
            "make it a str, or name another serde ('json' takes numbers and objects)"
        )
    return value.encode()


def _same_bytes(value: Any) -> bytes:
    if value.__class__ is not bytes:
        raise TypeError(f"the serde 'bytes' was given {value!r}, a {type(value).__name__}")
    return value


_int64 = struct.Struct(">q")


def _int64_from_bytes(data: bytes) -> int:
    number: int = _int64.unpack(data)[0]
    return number


JSON = Serde("json", orjson.dumps, orjson.loads)
STR = Serde("str", _text_to_bytes, bytes.decode)
BYTES = Serde("bytes", _same_bytes, bytes, identity=True)
INT64 = Serde("int64", _int64.pack, _int64_from_bytes)  # as Kafka's LongSerializer
MSGPACK = Serde("msgpack", msgspec.msgpack.encode, msgspec.msgpack.decode)

_named = {serde.name: serde for serde in (JSON, STR, BYTES, INT64, MSGPACK)}


def serde_of(serde: "str | Serde") -> Serde:
    """The serde of that name. Raises TopologyError when there is none."""
    if isinstance(serde, Serde):
        return serde
    if serde not in _named:
        raise TopologyError(f"there is no serde {serde!r}; there are {', '.join(_named)}")
    return _named[serde]
