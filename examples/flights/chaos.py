"""Kill -9 at random moments: which part, and how far everything is when it happens.

The moments are moments of the work, not of the clock: a part is killed when a random share of the
rows has been read (the source) or has reached the database (all others). So every kill hits a
pipeline that is working, on fast machines and on slow ones. But shares move when something is
committed, and a kill just then would spare every transaction: so each waits a random moment more,
and finds the part somewhere in the middle of its work.
"""

import random
import time
from collections import Counter
from collections.abc import Callable

from ottla.pipeline.processes import State
from ottla.pipeline.runner import PipelineRun

DELAY_S_MAX = 0.4  # longer than a transaction takes

PARTS = ("broker", "source", "streams", "sink")


class Chaos:
    """Kills the parts of a run, `kills` times in all, spread over all of them.

    `delivered` tells which share of the rows is in the database, from 0 to 1. `total` is the number
    of rows the source has to read.
    """

    def __init__(
        self, kills: int, seed: int, total: int, delivered: Callable[[PipelineRun], float]
    ) -> None:
        chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.share_delivered = 0.0
        self._chance = chance
        self._due: dict[str, float] = {}  # parts whose moment has come, and when they are killed
        self._total = total
        self._delivered = delivered
        parts = [PARTS[number % len(PARTS)] for number in range(kills)]
        self._moments: dict[str, list[float]] = {
            part: sorted(chance.uniform(0.02, 0.95) for _ in range(parts.count(part)))
            for part in PARTS
        }

    @property
    def left(self) -> int:
        """How many kills are still to come."""
        return sum(map(len, self._moments.values()))

    def __call__(self, run: PipelineRun) -> bool:
        """Kill what it is time for. Whether there is more to come."""
        self.share_delivered = self._delivered(run)
        if run.workers["source"].state is State.DONE:
            self._spread("source")
        now = time.monotonic()
        for part, moments in self._moments.items():
            if moments and part not in self._due and self._share(run, part) >= moments[0]:
                self._due[part] = now + self._chance.uniform(0, DELAY_S_MAX)
            if moments and now >= self._due.get(part, now + 1) and self._kill(run, part):
                del self._due[part]
                moments.pop(0)
                self.counts[part] += 1
        return self.left > 0

    def _spread(self, part: str) -> None:
        """The part was too quick for some of its kills: the others get them."""
        others = [each for each in PARTS if each != part]
        for _ in self._moments[part]:
            moments = self._moments[self._chance.choice(others)]
            moments.append(self._chance.uniform(self.share_delivered, 0.95))
            moments.sort()
        self._moments[part] = []
        self._due.pop(part, None)

    def _share(self, run: PipelineRun, part: str) -> float:
        if part != "source":
            return self.share_delivered
        rows: int = run.workers["source"].report.get("rows_total", 0)
        return rows / self._total

    def _kill(self, run: PipelineRun, part: str) -> bool:
        if part != "broker":
            return run.workers[part].kill()
        if run.broker is None or not run.broker.running:
            return False
        run.broker.kill()
        return True
