"""State on the local disk: one LMDB environment for all stores of a worker.

What is on the disk is always a state that was committed in Kafka, perhaps not the newest: every
`save` writes the values, the offset in the changelog up to which they reach, and the clocks, in one
LMDB transaction, after the commit. A crash leaves the state of the save before, and the changelog
from that offset on is the rest. Hence nothing ever has to be wiped because of a crash.

The directory belongs to one process, held by a lock. It also keeps the worker's name, so that a
restart has the transactional.id of its dead predecessor and fences it.
"""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import lmdb
import msgspec

from ottla.ports.errors import StorageFailed
from ottla.streams.errors import StateInUse

_KEY_BYTES_MAX = 480  # LMDB takes 511
_HEAD_BYTES = _KEY_BYTES_MAX - 32
# Before every key, because LMDB has no empty keys: keys as they are, and keys that are too long.
_PLAIN, _LONG = b"\x00", b"\x01"
_STORES_MAX = 8_192
Database = Any  # an open database of LMDB, which has no public type
_MAP_BYTES_MAX = 1 << 40  # address space, not disk


class StoreMeta(msgspec.Struct, frozen=True):
    """What is kept beside the values of a store, written with them."""

    fingerprint: str
    changelog_offset: int = 0
    stream_time_ms: int = -1
    wall_time_ms: int = -1
    saved_at_ms: int = 0


@dataclass(slots=True)
class StoreChanges:
    """What one store has to save. `clear` empties it first, `dropped` are prefixes to delete."""

    file: str
    meta: StoreMeta
    values: Mapping[bytes, bytes | None] = field(default_factory=dict)
    dropped: Sequence[bytes] = ()
    clear: bool = False


