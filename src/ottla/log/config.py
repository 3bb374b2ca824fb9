"""What a topic's configs say to its log, parsed once: names, units and defaults are Kafka's.

A topic stores its configs as the text that clients send. The defaults here are those of the
broker's table of topic configs; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ottla.ports.limits import MESSAGE_BYTES_MAX
from ottla.wire.compression import Compression

LONG_MAX = 9_223_372_036_854_775_807
SEGMENT_BYTES = 1_073_741_824  # segment.bytes
_CODECS = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}
_LEVELS = {
    Compression.GZIP: "compression.gzip.level",
    Compression.LZ4: "compression.lz4.level",
    Compression.ZSTD: "compression.zstd.level",
}


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The configs of a topic that its partitions act on.

    `codec` is None for compression.type=producer, `codec_level` for the codec's usual level. A
    retention of -1 is none.
    """

    message_bytes_max: int = MESSAGE_BYTES_MAX
    log_append_time: bool = False
    timestamp_before_max_ms: int = LONG_MAX
    timestamp_after_max_ms: int = 3_600_000
    codec: Compression | None = None
    codec_level: int | None = None
    segment_bytes: int = SEGMENT_BYTES
    segment_ms: int = 604_800_000
    deletes: bool = True
    compacts: bool = False
    retention_ms: int = 604_800_000
    retention_bytes: int = -1
    delete_retention_ms: int = 86_400_000
    dirty_ratio_min: float = 0.5
    compaction_lag_min_ms: int = 0
    compaction_lag_max_ms: int = LONG_MAX

    @property
    def roll_ms(self) -> int:
        """How long a segment may be appended to: what must be compacted by then is sealed."""
        if self.compacts:
            return min(self.segment_ms, self.compaction_lag_max_ms)
        return self.segment_ms


def log_config(configs: Mapping[str, str], segment_bytes: int | None = None) -> LogConfig:
    """What `configs` say; `segment_bytes` is the broker's default, or None for Kafka's."""
    return _parse(tuple(sorted(configs.items())), segment_bytes or SEGMENT_BYTES)


@lru_cache(maxsize=1_024)
def _parse(items: tuple[tuple[str, str], ...], segment_bytes: int) -> LogConfig:
    configs, usual = dict(items), LogConfig(segment_bytes=segment_bytes)

    def number(name: str, default: int) -> int:
        return int(configs.get(name, default))

    codec = _CODECS.get(configs.get("compression.type", "producer"))
    level = None if codec is None else configs.get(_LEVELS.get(codec, ""))
    policies = {word.strip() for word in configs.get("cleanup.policy", "delete").split(",")}
    return LogConfig(
        message_bytes_max=number("max.message.bytes", usual.message_bytes_max),
        log_append_time=configs.get("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max_ms=number(
            "message.timestamp.before.max.ms", usual.timestamp_before_max_ms
        ),
        timestamp_after_max_ms=number(
            "message.timestamp.after.max.ms", usual.timestamp_after_max_ms
        ),
        codec=codec,
        codec_level=None if level is None else int(level),
        segment_bytes=number("segment.bytes", usual.segment_bytes),
        segment_ms=number("segment.ms", usual.segment_ms),
        deletes="delete" in policies,
        compacts="compact" in policies,
        retention_ms=number("retention.ms", usual.retention_ms),
        retention_bytes=number("retention.bytes", usual.retention_bytes),
        delete_retention_ms=number("delete.retention.ms", usual.delete_retention_ms),
        dirty_ratio_min=float(configs.get("min.cleanable.dirty.ratio", usual.dirty_ratio_min)),
        compaction_lag_min_ms=number("min.compaction.lag.ms", usual.compaction_lag_min_ms),
        compaction_lag_max_ms=number("max.compaction.lag.ms", usual.compaction_lag_max_ms),
    )
