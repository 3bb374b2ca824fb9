"""The ledger of a pipeline: what went in must be somewhere.

    read + made = out + deduplicated + filtered + dead letters + open

`made` are rows that a step made out of others, `open` those that are on their way: committed, and
not in the destination yet. All numbers are counted from the logs and the destination, none is taken
from a worker's own counters.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rows of a pipeline, by what became of them.

    `unsure` rows came again when their key was about to be forgotten: a dedupe may drop them or
    let them through, and both is right.
    """

    read: int
    made: int
    out: int
    deduplicated: int
    filtered: int
    dead: int
    open: int
    unsure: int = 0

    @property
    def difference(self) -> int:
        """Rows missing (positive) or too many (negative); 0 if the books balance."""
        accounted = self.out + self.deduplicated + self.filtered + self.dead + self.open
        missing = self.read + self.made - accounted
        if 0 < missing <= self.unsure:
            return 0
        return missing

    def lines(self) -> list[tuple[str, int]]:
        """For a person: name and number, in the order of the equation."""
        values = asdict(self)
        return [(name, count) for name, count in values.items() if count or name != "unsure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison of two numbers that must be the same."""

    what: str
    expected: int
    found: int

    @property
    def agrees(self) -> bool:
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class Audit:
    """A ledger and the comparisons that go with it."""

    ledger: Ledger
    findings: tuple[Finding, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, nothing too much, and every comparison agrees."""
        return self.ledger.difference == 0 and all(finding.agrees for finding in self.findings)

    def text(self) -> str:
        """For a person."""
        lines = [f"  {name:<14}{count:>14,}" for name, count in self.ledger.lines()]
        lines.append(f"  {'difference':<14}{self.ledger.difference:>14,}")
        lines.append("")
        for finding in self.findings:
            mark = "ok    " if finding.agrees else "NOT OK"
            lines.append(f"  {mark} {finding.what}: {finding.found:,} of {finding.expected:,}")
        lines.append("")
        lines.append("exact" if self.exact else "NOT EXACT")
        return "\n".join(lines)
