"""Reading in tests: wait for as many records as there must be, and then see that no more come."""

import time
from collections.abc import Callable

from tests.clients.driver import WAIT_S, Consumer, Driver, Record


def read(consumer: Consumer, count: int, *, quiet_s: float = 0.3) -> list[Record]:
    """Read until `count` records are there, and for `quiet_s` seconds more for one too many."""
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records after {WAIT_S} s"
        records += consumer.poll(0.5)
    quiet = time.monotonic() + quiet_s
    while (left_s := quiet - time.monotonic()) > 0:
        records += consumer.poll(left_s)
    return records


def read_topic(
    driver: Driver,
    bootstrap_servers: str,
    topic: str,
    count: int,
    *,
    partitions: int = 3,
    committed_only: bool = True,
) -> list[Record]:
    """Read a topic from its beginning, ordered by partition and offset."""
    with driver.consumer(bootstrap_servers, committed_only=committed_only) as consumer:
        consumer.assign([(topic, partition) for partition in range(partitions)])
        found = read(consumer, count)
    return sorted(found, key=lambda record: (record.partition, record.offset))


def values(records: list[Record]) -> list[str]:
    """The records' values as text."""
    return [record.value.decode() for record in records if record.value is not None]


def eventually(condition: Callable[[], bool], what: str, limit_s: float = WAIT_S) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.02)
