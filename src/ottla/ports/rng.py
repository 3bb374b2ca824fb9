"""Randomness as a port: ids in production, a seed in tests."""

import random
import uuid
from typing import Protocol


class Rng(Protocol):
    """Where the core gets its ids from."""

    def uuid(self) -> uuid.UUID: ...


class RealRng:
    """The operating system's randomness."""

    def uuid(self) -> uuid.UUID:
        return uuid.uuid4()


class SeededRng:
    """The same ids for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)
