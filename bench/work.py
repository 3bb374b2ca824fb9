"""The client work of each row. A function gets a running broker and a time, and gives figures.

The clients are librdkafka (confluent-kafka) and the Java client with Kafka's own tools; nothing
here knows which broker it talks to.
"""

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.kafka_runner import compile_java, java, run_class

from bench.brokers import Running
from ottla.wire.api import ApiKey
from ottla.wire.frame import encode_request
from ottla.wire.messages.api_versions import ApiVersionsRequest

Figures = dict[str, float]
Work = Callable[[Running, float], Figures]
_PARTITIONS = 4
_BATCH = 1_000
_STREAM_RECORDS = 300_000
_CONNECTIONS = 1_000


@contextmanager
def topic_of(broker: Running, partitions: int = _PARTITIONS) -> Iterator[str]:
    """A topic for one run, deleted after it, so that no run finds what another one has left."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    admin = AdminClient(broker.client)
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of `values` lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# -- transactions ------------------------------------------------------------------------------


def transactions(producers: int, records: int) -> Work:
    """librdkafka producers that commit back to back, `records` over 4 partitions each time."""

    def work(broker: Running, seconds: float) -> Figures:
        with topic_of(broker) as topic:
            return _transactions(broker, topic, producers, records, seconds)

    return work


def _transactions(
    broker: Running, topic: str, producers: int, records: int, seconds: float
) -> Figures:
    begin = threading.Barrier(producers)
    latencies_ms: list[list[float]] = [[] for _ in range(producers)]
    spans_s = [0.0] * producers

    def one(number: int) -> None:
        producer = Producer(
            {
                "transactional.id": f"{topic}-{number}",
                "linger.ms": 0,
            }
            | broker.client
        )
        producer.init_transactions(30)
        _transaction(producer, topic, records)  # partitions known, connections open
        begin.wait()
        began_s = time.perf_counter()
        while (spent_s := time.perf_counter() - began_s) < seconds:
            _transaction(producer, topic, records)
            latencies_ms[number].append((time.perf_counter() - began_s - spent_s) * 1e3)
        spans_s[number] = time.perf_counter() - began_s

    threads = [threading.Thread(target=one, args=(number,)) for number in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [value for values in latencies_ms for value in values]
    return {
        "tx/s": len(everything) / max(spans_s),
        "p50 ms": percentile(everything, 0.5),
        "p99 ms": percentile(everything, 0.99),
    }


def _transaction(producer: Producer, topic: str, records: int) -> None:
    producer.begin_transaction()
    for number in range(records):
        producer.produce(topic, b"x" * 100, partition=number % _PARTITIONS)
    producer.commit_transaction(60)


def java_transactions(records: int) -> Work:
    """One Java producer that commits back to back."""

    def work(broker: Running, seconds: float) -> Figures:
        with topic_of(broker) as topic:
            finished = subprocess.run(
                [
                    *(java(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"),
                    *("-cp", _java_classes(), "Transactions"),
                    *(broker.bootstrap_servers, topic, str(records), str(seconds)),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + 60,
            )
        if finished.returncode:
            raise RuntimeError(f"the Java producer failed on {broker.name}: {finished.stderr}")
        figures: Figures = json.loads(finished.stdout.splitlines()[-1])
        return figures

    return work


@cache
def _java_classes() -> str:
    """The class path with java/ compiled, which is done once."""
    directory = tempfile.mkdtemp(prefix="ottla-bench-classes-")
    atexit.register(shutil.rmtree, directory)
    return compile_java([Path(__file__).parent / "java" / "Transactions.java"], Path(directory))


# -- produce -----------------------------------------------------------------------------------


def produce(record_bytes: int) -> Work:
    """librdkafka, idempotent, as fast as it goes, batches of up to 1 MB."""

    def work(broker: Running, seconds: float) -> Figures:
        with topic_of(broker) as topic:
            before_s = broker.cpu_s()
            sent, spent_s = _pour(broker, topic, record_bytes, seconds=seconds)
            cpu_s = broker.cpu_s() - before_s
        return {
            "MB/s": sent * record_bytes / spent_s / 1e6,
            "records/s": sent / spent_s,
            "broker us/record": cpu_s / sent * 1e6,
        }

    return work


def _pour(
    broker: Running, topic: str, record_bytes: int, *, seconds: float = 1e9, records: int = 1 << 62
) -> tuple[int, float]:
    """Produce until the time or the records are over; return records sent and seconds spent."""
    producer = Producer(
        {
            "enable.idempotence": True,
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 131_072,
        }
        | broker.client
    )
    value = os.urandom(record_bytes)
    sent = 0
    began_s = time.perf_counter()
    while sent < records and time.perf_counter() - began_s < seconds:
        _produce_batch(producer, topic, value, sent // _BATCH % _PARTITIONS)
        sent += _BATCH
    if producer.flush(60):
        raise RuntimeError("not everything was delivered")
    return sent, time.perf_counter() - began_s


def _produce_batch(producer: Producer, topic: str, value: bytes, partition: int) -> None:
    """Hand over _BATCH records; what does not fit into the queue is tried again."""
    left = [{"value": value} for _ in range(_BATCH)]
    while producer.produce_batch(topic, left, partition=partition) < len(left):
        left = [{"value": value} for message in left if "_error" in message]
        producer.poll(0.01)


def produce_and_flush(broker: Running, seconds: float) -> Figures:
    """One record at a time, each waited for."""
    producer = Producer(broker.client | {"enable.idempotence": True, "linger.ms": 0})
    latencies_ms = []
    with topic_of(broker, 1) as topic:
        producer.produce(topic, b"warm")
        producer.flush(30)
        began_s = time.perf_counter()
        while (now_s := time.perf_counter()) - began_s < seconds:
            producer.produce(topic, b"x" * 100)
            producer.flush(30)
            latencies_ms.append((time.perf_counter() - now_s) * 1e3)
        spent_s = time.perf_counter() - began_s
    return {
        "records/s": len(latencies_ms) / spent_s,
        "p50 ms": percentile(latencies_ms, 0.5),
        "p99 ms": percentile(latencies_ms, 0.99),
    }


def java_produce(*properties: str) -> Work:
    """Kafka's ProducerPerformance, 1 KB records, the Java client's default batches of 16 KB."""

    def work(broker: Running, seconds: float) -> Figures:
        with topic_of(broker) as topic:
            finished = run_class(
                "org.apache.kafka.tools.ProducerPerformance",
                *("--topic", topic, "--num-records", str(int(60_000 * seconds))),
                *("--record-size", "1024", "--throughput", "-1", "--producer-props"),
                *(f"bootstrap.servers={broker.bootstrap_servers}", "acks=all", *properties),
                timeout_s=600,
            )
        rates = re.findall(r"\(([\d.]+) MB/sec\)", finished.stdout)
        if not rates:
            raise RuntimeError(f"ProducerPerformance: {finished.stdout}{finished.stderr}")
        return {"MB/s": float(rates[-1]) * 1.048576}

    return work


# -- end to end, fetch -------------------------------------------------------------------------


def end_to_end(broker: Running, seconds: float) -> Figures:
    """1,000 records a second; from before produce to after poll, in one process."""
    common = broker.client
    producer = Producer(common | {"linger.ms": 0, "enable.idempotence": True})
    count = int(seconds * 1_000)
    latencies_ms: list[float] = []
    with topic_of(broker, 1) as topic:
        consumer = Consumer(common | {"group.id": topic, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        producer.produce(topic, b"0")
        producer.flush(30)
        while consumer.poll(1.0) is None:
            pass
        sender = threading.Thread(target=_send_steadily, args=(producer, topic, count))
        sender.start()
        while len(latencies_ms) < count:
            message = consumer.poll(10.0)
            if message is None:
                raise RuntimeError(f"{len(latencies_ms)} of {count} records arrived")
            latencies_ms.append((time.perf_counter_ns() - int(message.value() or b"0")) / 1e6)
        sender.join()
        consumer.close()
    return {"p50 ms": percentile(latencies_ms, 0.5), "p99 ms": percentile(latencies_ms, 0.99)}


def _send_steadily(producer: Producer, topic: str, count: int) -> None:
    """`count` records, 1,000 a second, each with the time at which it was sent."""
    began_s = time.perf_counter()
    for number in range(count):
        delay_s = began_s + number / 1_000 - time.perf_counter()
        if delay_s > 0:
            time.sleep(delay_s)
        producer.produce(topic, str(time.perf_counter_ns()).encode())
        producer.poll(0)
    producer.flush(30)


def fetch(broker: Running, seconds: float) -> Figures:
    """Kafka's ConsumerPerformance over 1 KB records that are there already."""
    with topic_of(broker) as topic:
        count, _ = _pour(broker, topic, 1_024, records=int(100_000 * seconds))
        finished = run_class(
            "org.apache.kafka.tools.ConsumerPerformance",
            *("--bootstrap-server", broker.bootstrap_servers, "--topic", topic),
            *("--num-records", str(count), "--timeout", "60000"),
            timeout_s=600,
        )
    rows = [line.split(", ") for line in finished.stdout.splitlines() if line[:2] == "20"]
    if not rows:
        raise RuntimeError(f"ConsumerPerformance: {finished.stdout}{finished.stderr}")
    megabytes, fetch_ms = float(rows[-1][2]), float(rows[-1][7])
    return {"MB/s": megabytes * 1.048576 / max(fetch_ms, 1) * 1e3}


