"""The code of each step: what the compiler writes for it into the loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ottla.streams import topology as t
from ottla.streams.aggregations import Aggregation
from ottla.streams.codecs import (
    DELETED,
    FIRST,
    SCALAR,
    TUPLE,
    USER,
    Codec,
    freeze,
    pack_first,
    thaw,
    unpack_first,
)
from ottla.streams.dedupe import digester
from ottla.streams.windows import Windowed, windowed_serde
from ottla.streams.writer import EMIT, Emit, Flow, Writer

MISSING = object()  # in an undo entry: the key was not there


def codec_of(step: t.DedupeStep | t.AggregateStep) -> Codec:
    """How the values of a step's store become bytes."""
    if isinstance(step, t.DedupeStep):
        return FIRST
    if step.aggregations:
        return SCALAR if step.single else TUPLE
    return USER


def write_locals(w: Writer) -> None:
    """What the code of the steps finds in local variables, at the head of a function."""
    w.put("counters = task.counters")
    if w.rollback:
        w.put("undone = task.undone")
        w.put("undo = undone.append")
    for node in w.sub.nodes:
        n = node.id
        if isinstance(node.step, t.SinkStep):
            w.put(f"out{n} = task.outputs[{n}]")
            if not node.step.latest_only:
                w.put(f"add{n} = out{n}.append")
        elif isinstance(node.step, t.AggregateStep | t.DedupeStep):
            w.put(f"store{n} = task.stores[{node.step.store.name!r}]")
            if node.step.store.retention_ms is None:
                w.put(f"segment{n} = store{n}.segment(0)")
                w.put(f"dirty{n} = segment{n}.dirty")
                w.put(f"known{n} = segment{n}.known")
                w.put(f"load{n} = None if segment{n}.complete else segment{n}.load")
            elif isinstance(node.step, t.AggregateStep):
                w.put(f"at{n} = dirty{n} = known{n} = load{n} = None")


def _filter(w: Writer, node: t.Node, flow: Flow) -> None:
    with w.block(f"if {w.call(_step(node, t.FilterStep).predicate, flow)}:"):
        w.children(node, t.OUT, flow)


def _map(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.MapStep)
    key, value = w.var("k"), w.var("v")
    after = Flow(value, flow.time, step.key_serde, key=key)
    if step.flat:
        with w.block(f"for {key}, {value} in {w.call(step.fn, flow)}:"):
            w.children(node, t.OUT, after)
    else:
        w.put(f"{key}, {value} = {w.call(step.fn, flow)}")
        w.children(node, t.OUT, after)


def _map_values(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.MapValuesStep)
    call, value = w.call(step.fn, flow), w.var("v")
    flow.value = value
    if step.flat:
        with w.block(f"for {value} in {call}:"):
            w.children(node, t.OUT, flow)
    else:
        w.put(f"{value} = {call}")
        w.children(node, t.OUT, flow)


def _select_key(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.SelectKeyStep)
    call, key = w.call(step.fn, flow), w.var("k")
    w.put(f"{key} = {call}")
    w.children(node, t.OUT, Flow(flow.value, flow.time, step.key_serde, key=key))


def _peek(w: Writer, node: t.Node, flow: Flow) -> None:
    w.put(w.call(_step(node, t.PeekStep).fn, flow))
    w.children(node, t.OUT, flow)


def _branch(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.BranchStep)
    if any(predicate.takes_key for predicate in step.predicates):
        w.key(flow)
    for number, predicate in enumerate(step.predicates):
        word = "elif" if number else "if"
        with w.block(f"{word} {w.call(predicate, flow)}:"):
            w.children(node, str(number), flow)
    with w.block("else:"):
        w.children(node, "else", flow)


def _merge(w: Writer, node: t.Node, flow: Flow) -> None:
    w.children(node, t.OUT, flow)


