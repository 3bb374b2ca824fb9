"""Kafka's own command line tools, run on both brokers: they print the same.

What differs between any two brokers is hidden before the outputs are compared: addresses, ids,
times, directories. What is different on purpose, a test says in its place.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ottla.client.admin import Admin, TopicSpec
from ottla.ports.errors import ErrorCode
from ottla.server.process import Broker
from ottla.wire.compression import Compression
from ottla.wire.records import Record, build_batch
from tests import kafka_runner
from tests.conftest import unavailable
from tests.differential.raw import Raw, RawProducer
from tests.differential.tools import CLASSES, ToolBox

pytestmark = pytest.mark.kafka
Unique = Callable[[str], str]
Note = Callable[[str, object], None]
BOOTSTRAP = "--bootstrap-server"

_HIDDEN = (
    (r"TopicId: \S+", "TopicId: ID"),
    (r"\b1[5-9]\d{11}\b", "TIME"),  # milliseconds of these years
    (r"\bmin\.insync\.replicas=1,?", ""),  # Kafka keeps it as a config of the cluster
    (r"[ \t]+", " "),
)


class Both:
    """Runs a tool on Ottla and on Apache Kafka."""

    def __init__(self, tools: ToolBox, ottla: str, kafka: str, note: Note) -> None:
        self.tools = tools
        self._note = note
        self.brokers = {"ottla": ottla, "kafka": kafka}

    def run(
        self, tool: str, *arguments: str, text: str = "", code: int = 0, address: str = BOOTSTRAP
    ) -> dict[str, str]:
        """What the tool prints for each of the brokers; its exit code must be `code`."""
        self._note("tool", tool)
        printed = {}
        for name, broker in self.brokers.items():
            ran = self.tools.run(tool, address, broker, *arguments, text=text)
            assert ran.code == code, f"{name}: {tool} {' '.join(arguments)}\n{ran.output}"
            output = ran.output.replace(broker, "BROKER")
            for pattern, instead in _HIDDEN:
                output = re.sub(pattern, instead, output)
            printed[name] = output
        return printed

    def same(self, tool: str, *arguments: str, text: str = "", code: int = 0) -> str:
        """What it prints, which is the same for both."""
        printed = self.run(tool, *arguments, text=text, code=code)
        assert printed["ottla"] == printed["kafka"]
        return printed["ottla"]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolBox]:
    try:
        box = ToolBox(tmp_path_factory.mktemp("tools"))
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    yield box
    box.close()


@pytest.fixture
def both(
    tools: ToolBox, ottla_broker_session: Broker, kafka_bootstrap: str, record_property: Note
) -> Both:
    return Both(tools, ottla_broker_session.bootstrap_servers, kafka_bootstrap, record_property)


@pytest.fixture
def topic(both: Both, unique: Unique) -> str:
    """A topic with one partition on both brokers."""
    name = unique("topic")
    assert both.same("kafka-topics", "--create", "--topic", name, "--partitions", "1")
    return name


def test_topics(both: Both, unique: Unique) -> None:
    name = unique("topic")
    config = ["--config", "retention.ms=1000000", "--config", "cleanup.policy=compact"]
    create = ["--create", "--topic", name, "--partitions", "3", *config]
    assert "Created topic" in both.same("kafka-topics", *create)
    again = both.same("kafka-topics", *create, code=1)
    assert f"Topic '{name}' already exists" in again
    assert both.same("kafka-topics", *create, "--if-not-exists") == ""
    described = both.same("kafka-topics", "--describe", "--topic", name)
    assert "PartitionCount: 3" in described
    assert "retention.ms=1000000" in described
    assert both.same("kafka-topics", "--alter", "--topic", name, "--partitions", "5") == ""
    assert "PartitionCount: 5" in both.same("kafka-topics", "--describe", "--topic", name)
    both.same("kafka-topics", "--alter", "--topic", name, "--partitions", "2", code=1)
    for listed in both.run("kafka-topics", "--list").values():
        assert name in listed.splitlines()
    assert both.same("kafka-topics", "--delete", "--topic", name) == ""
    assert both.same("kafka-topics", "--describe", "--topic", name, code=1)


def test_records_through_the_console(both: Both, topic: str) -> None:
    keys = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
    lines = [f"key{number}:value{number}" for number in range(20)]
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        given = ["--topic", topic, "--compression-codec", codec, *keys]
        both.run("kafka-console-producer", *given, text="\n".join(lines[:5]) + "\n")
    for moment, offset in (("-1", 20), ("-2", 0), ("0", 0)):
        given = ["--topic", topic, "--time", moment]
        assert both.same("kafka-get-offsets", *given) == f"{topic}:0:{offset}\n"
    printed = both.same(
        *("kafka-console-consumer", "--topic", topic, "--from-beginning", "--max-messages", "20"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.offset=true"),
    )
    assert re.findall(r"Offset:(\d+) key(\d) value\2\n", printed) == [
        (str(number), str(number % 5)) for number in range(20)
    ]


def test_records_are_deleted(both: Both, topic: str, tmp_path: Path) -> None:
    both.run("kafka-console-producer", "--topic", topic, text="a\nb\nc\n")
    wanted = tmp_path / "wanted.json"
    partition = {"topic": topic, "partition": 0, "offset": 2}
    wanted.write_text(json.dumps({"version": 1, "partitions": [partition]}))
    assert "low_watermark: 2" in both.same(
        "kafka-delete-records", "--offset-json-file", str(wanted)
    )
    earliest = both.same("kafka-get-offsets", "--topic", topic, "--time", "-2")
    assert earliest == f"{topic}:0:2\n"


def test_consumer_groups(both: Both, topic: str, unique: Unique) -> None:
    group = unique("group")
    both.run("kafka-console-producer", "--topic", topic, text="a\nb\nc\n")
    both.run(
        *("kafka-console-consumer", "--topic", topic, "--from-beginning"),
        *("--max-messages", "3", "--group", group),
    )
    tool, of_group = "kafka-consumer-groups", ("--group", group)
    for listed in both.run(tool, "--list").values():
        assert group in listed.splitlines()
    assert f"{group} {topic} 0 3 3 0 - - -" in both.same(tool, "--describe", *of_group)
    assert "Empty 0" in both.same(tool, "--describe", *of_group, "--state")
    assert both.same(tool, "--describe", *of_group, "--members")
    reset = (tool, *of_group, "--topic", topic, "--reset-offsets", "--to-offset", "1", "--execute")
    assert f"{group} {topic} 0 1" in both.same(*reset)
    assert f"{group} {topic} 0 1 3 2 - - -" in both.same(tool, "--describe", *of_group)
    assert "Successful" in both.same(tool, *of_group, "--topic", topic, "--delete-offsets")
    both.run(
        *("kafka-console-consumer", "--topic", topic, "--from-beginning"),
        *("--max-messages", "3", "--group", group),
    )
    assert "successful" in both.same(tool, *of_group, "--delete")
    for printed in both.run(tool, "--describe", *of_group).values():
        assert f"Group {group} not found" in printed


def test_configs(both: Both, topic: str) -> None:
    entity = ("--entity-type", "topics", "--entity-name", topic)
    both.same("kafka-configs", *entity, "--alter", "--add-config", "retention.bytes=10000")
    described = both.same("kafka-configs", *entity, "--describe")
    assert "retention.bytes=10000" in described
    both.same("kafka-configs", *entity, "--alter", "--delete-config", "retention.bytes")
    assert "retention.bytes" not in both.same("kafka-configs", *entity, "--describe")
    unknown = ("--alter", "--add-config", "no.such.config=1")
    assert "no.such.config" in both.same("kafka-configs", *entity, *unknown, code=1)
    ours, theirs = (
        dict(re.findall(r"^ (\S+?)=(\S*) ", printed, re.MULTILINE))
        for printed in both.run("kafka-configs", *entity, "--describe", "--all").values()
    )
    assert len(ours) > 20
    assert ours == {name: theirs[name] for name in ours}


def test_configs_of_brokers_groups_and_client_metrics(
    both: Both, topic: str, unique: Unique
) -> None:
    def told(*entity: str, config: str, there: bool = True) -> None:
        """Both tell it, or both do not: Kafka's broker learns of it a moment later."""
        deadline = time.monotonic() + 20
        while True:
            printed = both.run("kafka-configs", *entity, "--describe").values()
            if all((config in one) is there for one in printed):
                return
            assert time.monotonic() < deadline, printed

    everywhere = ("--entity-type", "brokers", "--entity-default")
    here = ("--entity-type", "brokers", "--entity-name", "1")
    default, own = "log.retention.ms=100000000", "log.retention.ms=200000000"
    both.same("kafka-configs", *everywhere, "--alter", "--add-config", default)
    both.same("kafka-configs", *here, "--alter", "--add-config", own)
    try:
        told(*everywhere, config=f"{default} sensitive=false")
        told(*here, config=f"DYNAMIC_BROKER_CONFIG:{own}, DYNAMIC_DEFAULT_BROKER_CONFIG:{default}")
    finally:
        for entity in (everywhere, here):
            both.same("kafka-configs", *entity, "--alter", "--delete-config", "log.retention.ms")
    told(*here, config="log.retention.ms=", there=False)
    fixed = ("--alter", "--add-config", "num.partitions=3")
    assert "Cannot update these configs dynamically" in both.same(
        "kafka-configs", *here, *fixed, code=1
    )
    for kind, config in (
        ("groups", "consumer.session.timeout.ms=50000"),
        ("client-metrics", "metrics=org.apache.kafka.producer"),
    ):
        entity = ("--entity-type", kind, "--entity-name", unique(kind))
        both.same("kafka-configs", *entity, "--alter", "--add-config", config)
        told(*entity, config=config)
        name = config.partition("=")[0]
        both.same("kafka-configs", *entity, "--alter", "--delete-config", name)
        told(*entity, config=config, there=False)


