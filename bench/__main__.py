"""Ottla beside Apache Kafka: the same client work on both in turn, several rounds, and the ratios.

    python -m bench [--rounds N] [--seconds S] [--quick] [--json FILE] [WORD ...]

WORD selects the rows whose name holds it ("transactions", "Java", "fetch", "start"). Every row runs
on one broker after the other within a round, so that a machine that grows slower does so for all;
the figures are medians over the rounds, and the ratio is Ottla's median to Kafka's. Ottla syncs
before every answer; Kafka as it comes does not sync at all; "Kafka, flush" is Kafka with
log.flush.interval.messages=1. Figures of different machines, or days, are not comparable.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.kafka_runner import KafkaUnavailable

from bench.brokers import KAFKA, KAFKA_FLUSH, OTTLA, Running, run
from bench.work import WORK, Figures, prepare

BROKERS = (OTTLA, KAFKA, KAFKA_FLUSH)
START = "start to first answer, memory"
Results = dict[str, dict[str, dict[str, list[float]]]]  # row, figure, broker


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
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
    rows = [row for row in (*WORK, START) if _wanted(row, options.words)]
    try:
        prepare()
    except KafkaUnavailable as missing:
        sys.exit(f"{missing}: the benchmark compares with Apache Kafka")
    results: Results = {}
    for number in range(rounds):
        _round(rows, seconds, results, f"round {number + 1} of {rounds}")
    _print(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def _wanted(row: str, words: list[str]) -> bool:
    return not words or any(word.lower() in row.lower() for word in words)


def _round(rows: list[str], seconds: float, results: Results, title: str) -> None:
    """Start all brokers, run every row on each in turn."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory, ExitStack() as stack:
        brokers = [
            stack.enter_context(run(name, Path(directory) / str(number)))
            for number, name in enumerate(BROKERS)
        ]
        time.sleep(1)
        idle_mb = {broker.name: broker.resident_mb() for broker in brokers}
        for row in rows:
            if row == START:
                continue
            console.print(f"[dim]{title}: {row}[/dim]")
            for broker in brokers:
                _record(results, row, broker, WORK[row](broker, seconds))
        if START in rows:
            for broker in brokers:
                memory = {
                    "start s": broker.start_s,
                    "idle MB": idle_mb[broker.name],
                    "after load MB": broker.resident_mb(),
                }
                _record(results, START, broker, memory)


def _record(results: Results, row: str, broker: Running, figures: Figures) -> None:
    for figure, value in figures.items():
        by_broker = results.setdefault(row, {}).setdefault(figure, {})
        by_broker.setdefault(broker.name, []).append(value)


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
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