def _sink(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.SinkStep)
    if step.key is not None:
        key = w.var("k")
        w.put(f"{key} = {w.call(step.key, flow)}")
        raw = w.serialized(key, step.key_serde)
    elif step.key_serde.name == flow.serde.name:
        raw = w.raw(flow)
    else:
        raw = w.serialized(w.key(flow), step.key_serde)
    value = flow.value
    if not step.value_serde.identity:
        value = f"({w.serialized(flow.value, step.value_serde)})"
    out = f"out{node.id}"
    if flow.headers is not None:
        w.put(f"task.headed.append(({step.topic!r}, {raw}, {value}, {flow.time}, {flow.headers}))")
        w.undo("task.headed")
    elif step.latest_only:
        name = w.var("r")
        w.put(f"{name} = {raw}")
        w.undo(f"({out}, {name}, {out}.get({name}, MISSING))")
        w.put(f"{out}[{name}] = ({value}, {flow.time})")
    else:
        w.put(f"add{node.id}(({raw}, {value}, {flow.time}))")
        w.undo(out)


def _dedupe(w: Writer, node: t.Node, flow: Flow) -> None:
    """The first of a key is remembered in the bucket of the clock then; None is no key."""
    step = _step(node, t.DedupeStep)
    n, name = node.id, step.store.name
    digest = w.const("digest", digester(w.topology.app, name))
    identity, mark, clock, first = w.var("i"), w.var("d"), w.var("clock"), w.var("first")
    w.put(f"{identity} = {w.call(step.key, flow)}")
    w.put(f"{first} = None")
    with w.block(f"if {identity} is not None:"):
        w.put(f"{mark} = {digest}({identity})")
        if step.store.wall_clock:
            w.put(f"{clock} = now_ms")
        else:
            w.put(f"{clock} = {flow.time} if {flow.time} > time_ms else time_ms")
        w.put(f"{first} = store{n}.find({mark}, {clock} - {step.window_ms})")
        with w.block(f"if {first} is None:"):
            w.put(f"dirty{n} = store{n}.segment({clock} - {clock} % {step.bucket_ms}).dirty")
            w.undo(f"(dirty{n}, {mark}, MISSING)")
            pack = w.const("pack", pack_first)
            w.put(f"dirty{n}[{mark}] = {pack}({clock}, m.partition(), m.offset())")
    with w.block(f"if {first} is None:"):
        w.children(node, t.OUT, flow)
    with w.block("else:"):
        w.count(f"duplicates:{name}")
        if w.has(node, "duplicates"):
            headers = w.const("headers", _first_headers)
            flow.headers = f"{headers}({first})"
            w.children(node, "duplicates", flow)


def _first_headers(first: bytes) -> list[tuple[str, bytes]]:
    _, partition, offset = unpack_first(first)
    return [
        ("ottla.first.partition", b"%d" % partition),
        ("ottla.first.offset", b"%d" % offset),
    ]


def _aggregate(w: Writer, node: t.Node, flow: Flow) -> None:
    step = _step(node, t.AggregateStep)
    raw = w.raw(flow)
    deletes = not step.aggregations and step.fn is None  # latest(): a null value deletes
    wanted = f"{raw} is not None" + ("" if deletes else f" and {flow.value} is not None")
    with w.block(f"if {wanted}:"):
        if step.window is None:
            _update(w, node, step, flow)
        else:
            _windows(w, node, step, flow)
    with w.block("else:"):
        w.count(f"skipped:{step.store.name}")


