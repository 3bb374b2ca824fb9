"""A store of state in memory: what this transaction wrote, over what is committed, over the disk.

Three layers, each a dict, and below them the disk:

    dirty     written in the open transaction; dropped when it aborts
    known     committed values that were read or written lately: a cache, never wrong
    unsaved   committed, not yet on the disk, as bytes (all of it is in `known` too)

A commit folds dirty into known, and the bytes that went to the changelog into unsaved. A save moves
unsaved to the disk, now and then and whole.
A store is cut into segments: one for a table; one per window start, or per bucket of time, for a
store that forgets. A segment is dropped at once when its time is over.

DELETED marks a key that is deleted over a layer below that may still have it.
"""

import struct
import threading
from collections.abc import Iterator
from typing import Any

from ottla.ports.invariants import invariant
from ottla.streams.codecs import DELETED, Codec, decode_value
from ottla.streams.errors import StreamsError
from ottla.streams.storage import Storage, StoreChanges, StoreMeta
from ottla.streams.topology import StoreSpec

KNOWN_KEYS_MAX = 200_000  # per store; beyond it the cache starts anew
Pair = tuple[bytes, bytes | None]
_segment_start = struct.Struct(">q")


class Segment:
    """The keys of a store that live and die together. Written to by compiled code."""

    __slots__ = ("complete", "dirty", "known", "prefix", "start", "store")

    def __init__(self, store: "Store", start: int, prefix: bytes, *, complete: bool) -> None:
        self.store = store
        self.start = start
        self.prefix = prefix
        self.complete = complete  # `known` has every key that there is
        self.dirty: dict[bytes, Any] = {}
        self.known: dict[bytes, Any] = {}

    def load(self, key: bytes) -> Any:
        """The committed value of a key that is in no layer: from the disk, or None."""
        if self.complete:
            return None
        data = self.store.read(self.prefix + key)
        if data is None:
            return None
        value = self.known[key] = self.store.decode(data)
        return value

    def items(self) -> list[tuple[bytes, Any]]:
        """All keys with their live values, the open transaction's included, in order of keys."""
        found = self._committed()
        found.update(self.dirty)
        return sorted(
            (item for item in found.items() if item[1] is not DELETED), key=lambda item: item[0]
        )

    def committed_keys(self) -> list[bytes]:
        """The keys that a changelog may know."""
        return [key for key, live in self._committed().items() if live is not DELETED]

    def _committed(self) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}
        if not self.complete:
            for key, data in self.store.scan_prefix(self.prefix):
                found[key[len(self.prefix) :]] = self.store.decode(data)
        found.update(self.known)
        return found


