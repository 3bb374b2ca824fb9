"""Questions to the state of an application: committed values only, from any thread.

    query = app.query("sales")
    query.get("berlin")                          # of a table
    query.window("berlin", start_ms, end_ms)     # of a windowed table
    for key, value in query.range("a", "b"): ...

A query sees the tasks of this worker; ask every worker for the whole. Of an application that runs
in another process, or not at all, it sees what is saved: not older than a second.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ottla.streams import topology as t
from ottla.streams.codecs import decode_value
from ottla.streams.errors import StreamsError
from ottla.streams.operators import codec_of, result_of
from ottla.streams.state import window_key
from ottla.streams.storage import SavedState
from ottla.streams.task import Task, TaskId
from ottla.streams.windows import Windowed

Pairs = list[tuple[bytes, bytes]]


class Source(Protocol):
    """Where committed pairs of one partition come from."""

    def __call__(self, start: bytes, end: bytes | None) -> Pairs: ...


class Query:
    """Reads one store. Every call sees each partition as of one commit."""

    def __init__(
        self, step: t.AggregateStep, sources: list[Source], decode: Callable[[bytes], Any]
    ) -> None:
        self._step = step
        self._sources = sources
        self._decode = decode
        self._result = result_of(step)

    def get(self, key: Any) -> Any:
        """The value of a key, None if there is none. Raises StreamsError on a windowed store."""
        self._need(windowed=False)
        raw = self._serialized(key)
        for pair in self._pairs(raw, raw + b"\x00"):
            return self._value(pair[1])
        return None

    def range(self, first: Any = None, last: Any = None) -> Iterator[tuple[Any, Any]]:
        """Keys from `first` to `last`, both included, in the order of their bytes, with values.

        Raises StreamsError on a windowed store.
        """
        self._need(windowed=False)
        start = b"" if first is None else self._serialized(first)
        end = None if last is None else self._serialized(last) + b"\x00"
        for raw, data in self._pairs(start, end):
            yield self._step.store.key_serde.deserialize(raw), self._value(data)

    def all(self) -> Iterator[tuple[Any, Any]]:
        """Everything: keys, or `Windowed` keys, with values."""
        if self._step.window is None:
            return self.range()
        return self.windows(0)

    def window(
        self, key: Any, start_ms: int, end_ms: int | None = None
    ) -> list[tuple[Windowed[Any], Any]]:
        """The windows of a key that start in `[start_ms, end_ms)`; without an end, the one window
        that starts at `start_ms`. Raises StreamsError on a store without windows."""
        raw = self._serialized(key)
        end_ms = start_ms + 1 if end_ms is None else end_ms
        return [
            (Windowed(key, start, start + self._size_ms), self._value(data))
            for start, found, data in self._windows(start_ms, end_ms)
            if found == raw
        ]

    def windows(
        self, start_ms: int, end_ms: int | None = None
    ) -> Iterator[tuple[Windowed[Any], Any]]:
        """All windows of all keys that start in `[start_ms, end_ms)`, in order.

        Raises StreamsError on a store without windows.
        """
        serde = self._step.store.key_serde
        for start, raw, data in self._windows(start_ms, end_ms):
            window = Windowed(serde.deserialize(raw), start, start + self._size_ms)
            yield window, self._value(data)

    def _windows(self, start_ms: int, end_ms: int | None) -> Iterator[tuple[int, bytes, bytes]]:
        self._need(windowed=True)
        end = None if end_ms is None else window_key(end_ms, b"")
        for key, data in self._pairs(window_key(start_ms, b""), end):
            yield int.from_bytes(key[:8], "big"), key[8:], data

    @property
    def _size_ms(self) -> int:
        return 0 if self._step.window is None else self._step.window.size_ms

    def _pairs(self, start: bytes, end: bytes | None) -> Pairs:
        found = [pair for source in self._sources for pair in source(start, end)]
        return sorted(found) if len(self._sources) > 1 else found

    def _value(self, data: bytes) -> Any:
        return self._result(self._decode(data))

    def _serialized(self, key: Any) -> bytes:
        return self._step.store.key_serde.serialize(key)

    def _need(self, *, windowed: bool) -> None:
        if (self._step.window is not None) != windowed:
            use = "get() or range()" if windowed else "window() or windows()"
            raise StreamsError(
                f"store {self._step.store.name!r} has "
                f"{'no windows' if windowed else 'windows'}: ask it with {use}"
            )


def query_tasks(topology: t.Topology, tasks: Mapping[TaskId, Task], store: str) -> Query:
    """A query over the stores of running tasks."""
    step = _step_of(topology, store)
    stores = [task.stores[store] for task in list(tasks.values()) if store in task.stores]
    return Query(step, [each.committed for each in stores], _decoder(step))


def query_saved(topology: t.Topology, directory: Path, store: str) -> Query:
    """A query over what is on the disk, as it is when it is asked."""
    step = _step_of(topology, store)
    with SavedState(directory) as saved:
        files = [file for file in saved.files() if file.rpartition("/")[0] == store]

    def source(file: str) -> Source:
        def pairs(start: bytes, end: bytes | None) -> Pairs:
            with SavedState(directory) as saved:
                return saved.scan(file, start, end)

        return pairs

    return Query(step, list(map(source, files)), _decoder(step))


def _decoder(step: t.AggregateStep) -> Callable[[bytes], Any]:
    """From the stored bytes to the live form."""
    codec = codec_of(step)
    return lambda data: decode_value(codec, data, step.store.name)


def _step_of(topology: t.Topology, store: str) -> t.AggregateStep:
    steps = {
        node.step.store.name: node.step
        for node in topology.nodes
        if isinstance(node.step, t.AggregateStep)
    }
    if store not in steps:
        raise StreamsError(f"there is no table {store!r}; there are {', '.join(steps) or 'none'}")
    return steps[store]