# -- connections -------------------------------------------------------------------------------


def idle_connections(broker: Running, seconds: float) -> Figures:
    """Memory with 1,000 clients connected that have asked for the versions and say no more."""
    request = encode_request(ApiKey.API_VERSIONS, 0, 1, "bench", ApiVersionsRequest())
    host, _, port = broker.bootstrap_servers.rpartition(":")
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            client = stack.enter_context(socket.create_connection((host, int(port)), 30))
            client.sendall(request)
            if not client.recv(1):
                raise RuntimeError("the broker closed an idle connection")
        time.sleep(1)
        return {"MB": broker.resident_mb()}


# -- streams -----------------------------------------------------------------------------------


def streams(work: str) -> Work:
    """An application of ours on this broker: what `python -m bench.streams` measures."""

    def measured(broker: Running, seconds: float) -> Figures:
        command = [sys.executable, "-m", "bench.streams", work, "--records", str(_STREAM_RECORDS)]
        done = subprocess.run(
            [*command, "--bootstrap-servers", broker.bootstrap_servers],
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        return {"records/s": json.loads(done.stdout)["records_per_s"]}

    return measured


WORK: Mapping[str, Work] = {
    "transactions: 1 librdkafka producer, 1 record": transactions(1, 1),
    "transactions: 1 librdkafka producer, 10 records": transactions(1, 10),
    "transactions: 1 librdkafka producer, 100 records": transactions(1, 100),
    "transactions: 1 librdkafka producer, 1000 records": transactions(1, 1_000),
    "transactions: 16 librdkafka producers, 10 records": transactions(16, 10),
    "transactions: 1 Java producer, 1 record": java_transactions(1),
    "transactions: 1 Java producer, 10 records": java_transactions(10),
    "transactions: 1 Java producer, 100 records": java_transactions(100),
    "transactions: 1 Java producer, 1000 records": java_transactions(1_000),
    "produce 1 KB, librdkafka": produce(1_024),
    "produce 100 B, librdkafka": produce(100),
    "produce and flush, librdkafka": produce_and_flush,
    "produce 1 KB, Java client": java_produce(),
    "produce 1 KB, Java client, transactional": java_produce(
        "transactional.id=bench", "transaction.timeout.ms=60000"
    ),
    "end to end at 1,000 records/s": end_to_end,
    "fetch 1 KB, Java client": fetch,
    "1,000 idle connections": idle_connections,
    "streams: map": streams("stateless"),
    "streams: count": streams("count"),
    "streams: 10 s windows": streams("tumbling"),
    "streams: dedupe": streams("dedupe"),
}


# What needs a plain connection: Java's tools would need a file, the others a client of their own.
PLAIN_ONLY = frozenset(
    row for row in WORK if "Java" in row or row.startswith(("streams", "1,000 idle"))
)


WARM_UP: tuple[Work, ...] = (
    transactions(1, 1),
    transactions(16, 10),
    transactions(1, 10),
    produce(1_024),
    produce_and_flush,
)


def warm_up(broker: Running, seconds: float) -> None:
    """Work that is not counted: a JVM compiles what runs often, and is slow until then."""
    for work in WARM_UP:
        work(broker, seconds / len(WARM_UP))


def prepare() -> None:
    """What should not be timed: Kafka's jars, and our own classes."""
    _java_classes()