def _windows(w: Writer, node: t.Node, step: t.AggregateStep, flow: Flow) -> None:
    """One update for each window of the record that is not closed."""
    window = step.window
    if window is None:
        return
    n, start, late = node.id, w.var("start"), w.var("late")
    clock = "now_ms" if step.store.wall_clock else flow.time
    w.put(f"{start} = {clock} - {clock} % {window.advance_ms}")
    w.put(f"{late} = False")
    hopping = window.advance_ms < window.size_ms
    head = (
        f"while {start} > {clock} - {window.size_ms} and {start} >= 0:" if hopping else "if True:"
    )
    with w.block(head):
        with w.block(f"if {start} + {window.retention_ms} <= time_ms:"):
            w.put(f"{late} = {not step.store.wall_clock}")
        with w.block("else:"):
            with w.block(f"if {start} != at{n}:"):
                w.put(f"at{n} = {start}")
                w.put(f"segment{n} = store{n}.segment({start})")
                w.put(f"dirty{n} = segment{n}.dirty")
                w.put(f"known{n} = segment{n}.known")
                w.put(f"load{n} = None if segment{n}.complete else segment{n}.load")
            _update(w, node, step, flow, start)
        if hopping:
            w.put(f"{start} -= {window.advance_ms}")
    with w.block(f"if {late}:"):
        w.count(f"late:{step.store.name}")
        w.children(node, "late", replace(flow))


def _update(
    w: Writer, node: t.Node, step: t.AggregateStep, flow: Flow, start: str | None = None
) -> None:
    """Read the value of the key, compute the next, write it; then send it on as `current`."""
    n, raw = node.id, w.raw(flow)
    old = w.var("old")
    w.put(f"{old} = dirty{n}.get({raw})")
    with w.block(f"if {old} is None:"):
        w.put(f"{old} = known{n}.get({raw})")
        with w.block(f"if {old} is None and load{n} is not None:"):
            w.put(f"{old} = load{n}({raw})")
    if step.aggregations:
        new, result = _aggregations(w, step, flow, old)
    else:
        new, result = _user_aggregate(w, step, flow, old)
    w.undo(f"(dirty{n}, {raw}, dirty{n}.get({raw}, MISSING))")
    w.put(f"dirty{n}[{raw}] = {new}")
    if w.has(node, "current"):
        value = w.var("v")
        w.put(f"{value} = {result}")
        after = replace(flow, value=value)
        if start is not None:
            after = _windowed(flow, step, start, value, flow.time)
        w.children(node, "current", after)


def _aggregations(w: Writer, step: t.AggregateStep, flow: Flow, old: str) -> tuple[str, str]:
    """Lines for the slots of named aggregations; expressions of the accumulator, the result."""
    initial = tuple(slot for _, each in step.aggregations for slot in each.initial)
    single = step.single and len(initial) == 1
    with w.block(f"if {old} is None:"):
        w.put(f"{old} = {initial[0] if single else initial!r}")
    slots = [w.var("s") for _ in initial]
    w.put(f"{slots[0]} = {old}" if single else f"{', '.join(slots)}, = {old}")
    results, position = [], 0
    for name, each in step.aggregations:
        own = dict(zip("abc", slots[position : position + len(each.initial)], strict=False))
        own["x"] = _field(w, each, flow)
        values = ", ".join(text.format(**own) for text in each.expressions())
        w.put(f"{', '.join(slots[position : position + len(each.initial)])} = {values}")
        results.append((name, each.result.format(**own)))
        position += len(each.initial)
    return slots[0] if single else f"({', '.join(slots)},)", _result(step, results)


def _result(step: t.AggregateStep, results: list[tuple[str, str]]) -> str:
    if step.single:
        return results[0][1]
    return "{" + ", ".join(f"{name!r}: {text}" for name, text in results) + "}"


def _field(w: Writer, aggregation: Aggregation, flow: Flow) -> str:
    if aggregation.field is None:
        return "None"
    field = w.var("x")
    if isinstance(aggregation.field, str):
        w.put(f"{field} = {flow.value}[{aggregation.field!r}]")
    else:
        w.put(f"{field} = {w.const('f', aggregation.field)}({flow.value})")
    return field


