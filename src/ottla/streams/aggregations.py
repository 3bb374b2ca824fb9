"""Aggregations by name: `.agg("sales", n=Count(), total=Sum("amount"))`.

Each keeps a few slots of the accumulator, a tuple of plain values. A step is a Python expression
over its slots `{a}`, `{b}` and the value `{x}`; the compiler writes it into the loop, so that an
aggregation costs no call. A null is skipped, as in SQL; a missing field is an error of the record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ottla.streams.errors import TopologyError


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One named result. `field` is a name in the value, or a function of the value."""

    field: str | Callable[[Any], Any] | None = None

    initial: ClassVar[tuple[Any, ...]] = (None,)
    steps: ClassVar[tuple[str, ...]] = ()
    result: ClassVar[str] = "{a}"

    def __post_init__(self) -> None:
        if self.field is None and not isinstance(self, Count):
            raise TopologyError(f"{type(self).__name__} needs a field: a name or a function")

    def expressions(self) -> tuple[str, ...]:
        """One expression for each slot: its next value."""
        return self.steps

    @property
    def description(self) -> str:
        """The name for the fingerprint of the state: what it computes, over which field."""
        field = self.field if isinstance(self.field, str) else "" if self.field is None else "fn"
        return f"{type(self).__name__}({field})"


class Count(Aggregation):
    """How many records; with a field, how many where it is not null."""

    __slots__ = ()
    initial = (0,)
    steps = ("{a} if {x} is None else {a} + 1",)

    def expressions(self) -> tuple[str, ...]:
        return ("{a} + 1",) if self.field is None else self.steps


class Sum(Aggregation):
    """The sum of a field; None until there is a value."""

    __slots__ = ()
    steps = ("{a} if {x} is None else {x} if {a} is None else {a} + {x}",)


class Min(Aggregation):
    """The smallest value of a field."""

    __slots__ = ()
    steps = ("{a} if {x} is None or ({a} is not None and {a} <= {x}) else {x}",)


class Max(Aggregation):
    """The largest value of a field."""

    __slots__ = ()
    steps = ("{a} if {x} is None or ({a} is not None and {a} >= {x}) else {x}",)


class Mean(Aggregation):
    """The mean of a field, kept as its sum and its count; None until there is a value."""

    __slots__ = ()
    initial = (0, 0)
    steps = ("{a} if {x} is None else {a} + {x}", "{b} if {x} is None else {b} + 1")
    result = "({a} / {b} if {b} else None)"
