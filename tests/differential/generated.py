"""Requests made from the schema tables: right ones, and ones that are a little wrong.

A field takes its value from the pool that fits its name: names that exist and names that do not,
partitions in and out of range, codes beyond the last one. What two brokers number differently
(topic ids, producer ids) stands in a request as a symbol, and so does a batch, which carries a
producer id; `localised` puts one broker's own values in, `Place.normal` takes them out again.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID

from ottla.wire.message import Message, Structure
from ottla.wire.records import Record, build_batch
from ottla.wire.schema.grammar import Api, Field

TOPIC_A, TOPIC_B, TOPIC_GONE = UUID(int=0xA), UUID(int=0xB), UUID(int=0xC)
NO_ID = UUID(int=0)
PRODUCER = 900_000_001  # stands for the producer id of this API's transactional id
IDEMPOTENT = 900_000_002  # and of its idempotent producer
_NO_SESSION = 2_000_000_077  # of fetches: Ottla counts them, Kafka takes any number
MOMENT_MS = int(time.time()) * 1000 - 60_000  # young: retention must not take what is asked for


@dataclass(frozen=True)
class Batch:
    """Records, written when the producer id of a broker is known. `damage` is a byte to change."""

    count: int = 1
    producer_id: int = -1
    epoch: int = -1
    sequence: int = -1
    transactional: bool = False
    damage: int | None = None
    twice: bool = False

    def written(self, ids: Mapping[int, int]) -> bytes:
        """The batch for the broker with these producer ids."""
        records = [Record(0, MOMENT_MS, b"key", b"value", [])] * self.count
        content = bytearray(
            build_batch(
                records,
                producer_id=ids.get(self.producer_id, self.producer_id),
                producer_epoch=self.epoch,
                base_sequence=self.sequence,
                transactional=self.transactional,
            )
        )
        if self.damage is not None:
            content[self.damage] ^= 1
        return bytes(content) * (2 if self.twice else 1)


class Pools:
    """The values for the fields of one API. `prefix` opens the names of all that it may touch."""

    def __init__(self, api: Api, prefix: str, rng: random.Random) -> None:
        self.api = api
        self.prefix = prefix
        self.rng = rng
        self._fresh = 0

    def requests(self, version: int, count: int) -> Iterator[Message]:
        """`count` requests of one version, always the same."""
        for _ in range(count):
            yield self._struct(f"{self.api.name}Request", version)

    def _struct(self, name: str, version: int) -> Any:
        module = import_module(f"ottla.wire.messages.{self.api.module}")
        fields = [field for field in self.api.structs[name].fields if version in field.versions]
        # Tagged structs are for replicas: clients leave them out.
        sent = [field for field in fields if not (field.is_struct and field.tag is not None)]
        return getattr(module, name)(**{f.attribute: self._value(f, version) for f in sent})

    def _value(self, field: Field, version: int) -> Any:
        if version in field.nullable and self.rng.random() < 0.15 and field.base != "records":
            return None
        if not field.is_array:
            return self._element(field, version)
        own = _OWN.get(self.api.name, {}).get(field.name)
        if own is _NOTHING or own is _ONE:
            return [] if own is _NOTHING else [self._struct(field.base, version)]
        count = self.rng.choices([0, 1, 2], [1, 8, 2])[0]
        items = {}
        for _ in range(count):
            item = self._element(field, version)
            items.setdefault(len(items) if own is _REPEATED else _identity(item), item)
        return list(items.values())

    def _element(self, field: Field, version: int) -> Any:
        if field.is_struct:
            return self._struct(field.base, version)
        special = self._special(field.name)
        if special is not None:
            return special()
        match field.base:
            case "bool":
                return self.rng.random() < 0.5
            case "string":
                return self.rng.choice(["", "word", "Großes Wort"])
            case "bytes":
                return self.rng.choice([b"", b"\0\1", b"bytes"])
            case "uuid":
                return self._one(TOPIC_A, TOPIC_A, TOPIC_B, TOPIC_GONE, NO_ID)
            case _:
                return self._one(0, 0, 1, -1, 7)

    def _one(self, *choices: Any) -> Any:
        return self.rng.choice(choices)

    def _special(self, name: str) -> Callable[[], Any] | None:
        own: Mapping[str, Callable[[], Any]] = _OWN.get(self.api.name, {})
        found = own.get(name) or _COMMON.get(name)
        return None if found is None else partial(found, self)

    # -- pools ------------------------------------------------------------------------------

    def topic(self) -> str:
        p = self.prefix
        return str(self._one(*[f"{p}a"] * 4, f"{p}b", f"{p}gone", "", "in valid"))

    def fresh(self, kind: str) -> str:
        self._fresh += 1
        return f"{self.prefix}{kind}{self._fresh}"

    def batch(self) -> Batch | bytes:
        sequence = self.rng.choice([-1, 0, 1, 5])
        return self._one(  # type: ignore[no-any-return]
            Batch(),
            Batch(3),
            Batch(1, IDEMPOTENT, 0, sequence),
            Batch(2, IDEMPOTENT, 1, 0),
            Batch(1, PRODUCER, 0, sequence, transactional=True),
            Batch(1, PRODUCER, 0, -1, transactional=True),
            Batch(damage=-1),
            Batch(damage=16),  # the magic
            Batch(damage=26),  # the last offset delta
            Batch(twice=True),
            b"",
            b"too short",
        )


def _named(*names: str) -> Callable[[Pools], Any]:
    """One of these names, each after the prefix; "" and what begins with "=" stand as they are."""

    def choose(pools: Pools) -> str:
        name = pools.rng.choice(names)
        return name[1:] if name.startswith("=") else pools.prefix + name if name else ""

    return choose


def _of(*values: Any) -> Callable[[Pools], Any]:
    return lambda pools: pools.rng.choice(values)


_NOTHING = _of(None)  # the field's array stays empty
_ONE = _of(None)  # it has one struct
_REPEATED = _of(None)  # its items may be the same
_GROUP = _named("group")
_GROUPS = _named("group", "group", "nobody", "")
_TRANSACTIONS = _named("id", "id", "id", "stranger", "")
_PARTITIONS = _of(0, 0, 0, 1, 2, -1)
_COMMON: Mapping[str, Callable[[Pools], Any]] = {
    "GroupId": _GROUPS,
    "Groups": _GROUPS,
    "GroupsNames": _named("nobody", "nothing", ""),
    "TransactionalId": _TRANSACTIONS,
    "TransactionalIds": _TRANSACTIONS,
    "V3AndBelowTransactionalId": _TRANSACTIONS,
    "Topic": Pools.topic,
    "Name": Pools.topic,
    "TopicName": Pools.topic,
    "TopicId": _of(TOPIC_A, TOPIC_A, TOPIC_A, TOPIC_B, TOPIC_GONE, NO_ID),
    "Index": _PARTITIONS,
    "Partition": _PARTITIONS,
    "Partitions": _PARTITIONS,
    "PartitionIndex": _PARTITIONS,
    "PartitionIndexes": _PARTITIONS,
    "MemberId": _named("", "", "=somebody"),
    "GroupInstanceId": _named("=instance"),
    "GenerationId": _of(-1, -1, 0, 5),
    "GenerationIdOrMemberEpoch": _of(-1, -1, -1, 0, 5),
    "MemberEpoch": _of(-1, -1, 5),
    "ProducerId": _of(PRODUCER, PRODUCER, PRODUCER, PRODUCER + 5, -1),
    "V3AndBelowProducerId": _of(PRODUCER, PRODUCER, PRODUCER, PRODUCER + 5, -1),
    "ProducerEpoch": _of(0, 0, 0, 1, 7, -1),
    "V3AndBelowProducerEpoch": _of(0, 0, 0, 1, 7, -1),
    "IsolationLevel": _of(0, 1),
    "ReplicaId": _of(-1),
    "CurrentLeaderEpoch": _of(-1, -1, 0, 3),
    "CommittedLeaderEpoch": _of(-1, 0, 4),
    "CommittedOffset": _of(0, 2, 5, -1),
    "CommittedMetadata": _of("", "metadata", "m" * 5000),
    "TimeoutMs": _of(5000),
    "ProtocolType": _of("consumer", "connect"),
    "ProtocolName": _of("range", "other"),
    "AllowAutoTopicCreation": _of(False),
    # The operations that are allowed without authorisation are Kafka's own affair.
    "IncludeTopicAuthorizedOperations": _of(False),
    "IncludeClusterAuthorizedOperations": _of(False),
    "IncludeAuthorizedOperations": _of(False),
}
_ACLS: Mapping[str, Callable[[Pools], Any]] = {
    "ResourceTypeFilter": _of(1, 2, 3),
    "ResourceType": _of(2, 3),
    "PatternTypeFilter": _of(1, 2, 3, 4),
    "ResourcePatternType": _of(3, 4),
    "PrincipalFilter": _of("User:somebody"),
    "Principal": _of("User:somebody"),
    "Operation": _of(2, 3, 4),
    "PermissionType": _of(2, 3),
}
_OWN: Mapping[str, Mapping[str, Callable[[Pools], Any]]] = {
    "Produce": {
        "TransactionalId": _named("id", "stranger"),
        "Acks": _of(-1, -1, -1, 1, 1, 7),
        "TopicData": _ONE,
        "PartitionData": _ONE,
        "Records": Pools.batch,
    },
    "Fetch": {
        "MaxWaitMs": _of(0),
        "MinBytes": _of(0, 1),
        "MaxBytes": _of(1, 1 << 20),
        "PartitionMaxBytes": _of(1, 1 << 20),
        "FetchOffset": _of(0, 0, 1, 3, 4, 99, -1),
        "LogStartOffset": _of(-1),
        "LastFetchedEpoch": _of(-1),
        "SessionId": _of(0, 0, 0, _NO_SESSION),
        "SessionEpoch": _of(-1, -1, 0, 4),
        "ClusterId": _of(None),
        "HighWatermark": _of((1 << 63) - 1),
        "ReplicaDirectoryId": _of(NO_ID),
    },
    # Kafka remembers a group for a commit that it has refused, so that each unknown one is new.
    "OffsetCommit": {
        "GroupId": lambda pools: pools.fresh("new") if pools.rng.random() < 0.3 else _GROUP(pools)
    },
    "ListOffsets": {
        "Topics": _REPEATED,
        "Partitions": _REPEATED,
        "Timestamp": _of(-1, -2, -3, -4, -5, -6, -7, 0, MOMENT_MS, MOMENT_MS + 1),
    },
    "Metadata": {"Name": _named("a", "a", "b", "=in valid", "=")},
    "OffsetForLeaderEpoch": {"LeaderEpoch": _of(-1, 0, 0, 1)},
    "FindCoordinator": {
        "Key": _named("group", "id", ""),
        "CoordinatorKeys": _named("group", "id", ""),
        "KeyType": _of(0, 0, 1, 3, -1),
    },
    "JoinGroup": {
        "GroupId": lambda pools: pools.fresh("join") if pools.rng.random() < 0.8 else "",
        "SessionTimeoutMs": _of(6000, 6000, 6000, 10, 10_000_000),
        "RebalanceTimeoutMs": _of(100),
        "Name": _of("range", "other"),
        "Metadata": _of(b"\0\1\0\0\0\0\0\0\0\0"),
        "ProtocolType": _of("consumer", "connect", ""),
    },
    "ApiVersions": {
        "ClientSoftwareName": _of(*["client"] * 4, "", "-client", "a client"),
        "ClientSoftwareVersion": _of(*["1.0"] * 4, "", "1.0-", "1 0"),
    },
    "InitProducerId": {
        "TransactionalId": _named("id", "other", ""),
        "TransactionTimeoutMs": _of(60_000, 60_000, 0, -1, 1_000_000_000),
        "ProducerId": _of(-1, -1, -1, PRODUCER, 5),
        "ProducerEpoch": _of(-1, -1, 0, 7),
        "Enable2Pc": _of(False),
        "KeepPreparedTxn": _of(False),
    },
    "AddPartitionsToTxn": {"VerifyOnly": _of(True, False)},
    "AddOffsetsToTxn": {},
    "DescribeConfigs": {
        "ResourceType": _of(2),
        "ResourceName": Pools.topic,
        "ConfigurationKeys": _of("cleanup.policy", "retention.ms", "no.such.config"),
        "IncludeDocumentation": _of(False),
    },
    "CreateTopics": {
        "Name": lambda pools: pools.fresh("new") if pools.rng.random() < 0.6 else pools.topic(),
        "NumPartitions": _of(1, 1, 3, -1, 0),
        "ReplicationFactor": _of(1, 1, -1, 2, 0),
        "Assignments": _NOTHING,
        "Configs": _NOTHING,
    },
    "DeleteTopics": {
        "Name": _named("gone", "b", "="),
        "TopicNames": _named("gone", "b", "="),
        "TopicId": _of(NO_ID),
    },
    "DeleteRecords": {"Offset": _of(0, 1, 1, -1, 99)},
    "CreatePartitions": {"Count": _of(2, 3, 4, 0, -1), "Assignments": _NOTHING},
    "DescribeClientQuotas": {
        "EntityType": _of("user", "client-id", "ip", "nonsense"),
        "MatchType": _of(0, 1, 2, 7),
    },
    "DescribeQuorum": {"TopicName": _named("=__cluster_metadata", "a")},
    "ListConfigResources": {"ResourceTypes": _of(2, 7)},
    "DescribeTopicPartitions": {"Cursor": _of(None), "ResponsePartitionLimit": _of(1, 10, 2000)},
    "ConsumerGroupDescribe": {"GroupIds": _named("group", "nobody", "")},
    "ConsumerGroupHeartbeat": {
        "GroupId": _named("new", "group", ""),
        "MemberId": _named("=somebody"),
        "MemberEpoch": _of(-1, -2, 5),
        "RebalanceTimeoutMs": _of(-1),
    },
    # What Kafka does not know in these fields, it closes the connection for.
    "DescribeAcls": _ACLS,
    "CreateAcls": _ACLS,
    "DeleteAcls": _ACLS,
    "WriteTxnMarkers": {"ProducerId": _of(PRODUCER), "CoordinatorEpoch": _of(0, 1)},
    "ElectLeaders": {"ElectionType": _of(0, 0, 1, 7)},
    "ListGroups": {
        "StatesFilter": _of("Empty", "Stable", "nonsense"),
        "TypesFilter": _of("classic", "Consumer", "nonsense"),
    },
    "ListTransactions": {
        "StateFilters": _of("Empty", "Ongoing", "nonsense"),
        "ProducerIdFilters": _of(PRODUCER, 5),
        "DurationFilter": _of(-1, -1, 0, 1_000_000_000),
        "TransactionalIdPattern": _of("", ".*"),
    },
    "DescribeCluster": {"EndpointType": _of(1, 1, 7)},
}


def _identity(item: Any) -> Any:
    """What makes an item of a list another one: to name a partition twice is a thing of its own."""
    if not isinstance(item, Structure):
        return item
    names = ("name", "topic", "topic_id")
    numbers = ("partition_index", "partition", "index")
    if "transactional_id" in item.__slots__:
        return item.transactional_id
    return tuple(getattr(item, name) for name in names + numbers if name in item.__slots__)


def localised(value: Any, uuids: Mapping[UUID, UUID], ids: Mapping[int, int]) -> Any:
    """A copy of a request, with one broker's own values for the symbols in it."""
    if isinstance(value, Structure):
        copy = type(value)()
        for name in value.__slots__:
            setattr(copy, name, localised(getattr(value, name), uuids, ids))
        return copy
    if isinstance(value, list):
        return [localised(item, uuids, ids) for item in value]
    if isinstance(value, Batch):
        return value.written(ids)
    if isinstance(value, UUID):
        return uuids.get(value, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return ids.get(value, value)
    return value
