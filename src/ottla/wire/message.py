"""What all generated message classes have in common.

A `Structure` is a plain class with slots: fields, equality, a repr. A `Message` is the body of a
request or a response: it knows its API and, per version, the function that reads it and the
function that writes it. Fields that a version does not have keep their defaults when read, and are
left out when written.

Reading trusts nothing. The readers themselves check little, because three rules together make
every input safe:

- positions only grow, fixed-size reads and indexing fail at the end of the buffer, slices are cut
  there: one check at the end of a message finds a length that ran over it;
- every array element and every tagged field takes at least a byte, so no message names more of
  them than it has bytes: `decode` sets that as the budget, within limits.ARRAY_ELEMENTS_MAX, and
  each count is charged before anything is built for it;
- a count or length below null is refused where it is read.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Self, TypeVar
from uuid import UUID

from ottla.ports.errors import InvariantBroken, ProtocolError
from ottla.ports.limits import ARRAY_ELEMENTS_MAX

Budget = list[int]  # of one number: how many array elements and tagged fields may still come
Reader = Callable[[memoryview, int, Budget], tuple[Any, int]]
Writer = Callable[[bytearray, Any], None]
F = TypeVar("F", Reader, Writer)

NEVER_FLEXIBLE = 1 << 15
ZERO_UUID: Final = UUID(int=0)
EMPTY: Final[list[Any]] = []  # a default that means a new empty list: never stored, never changed


class Structure:
    """A message or a struct inside one. Two of a class are equal when all their fields are."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    __hash__ = None  # type: ignore[assignment]  # fields may change

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


class Message(Structure):
    """The body of a request or a response."""

    __slots__ = ()

    API_KEY: ClassVar[int]
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]  # the first version with tagged fields, or NEVER_FLEXIBLE
    READERS: ClassVar[Mapping[int, Reader]]
    WRITERS: ClassVar[Mapping[int, Writer]]

    @classmethod
    def decode(cls, buffer: memoryview, position: int, version: int) -> tuple[Self, int]:
        """Read a body that starts at `position`, and tell where it ends.

        `bytes` and `records` fields are slices of `buffer`. Raises ProtocolError.
        """
        reader = cls.READERS.get(version)
        if reader is None:
            raise ProtocolError(f"{cls.__name__} has no version {version}")
        size_bytes = len(buffer)
        try:
            body, end = reader(buffer, position, [min(size_bytes, ARRAY_ELEMENTS_MAX)])
        except (IndexError, struct.error) as error:
            raise ProtocolError(f"{cls.__name__} version {version} is cut short") from error
        except UnicodeDecodeError as error:
            raise ProtocolError(f"{cls.__name__} version {version}: {error}") from error
        if end > size_bytes:
            raise ProtocolError(f"{cls.__name__} version {version} is cut short")
        return body, end

    def encode(self, version: int) -> bytearray:
        """The body at `version`, without a header."""
        out = bytearray()
        self.write(out, version)
        return out

    def write(self, out: bytearray, version: int) -> None:
        """Append the body at `version` to `out`."""
        writer = self.WRITERS.get(version)
        if writer is None:
            raise InvariantBroken(f"{type(self).__name__} has no version {version}")
        writer(out, self)


def by_version(last: int, functions: Mapping[int, F]) -> dict[int, F]:
    """The function of each version up to `last`; one serves from its own version to the next."""
    first = min(functions)
    serving = functions[first]
    table = {}
    for version in range(first, last + 1):
        serving = functions.get(version, serving)
        table[version] = serving
    return table