def _user_aggregate(w: Writer, step: t.AggregateStep, flow: Flow, old: str) -> tuple[str, str]:
    """Lines that call a reducer or aggregator; expressions of the live form, the result."""
    w.names.update(DELETED=DELETED, freeze=freeze, thaw=thaw)
    new = w.var("n")
    if step.fn is None:
        w.put(f"{new} = {flow.value}")
    else:
        fn = w.const("f", step.fn.call)
        with w.block(f"if {old} is None or {old} is DELETED:"):
            if step.initializer is None:
                w.put(f"{new} = {flow.value}")
            else:
                w.put(f"{new} = {fn}({flow.value}, {w.const('f', step.initializer)}())")
        with w.block("else:"):
            order = f"thaw({old}), {flow.value}"
            if step.initializer is not None:
                order = f"{flow.value}, thaw({old})"
            w.put(f"{new} = {fn}({order})")
    return f"DELETED if {new} is None else freeze({new})", new


def _windowed(flow: Flow, step: t.AggregateStep, start: str, value: str, time: str) -> Flow:
    """The record of a window: the key becomes key and window, made when it is asked for."""
    inner, window = replace(flow), step.window
    if window is None:
        return flow
    size_ms = window.size_ms
    serde = windowed_serde(flow.serde, size_ms)

    def make_key(w: Writer) -> str:
        w.names["Windowed"] = Windowed
        return f"Windowed({w.key(inner)}, {start}, {start} + {size_ms})"

    def make_raw(w: Writer) -> str:
        return f"{w.raw(inner)} + {start}.to_bytes(8, 'big')"

    return Flow(value, time, serde, make_key=make_key, make_raw=make_raw)


def write_close(w: Writer, name: str, node: t.Node, step: t.AggregateStep) -> None:
    """The function that sends the results of a closed window on."""
    window = step.window
    if window is None:
        return
    w.step = node.name
    w.names.update(thaw=thaw)
    with w.block(f"def {name}(task, start, items, m, now_ms):"):
        w.put("time_ms = task.stream_time_ms")
        w.put(f"t = start + {window.size_ms - 1}")
        write_locals(w)
        with w.block("for raw, live in items:"):
            with w.block("try:"):
                if w.rollback:
                    w.put("undone.clear()")
                w.put("v = None")
                w.put(f"v = {_live_result(step)}")
                inner = Flow("v", "t", step.store.key_serde, raw="raw")
                w.children(node, "final", _windowed(inner, step, "start", "v", "t"))
            with w.block("except Exception as error:"):
                w.put("task.fail_window(error, m, raw, start, v)")


def _live_result(step: t.AggregateStep) -> str:
    if not step.aggregations:
        return "thaw(live)"
    slots = sum(len(each.initial) for _, each in step.aggregations)
    names = [f"live[{number}]" for number in range(slots)]
    if step.single and len(step.aggregations[0][1].initial) == 1:
        names = ["live"]
    results, position = [], 0
    for name, each in step.aggregations:
        count = len(each.initial)
        own = dict(zip("abc", names[position : position + count], strict=False))
        results.append((name, each.result.format(**own)))
        position += count
    return _result(step, results)


def result_of(step: t.AggregateStep) -> Callable[[Any], Any]:
    """The function from the live form of a stored value to the result."""
    names: dict[str, Any] = {"thaw": thaw}
    function: Callable[[Any], Any] = eval(f"lambda live: {_live_result(step)}", names)
    return function


def _step(node: t.Node, kind: type[Any]) -> Any:
    return node.step if isinstance(node.step, kind) else None


_emitters: dict[type[t.Step], Emit] = {
    t.FilterStep: _filter,
    t.MapStep: _map,
    t.MapValuesStep: _map_values,
    t.SelectKeyStep: _select_key,
    t.PeekStep: _peek,
    t.BranchStep: _branch,
    t.MergeStep: _merge,
    t.SinkStep: _sink,
    t.DedupeStep: _dedupe,
    t.AggregateStep: _aggregate,
}
EMIT.update(_emitters)
