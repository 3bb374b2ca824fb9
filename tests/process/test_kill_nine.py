"""P1, P2, P3, P6 and P10: the broker is killed again and again under full work.

Method: a real broker process gets SIGKILL at random moments and is started again on its directory,
while transactional writers, an idempotent one, a copier (input offsets and output in a transaction)
and a reader work on. Afterwards the history of all has no anomaly, the copy is the original,
and nothing is left open.

OTTLA_SOAK=1 makes it ten times as long.
"""

import os
import random
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla import Broker
from tests.process.actors import (
    Actor,
    Copier,
    PlainWriter,
    Reader,
    TransactionalWriter,
    end_offsets,
    read_everything,
)
from tests.process.history import History, Outcome, Partition, Reading

SOAK = os.environ.get("OTTLA_SOAK") == "1"
KILLS = 1_000 if SOAK else 100
UP_S = (0.05, 0.8)
ORDERS: list[Partition] = [("orders", number) for number in range(3)]
PAYMENTS: list[Partition] = [("payments", number) for number in range(2)]
NUMBERS: list[Partition] = [("numbers", number) for number in range(2)]
COPIES: list[Partition] = [("copies", number) for number in range(2)]
EVERYTHING = ORDERS + PAYMENTS + NUMBERS + COPIES


@pytest.mark.timeout(KILLS * 10)
def test_a_hundred_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it if the test fails
    broker = Broker(tmp_path / "data")
    broker.start()
    _create_topics(broker.bootstrap_servers)
    bootstrap = broker.bootstrap_servers
    both = ORDERS + PAYMENTS
    reader = Reader("reader", bootstrap, seed, EVERYTHING)
    copier = Copier("copier", bootstrap, seed, "numbers", "copies")
    patient = TransactionalWriter("patient", bootstrap, seed, both, patient=True)
    impatient = TransactionalWriter("impatient", bootstrap, seed, both, patient=False)
    plain = PlainWriter("plain", bootstrap, seed, NUMBERS)
    writers: list[Actor] = [patient, impatient, plain]
    actors = [reader, copier, *writers]
    for actor in actors:
        actor.start()

    _kill_again_and_again(broker, seed, [patient, impatient, plain])

    for writer in writers:
        writer.stop()
    _wait_for_the_copier(bootstrap, copier, plain)
    copier.stop()
    reader.stop()
    broker.restart()  # what is read in the end has been through a clean stop as well
    final = read_everything(bootstrap, EVERYTHING)
    committed = end_offsets(bootstrap, EVERYTHING, "read_committed")
    assert committed == end_offsets(bootstrap, EVERYTHING, "read_uncommitted"), "left open"
    broker.close()

    assert copier.copied
    assert _by_partition(final, COPIES) == _by_partition(final, NUMBERS)
    originals = set(ORDERS + PAYMENTS + NUMBERS)
    for reading in (final, reader.reading):
        reading.seen = [one for one in reading.seen if one.partition in originals]
    transactions = [one for writer in writers for one in writer.transactions]
    anomalies = History(transactions, [reader.reading, final]).check()
    assert not anomalies, f"{len(anomalies)} anomalies: {anomalies[:10]}"
    assert patient.count(Outcome.COMMITTED) > KILLS
    assert impatient.count(Outcome.UNKNOWN) > KILLS // 20, "kills must hit commits to prove much"
    assert plain.count(Outcome.COMMITTED) == len(plain.transactions)


def _kill_again_and_again(broker: Broker, seed: int, writers: list[Actor]) -> None:
    """Kill and start; every now and then see that everybody gets on once the broker is back."""
    rng = random.Random(seed)
    for kill in range(KILLS):
        time.sleep(rng.uniform(*UP_S))
        broker.kill()
        broker.start()
        if kill % 10 == 9:
            before = [writer.count(Outcome.COMMITTED) for writer in writers]
            deadline = time.monotonic() + 20
            while any(
                writer.count(Outcome.COMMITTED) <= count
                for writer, count in zip(writers, before, strict=True)
            ):
                assert time.monotonic() < deadline, "no progress after the broker came back"
                time.sleep(0.05)


def _create_topics(bootstrap_servers: str) -> None:
    partitions: dict[str, int] = {}
    for topic, number in EVERYTHING:
        partitions[topic] = max(partitions.get(topic, 0), number + 1)
    topics = [NewTopic(topic, count, 1) for topic, count in partitions.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics(topics).values():
        created.result(30)


def _wait_for_the_copier(bootstrap_servers: str, copier: Copier, plain: PlainWriter) -> None:
    """Wait until the copy is as long as the original (P10: the lag goes to zero)."""
    deadline = time.monotonic() + 60
    while True:
        time.sleep(0.5)
        copies = len(read_everything(bootstrap_servers, COPIES).seen)
        if copies >= len(plain.transactions):
            return
        assert time.monotonic() < deadline, f"{copies} of {len(plain.transactions)} are copied"
        assert copier.alive


def _by_partition(reading: Reading, partitions: list[Partition]) -> list[list[str]]:
    return [
        [one.value for one in reading.seen if one.partition == partition]
        for partition in partitions
    ]
