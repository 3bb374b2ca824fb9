"""A task: one sub-topology on one partition. It owns the stores, and what the loop puts out.

The compiled loop writes into the task: `outputs` per sink, `headed` for records with headers,
`counters`, the stores. Nothing of it leaves the process before the engine emits it into the open
transaction, so an abort is: forget it all, and read the input again from the committed position.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from ottla.client import Message
from ottla.ports.invariants import invariant
from ottla.streams import state, storage
from ottla.streams import topology as t
from ottla.streams.compiler import Program
from ottla.streams.errors import NOT_THE_RECORD, StepFailed
from ottla.streams.operators import MISSING, codec_of
from ottla.streams.state import Store
from ottla.streams.storage import Storage, StoreMeta

Row = tuple[bytes | None, bytes | None, int]  # key, value, timestamp_ms
HeadedRow = tuple[str, bytes | None, bytes | None, int, list[tuple[str, bytes]]]


class TaskId(NamedTuple):
    """Sub-topology and partition; `0_3` in messages, as in Kafka Streams."""

    subtopology: int
    partition: int

    def __str__(self) -> str:
        return f"{self.subtopology}_{self.partition}"


class Task:
    """The state and the outputs of a sub-topology on one partition."""

    def __init__(
        self,
        sub: t.SubTopology,
        partition: int,
        program: Program,
        store_files: Storage,
        dead_letter_topic: str | None,
        totals: Counter[str],
    ) -> None:
        self.id = TaskId(sub.id, partition)
        self.sub = sub
        self.program = program
        self.stores: dict[str, Store] = {}
        for node in sub.nodes:
            if isinstance(node.step, t.DedupeStep | t.AggregateStep):
                spec = node.step.store
                self.stores[spec.name] = Store(spec, partition, codec_of(node.step), store_files)
        self.outputs: dict[int, Any] = {
            node.id: {} if step.latest_only else [] for node, step in sub.sinks
        }
        self.headed: list[HeadedRow] = []
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.undone: list[Any] = []
        self.positions: dict[str, int] = {}  # next offset per topic, of what was processed
        self.committed_positions: dict[str, int] = {}
        self.stream_time_ms = -1
        self.wall_time_ms = -1
        self._committed_time_ms = -1
        self._last: Message | None = None
        self._dead_letter_topic = dead_letter_topic
        self._totals = totals

    def process(self, topic: str, messages: Sequence[Message], now_ms: int) -> None:
        """Run a batch of one topic's records, in order; then close what time has closed."""
        self.wall_time_ms = now_ms = max(now_ms, self.wall_time_ms)
        self.program.run[topic](self, messages, now_ms)
        self._last = messages[-1]
        self.positions[topic] = self._last.offset() + 1
        self.counters["records_in"] += len(messages)
        self._close_segments()

    def over(self, now_ms: int) -> bool:
        """Whether the wall clock has closed something."""
        return any(store.spec.wall_clock and store.over(now_ms) for store in self.stores.values())

    def punctuate(self, now_ms: int) -> None:
        """Close what the wall clock has closed."""
        self.wall_time_ms = max(now_ms, self.wall_time_ms)
        self._close_segments()

    def _close_segments(self) -> None:
        for name, store in self.stores.items():
            time_ms = self.wall_time_ms if store.spec.wall_clock else self.stream_time_ms
            for start in store.over(time_ms):
                close = self.program.close.get(name)
                if close is not None:
                    items = store.segment(start).items()
                    close(self, start, items, self._last, self.wall_time_ms)
                store.drop(start)

    def fail(self, error: Exception, message: Message) -> None:
        """A record failed: write its dead letter instead of all it did, or raise StepFailed."""
        step = self._blame(error, message)
        original = list(message.headers() or ())
        headers = _headers(self._place(message), step, error, original)
        self._dead_letter(message.key(), message.value(), message.timestamp()[1], headers)

    def fail_window(
        self, error: Exception, message: Message | None, raw: bytes, start: int, result: Any
    ) -> None:
        """What came of a closed window failed: its dead letter has the window's key and result.

        `message` is the record that moved the clock, None if the clock moved by itself.
        """
        step = self._blame(error, message)
        headers = _headers(self._place(message), step, error, [])
        timestamp_ms = 0 if message is None else message.timestamp()[1]
        value = orjson.dumps(result, default=repr)
        self._dead_letter(raw + start.to_bytes(8, "big"), value, timestamp_ms, headers)

    def _blame(self, error: Exception, message: Message | None) -> str:
        step = self.program.step_of(error.__traceback__)
        if isinstance(error, NOT_THE_RECORD):
            raise error
        invariant(not _in_our_state(error), "a store failed", step=step, error=repr(error))
        if self._dead_letter_topic is None:
            reason = f"{type(error).__name__}: {error}"
            raise StepFailed(step, *self._place(message), reason) from error
        self._undo()
        return step

    def _place(self, message: Message | None) -> tuple[str, int, int]:
        if message is None:
            return self.sub.source_topics[0], self.id.partition, -1
        return message.topic(), message.partition(), message.offset()

    def _undo(self) -> None:
        for entry in reversed(self.undone):
            if entry.__class__ is list:
                entry.pop()
                continue
            container, key, old = entry
            if old is MISSING:
                container.pop(key, None)
            else:
                container[key] = old
        self.undone.clear()

    def _dead_letter(
        self,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: list[tuple[str, bytes]],
    ) -> None:
        self.counters["dead_letters"] += 1
        self.headed.append((str(self._dead_letter_topic), key, value, timestamp_ms, headers))

    def take_rows(self) -> list[tuple[str, list[Row]]]:
        """The rows of all sinks that write every record, per topic; they are taken away."""
        taken = []
        for node, step in self.sub.sinks:
            rows = self.outputs[node.id]
            if rows and not step.latest_only:
                taken.append((step.topic, rows[:]))
                rows.clear()
        return taken

    def take_latest(self) -> list[tuple[str, list[Row]]]:
        """The rows of the sinks that write the last record of each key; they are taken away."""
        taken = []
        for node, step in self.sub.sinks:
            latest = self.outputs[node.id]
            if latest and step.latest_only:
                taken.append((step.topic, [(key, *row) for key, row in latest.items()]))
                latest.clear()
        return taken

    def take_headed(self) -> list[HeadedRow]:
        """The records with headers; they are taken away."""
        taken, self.headed = self.headed, []
        return taken

    @property
    def touched(self) -> bool:
        """Whether there is something to commit."""
        return bool(self.positions) or any(store.changed for store in self.stores.values())

    def committed(self) -> None:
        """What was processed is committed: the stores move on."""
        self.committed_positions.update(self.positions)
        self.positions.clear()
        self._totals.update(self.counters)
        self.counters.clear()
        self._committed_time_ms = self.stream_time_ms
        for store in self.stores.values():
            store.commit()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        for rows in self.outputs.values():
            rows.clear()
        self.headed.clear()
        self.positions.clear()
        self.counters.clear()
        self.stream_time_ms = self._committed_time_ms
        for store in self.stores.values():
            store.rollback()

    def begin_at(self, positions: dict[str, int], stream_time_ms: int, wall_time_ms: int) -> None:
        """Go on from what was committed: the next offset of each topic, and the clocks."""
        self.committed_positions = positions
        self.stream_time_ms = self._committed_time_ms = stream_time_ms
        self.wall_time_ms = wall_time_ms

    def next_offsets(self) -> dict[str, int]:
        """The next offset of every topic that was ever read."""
        return self.committed_positions | self.positions

    def meta(self, store: Store, now_ms: int) -> StoreMeta:
        """What is saved with a store now."""
        return StoreMeta(
            store.spec.fingerprint,
            store.changelog_offset,
            self._committed_time_ms,
            self.wall_time_ms,
            now_ms,
        )


def _in_our_state(error: Exception) -> bool:
    """Whether an error came up in the code of the stores: that is no fault of a record."""
    innermost = ""
    traceback = error.__traceback__
    while traceback is not None:
        innermost = traceback.tb_frame.f_code.co_filename
        traceback = traceback.tb_next
    return innermost in (state.__file__, storage.__file__)


def _headers(
    place: tuple[str, int, int], step: str, error: Exception, original: list[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    told = {
        "ottla.topic": place[0],
        "ottla.partition": str(place[1]),
        "ottla.offset": str(place[2]),
        "ottla.step": step,
        "ottla.error": type(error).__name__,
        "ottla.reason": str(error),
    }
    return [*original, *((name, text.encode()) for name, text in told.items())]
