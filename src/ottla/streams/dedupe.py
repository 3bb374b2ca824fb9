"""What a dedupe remembers of a key: a keyed 128-bit digest.

Two keys collide with a chance of about n² / 2^129: with 10^12 keys in a window, one in 10^15. The
digest is keyed by application and store, so that the state tells nothing about keys seen elsewhere.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import orjson


def digester(app: str, store: str) -> Callable[[Any], bytes]:
    """The function from a key, any JSON value or bytes, to its digest of 16 bytes."""
    secret = hashlib.blake2b(f"{app}/{store}".encode(), digest_size=32).digest()
    blake2b = hashlib.blake2b

    def digest(key: Any) -> bytes:
        data = key if key.__class__ is bytes else orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
        return blake2b(data, digest_size=16, key=secret).digest()

    return digest
