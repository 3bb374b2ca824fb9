"""The configs of topics, as in Apache Kafka 4.3 (TopicConfig, LogConfig).

What acts here: cleanup.policy, retention.*, segment.*, max.message.bytes, message.timestamp.*,
compression.* (KIP-390) and what compaction reads, as far as the log serves them. The others are
checked, kept and told, so that a client finds what it has set: they speak of replicas, of tiered
storage, or of how Kafka writes its files.
"""

import re
from collections.abc import Mapping

from ottla.broker.configs import (
    LONG_MAX,
    ConfigDefinition,
    ConfigType,
    by_name,
    check_all,
)
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import MESSAGE_BYTES_MAX

_THROTTLED = re.compile(r"|\*|[0-9]+:[0-9]+(,[0-9]+:[0-9]+)*")
COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
_BOOLEAN, _STRING, _INT = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.INT
_LONG, _DOUBLE, _LIST = ConfigType.LONG, ConfigType.DOUBLE, ConfigType.LIST


def _gzip_level(value: str) -> str:
    allowed = value == "-1" or 1 <= int(value) <= 9
    return "" if allowed else "Value must be between 1 and 9 or equal to -1"


def _throttled_replicas(name: str) -> ConfigDefinition:
    def refuses(value: str) -> str:
        if _THROTTLED.fullmatch(value):
            return ""
        return (
            f"{name} must be the literal '*' or a list of replicas in the following format: "
            "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
        )

    text = "Replicas to throttle. There are none to throttle here: one node does not replicate."
    return ConfigDefinition(name, _LIST, "", text, refuses=refuses)