def test_features_and_the_quorum(both: Both) -> None:
    downgrade = ("downgrade", "--feature", "transaction.version=1")
    assert "can be downgraded to 1" in both.same("kafka-features", *downgrade, "--dry-run")
    both.same("kafka-features", "upgrade", "--feature", "transaction.version=3", code=1)
    for printed in both.run("kafka-metadata-quorum", "describe", "--replication").values():
        assert re.search(r"^1 \S+ \d+ 0 \S+ \S+ Leader", printed, re.MULTILINE)


def test_transactions(both: Both, topic: str, unique: Unique) -> None:
    transactional_id = unique("id")
    raws = [Raw(broker) for broker in both.brokers.values()]
    for raw in raws:
        raw.find_coordinator(1, transactional_id)
        producer = RawProducer(raw, transactional_id, topic)
        assert producer.init() is ErrorCode.NONE
        assert producer.add_partitions({topic: [0]}) == [ErrorCode.NONE]
        assert producer.produce(0)[0] is ErrorCode.NONE
    for listed in both.run("kafka-transactions", "list").values():
        assert re.search(rf"{re.escape(transactional_id)} 1 \d+ Ongoing", listed)
    for described in both.run(
        "kafka-transactions", "describe", "--transactional-id", transactional_id
    ).values():
        assert re.search(rf"1 {re.escape(transactional_id)} \d+ 0 Ongoing 60000", described)
        assert f"{topic}-0" in described
    where = ("--topic", topic, "--partition", "0")
    for described in both.run("kafka-transactions", "describe-producers", *where).values():
        assert re.search(r"\d+ 0 (-1|0) 0 TIME 0", described)
    both.same("kafka-transactions", "find-hanging", "--topic", topic, "--partition", "0")
    for name in both.brokers:
        arguments = ("abort", *where, "--start-offset", "0")
        ran = both.tools.run("kafka-transactions", BOOTSTRAP, both.brokers[name], *arguments)
        assert ran.code == 0, ran.output
    for described in both.run("kafka-transactions", "describe-producers", *where).values():
        assert re.search(r"\d+ \d+ -?\d+ -?\d+ TIME None", described)
    for raw in raws:
        raw.close()


