"""What an application does, as frozen data: steps, and the edges between them.

The DSL writes a topology, the compiler reads it, nothing changes it. A sub-topology is what hangs
together without a topic in between; it is the unit that is compiled, and together with a partition
it is a task. Every stateful step has a name given by the user, because the name is the identity of
its state: `<app>-<name>-changelog`, `<app>-<name>-repartition`.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ottla.streams.aggregations import Aggregation
from ottla.streams.errors import TopologyError
from ottla.streams.serdes import Serde
from ottla.streams.windows import Window

OUT = "out"  # the port of a step that has only one
STATE_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of the user: of the value, or of the key and the value."""

    call: Callable[..., Any]
    takes_key: bool

    @classmethod
    def of(cls, call: Callable[..., Any]) -> "UserFunction":
        """A function with two required positional parameters gets the key and the value."""
        try:
            parameters = inspect.signature(call).parameters.values()
        except (TypeError, ValueError):  # some builtins have no signature
            return cls(call, takes_key=False)
        required = [
            each
            for each in parameters
            if each.default is each.empty
            and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        return cls(call, takes_key=len(required) == 2)


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store of state. `layout` is what must be the same for its bytes to keep their meaning."""

    name: str
    key_serde: Serde
    layout: str
    retention_ms: int | None = (
        None  # from the start of a segment of time to its end; None: for ever
    )
    wall_clock: bool = False
    window: Window | None = None

    @property
    def fingerprint(self) -> str:
        """The layout and the format in short, kept with the state."""
        text = f"{STATE_FORMAT_VERSION}|{self.key_serde.name}|{self.layout}"
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """The base of all steps."""


@dataclass(frozen=True, slots=True)
class SourceStep(Step):
    topic: str
    key_serde: Serde
    value_serde: Serde
    timestamp: UserFunction | None = None
    internal: bool = False


@dataclass(frozen=True, slots=True)
class FilterStep(Step):
    predicate: UserFunction


@dataclass(frozen=True, slots=True)
class MapStep(Step):
    """`fn` gives a pair of key and value; with `flat`, any number of them."""

    fn: UserFunction
    key_serde: Serde
    flat: bool = False


@dataclass(frozen=True, slots=True)
class MapValuesStep(Step):
    """`fn` gives a value; with `flat`, any number of them."""

    fn: UserFunction
    flat: bool = False


@dataclass(frozen=True, slots=True)
class SelectKeyStep(Step):
    fn: UserFunction
    key_serde: Serde


@dataclass(frozen=True, slots=True)
class PeekStep(Step):
    fn: UserFunction


@dataclass(frozen=True, slots=True)
class BranchStep(Step):
    """Ports "0", "1", ... for the predicates in order, "else" for what none of them wants."""

    predicates: tuple[UserFunction, ...]


@dataclass(frozen=True, slots=True)
class MergeStep(Step):
    pass


@dataclass(frozen=True, slots=True)
class SinkStep(Step):
    """`latest_only`: of several records with one key in a transaction only the last is written."""

    topic: str
    key: UserFunction | None
    key_serde: Serde
    value_serde: Serde
    internal: bool = False
    latest_only: bool = False


@dataclass(frozen=True, slots=True)
class DedupeStep(Step):
    """Port "out" for the first of each key, "duplicates" for the others."""

    store: StoreSpec
    key: UserFunction
    window_ms: int
    bucket_ms: int


@dataclass(frozen=True, slots=True)
class AggregateStep(Step):
    """Ports "current", "final" and "late".

    One of `aggregations` (named), or `fn` with `initializer` (None: the first value is the start).
    With neither, the latest value itself is kept.
    """

    store: StoreSpec
    aggregations: tuple[tuple[str, Aggregation], ...] = ()
    single: bool = False  # one aggregation whose result is the value itself, not a dict
    initializer: Callable[[], Any] | None = None
    fn: UserFunction | None = None
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """From a port of a node."""

    node: int
    port: str = OUT


@dataclass(frozen=True, slots=True)
class Node:
    """A step at its place. Ids count up in the order of writing."""

    id: int
    name: str
    step: Step
    inputs: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class SubTopology:
    """The nodes that hang together."""

    id: int
    nodes: tuple[Node, ...]

    def source_nodes(self) -> Iterator[tuple[Node, SourceStep]]:
        return ((node, node.step) for node in self.nodes if isinstance(node.step, SourceStep))

    @property
    def source_topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(step.topic for _, step in self.source_nodes()))

    @property
    def sinks(self) -> tuple[tuple[Node, SinkStep], ...]:
        return tuple((node, node.step) for node in self.nodes if isinstance(node.step, SinkStep))

    @property
    def stores(self) -> tuple[StoreSpec, ...]:
        return tuple(
            node.step.store
            for node in self.nodes
            if isinstance(node.step, DedupeStep | AggregateStep)
        )


@dataclass(frozen=True, slots=True)
class Topology:
    """All steps of an application, in the order of writing."""

    app: str
    nodes: tuple[Node, ...]
    repartitions: tuple[tuple[str, int | None], ...] = ()  # topic, partitions or None

    def children(self, node: int, port: str = OUT) -> list[Node]:
        """The nodes that read a port, in the order of writing."""
        edge = Edge(node, port)
        return [each for each in self.nodes for source in each.inputs if source == edge]

    def changelog_topic(self, store: str) -> str:
        return f"{self.app}-{store}-changelog"

    def subtopologies(self) -> tuple[SubTopology, ...]:
        """Connected nodes, numbered in the order of writing. Raises TopologyError if empty."""
        group = {node.id: node.id for node in self.nodes}
        by_topic: dict[str, int] = {}

        def find(node: int) -> int:
            while group[node] != node:
                node = group[node]
            return node

        def join(one: int, other: int) -> None:
            low, high = sorted((find(one), find(other)))
            group[high] = low

        for node in self.nodes:
            for edge in node.inputs:
                join(edge.node, node.id)
            if isinstance(node.step, SourceStep):  # one topic is read by one task
                join(by_topic.setdefault(node.step.topic, node.id), node.id)
        roots = sorted({find(node.id) for node in self.nodes})
        if not roots:
            raise TopologyError(f"{self.app} has no streams: begin with app.stream(topic)")
        return tuple(
            SubTopology(number, tuple(node for node in self.nodes if find(node.id) == root))
            for number, root in enumerate(roots)
        )

    def describe(self) -> str:
        """The topology as text, in the format of Kafka Streams' Topology#describe."""
        lines = ["Topologies:"]
        for sub in self.subtopologies():
            lines.append(f"   Sub-topology: {sub.id}")
            for node in sub.nodes:
                lines.extend(self._describe_node(node))
        return "\n".join(lines) + "\n"

    def _describe_node(self, node: Node) -> Iterator[str]:
        step = node.step
        after = [each.name for each in self.nodes if any(e.node == node.id for e in each.inputs)]
        before = [self.nodes[edge.node].name for edge in node.inputs]
        if isinstance(step, SourceStep):
            yield f"    Source: {node.name} (topics: [{step.topic}])"
        elif isinstance(step, SinkStep):
            yield f"    Sink: {node.name} (topic: {step.topic})"
        else:
            stateful = isinstance(step, DedupeStep | AggregateStep)
            stores = step.store.name if stateful else ""  # type: ignore[attr-defined]
            yield f"    Processor: {node.name} (stores: [{stores}])"
        if not isinstance(step, SinkStep):
            yield f"      --> {', '.join(after) or 'none'}"
        if not isinstance(step, SourceStep):
            yield f"      <-- {', '.join(before)}"
