"""Writing the source of a sub-topology: lines, blocks, names, and what is known at each place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ottla.streams import topology as t
from ottla.streams.serdes import Serde

_INDENT = "    "


@dataclass(slots=True)
class Flow:
    """What the generated code knows of a record at one place: names of variables.

    Of the key there is the object, the bytes, or how to make them when somebody asks.
    """

    value: str
    time: str
    serde: Serde
    key: str | None = None
    raw: str | None = None
    make_key: Callable[["Writer"], str] | None = None
    make_raw: Callable[["Writer"], str] | None = None
    headers: str | None = None


@dataclass(slots=True)
class Writer:
    """Source being written, with the objects it refers to."""

    topology: t.Topology
    sub: t.SubTopology
    rollback: bool
    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, str] = field(default_factory=dict)
    depth: int = 0
    step: str = "source"
    _count: int = 0

    def put(self, line: str) -> None:
        self.lines.append(_INDENT * self.depth + line)
        self.steps[len(self.lines)] = self.step

    @contextmanager
    def block(self, line: str) -> Iterator[None]:
        self.put(line)
        self.depth += 1
        yield
        self.depth -= 1

    def var(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def const(self, stem: str, value: Any) -> str:
        name = self.var(stem)
        self.names[name] = value
        return name

    def undo(self, entry: str) -> None:
        if self.rollback:
            self.put(f"undo({entry})")

    def count(self, counter: str) -> None:
        """Add one to a counter of the task."""
        self.undo(f"(counters, {counter!r}, counters[{counter!r}])")
        self.put(f"counters[{counter!r}] += 1")

    def call(self, fn: t.UserFunction, flow: Flow, stem: str = "f") -> str:
        name = self.const(stem, fn.call)
        return (
            f"{name}({self.key(flow)}, {flow.value})" if fn.takes_key else f"{name}({flow.value})"
        )

    def key(self, flow: Flow) -> str:
        """The variable with the key as an object."""
        if flow.key is None:
            if flow.make_key is not None:
                expression = flow.make_key(self)
            elif flow.serde.identity:
                expression = str(flow.raw)
            else:
                reader = self.const("read", flow.serde.deserialize)
                expression = f"None if {flow.raw} is None else {reader}({flow.raw})"
            flow.key = self.var("k")
            self.put(f"{flow.key} = {expression}")
        return flow.key

    def raw(self, flow: Flow) -> str:
        """The variable with the key as bytes."""
        if flow.raw is None:
            if flow.make_raw is not None:
                expression = flow.make_raw(self)
            else:
                expression = self.serialized(self.key(flow), flow.serde)
            flow.raw = self.var("r")
            self.put(f"{flow.raw} = {expression}")
        return flow.raw

    def serialized(self, variable: str, serde: Serde) -> str:
        writer = self.const("write", serde.serialize)
        return f"None if {variable} is None else {writer}({variable})"

    def children(self, node: t.Node, port: str, flow: Flow) -> None:
        """Everything behind a port, in order, at this place."""
        children = self.topology.children(node.id, port)
        for child in children:
            self.step = child.name
            EMIT[type(child.step)](self, child, replace(flow))
        self.step = node.name
        if not children:
            self.put("pass")

    def has(self, node: t.Node, port: str) -> bool:
        return bool(self.topology.children(node.id, port))


Emit = Callable[[Writer, t.Node, Flow], None]
EMIT: dict[type[t.Step], Emit] = {}  # filled by ottla.streams.operators