def test_the_node_and_its_cluster(both: Both, topic: str) -> None:
    ours, theirs = (
        dict(re.findall(r"(\w+)\(\d+\): (.*?) \[usable", printed))
        for printed in both.run("kafka-broker-api-versions").values()
    )
    # Two-phase commit (KIP-939) is there, where Kafka has it in its next version.
    served_by_both = ours.keys() & theirs.keys() - {"InitProducerId"}
    assert {name: ours[name] for name in served_by_both} == {
        name: theirs[name] for name in served_by_both
    }
    elect = ("--election-type", "preferred", "--topic", topic, "--partition", "0")
    assert both.same("kafka-leader-election", *elect)
    for printed in both.run("kafka-log-dirs", "--describe", "--topic-list", topic).values():
        (told,) = (line for line in printed.splitlines() if line.startswith("{"))
        (directory,) = json.loads(told)["brokers"][0]["logDirs"]
        assert directory["error"] is None
        assert [partition["partition"] for partition in directory["partitions"]] == [f"{topic}-0"]
    ours, theirs = (
        dict(re.findall(r"Feature: (\S+) (.*?) Epoch", printed))
        for printed in both.run("kafka-features", "describe").values()
    )
    assert {"transaction.version", "group.version"} <= ours.keys()
    assert ours == {name: theirs[name] for name in ours}
    for printed in both.run("kafka-metadata-quorum", "describe", "--status").values():
        assert re.search(r"LeaderId: 1\n", printed)
    assert both.same("kafka-client-metrics", "--list") == "\n"
    assert "No Authorizer is configured" in both.same("kafka-acls", "--list", code=1)


