"""The language applications are written in: streams, groups, windows and tables.

Nothing runs here. Every call adds a step to a `Builder` and returns what can be said next;
`Builder.topology()` is the frozen result. A function of one parameter gets the value, a function
of two the key and the value. What keeps state has a name, which is its identity.

    orders = app.stream("orders", timestamp=lambda order: order["at_ms"])
    (
        orders.filter(lambda order: order["amount"] > 0)
        .group_by(lambda order: order["city"], name="by-city")
        .windowed(Tumbling(timedelta(minutes=1), grace=timedelta(seconds=5)))
        .agg("sales", n=Count(), total=Sum("amount"))
        .final()
        .to("sales-per-minute")
    )
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar

from ottla.streams import topology as t
from ottla.streams.aggregations import Aggregation, Count
from ottla.streams.errors import TopologyError
from ottla.streams.serdes import Serde, serde_of
from ottla.streams.windows import Window, Windowed, milliseconds, windowed_serde

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
Time = Literal["event_time", "processing_time"]
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,180}\Z")


class Builder:
    """Collects the steps of one application."""

    def __init__(self, app: str) -> None:
        check_name(app, "an application")
        self.app = app
        self._nodes: list[t.Node] = []
        self._names: set[str] = set()
        self._repartitions: dict[str, int | None] = {}

    def stream(
        self,
        topic: str,
        *,
        key_serde: str | Serde = "str",
        value_serde: str | Serde = "json",
        timestamp: Callable[..., int] | None = None,
        internal: bool = False,
    ) -> "Stream[Any, Any]":
        """Read a topic.

        Args: `timestamp` gives the event time of a value in milliseconds; without it the record's
        own timestamp counts. Raises TopologyError on an unknown serde.
        """
        key = serde_of(key_serde)
        when = None if timestamp is None else t.UserFunction.of(timestamp)
        step = t.SourceStep(topic, key, serde_of(value_serde), when, internal)
        return Stream(self, self.add("source", step, ()), key)

    def add(self, kind: str, step: t.Step, inputs: tuple[t.Edge, ...], name: str = "") -> t.Edge:
        """Put a step behind `inputs`; the edge to what it puts out."""
        node = t.Node(len(self._nodes), name or f"{kind}-{len(self._nodes)}", step, inputs)
        self._nodes.append(node)
        return t.Edge(node.id)

    def claim(self, name: str, what: str) -> str:
        """A name for something stateful, once. Raises TopologyError if taken or malformed."""
        check_name(name, what)
        if name in self._names:
            raise TopologyError(
                f"{what} is named {name!r}, and so is something before it: names are the identity "
                "of state and topics, each can be used once"
            )
        self._names.add(name)
        return name

    def repartition(self, name: str, partitions: int | None) -> str:
        """The internal topic of that name."""
        topic = f"{self.app}-{name}-repartition"
        self._repartitions[topic] = partitions
        return topic

    def topology(self) -> t.Topology:
        """What was written so far, frozen."""
        return t.Topology(self.app, tuple(self._nodes), tuple(self._repartitions.items()))


def check_name(name: str, what: str) -> None:
    """Raise TopologyError unless `name` can be a part of a topic's name."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise TopologyError(f"{what} needs a name of letters, digits, '.', '_', '-'; not {name!r}")


