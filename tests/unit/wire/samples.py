"""Sample messages, made from the schema tables, so that no API and no version is forgotten.

`samples` gives for a message and version: one with all defaults, one with every field filled and
every array long enough for a two-byte length, and some with random values at the edges of their
types. Tame values are those that other libraries' stricter types take too: error codes that exist,
times that a clock may show.
"""

import random
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import ottla.wire.schema
from ottla.ports.errors import ErrorCode
from ottla.wire.message import Message
from ottla.wire.schema.grammar import Api, Field, read_all

SCHEMA = Path(ottla.wire.schema.__file__).parent

INT_BITS = {"int8": 7, "int16": 15, "uint16": 16, "int32": 31, "int64": 63}
STRINGS = ["", "a", "topic-ü-\N{SNOWMAN}", "x" * 126, "y" * 127, "z" * 300]
BYTES = [b"", b"\x00", b"bytes", b"\xff" * 126, b"b" * 20_000]
ERROR_CODES = sorted(set(ErrorCode))
MOMENT_MS = 1_700_000_000_000


class Case(NamedTuple):
    """A message class at one of its versions."""

    api: Api
    kind: str
    version: int

    @property
    def message(self) -> type[Message]:
        return structure(self.api, self.api.name + self.kind)

    def __str__(self) -> str:
        return f"{self.api.name}{self.kind}-v{self.version}"


@cache
def apis() -> list[Api]:
    return read_all(SCHEMA)


def cases() -> list[Case]:
    return [
        Case(api, kind, version)
        for api in apis()
        for version in range(api.versions.first, api.versions.last + 1)
        for kind in ("Request", "Response")
    ]


def structure(api: Api, name: str) -> Any:
    return getattr(import_module(f"ottla.wire.messages.{api.module}"), name)


def samples(case: Case, count: int, tame: bool = False) -> Iterator[Message]:
    """`count` messages of one case, always the same."""
    rng = random.Random(str(case))
    name = case.api.name + case.kind
    yield case.message()
    for number in range(1, count):
        yield Sampler(case, rng, is_full=number == 1, tame=tame).struct(name)


class Sampler:
    """Makes values for the fields that a version has; the others keep their defaults."""

    def __init__(self, case: Case, rng: random.Random, is_full: bool, tame: bool) -> None:
        self.api = case.api
        self.version = case.version
        self.rng = rng
        self.is_full = is_full
        self.tame = tame
        self.depth = 0

    def struct(self, name: str) -> Any:
        values = {
            field.attribute: self.value(field)
            for field in self.api.structs[name].fields
            if self.version in field.versions
        }
        return structure(self.api, name)(**values)

    def value(self, field: Field) -> Any:
        absent = field.is_struct and not field.is_array and field.tag is not None
        may_be_none = (self.version in field.nullable or absent) and not self.is_full
        if may_be_none and self.rng.random() < 0.3:
            return None
        if not field.is_array:
            return self.element(field)
        self.depth += 1
        items = [self.element(field) for _ in range(self.array_length(field))]
        self.depth -= 1
        return items

    def array_length(self, field: Field) -> int:
        if self.is_full:
            return 130 if self.depth == 1 and not field.is_struct else 1
        return self.rng.choice([0, 1, 2, 3])

    def element(self, field: Field) -> Any:
        rng = self.rng
        match field.base:
            case "bool":
                return self.is_full or rng.random() < 0.5
            case "string":
                return STRINGS[-1] if self.is_full else rng.choice(STRINGS)
            case "bytes" | "records":
                return BYTES[-1] if self.is_full else rng.choice(BYTES)
            case "uuid":
                return UUID(int=rng.getrandbits(128) | 1)
            case "float64":
                return rng.choice([0.0, -1.5, 1e300])
            case base if base in INT_BITS:
                return self.integer(field, INT_BITS[base])
            case _:
                return self.nested(field)

    def nested(self, field: Field) -> Any:
        """A struct. A tagged one is not all defaults: others take that for an absent one."""
        value = self.struct(field.base)
        while field.tag is not None and value == type(value)():
            value = self.struct(field.base)
        return value

    def integer(self, field: Field, bits: int) -> int:
        if self.tame and field.name.endswith("ErrorCode"):
            return self.rng.choice(ERROR_CODES)
        if self.tame and ("Time" in field.name or field.name.endswith("Ms")):
            return MOMENT_MS + self.rng.randrange(1000) if bits == 63 else self.rng.randrange(9999)
        low = 0 if field.base == "uint16" else -(1 << bits)
        high = (1 << bits) - 1
        return self.rng.choice([low, high, max(low, -1), 0, 1, self.rng.randint(low, high)])
