"""The brokers that are compared: Ottla as it comes, Apache Kafka as it comes, Kafka with fsync."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kafka_runner import Kafka, answers

import ottla

OTTLA = "Ottla"
KAFKA = "Kafka"
KAFKA_FLUSH = "Kafka, flush"  # log.flush.interval.messages=1


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that runs: what it is called, where it is, and what its start has cost."""

    name: str
    bootstrap_servers: str
    pid: int
    start_s: float

    def cpu_s(self) -> float:
        """Processor time that the broker has used since its start, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Resident memory now, in megabytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError(f"the broker {self.name} is gone")


@contextmanager
def run(name: str, directory: Path) -> Iterator[Running]:
    """The broker with this name, on a new directory."""
    if name == OTTLA:
        began_s = time.monotonic()
        with ottla.Broker(directory) as broker:
            while not answers(broker.port):
                time.sleep(0.005)
            start_s = time.monotonic() - began_s
            yield Running(name, broker.bootstrap_servers, broker.pid, start_s)
        return
    properties = {"log.flush.interval.messages": "1"} if name == KAFKA_FLUSH else {}
    with Kafka(directory, properties=properties) as kafka:
        yield Running(name, kafka.bootstrap_servers, kafka.pid, kafka.start_s)


def start_and_idle(name: str, directory: Path) -> dict[str, float]:
    """Start a broker on a new directory: seconds to the first answer, megabytes when idle."""
    with run(name, directory) as broker:
        time.sleep(1)
        return {"start s": broker.start_s, "idle MB": broker.resident_mb()}
