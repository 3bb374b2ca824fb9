"""Kafka's own command line tools, all in one Java process (java/ToolBox.java)."""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests import kafka_runner

_TOOLS = "org.apache.kafka.tools"
CLASSES = {
    "kafka-acls": f"{_TOOLS}.AclCommand",
    "kafka-broker-api-versions": f"{_TOOLS}.BrokerApiVersionsCommand",
    "kafka-client-metrics": f"{_TOOLS}.ClientMetricsCommand",
    "kafka-cluster": f"{_TOOLS}.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": f"{_TOOLS}.consumer.ConsoleConsumer",
    "kafka-console-producer": f"{_TOOLS}.ConsoleProducer",
    "kafka-consumer-groups": f"{_TOOLS}.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test": f"{_TOOLS}.ConsumerPerformance",
    "kafka-delete-records": f"{_TOOLS}.DeleteRecordsCommand",
    "kafka-dump-log": f"{_TOOLS}.DumpLogSegments",
    "kafka-e2e-latency": f"{_TOOLS}.EndToEndLatency",
    "kafka-features": f"{_TOOLS}.FeatureCommand",
    "kafka-get-offsets": f"{_TOOLS}.GetOffsetShell",
    "kafka-groups": f"{_TOOLS}.GroupsCommand",
    "kafka-leader-election": f"{_TOOLS}.LeaderElectionCommand",
    "kafka-log-dirs": f"{_TOOLS}.LogDirsCommand",
    "kafka-metadata-quorum": f"{_TOOLS}.MetadataQuorumCommand",
    "kafka-producer-perf-test": f"{_TOOLS}.ProducerPerformance",
    "kafka-topics": f"{_TOOLS}.TopicCommand",
    "kafka-transactions": f"{_TOOLS}.TransactionsCommand",
    "kafka-verifiable-consumer": f"{_TOOLS}.VerifiableConsumer",
    "kafka-verifiable-producer": f"{_TOOLS}.VerifiableProducer",
}


class Ran(NamedTuple):
    """What a tool came to: its exit code, and what it printed."""

    code: int
    output: str


class ToolBox:
    """The process. `close` ends it."""

    def __init__(self, classes: Path) -> None:
        class_path = kafka_runner.compile_java(
            [Path(__file__).parent / "java" / "ToolBox.java"], classes
        )
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=off"]
        self._process = subprocess.Popen(
            [kafka_runner.java(), *options, "-cp", class_path, "ToolBox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, tool: str, *arguments: str, text: str = "") -> Ran:
        """Run a tool by the name of its script, `text` on its standard input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        call = {"tool": CLASSES[tool], "arguments": arguments, "input": text}
        self._process.stdin.write(json.dumps(call) + "\n")
        answer = json.loads(self._process.stdout.readline())
        return Ran(answer["code"], answer["output"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