def test_performance_tools(both: Both, topic: str) -> None:
    load = ("--num-records", "2000", "--record-size", "100", "--throughput", "-1")
    for printed in both.run("kafka-producer-perf-test", "--topic", topic, *load).values():
        assert printed.startswith("2000 records sent")
    load = ("--num-records", "2000", "--timeout", "30000")
    for printed in both.run("kafka-consumer-perf-test", "--topic", topic, *load).values():
        assert printed.splitlines()[1].split(", ")[4] == "2000"
    load = ("--num-records", "50", "--producer-acks", "all", "--record-size", "20")
    for printed in both.run("kafka-e2e-latency", "--topic", topic, *load).values():
        assert "Avg latency" in printed


def test_verifiable_producer_and_consumer(
    both: Both, topic: str, unique: Unique, record_property: Note
) -> None:
    """They end as programs only when their process does: each has one of its own."""
    for tool in ("kafka-verifiable-producer", "kafka-verifiable-consumer"):
        record_property("tool", tool)
    for name, broker in both.brokers.items():
        common = (BOOTSTRAP, broker, "--topic", topic, "--max-messages", "20")
        ran = kafka_runner.run_class(CLASSES["kafka-verifiable-producer"], *common)
        acked = [json.loads(line) for line in ran.stdout.splitlines()]
        offsets = [line["offset"] for line in acked if line["name"] == "producer_send_success"]
        assert offsets == list(range(20)), (name, ran.stdout, ran.stderr)
        more = ("--group-id", unique("group"), "--reset-policy", "earliest", "--verbose")
        ran = kafka_runner.run_class(CLASSES["kafka-verifiable-consumer"], *common, *more)
        seen = [json.loads(line) for line in ran.stdout.splitlines()]
        offsets = [line["offset"] for line in seen if line["name"] == "record_data"]
        assert offsets == list(range(20)), (name, ran.stdout, ran.stderr)
        assert any(line["name"] == "offsets_committed" and line["success"] for line in seen)


def test_kafka_dumps_every_file_of_our_logs(
    tools: ToolBox, tmp_path: Path, record_property: Note
) -> None:
    """Batches of every codec, transactions, the indexes of several segments."""
    record_property("tool", "kafka-dump-log")
    with Broker(tmp_path / "data") as broker:
        segments = {"segment.bytes": str(1 << 20), "index.interval.bytes": "1000"}
        noise, now_ms = random.Random(1), int(time.time() * 1000)
        Admin(broker.bootstrap_servers).create_topics([TopicSpec("dumped", 1, segments)])
        raw = Raw(broker.bootstrap_servers)
        plain = RawProducer(raw, None, "dumped")
        for number in range(60):
            codec = list(Compression)[number % len(Compression)]
            at_ms = now_ms + number
            records = [Record(n, at_ms, b"key", noise.randbytes(10_000), []) for n in range(5)]
            assert plain.produce_bytes(build_batch(records, compression=codec))[0] is ErrorCode.NONE
        producer = RawProducer(raw, "id", "dumped")
        assert producer.init() is ErrorCode.NONE
        for commit in (True, False, True):
            assert producer.add_partitions({"dumped": [0]}) == [ErrorCode.NONE]
            assert producer.produce(0)[0] is ErrorCode.NONE
            assert producer.end(commit) is ErrorCode.NONE
            assert producer.init() is ErrorCode.NONE
        raw.close()
    (directory,) = (tmp_path / "data" / "topics").iterdir()
    files = sorted(str(file) for file in directory.iterdir() if file.stat().st_size)
    kinds = {Path(file).suffix for file in files}
    assert {".log", ".index", ".timeindex", ".txnindex"} <= kinds
    assert len(files) > 6
    dumped = []
    for file in files:
        ran = tools.run("kafka-dump-log", "--files", file, "--deep-iteration")
        assert ran.code == 0, ran.output
        assert not re.search(r"mismatch|not match|Exception|corrupt|invalid", ran.output, re.I), (
            file,
            ran.output[-2000:],
        )
        if file.endswith(".log"):
            dumped += [int(offset) for offset in re.findall(r"^\| offset: (\d+)", ran.output, re.M)]
            assert "isvalid: false" not in ran.output
        if file.endswith("index"):
            checked = tools.run("kafka-dump-log", "--files", file, "--index-sanity-check")
            assert checked.code == 0, checked.output
            assert "Exception" not in checked.output
    assert dumped == list(range(306))
