"""Randomness as a port: the operating system's in production, a seed in tests."""

import os
import random
import uuid
from typing import Protocol


class Rng(Protocol):
    """Where the core gets its ids from, and its salts and nonces."""

    def uuid(self) -> uuid.UUID: ...
    def token(self, size_bytes: int) -> bytes: ...


class RealRng:
    """The operating system's randomness."""

    def uuid(self) -> uuid.UUID:
        return uuid.uuid4()

    def token(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)


class SeededRng:
    """The same ids for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def token(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)
