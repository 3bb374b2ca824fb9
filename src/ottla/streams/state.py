"""A store of state in memory: what this transaction wrote, over what is committed, over the disk.

Three layers, each a dict, and below them the disk:

    dirty     written in the open transaction; dropped when it aborts
    known     committed values that were read or written lately: a cache, never wrong
    unsaved   committed, not yet on the disk (all of it is in `known` too)

A commit folds dirty into the other two. `save` moves unsaved to the disk, now and then and whole.
A store is cut into segments: one for a table; one per window start, or per bucket of time, for a
store that forgets. A segment is dropped at once when its time is over.

DELETED marks a key that is deleted over a layer below that may still have it.
"""

import struct
import threading
from collections.abc import Iterator
from typing import Any

from ottla.ports.invariants import invariant
from ottla.streams.codecs import DELETED, FORMAT, Codec, decode_value
from ottla.streams.errors import StreamsError
from ottla.streams.storage import Storage, StoreChanges, StoreMeta
from ottla.streams.topology import StoreSpec

KNOWN_KEYS_MAX = 200_000  # per store; beyond it the cache starts anew
_segment_start = struct.Struct(">q")


class Segment:
    """The keys of a store that live and die together. Written to by compiled code."""

    __slots__ = ("complete", "dirty", "known", "prefix", "start", "store", "unsaved")

    def __init__(self, store: "Store", start: int, prefix: bytes, *, complete: bool) -> None:
        self.store = store
        self.start = start
        self.prefix = prefix
        self.complete = complete  # `known` has every key that there is
        self.dirty: dict[bytes, Any] = {}
        self.known: dict[bytes, Any] = {}
        self.unsaved: dict[bytes, Any] = {}

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
        return sorted(
            (item for item in self._merged(with_dirty=True).items() if item[1] is not DELETED),
            key=lambda item: item[0],
        )

    def committed_keys(self) -> list[bytes]:
        """The keys that a changelog may know."""
        return [key for key, live in self._merged(False).items() if live is not DELETED]

    def _merged(self, with_dirty: bool) -> dict[bytes, Any]:
        merged: dict[bytes, Any] = {}
        if not self.complete:
            for key, data in self.store.scan_prefix(self.prefix):
                merged[key[len(self.prefix) :]] = self.store.decode(data)
        merged.update(self.known)
        if with_dirty:
            merged.update(self.dirty)
        return merged


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
        self._storage = storage
        self._dropping: dict[int, list[bytes]] = {}  # by the open transaction
        self._dropped: list[bytes] = []  # committed, not yet on the disk
        self._clear = False
        meta = storage.meta(self.file)
        self._empty = meta is None  # nothing on the disk: no need to look
        self.meta = meta or StoreMeta(spec.fingerprint)
        self.changelog_offset = self.meta.changelog_offset
        self._written_offset = -1
        storage.open(self.file)
        if spec.retention_ms is not None:
            self._find_segments()

    def segment(self, start: int) -> Segment:
        """The segment that begins at `start` (0 for a table), made if it is not there."""
        found = self.segments.get(start)
        if found is None:
            cut = self.spec.retention_ms is not None
            prefix = _segment_start.pack(start) if cut else b""
            # All segments of time on the disk were found at the start: a new one has nothing there.
            found = Segment(self, start, prefix, complete=cut or self._empty)
            self.segments[start] = found
        return found

    def _find_segments(self) -> None:
        position = b""
        while pair := next(self._storage.scan(self.file, position, None), None):
            start = _segment_start.unpack(pair[0][:8])[0]
            self.segments[start] = Segment(self, start, pair[0][:8], complete=False)
            position = _segment_start.pack(start + 1)

    def over(self, time_ms: int) -> list[int]:
        """The starts of the segments whose retention is over at `time_ms`, in order."""
        if self.spec.retention_ms is None or not self.segments:
            return []
        last = time_ms - self.spec.retention_ms
        starts = [start for start in self.segments if start <= last]
        return sorted(start for start in starts if start not in self._dropping)

    def find(self, key: bytes, after_ms: int) -> Any:
        """The value of `key` in the newest segment that has it, if its clock is after `after_ms`.

        For values that are tuples with their clock first, in a store cut by that clock.
        """
        for start in sorted(self.segments, reverse=True):
            segment = self.segments[start]
            value = segment.dirty.get(key) or segment.known.get(key) or segment.load(key)
            if value is None or value is DELETED or start in self._dropping:
                continue
            if value[0] > after_ms:
                return value
        return None

    def drop(self, start: int) -> None:
        """Forget a segment, with the commit of this transaction."""
        segment = self.segment(start)
        self._dropping[start] = segment.committed_keys()
        segment.dirty.clear()

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """What the transaction changed, once for each key, as records for the changelog."""
        for start, keys in self._dropping.items():
            prefix = self.segments[start].prefix
            for key in keys:
                yield prefix + key, None
        for segment in self.segments.values():
            yield from self._encoded(segment, segment.dirty)

    def _encoded(
        self, segment: Segment, layer: dict[bytes, Any]
    ) -> Iterator[tuple[bytes, bytes | None]]:
        prefix, encode = segment.prefix, self.codec.encode
        try:
            for key, live in layer.items():
                yield prefix + key, None if live is DELETED else FORMAT + encode(live)
        except (OverflowError, TypeError, ValueError) as error:
            raise StreamsError(
                f"store {self.spec.name!r} cannot store {live!r} of key {key!r}: {error}"
            ) from error

    def changelog_written(self, offset: int) -> None:
        """The last record of this transaction in the changelog has this offset."""
        self._written_offset = offset

    def changelog_committed(self) -> None:
        """The records in the changelog are committed: it need not be read before their end."""
        if self._written_offset >= 0:
            self.changelog_offset = self._written_offset + 1
            self._written_offset = -1

    @property
    def fresh(self) -> bool:
        """Whether there is nothing on the disk."""
        return self._empty

    @property
    def changed(self) -> bool:
        """Whether the open transaction wrote anything."""
        return bool(self._dropping) or any(each.dirty for each in self.segments.values())

    def commit(self) -> None:
        """The transaction is committed in Kafka: its writes are now the state."""
        with self.lock:
            for start in self._dropping:
                segment = self.segments.pop(start)
                self._dropped.append(segment.prefix)
            self._dropping.clear()
            for segment in self.segments.values():
                if segment.dirty:
                    segment.known.update(segment.dirty)
                    segment.unsaved.update(segment.dirty)
                    segment.dirty.clear()

    def rollback(self) -> None:
        """The transaction is aborted: as if it had never written."""
        self._dropping.clear()
        for segment in self.segments.values():
            segment.dirty.clear()

    @property
    def unsaved_count(self) -> int:
        return sum(len(segment.unsaved) for segment in self.segments.values())

    def unsaved_changes(self, meta: StoreMeta) -> StoreChanges:
        """All that is committed and not yet on the disk; `saved` follows when it is."""
        changes = StoreChanges(self.file, meta, dropped=list(self._dropped), clear=self._clear)
        for segment in self.segments.values():
            changes.values.extend(self._encoded(segment, segment.unsaved))
        return changes

    def saved(self, meta: StoreMeta) -> None:
        """What `unsaved_changes` gave is on the disk."""
        with self.lock:
            self.meta = meta
            self._empty = False
            self._clear = False
            self._dropped.clear()
            for segment in self.segments.values():
                segment.unsaved.clear()
            if sum(len(each.known) for each in self.segments.values()) > KNOWN_KEYS_MAX:
                self._forget_known()

    def _forget_known(self) -> None:
        for segment in self.segments.values():
            invariant(not segment.unsaved, "only saved state may leave the cache")
            segment.known.clear()
            segment.complete = False

    def restore(self, key: bytes, data: bytes | None, next_offset: int) -> None:
        """One record of the changelog: committed state, not yet on the disk."""
        self.changelog_offset = next_offset
        start, name = 0, key
        if self.spec.retention_ms is not None:
            start, name = _segment_start.unpack(key[:8])[0], key[8:]
        segment = self.segment(start)
        if data is not None:
            segment.known[name] = segment.unsaved[name] = self.decode(data)
            return
        segment.unsaved[name] = DELETED
        if segment.complete:
            segment.known.pop(name, None)
        else:
            segment.known[name] = DELETED  # the disk may still have it

    def start_anew(self) -> None:
        """Forget all, on the disk too with the next save: the changelog is read from its start."""
        with self.lock:
            self.segments.clear()
            self._dropped.clear()
            self._clear = True
            self._empty = True
            self.changelog_offset = 0

    def read(self, key: bytes) -> bytes | None:
        """The saved bytes of a key."""
        return self._storage.get(self.file, key)

    def scan_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The saved pairs whose key begins with `prefix`."""
        if self._clear or prefix in self._dropped:
            return iter(())
        return self._storage.scan(self.file, prefix, _after(prefix))

    def decode(self, data: bytes) -> Any:
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
            for segment in self.segments.values():
                for key, data in self._encoded(segment, segment.unsaved):
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