# In the order in which Kafka looks for the first bad one.
_DEFINITIONS = (
    ConfigDefinition(
        "segment.bytes",
        _INT,
        "1073741824",
        "How large a segment may become before a new one begins. Retention takes whole segments.",
        minimum=1_048_576,
        synonyms=("log.segment.bytes",),
    ),
    ConfigDefinition(
        "segment.ms",
        _LONG,
        "604800000",
        "How old a segment may become before a new one begins, full or not.",
        minimum=1,
        synonyms=("log.roll.ms", "log.roll.hours"),
    ),
    ConfigDefinition(
        "segment.jitter.ms",
        _LONG,
        "0",
        "How much earlier than segment.ms a segment may end, so that not all end together.",
        minimum=0,
        synonyms=("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ),
    ConfigDefinition(
        "segment.index.bytes",
        _INT,
        "10485760",
        "How large the index of a segment may become.",
        minimum=4,
        synonyms=("log.index.size.max.bytes",),
    ),
    ConfigDefinition(
        "flush.messages",
        _LONG,
        str(LONG_MAX),
        "After how many records Kafka syncs a log. Here all is synced before it is acknowledged.",
        minimum=1,
        synonyms=("log.flush.interval.messages",),
    ),
    ConfigDefinition(
        "flush.ms",
        _LONG,
        str(LONG_MAX),
        "After what time Kafka syncs a log. Here all is synced before it is acknowledged.",
        minimum=0,
        synonyms=("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    ),
    ConfigDefinition(
        "retention.bytes",
        _LONG,
        "-1",
        "How large a partition may become before its oldest segments go; -1: as large as it gets.",
        synonyms=("log.retention.bytes",),
    ),
    ConfigDefinition(
        "retention.ms",
        _LONG,
        "604800000",
        "How long records are kept under the cleanup policy delete; -1: for ever.",
        minimum=-1,
        synonyms=("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ),
    ConfigDefinition(
        "max.message.bytes",
        _INT,
        str(MESSAGE_BYTES_MAX),
        "The largest batch of records that is taken in, as it comes, compressed or not.",
        minimum=0,
        synonyms=("message.max.bytes",),
    ),
    ConfigDefinition(
        "index.interval.bytes",
        _INT,
        "4096",
        "After how many bytes of records the index of a segment gets an entry.",
        minimum=0,
        synonyms=("log.index.interval.bytes",),
    ),
    ConfigDefinition(
        "delete.retention.ms",
        _LONG,
        "86400000",
        "How long a compacted log still shows that a key was deleted.",
        minimum=0,
        synonyms=("log.cleaner.delete.retention.ms",),
    ),
    ConfigDefinition(
        "min.compaction.lag.ms",
        _LONG,
        "0",
        "How long a record stays as it is before compaction may take it away.",
        minimum=0,
        synonyms=("log.cleaner.min.compaction.lag.ms",),
    ),
    ConfigDefinition(
        "max.compaction.lag.ms",
        _LONG,
        str(LONG_MAX),
        "How long at most a record waits until compaction looks at it.",
        minimum=1,
        synonyms=("log.cleaner.max.compaction.lag.ms",),
    ),
    ConfigDefinition(
        "file.delete.delay.ms",
        _LONG,
        "60000",
        "How long Kafka keeps the file of a deleted segment. Here it goes with a checkpoint.",
        minimum=0,
        synonyms=("log.segment.delete.delay.ms",),
    ),
    ConfigDefinition(
        "min.cleanable.dirty.ratio",
        _DOUBLE,
        "0.5",
        "Which part of a log must be new before compaction begins.",
        minimum=0,
        maximum=1,
        synonyms=("log.cleaner.min.cleanable.ratio",),
    ),
    ConfigDefinition(
        "cleanup.policy",
        _LIST,
        "delete",
        "What becomes of old records: delete by age and size, compact to the last of each key, "
        "both, or neither.",
        choices=("compact", "delete"),
        synonyms=("log.cleanup.policy",),
    ),
    ConfigDefinition(
        "unclean.leader.election.enable",
        _BOOLEAN,
        "false",
        "Whether a replica that is behind may lead. There is one replica here.",
        synonyms=("unclean.leader.election.enable",),
    ),
    ConfigDefinition(
        "min.insync.replicas",
        _INT,
        "1",
        "How many replicas must have a record before it is acknowledged. There is one here.",
        minimum=1,
        synonyms=("min.insync.replicas",),
    ),
    ConfigDefinition(
        "compression.type",
        _STRING,
        "producer",
        "How batches are compressed in the log; producer: as they come.",
        choices=COMPRESSION_TYPES,
        synonyms=("compression.type",),
    ),
    ConfigDefinition(
        "compression.gzip.level",
        _INT,
        "-1",
        "The level for compression.type gzip; -1: the library's own.",
        refuses=_gzip_level,
        synonyms=("compression.gzip.level",),
    ),
    ConfigDefinition(
        "compression.lz4.level",
        _INT,
        "9",
        "The level for compression.type lz4; 9 is the fast, usual one.",
        minimum=1,
        maximum=17,
        synonyms=("compression.lz4.level",),
    ),
    ConfigDefinition(
        "compression.zstd.level",
        _INT,
        "3",
        "The level for compression.type zstd.",
        minimum=-131_072,
        maximum=22,
        synonyms=("compression.zstd.level",),
    ),
    ConfigDefinition(
        "preallocate",
        _BOOLEAN,
        "false",
        "Whether the file of a new segment is made at its full size.",
        synonyms=("log.preallocate",),
    ),
    ConfigDefinition(
        "message.timestamp.type",
        _STRING,
        "CreateTime",
        "Whose clock a record's timestamp shows: the producer's, or the broker's (LogAppendTime).",
        choices=("CreateTime", "LogAppendTime"),
        synonyms=("log.message.timestamp.type",),
    ),
    ConfigDefinition(
        "message.timestamp.before.max.ms",
        _LONG,
        str(LONG_MAX),
        "How far in the past a producer's timestamp may be.",
        minimum=0,
        synonyms=("log.message.timestamp.before.max.ms",),
    ),
    ConfigDefinition(
        "message.timestamp.after.max.ms",
        _LONG,
        "3600000",
        "How far in the future a producer's timestamp may be.",
        minimum=0,
        synonyms=("log.message.timestamp.after.max.ms",),
    ),
    _throttled_replicas("leader.replication.throttled.replicas"),
    _throttled_replicas("follower.replication.throttled.replicas"),
    ConfigDefinition(
        "remote.storage.enable",
        _BOOLEAN,
        "false",
        "Whether old segments move to tiered storage, which this broker does not have.",
    ),
    ConfigDefinition(
        "local.retention.ms",
        _LONG,
        "-2",
        "How long tiered storage leaves a segment on this disk; -2: as retention.ms says.",
        minimum=-2,
        synonyms=("log.local.retention.ms",),
    ),
    ConfigDefinition(
        "local.retention.bytes",
        _LONG,
        "-2",
        "How much tiered storage leaves on this disk; -2: as retention.bytes says.",
        minimum=-2,
        synonyms=("log.local.retention.bytes",),
    ),
    ConfigDefinition(
        "remote.log.copy.disable",
        _BOOLEAN,
        "false",
        "Whether tiered storage takes no more segments of this topic.",
    ),
    ConfigDefinition(
        "remote.log.delete.on.disable",
        _BOOLEAN,
        "false",
        "Whether what tiered storage has is deleted when it is switched off for the topic.",
    ),
)
TOPIC_CONFIGS = by_name(_DEFINITIONS)


def check_topic_configs(configs: Mapping[str, str]) -> None:
    """Raise KafkaError(INVALID_CONFIG) unless a topic can have these configs together."""
    check_all(TOPIC_CONFIGS, configs, "Unknown topic config name")
    if _parsed(configs, "remote.storage.enable") == "true":
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage.",
        )
    least, most = (
        int(_parsed(configs, name)) for name in ("min.compaction.lag.ms", "max.compaction.lag.ms")
    )
    if least > most:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"conflict topic config setting min.compaction.lag.ms ({least}) > "
            f"max.compaction.lag.ms ({most})",
        )


def _parsed(configs: Mapping[str, str], name: str) -> str:
    definition = TOPIC_CONFIGS[name]
    return definition.parse(configs.get(name, definition.default or ""))
