"""Ottla and Apache Kafka asked the same: what they answer is the same, word for word.

What a broker was told a moment ago Kafka may not show yet, so it is asked again until it gives
Ottla's answer, or time is up.
"""

import time
from typing import Any
from uuid import UUID

from ottla.wire.message import Message, Structure
from ottla.wire.messages import alter_configs as replacing
from ottla.wire.messages import incremental_alter_configs as incremental
from ottla.wire.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.differential.comparing import differences
from tests.differential.raw import Raw

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
NO_ID = UUID(int=0)
LIMIT_S = 20.0
# Each broker's own: where it is, what it hands out, where its log ends.
OWN = {"port", "cluster_id", "log_dir", "total_bytes", "usable_bytes", "leader_epoch"}
OWN |= {"high_watermark", "log_end_offset", "last_fetch_timestamp", "last_caught_up_timestamp"}
BY_ELR = "min.insync.replicas"  # which Kafka sets for the cluster by itself (KIP-966)
OWN |= {"documentation", "throttle_time_ms"}


def plain(value: Any, name: str = "") -> Any:
    """An answer without what is a broker's own and without the order of its lists."""
    if isinstance(value, Structure):
        fields = {field: plain(getattr(value, field), field) for field in value.__slots__}
        return {field: found for field, found in fields.items() if field not in OWN}
    if isinstance(value, list):
        items = [plain(item) for item in value if getattr(item, "name", "") != BY_ELR]
        return items if name == "synonyms" else sorted(items, key=repr)
    if isinstance(value, UUID):
        return value if value.int < 1_000 else "an id"
    return value


class Both:
    """Ottla and Apache Kafka, asked the same."""

    def __init__(self, ottla: Raw, kafka: Raw) -> None:
        self._ottla = ottla
        self._kafka = kafka

    def close(self) -> None:
        self._ottla.close()
        self._kafka.close()

    def say(self, version: int, request: Message) -> Any:
        """Have it done, once; the answer, which is the same."""
        ours, theirs = self.each(version, request)
        assert not list(differences(ours, theirs)), request
        return ours

    def see(self, version: int, request: Message) -> Any:
        """Look; the answer, which is the same after a while."""
        deadline = time.monotonic() + LIMIT_S
        ours, theirs = self.each(version, request)
        while ours != theirs and time.monotonic() < deadline:
            time.sleep(0.02)
            _, theirs = self.each(version, request)
        assert not list(differences(ours, theirs)), request
        return ours

    def each(self, version: int, request: Message) -> tuple[Any, Any]:
        """Both answers."""
        ours, theirs = self._ottla.ask(version, request), self._kafka.ask(version, request)
        return plain(ours), plain(theirs)

    # -- short ways ---------------------------------------------------------------------------

    def create(self, name: str, version: int = 7, *, count: int = 1, **more: Any) -> Any:
        """CreateTopics for one topic; validates only, unless told to `make` it."""
        configs = [CreatableTopicConfig(*item) for item in more.get("configs", ())]
        replicas = [CreatableReplicaAssignment(*item) for item in more.get("replicas", ())]
        topic = CreatableTopic(name, count, more.get("factor", 1), replicas, configs)
        make = more.get("make", False)
        request = CreateTopicsRequest([topic], LIMIT_MS, validate_only=not make)
        answer = self.say(version, request)["topics"][0]
        if make:
            wanted = MetadataRequest([MetadataRequestTopic(name=name)], False)
            self.see(12, wanted)
        return answer

    def alter(
        self, kind: int, name: str, *changes: tuple[str, int, str | None], make: bool = False
    ) -> Any:
        """IncrementalAlterConfigs for one resource; its error and the words."""
        configs = [incremental.AlterableConfig(*change) for change in changes]
        resource = incremental.AlterConfigsResource(kind, name, configs)
        request = incremental.IncrementalAlterConfigsRequest([resource], validate_only=not make)
        return _error(self.say(1, request))

    def replace(
        self, kind: int, name: str, *changes: tuple[str, str | None], make: bool = False
    ) -> Any:
        """AlterConfigs for one resource; its error and the words."""
        configs = [replacing.AlterableConfig(*change) for change in changes]
        resource = replacing.AlterConfigsResource(kind, name, configs)
        return _error(self.say(2, replacing.AlterConfigsRequest([resource], not make)))

    def configs(self, kind: int, name: str, *keys: str) -> dict[str, tuple[Any, int]]:
        """DescribeConfigs for one resource: value and source."""
        resource = DescribeConfigsResource(kind, name, list(keys) or None)
        answer = self.see(4, DescribeConfigsRequest([resource], True, True))
        return {
            one["name"]: (one["value"], one["config_source"])
            for one in answer["results"][0]["configs"]
        }


LIMIT_MS = int(LIMIT_S * 1_000)


def _error(answer: Any) -> tuple[int, str | None]:
    response = answer["responses"][0]
    return response["error_code"], response["error_message"]
