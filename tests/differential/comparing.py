"""One request to two brokers, and what is different in their answers.

A `Place` is one broker with a small world of its own on it: two topics with records in them, a
group that has committed, a transactional id and an idempotent producer. Answers are compared in
a normal form without what differs between any two brokers: numbers that they hand out, ports,
times, names of members, the order of lists, and the words of an error message.
"""

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from ottla.client.admin import Admin, TopicSpec
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.wire.message import Message, Structure
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.records import iterate_batches
from tests.differential.generated import (
    IDEMPOTENT,
    PRODUCER,
    TOPIC_A,
    TOPIC_B,
    Batch,
    localised,
)
from tests.differential.raw import BUSY, Raw, RawProducer

CLOSED = "the connection is closed"
SILENT = "there is no answer"
_CODES = set(ErrorCode)
_BUSY_LIMIT_S = 5.0
_ANSWER_LIMIT_S = 3.0
_MADE_BY_A_BROKER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-|[A-Za-z0-9_-]{22}$")
_LOCAL = {"throttle_time_ms", "log_dir", "usable_bytes", "total_bytes", "partition_size"}
_TOPIC_RESOURCE = 2
_MEMBERS = {"member_id", "leader"}
_MOMENTS = {"last_timestamp", "transaction_start_time_ms"}
_IDENTITY = (
    *("topic", "name", "topic_name", "topic_id", "group_id", "transactional_id", "key", "api_key"),
    *("partition_index", "partition", "partition_id", "index", "member_id", "producer_id"),
    *("resource_name", "resource_type", "user", "broker_id", "node_id", "base_offset"),
)
_NOBODYS = {"", "in valid", "word"}  # names that requests ask for, and no test makes
_NAMES = {
    *("name", "topic", "topic_name", "topic_id", "partitions"),
    *("partition_responses", "results_by_partition"),
}


