"""Ottla beside Apache Kafka: the same client work on both in turn, several rounds, and the ratios.

    python -m bench [--rounds N] [--seconds S] [--warm-up S] [--quick] [--tls] [--json FILE]
                    [WORD ...]

WORD selects the rows whose name holds it ("transactions", "Java", "fetch", "start"). All brokers
run for the whole time and are warmed up first: a JVM that has just been started is several times
slower. Every row runs on one broker after the other within a round, so that a machine that grows
slower does so for all; the figures are medians over the rounds, and the ratio is Ottla's median to
Kafka's. Ottla syncs before every answer; Kafka as it comes does not sync at all; "Kafka, flush" is
Kafka with log.flush.interval.messages=1. Figures of different machines, or days, are not
comparable.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.kafka_runner import KafkaUnavailable

from bench.brokers import KAFKA, KAFKA_FLUSH, OTTLA, Running, run, start_and_idle
from bench.work import PLAIN_ONLY, WORK, Figures, prepare, warm_up

BROKERS = (OTTLA, KAFKA, KAFKA_FLUSH)
START = "start to first answer, memory"
LOAD = "memory after all of the above"
Results = dict[str, dict[str, dict[str, list[float]]]]  # row, figure, broker
_PROGRESS = Console(stderr=True)


def main() -> None:
    """Run the rows that were asked for and print their table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--rounds", type=int, default=3, help="how often each row runs (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a row runs (5)")
    parser.add_argument("--warm-up", type=float, default=40.0, help="seconds for each broker (40)")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s, 20 s to warm up")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--tls", action="store_true", help="TLS and SCRAM-SHA-256 on all brokers; librdkafka only"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.warm_up = 1, 2.0, 20.0
    rows = [row for row in (START, *WORK, LOAD) if _wanted(row, options.words)]
    if options.tls:
        rows = [row for row in rows if row not in PLAIN_ONLY and row != START]
    if not rows:
        sys.exit("no row has such a name: " + "; ".join((START, *WORK, LOAD)))
    try:
        prepare()
    except KafkaUnavailable as missing:
        sys.exit(f"{missing}: the benchmark compares with Apache Kafka")
    results: Results = {}
    _run(rows, options.rounds, options.seconds, options.warm_up, results, secured=options.tls)
    _print(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def _wanted(row: str, words: Sequence[str]) -> bool:
    return not words or any(word.lower() in row.lower() for word in words)


def _run(
    rows: Sequence[str],
    rounds: int,
    seconds: float,
    warm_up_s: float,
    results: Results,
    *,
    secured: bool,
) -> None:
    """All rows, on all brokers in turn, round by round."""
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory, ExitStack() as stack:
        if START in rows:
            for number in range(rounds):
                _PROGRESS.print(f"[dim]round {number + 1} of {rounds}: {START}[/dim]")
                for name in BROKERS:
                    place = Path(directory) / f"start {number} {BROKERS.index(name)}"
                    _record(results, START, name, start_and_idle(name, place))
        work = [row for row in rows if row in WORK]
        if not work:
            return
        brokers = [
            stack.enter_context(run(name, Path(directory) / str(number), secured=secured))
            for number, name in enumerate(BROKERS)
        ]
        for broker in brokers:
            _PROGRESS.print(f"[dim]warming up: {broker.name}[/dim]")
            warm_up(broker, warm_up_s)
        for number in range(rounds):
            for row in work:
                _PROGRESS.print(f"[dim]round {number + 1} of {rounds}: {row}[/dim]")
                # Who begins changes, so that nobody always runs into another one's leftovers.
                for broker in (*brokers[number % 3 :], *brokers[: number % 3]):
                    _record(results, row, broker.name, WORK[row](broker, seconds))
        if LOAD in rows:
            for broker in brokers:
                _record(results, LOAD, broker.name, _memory(broker))


def _memory(broker: Running) -> Figures:
    return {"MB": broker.resident_mb()}


def _record(results: Results, row: str, broker: str, figures: Figures) -> None:
    for figure, value in figures.items():
        by_broker = results.setdefault(row, {}).setdefault(figure, {})
        by_broker.setdefault(broker, []).append(value)


def _print(results: Results) -> None:
    table = Table(title="medians; a ratio above 1 at a rate, and below 1 at a time, is Ottla ahead")
    for heading in ("work", "figure", *BROKERS, "Ottla / Kafka", "Ottla / Kafka, flush"):
        table.add_column(heading, justify="left" if heading in ("work", "figure") else "right")
    for row, figures in results.items():
        for figure, by_broker in figures.items():
            medians = {name: statistics.median(values) for name, values in by_broker.items()}
            table.add_row(
                row,
                figure,
                *(f"{medians[name]:,.2f}" for name in BROKERS),
                *(f"{medians[OTTLA] / max(medians[n], 1e-9):.2f}" for n in (KAFKA, KAFKA_FLUSH)),
            )
            row = ""
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
