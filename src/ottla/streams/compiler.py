"""From a sub-topology to Python source: one loop over a batch of records, and nothing per step.

Every step becomes a few lines inside the loop of its source, one block deeper than the step before
it; functions of the user are called, everything else is written out. The loop has one `try` around
each record. When rollback is wanted, every write before the failure is in `undo`, newest last:

    (container, key, old)   set it back, or take it out if `old` is MISSING
    a list                  take its last element off

so that the record leaves nothing behind. Which step failed is read from the line number. The source
can be looked at: `app.source()`.
"""

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any

from ottla.streams import topology as t
from ottla.streams.operators import MISSING, write_close, write_locals
from ottla.streams.writer import Flow, Writer

# The year 9999. Times come with the data, and windows and stores count on from them in 64 bits.
_TIME_MAX_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled sub-topology, shared by the tasks of all its partitions.

    `run[topic](task, messages, now_ms)` processes records in order; `close[store](task, start,
    items, message)` sends the results of a closed window on.
    """

    source: str
    filename: str
    run: dict[str, Callable[..., None]]
    close: dict[str, Callable[..., None]]
    steps: dict[int, str]

    def step_of(self, traceback: TracebackType | None) -> str:
        """The name of the step in which an exception came up."""
        name = "unknown"
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self.filename:
                name = self.steps.get(traceback.tb_lineno, name)
            traceback = traceback.tb_next
        return name


def compile_subtopology(topology: t.Topology, sub: t.SubTopology, *, rollback: bool) -> Program:
    """Compile a sub-topology; with `rollback`, a record that fails leaves nothing behind."""
    writer = Writer(topology, sub, rollback)
    writer.names["MISSING"] = MISSING
    runs = {}
    for number, topic in enumerate(sub.source_topics):
        runs[topic] = f"run_{number}"
        _write_run(writer, runs[topic], topic)
    closes = {}
    for node in sub.nodes:
        if isinstance(node.step, t.AggregateStep) and writer.has(node, "final"):
            closes[node.step.store.name] = f"close_{node.id}"
            write_close(writer, f"close_{node.id}", node, node.step)
    source = "\n".join(writer.lines) + "\n"
    filename = f"<{topology.app} sub-topology {sub.id}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    code: CodeType = compile(source, filename, "exec")
    namespace = writer.names
    exec(code, namespace)
    return Program(
        source,
        filename,
        {topic: namespace[name] for topic, name in runs.items()},
        {store: namespace[name] for store, name in closes.items()},
        writer.steps,
    )


def _write_run(w: Writer, name: str, topic: str) -> None:
    """The loop over the records of one topic. Stream time moves with records that did not fail."""
    sources = [(node, step) for node, step in w.sub.source_nodes() if step.topic == topic]
    with w.block(f"def {name}(task, messages, now_ms):"):
        w.put("time_ms = task.stream_time_ms")
        write_locals(w)
        with w.block("for m in messages:"):
            with w.block("try:"):
                if w.rollback:
                    w.put("undone.clear()")
                w.put("data = m.value()")
                w.put("raw = m.key()")
                times = [_write_source(w, node, step) for node, step in sources]
                for time in dict.fromkeys(times):
                    with w.block(f"if {time} > time_ms:"):
                        w.put(f"time_ms = {time}")
            with w.block("except Exception as error:"):
                w.put("task.fail(error, m)")
        w.put("task.stream_time_ms = time_ms")


def _write_source(w: Writer, node: t.Node, step: t.SourceStep) -> str:
    w.step = node.name
    time, value = w.var("t"), w.var("v")
    if step.value_serde.identity:
        w.put(f"{value} = data")
    else:
        reader = w.const("read", step.value_serde.deserialize)
        w.put(f"{value} = None if data is None else {reader}(data)")
    flow = Flow(value, time, step.key_serde, raw="raw")
    if step.timestamp is None:
        w.put(f"{time} = m.timestamp()[1]")
        wrong = f"{time} > {_TIME_MAX_MS}"
    else:
        w.put(f"{time} = {w.call(step.timestamp, flow)}")
        wrong = f"{time}.__class__ is not int or not 0 <= {time} <= {_TIME_MAX_MS}"
    check = w.const("bad_time", _bad_time)
    with w.block(f"if {wrong}:"):
        w.put(f"{check}({time})")
    w.children(node, t.OUT, flow)
    return time


def _bad_time(time: Any) -> None:
    if time.__class__ is int and time > _TIME_MAX_MS:
        raise ValueError(f"the timestamp is {time}, which is after the year 9999")
    raise TypeError(f"the timestamp is {time!r}; it must be milliseconds since 1970, an int >= 0")