class Storage:
    """The state directory of a worker, open.

    Args: `durable=False` leaves out the fsync, for tests.
    Raises StateInUse when another process has it, StorageFailed when it cannot be used.
    """

    def __init__(self, directory: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.directory = Path(directory).absolute()
        self._lock = _lock(self.directory)
        self.worker = self._worker_name()
        self._env = _open(self.directory, durable=durable, readonly=False)
        self._meta = self._env.open_db(b"meta")
        self._databases: dict[str, Database] = {}
        self._reader = self._env.begin()
        self._closed = False

    def close(self) -> None:
        """Let go of the directory; again does nothing. Nothing is saved by this."""
        if self._closed:
            return
        self._closed = True
        self._reader.abort()
        self._env.close()
        os.close(self._lock)

    def meta(self, file: str) -> StoreMeta | None:
        """What was saved with a store; None if it never was."""
        data = self._reader.get(file.encode(), db=self._meta)
        return None if data is None else msgspec.msgpack.decode(data, type=StoreMeta)

    def open(self, file: str) -> None:
        """Make the store ready to be read, from any thread."""
        self._database(file)

    def get(self, file: str, key: bytes) -> bytes | None:
        """The saved value of a key."""
        stored = _stored_key(key)
        data = self._reader.get(stored, db=self._database(file))
        return None if data is None else _unpack(stored, data)[1]

    def scan(self, file: str, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Saved pairs with `start` <= key < `end`, in the order of keys, as of this moment."""
        database = self._database(file)
        with self._env.begin() as transaction:
            yield from _scan(transaction, database, start, end)

    def save(self, changes: Iterable[StoreChanges]) -> None:
        """Write what several stores have changed, with their meta, in one transaction.

        Raises StorageFailed when the disk is full or fails; the state before stays.
        """
        try:
            databases = [(each, self._database(each.file)) for each in changes]
            with self._env.begin(write=True) as transaction:
                for each, database in databases:
                    _save_store(transaction, database, each)
                    meta = msgspec.msgpack.encode(each.meta)
                    transaction.put(each.file.encode(), meta, db=self._meta)
        except lmdb.Error as error:
            raise StorageFailed(
                f"cannot save state under {self.directory}: {error}. What is committed in Kafka is "
                "safe and will be restored from the changelog; free some space and start again"
            ) from error
        self._look_again()

    def _look_again(self) -> None:
        """A reader sees the disk as it was when it began: begin a new one."""
        self._reader.abort()
        self._reader = self._env.begin()

    def _database(self, file: str) -> Database:
        database = self._databases.get(file)
        if database is None:
            self._reader.abort()
            database = self._databases[file] = self._env.open_db(file.encode())
            self._reader = self._env.begin()
        return database

    def _worker_name(self) -> str:
        path = self.directory / "worker"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            with open(temporary, "w", encoding="ascii") as file:
                file.write(uuid.uuid4().hex[:12])
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        return path.read_text(encoding="ascii").strip()


class SavedState:
    """The saved state of a directory that another process may be working in, for reading.

    A directory where nothing was saved yet holds nothing.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._env: lmdb.Environment | None = None
        if (Path(directory) / "state" / "lock.mdb").exists():
            self._env = _open(Path(directory), durable=True, readonly=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scan(self, file: str, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        """Saved pairs with `start` <= key < `end`; none if there is no such store."""
        if self._env is None:
            return []
        try:
            database = self._env.open_db(file.encode(), create=False)
        except lmdb.NotFoundError:
            return []
        with self._env.begin() as transaction:
            return list(_scan(transaction, database, start, end))

    def files(self) -> list[str]:
        """The names of all saved stores."""
        if self._env is None:
            return []
        try:
            meta = self._env.open_db(b"meta", create=False)
        except lmdb.NotFoundError:
            return []
        with self._env.begin() as transaction:
            return [key.decode() for key, _ in transaction.cursor(db=meta)]

    def close(self) -> None:
        if self._env is not None:
            self._env.close()


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageFailed(f"cannot use {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StateInUse(
            f"the state directory {directory} is in use by another process. Stop that one first, "
            "or give every worker a state_dir of its own"
        ) from error
    return lock


def _open(directory: Path, *, durable: bool, readonly: bool) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(directory / "state"),
            map_size=_MAP_BYTES_MAX,
            max_dbs=_STORES_MAX,
            sync=durable,
            readonly=readonly,
            readahead=False,
            max_spare_txns=2,
        )
    except lmdb.Error as error:
        raise StorageFailed(f"cannot open the state under {directory}: {error}") from error


def _save_store(transaction: lmdb.Transaction, database: Database, changes: StoreChanges) -> None:
    if changes.clear:
        transaction.drop(database, delete=False)
    with transaction.cursor(db=database) as cursor:
        for prefix in changes.dropped:
            for start in (_PLAIN + prefix, _LONG + prefix):
                found = cursor.set_range(start)
                while found and bytes(cursor.key()).startswith(start):
                    found = cursor.delete()
        cursor.putmulti(_stored(changes.values))
    for key, value in changes.values.items():
        if value is None:
            transaction.delete(_stored_key(key), db=database)


def _stored(values: Mapping[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    for key, value in values.items():
        if value is None:
            continue
        if len(key) <= _KEY_BYTES_MAX:
            yield _PLAIN + key, value
        else:  # the whole key goes before the value
            yield _stored_key(key), len(key).to_bytes(4, "big") + key + value


def _scan(
    transaction: lmdb.Transaction, database: Database, start: bytes, end: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    """Keys as they are, merged with those that are too long, which are few."""
    long = sorted(_scan_long(transaction, database, start, end))
    with transaction.cursor(db=database) as cursor:
        if cursor.set_range(_PLAIN + start):
            for stored, value in cast(Iterator[tuple[bytes, bytes]], cursor):
                key = stored[1:]
                if stored[:1] != _PLAIN or (end is not None and key >= end):
                    break
                while long and long[0][0] < key:
                    yield long.pop(0)
                yield key, value
    yield from long


def _scan_long(
    transaction: lmdb.Transaction, database: Database, start: bytes, end: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    with transaction.cursor(db=database) as cursor:
        if cursor.set_range(_LONG + start[:_HEAD_BYTES]):
            for stored, data in cast(Iterator[tuple[bytes, bytes]], cursor):
                if end is not None and stored[1 : 1 + _HEAD_BYTES] > end[:_HEAD_BYTES]:
                    return
                key, value = _unpack(stored, data)
                if start <= key and (end is None or key < end):
                    yield key, value


def _stored_key(key: bytes) -> bytes:
    if len(key) <= _KEY_BYTES_MAX:
        return _PLAIN + key
    return _LONG + key[:_HEAD_BYTES] + hashlib.blake2b(key, digest_size=32).digest()


def _unpack(stored: bytes, data: bytes) -> tuple[bytes, bytes]:
    if stored[:1] == _PLAIN:
        return stored[1:], data
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]