class Place:
    """One broker, and the world that the requests of one API find there."""

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._prefix = prefix
        topic = f"{prefix}a"
        specs = [TopicSpec(topic, 2), TopicSpec(f"{prefix}b", 1)]
        Admin(bootstrap_servers).create_topics(specs)
        self.raw = Raw(bootstrap_servers, limit_s=_ANSWER_LIMIT_S)
        for kind in (0, 1):
            self.raw.find_coordinator(kind, "anything")
        plain = RawProducer(self.raw, None, topic)
        assert plain.produce_bytes(Batch(3).written({})) == (ErrorCode.NONE, 0)
        idempotent = RawProducer(self.raw, None, topic)
        transactional = RawProducer(self.raw, f"{prefix}id", topic)
        for producer in (idempotent, transactional):
            assert producer.init() is ErrorCode.NONE
        self.ids = {IDEMPOTENT: idempotent.producer_id, PRODUCER: transactional.producer_id}
        self.uuids = self._topic_ids()
        committed = OffsetCommitRequest(
            f"{prefix}group",
            topics=[
                OffsetCommitRequestTopic(
                    topic, partitions=[OffsetCommitRequestPartition(0, 2, -1, "text")]
                )
            ],
        )
        self._ask_patiently(8, committed)

    def _topic_ids(self) -> dict[UUID, UUID]:
        names = {TOPIC_A: f"{self._prefix}a", TOPIC_B: f"{self._prefix}b"}
        wanted = [MetadataRequestTopic(name=name) for name in names.values()]
        found = self.raw.ask(12, MetadataRequest(wanted, allow_auto_topic_creation=False))
        by_name = {topic.name: topic.topic_id for topic in found.topics}
        return {symbol: by_name[name] for symbol, name in names.items()}

    def close(self) -> None:
        self.raw.close()

    def answer(self, version: int, request: Message) -> Any:
        """The answer to a request with symbols in it, in normal form, or CLOSED."""
        local = localised(request, self.uuids, self.ids)
        try:
            return self.normal(self._ask_patiently(version, local))
        except ConnectionError:
            self._reconnect()
            return CLOSED
        except TimeoutError:
            self._reconnect()
            return SILENT
        except ProtocolError as error:
            return f"no answer that can be read: {error}"

    def _reconnect(self) -> None:
        self.raw.close()
        self.raw = Raw(self._bootstrap_servers, limit_s=_ANSWER_LIMIT_S)

    def _ask_patiently(self, version: int, request: Message) -> Any:
        deadline = time.monotonic() + _BUSY_LIMIT_S
        while True:
            answer = self.raw.ask(version, request)
            if not BUSY & set(_error_codes(answer)) or time.monotonic() > deadline:
                return answer
            time.sleep(0.02)

    # -- the normal form ----------------------------------------------------------------------

    def normal(self, value: Any, name: str = "") -> Any:
        """`value`, found in a field called `name`, without what is this broker's own."""
        if isinstance(value, Structure):
            return {
                field: self.normal(getattr(value, field), field)
                for field in value.__slots__
                if field not in _LOCAL
            }
        if isinstance(value, list):
            items = [self.normal(item, name) for item in value]
            return _merged(sorted((item for item in items if self._is_ours(item)), key=_identity))
        if name == "records" and value is not None:
            return [self._batch(batch) for batch, _ in iterate_batches(bytes(value))]
        if isinstance(value, memoryview):
            return bytes(value)
        if isinstance(value, UUID):
            symbols = {own: symbol for symbol, own in self.uuids.items()}
            return symbols.get(value, value if value.int < 16 else "another id")
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(value, name)
        return value

    def _text(self, value: str, name: str) -> Any:
        if name == "error_message":
            return "some words" if value else None
        if name == "cluster_id" or (name in _MEMBERS and _MADE_BY_A_BROKER.search(value)):
            return "made by the broker"
        if name in ("transaction_state", "state"):  # Kafka writes markers later
            return value.replace("Prepare", "Complete")
        return value

    def _number(self, value: int, name: str) -> Any:
        if "producer_id" in name:
            numbers = {own: symbol for symbol, own in self.ids.items()}
            return numbers.get(value, value if value < 0 else "another id")
        if name == "port" and value > 0:
            return "a port"
        if name == "session_id" and value > 0:
            return "a session"
        if name in _MOMENTS and value > 0:
            return "a moment"
        if name.endswith("error_code"):
            return ErrorCode(value).name if value in _CODES else value
        return value

    def _batch(self, batch: Any) -> dict[str, Any]:
        return {
            "base_offset": batch.base_offset,
            "last_offset": batch.last_offset,
            "producer_id": self._number(batch.producer_id, "producer_id"),
            "producer_epoch": batch.producer_epoch,
            "base_sequence": batch.base_sequence,
            "control": batch.is_control,
            "transactional": batch.is_transactional,
        }

    def _is_ours(self, item: Any) -> bool:
        """Whether a list's item belongs to this world: others use the same broker."""
        if not isinstance(item, dict):
            return True
        if item.keys() < _NAMES and [] in item.values():
            return False  # a topic without partitions: Kafka forgets it, or does not
        fields = ("name", "topic") if item.keys() & {"topic_id", "partitions"} else ()
        if item.get("resource_type") == _TOPIC_RESOURCE and len(item) == 2:
            fields = ("resource_name",)
        named = [item.get(field) for field in (*fields, "group_id", "transactional_id")]
        return all(
            not isinstance(name, str) or name in _NOBODYS or name.startswith(self._prefix)
            for name in named
        )


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places where two answers differ: path, our value, their value."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in ours.keys() | theirs.keys():
            yield from differences(ours.get(name), theirs.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for our, their in zip(ours, theirs, strict=True):
            yield from differences(our, their, f"{path}[]")
    elif ours != theirs:
        yield path, ours, theirs


def _identity(item: Any) -> str:
    if isinstance(item, dict):
        return repr([item[name] for name in _IDENTITY if name in item])
    return repr(item)


def _merged(items: list[Any]) -> list[Any]:
    """One item for a topic: Kafka names one again for those of its partitions that failed."""
    merged: list[Any] = []
    for item in items:
        last = merged[-1] if merged else None
        if (
            isinstance(item, dict)
            and item.keys() <= _NAMES
            and _identity(item) == _identity(last)
            and (name := next((n for n in item if isinstance(item[n], list)), None))
        ):
            last[name] = sorted(last[name] + item[name], key=_identity)
        else:
            merged.append(item)
    return merged


def _error_codes(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _error_codes(item)
    elif isinstance(value, Structure):
        for name in value.__slots__:
            found = getattr(value, name)
            if name.endswith("error_code"):
                yield found
            elif isinstance(found, list | Structure):
                yield from _error_codes(found)