class Stream(Generic[K, V]):
    """Records in order: a key, a value and a timestamp each."""

    def __init__(
        self, builder: Builder, edge: t.Edge, key_serde: Serde, *, updates: bool = False
    ) -> None:
        self._builder = builder
        self._edge = edge
        self._key_serde = key_serde
        self._updates = updates  # of a table: a later record replaces an earlier one of its key

    def filter(self, predicate: Callable[..., Any], *, name: str = "") -> "Stream[K, V]":
        """Keep the records for which `predicate` is true."""
        step = t.FilterStep(t.UserFunction.of(predicate))
        return self._same(self._add("filter", step, name))

    def map(
        self,
        fn: Callable[..., tuple[Any, R]],
        *,
        key_serde: str | Serde = "str",
        name: str = "",
    ) -> "Stream[Any, R]":
        """Replace key and value by the pair that `fn` returns."""
        serde = serde_of(key_serde)
        return self._rekeyed(self._add("map", t.MapStep(t.UserFunction.of(fn), serde), name), serde)

    def map_values(self, fn: Callable[..., R], *, name: str = "") -> "Stream[K, R]":
        """Replace the value by what `fn` returns."""
        step = t.MapValuesStep(t.UserFunction.of(fn))
        return self._same(self._add("map-values", step, name))

    def flat_map(
        self,
        fn: Callable[..., Iterable[tuple[Any, R]]],
        *,
        key_serde: str | Serde = "str",
        name: str = "",
    ) -> "Stream[Any, R]":
        """Replace a record by all the pairs of key and value that `fn` returns, in order."""
        serde = serde_of(key_serde)
        step = t.MapStep(t.UserFunction.of(fn), serde, flat=True)
        return self._rekeyed(self._add("flat-map", step, name), serde)

    def flat_map_values(self, fn: Callable[..., Iterable[R]], *, name: str = "") -> "Stream[K, R]":
        """Replace a record by all the values that `fn` returns, in order, each with its key."""
        step = t.MapValuesStep(t.UserFunction.of(fn), flat=True)
        edge = self._add("flat-map-values", step, name)
        return Stream(self._builder, edge, self._key_serde)

    def select_key(
        self, fn: Callable[..., Any], *, key_serde: str | Serde = "str", name: str = ""
    ) -> "Stream[Any, V]":
        """Give every record the key that `fn` returns. Does not move it to another partition."""
        serde = serde_of(key_serde)
        step = t.SelectKeyStep(t.UserFunction.of(fn), serde)
        return self._rekeyed(self._add("select-key", step, name), serde)

    def peek(self, fn: Callable[..., object], *, name: str = "") -> "Stream[K, V]":
        """Call `fn` for every record. It runs again when a transaction is done again."""
        return self._same(self._add("peek", t.PeekStep(t.UserFunction.of(fn)), name))

    def branch(self, *predicates: Callable[..., Any], name: str = "") -> "list[Stream[K, V]]":
        """One stream per predicate, for the records it is the first to be true for; one more,
        the last, for the records that none of them wants."""
        step = t.BranchStep(tuple(map(t.UserFunction.of, predicates)))
        edge = self._add("branch", step, name)
        ports = [*map(str, range(len(predicates))), "else"]
        return [self._same(replace(edge, port=port)) for port in ports]

    def merge(self, *others: "Stream[Any, Any]", name: str = "") -> "Stream[Any, Any]":
        """The records of all these streams; each stream stays in order.

        Raises TopologyError when their key serdes differ.
        """
        streams = (self, *others)
        if len({each._key_serde.name for each in streams}) > 1:
            raise TopologyError("merge needs streams with the same key serde")
        inputs = tuple(each._edge for each in streams)
        return self._rekeyed(
            self._builder.add("merge", t.MergeStep(), inputs, name), self._key_serde
        )

    def to(
        self,
        topic: str,
        *,
        key: Callable[..., Any] | None = None,
        key_serde: str | Serde | None = None,
        value_serde: str | Serde = "json",
        name: str = "",
    ) -> None:
        """Write to a topic, which must exist or be made by itself.

        Args: `key` gives another key than the record's. A windowed key is written as the key
        followed by the window's start, 8 bytes, as in Kafka.
        """
        if key_serde is None:
            key_serde = self._key_serde if key is None else "str"
        step = t.SinkStep(
            topic,
            None if key is None else t.UserFunction.of(key),
            serde_of(key_serde),
            serde_of(value_serde),
            latest_only=self._updates and key is None,
        )
        self._add("sink", step, name)

    def repartition(
        self, name: str, *, partitions: int | None = None, value_serde: str | Serde = "json"
    ) -> "Stream[K, V]":
        """Send every record to the partition of its key, through `<app>-<name>-repartition`.

        Args: `partitions` of that topic; without it, as many as the source with the most.
        """
        topic = self._builder.repartition(self._builder.claim(name, "a repartition"), partitions)
        key, value = self._key_serde, serde_of(value_serde)
        step = t.SinkStep(topic, None, key, value, internal=True)
        self._add("sink", step, f"{name}-sink")
        source = t.SourceStep(topic, key, value, internal=True)
        return Stream(self._builder, self._builder.add("source", source, (), f"{name}-source"), key)

    def dedupe(
        self,
        name: str,
        *,
        key: Callable[..., Any] | None = None,
        window: timedelta | int,
        by: Time = "event_time",
        on_duplicate: Literal["drop", "topic"] = "drop",
    ) -> "Stream[K, V]":
        """Let only the first record of each key through.

        A key is remembered for `window` after its first record. By event time that is time of the
        stream (the largest timestamp so far), so that what is dropped depends on the data alone;
        a record out of order is compared like any other. Duplicates are counted.

        Args: `key` gives what is compared, any JSON value or bytes; without it, the record's key.
        A record whose key is None has no duplicates: it passes.
        `on_duplicate="topic"` writes them to `<app>-<name>-duplicates`, with the place of the
        first in the headers.
        """
        self._builder.claim(name, "a dedupe")
        window_ms = milliseconds(window)
        if window_ms <= 0:
            raise TopologyError(f"dedupe {name!r} needs a window longer than nothing")
        bucket_ms = max(1, window_ms // 2)
        store = t.StoreSpec(
            name,
            serde_of("bytes"),
            f"dedupe({window_ms},{by})",
            retention_ms=bucket_ms + window_ms,
            wall_clock=_wall_clock(by),
        )
        fn = t.UserFunction.of(key or (lambda key, value: key))
        edge = self._add("dedupe", t.DedupeStep(store, fn, window_ms, bucket_ms), name)
        if on_duplicate == "topic":
            topic = f"{self._builder.app}-{name}-duplicates"
            self._same(replace(edge, port="duplicates")).to(topic, name=f"{name}-duplicates")
        return self._same(edge)

    def group_by(
        self,
        fn: Callable[..., Any],
        name: str,
        *,
        key_serde: str | Serde = "str",
        value_serde: str | Serde = "json",
        partitions: int | None = None,
    ) -> "Grouped[Any, V]":
        """Group by what `fn` returns, through the topic `<app>-<name>-repartition`."""
        keyed = self.select_key(fn, key_serde=key_serde, name=f"{name}-key")
        moved = keyed.repartition(name, partitions=partitions, value_serde=value_serde)
        return Grouped(moved)

    def group_by_key(self) -> "Grouped[K, V]":
        """Group by the key the records are partitioned by already."""
        return Grouped(self)

    def _add(self, kind: str, step: t.Step, name: str) -> t.Edge:
        return self._builder.add(kind, step, (self._edge,), name)

    def _same(self, edge: t.Edge) -> "Stream[K, Any]":
        return Stream(self._builder, edge, self._key_serde, updates=self._updates)

    def _rekeyed(self, edge: t.Edge, serde: Serde) -> "Stream[Any, Any]":
        return Stream(self._builder, edge, serde)


class Grouped(Generic[K, V]):
    """A stream whose records of one key are in one partition. Null keys and values are skipped."""

    def __init__(self, stream: Stream[K, V], window: Window | None = None, by: Time = "event_time"):
        self._stream = stream
        self._window = window
        self._by = by

    def windowed(self, window: Window, *, by: Time = "event_time") -> "Grouped[K, V]":
        """Aggregate per window, `Tumbling(...)` or `Hopping(...)`."""
        if not isinstance(window, Window):
            raise TopologyError("windowed() takes Tumbling(...) or Hopping(...)")
        return Grouped(self._stream, window, by)

    def count(self, name: str) -> "Table[K, int]":
        """How many records each key has had."""
        return self._single(name, Count())

    def reduce(self, fn: Callable[[V, V], V], name: str) -> "Table[K, V]":
        """Join the values of a key two by two: `fn(so_far, value)`. None deletes the key."""
        return self._table(name, "reduce()", fn=t.UserFunction(fn, takes_key=False))

    def latest(self, name: str) -> "Table[K, V]":
        """The last value of each key; a null value deletes the key."""
        return self._table(name, "latest()")

    def aggregate(
        self, name: str, initializer: Callable[[], R], aggregator: Callable[[V, R], R]
    ) -> "Table[K, R]":
        """Fold the values of a key: `aggregator(value, so_far)`, begun with `initializer()`.

        The result is stored as MessagePack. None deletes the key.
        """
        fn = t.UserFunction(aggregator, takes_key=False)
        return self._table(name, "aggregate()", fn=fn, initializer=initializer)

    def agg(self, name: str, **aggregations: Aggregation) -> "Table[K, dict[str, Any]]":
        """Several aggregations at once: `.agg("sales", n=Count(), total=Sum("amount"))`."""
        if not aggregations:
            raise TopologyError(f"agg {name!r} has nothing to compute")
        layout = ",".join(f"{key}={each.description}" for key, each in aggregations.items())
        return self._table(name, f"agg({layout})", aggregations=tuple(aggregations.items()))

    def _single(self, name: str, aggregation: Aggregation) -> "Table[K, Any]":
        layout = f"agg({aggregation.description})"
        return self._table(name, layout, aggregations=(("value", aggregation),), single=True)

    def _table(self, name: str, layout: str, **spec: Any) -> "Table[K, Any]":
        stream, window = self._stream, self._window
        builder = stream._builder
        builder.claim(name, "an aggregation")
        if window is not None:
            layout += f" over {window.size_ms}/{window.advance_ms} by {self._by}"
        store = t.StoreSpec(
            name,
            stream._key_serde,
            layout,
            retention_ms=None if window is None else window.retention_ms,
            wall_clock=_wall_clock(self._by),
            window=window,
        )
        edge = stream._add("aggregate", t.AggregateStep(store, window=window, **spec), name)
        return Table(builder, edge, stream._key_serde, window)


class Table(Generic[K, V]):
    """One value per key, or per key and window. Queryable by its name."""

    def __init__(
        self, builder: Builder, edge: t.Edge, key_serde: Serde, window: Window | None
    ) -> None:
        self._builder = builder
        self._edge = edge
        self._key_serde = key_serde
        self._window = window

    def current(self, *, every_update: bool = False) -> Stream[Any, V]:
        """The updates as they happen. The key is `Windowed` if the table is windowed.

        A topic written from them gets the last of each key in each transaction; with
        `every_update`, all of them.
        """
        return self._port("current", self._result_serde(), updates=not every_update)

    def final(self) -> Stream[Windowed[K], V]:
        """One record for each key and window, when the window has closed.

        Its timestamp is the last millisecond of the window.
        Raises TopologyError for a table without windows, which is never final.
        """
        if self._window is None:
            raise TopologyError("final() needs a window: a table without one is never final")
        return self._port("final", self._result_serde())

    def late(self) -> Stream[K, Any]:
        """The records that came after a window they belong to had closed, unchanged."""
        if self._window is None:
            raise TopologyError("late() needs a window: without one nothing is late")
        return self._port("late", self._key_serde)

    def _result_serde(self) -> Serde:
        if self._window is None:
            return self._key_serde
        return windowed_serde(self._key_serde, self._window.size_ms)

    def _port(self, port: str, serde: Serde, updates: bool = False) -> Stream[Any, Any]:
        return Stream(self._builder, replace(self._edge, port=port), serde, updates=updates)


def _wall_clock(by: str) -> bool:
    if by not in ("event_time", "processing_time"):
        raise TopologyError(f'by is "event_time" or "processing_time", not {by!r}')
    return by == "processing_time"