class Store:
    """One store of one partition.

    The worker's thread is the only one that writes. `lock` is held while committed state changes,
    for those who read it from other threads.
    """

    def __init__(self, spec: StoreSpec, partition: int, codec: Codec, storage: Storage) -> None:
        self.spec = spec
        self.partition = partition
        self.file = f"{spec.name}/{partition}"
        self.codec = codec
        self.lock = threading.Lock()
        self.segments: dict[int, Segment] = {}
        self._newest_first: list[Segment] = []
        self._storage = storage
        self._collected = False
        self._changed: list[Pair] = []  # what the open transaction has written to the changelog
        self._unsaved: dict[bytes, bytes | None] = {}
        self._dropping: dict[int, list[bytes]] = {}  # by the open transaction: start -> keys
        self._dropped: list[bytes] = []  # prefixes; committed, not yet on the disk
        self._clear = False
        meta = storage.meta(self.file)
        self._empty = meta is None  # nothing on the disk: no need to look
        self.meta = meta or StoreMeta(spec.fingerprint)
        self.changelog_offset = self.meta.changelog_offset
        self._written_offset = -1
        storage.open(self.file)
        if spec.retention_ms is not None:
            self._find_segments()

    # -- segments -----------------------------------------------------------------------------

    def segment(self, start: int) -> Segment:
        """The segment that begins at `start` (0 for a table), made if it is not there."""
        found = self.segments.get(start)
        if found is None:
            cut = self.spec.retention_ms is not None
            prefix = _segment_start.pack(start) if cut else b""
            # All segments of time on the disk were found at the start: a new one has nothing there.
            found = self._add(Segment(self, start, prefix, complete=cut or self._empty))
        return found

    def _add(self, segment: Segment) -> Segment:
        self.segments[segment.start] = segment
        self._newest_first = sorted(self.segments.values(), key=lambda each: -each.start)
        return segment

    def _find_segments(self) -> None:
        position = b""
        while pair := next(self._storage.scan(self.file, position, None), None):
            start = _segment_start.unpack(pair[0][:8])[0]
            self._add(Segment(self, start, pair[0][:8], complete=False))
            position = _segment_start.pack(start + 1)

    def over(self, time_ms: int) -> list[int]:
        """The starts of the segments whose retention is over at `time_ms`, in order."""
        if self.spec.retention_ms is None or not self.segments:
            return []
        last = time_ms - self.spec.retention_ms
        starts = [start for start in self.segments if start <= last]
        return sorted(start for start in starts if start not in self._dropping)

    def find(self, key: bytes, after_ms: int) -> bytes | None:
        """The newest value of `key`, if its clock is after `after_ms`.

        For values that are bytes which begin with their clock, in a store cut by that clock.
        """
        for segment in self._newest_first:
            value = segment.dirty.get(key)
            if value is None:
                value = segment.known.get(key)
                if value is None and not segment.complete:
                    value = segment.load(key)
            if (
                value is not None
                and value is not DELETED
                and int.from_bytes(value[:8], "big") > after_ms
                and segment.start not in self._dropping
            ):
                found: bytes = value
                return found
        return None

    def drop(self, start: int) -> None:
        """Forget a segment, with the commit of this transaction."""
        segment = self.segment(start)
        self._dropping[start] = segment.committed_keys()
        segment.dirty.clear()

    # -- transactions -------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether the open transaction wrote anything."""
        return bool(self._dropping) or any(each.dirty for each in self.segments.values())

    def changes(self) -> list[Pair]:
        """What the transaction changed, once for each key, as records for the changelog.

        Must be asked for before `commit`, which keeps them for the disk.
        """
        self._changed = []
        self._collected = True
        for segment in self.segments.values():
            if segment.dirty:
                self._changed.extend(self._encoded(segment))
        gone: list[Pair] = []
        for start, keys in self._dropping.items():
            prefix = self.segments[start].prefix
            gone.extend((prefix + key, None) for key in keys)
        return gone + self._changed

    def _encoded(self, segment: Segment) -> Iterator[Pair]:
        prefix, encode = segment.prefix, self.codec.encode
        key, live = b"", None
        try:
            for key, live in segment.dirty.items():
                yield prefix + key, None if live is DELETED else encode(live)
        except (OverflowError, TypeError, ValueError) as error:
            raise StreamsError(
                f"store {self.spec.name!r} cannot store {live!r} of key {key!r}: {error}"
            ) from error

    def changelog_written(self, offset: int) -> None:
        """The last record of this transaction in the changelog has this offset."""
        self._written_offset = offset

    def commit(self) -> None:
        """The transaction is committed in Kafka: its writes are now the state."""
        invariant(
            self._collected or not self.changed, "a commit without changes()", store=self.file
        )
        with self.lock:
            self._collected = False
            if self._written_offset >= 0:  # the changelog need not be read before its end
                self.changelog_offset = self._written_offset + 1
                self._written_offset = -1
            for start, keys in self._dropping.items():
                segment = self.segments.pop(start)
                self._dropped.append(segment.prefix)
                for key in keys:
                    self._unsaved.pop(segment.prefix + key, None)
            if self._dropping:
                self._newest_first = [
                    each for each in self._newest_first if each.start in self.segments
                ]
                self._dropping.clear()
            for segment in self.segments.values():
                segment.known.update(segment.dirty)
                segment.dirty.clear()
            self._unsaved.update(self._changed)
            self._changed = []

    def rollback(self) -> None:
        """The transaction is aborted: as if it had never written."""
        self._dropping.clear()
        self._collected = False
        self._changed = []
        self._written_offset = -1
        for segment in self.segments.values():
            segment.dirty.clear()

    # -- the disk -----------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether there is nothing on the disk."""
        return self._empty

    @property
    def unsaved_count(self) -> int:
        return len(self._unsaved)

    def unsaved_changes(self, meta: StoreMeta) -> StoreChanges:
        """All that is committed and not yet on the disk; `saved` follows when it is."""
        return StoreChanges(self.file, meta, self._unsaved, self._dropped, clear=self._clear)

    def saved(self, meta: StoreMeta) -> None:
        """What `unsaved_changes` gave is on the disk."""
        with self.lock:
            self.meta = meta
            self._empty = False
            self._clear = False
            self._dropped.clear()
            self._unsaved.clear()
            if sum(len(each.known) for each in self.segments.values()) > KNOWN_KEYS_MAX:
                for segment in self.segments.values():
                    segment.known.clear()
                    segment.complete = False

    def restore(self, key: bytes, data: bytes | None, next_offset: int) -> None:
        """One record of the changelog: committed state, not yet on the disk."""
        self.changelog_offset = next_offset
        start, name = 0, key
        if self.spec.retention_ms is not None:
            start, name = _segment_start.unpack(key[:8])[0], key[8:]
        segment = self.segment(start)
        self._unsaved[key] = data
        if data is not None:
            segment.known[name] = self.decode(data)
        elif segment.complete:
            segment.known.pop(name, None)
        else:
            segment.known[name] = DELETED  # the disk may still have it

    def start_anew(self) -> None:
        """Forget all, on the disk too with the next save: the changelog is read from its start."""
        with self.lock:
            self.segments.clear()
            self._newest_first = []
            self._unsaved.clear()
            self._dropped.clear()
            self._clear = True
            self._empty = True
            self.changelog_offset = 0

    def read(self, key: bytes) -> bytes | None:
        """The saved bytes of a key."""
        return self._storage.get(self.file, key)

    def scan_prefix(self, prefix: bytes) -> Iterator[Pair]:
        """The saved pairs whose key begins with `prefix`."""
        if self._clear or prefix in self._dropped:
            return iter(())
        return self._storage.scan(self.file, prefix, _after(prefix))

    def decode(self, data: bytes | None) -> Any:
        """A live value from its bytes. Raises DataDamaged on a format not known."""
        return decode_value(self.codec, data, self.spec.name)

    def committed(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        """Committed pairs with `start` <= key < `end` (keys with their prefix), from any thread."""
        with self.lock:
            found: dict[bytes, bytes | None] = {}
            if not self._clear:
                found.update(self._storage.scan(self.file, start, end))
            for prefix in self._dropped:
                for key in [key for key in found if key.startswith(prefix)]:
                    del found[key]
            for key, data in self._unsaved.items():
                if start <= key and (end is None or key < end):
                    found[key] = data
        return sorted((key, data) for key, data in found.items() if data is not None)


def _after(prefix: bytes) -> bytes | None:
    """The first key after all that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def window_key(start_ms: int, key: bytes) -> bytes:
    """The key of a store that is cut by time."""
    return _segment_start.pack(start_ms) + key
