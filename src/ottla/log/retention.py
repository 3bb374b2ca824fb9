"""Retention: where a log has to begin, and the record that makes it so.

Whole segments go, oldest first, as in Kafka: those whose newest record is older than retention.ms,
then those beyond retention.bytes. The active segment may be among them, and only what is durable
is. Raising the log's start is a record of the journal like any other change. The files go with the
next checkpoint, for until then a recovery begins with them.
"""

import msgspec

from ottla.log.partition import Partition


class LogStartRecord(msgspec.Struct, tag="log-start", frozen=True, array_like=True):
    """The partition begins at this offset from here on."""

    topic_id: bytes
    index: int
    offset: int


def log_start_record(partition: Partition, offset: int) -> LogStartRecord:
    return LogStartRecord(partition.name.topic_id.bytes, partition.name.index, offset)


def retained_from(partition: Partition, now_ms: int) -> int:
    """The offset at which the log has to begin by its topic's retention."""
    config = partition.config
    start = partition.log_start_offset
    if not config.deletes or not partition.segments:
        return start
    segments = partition.segments
    ends = [segment.base_offset for segment in segments[1:]] + [partition.next_offset]
    at, count = 0, sum(end <= partition.high_watermark for end in ends)
    if config.retention_ms >= 0:
        while at < count and now_ms - segments[at].latest_ms > config.retention_ms:
            at += 1
    if config.retention_bytes >= 0:
        excess_bytes = sum(segment.size_bytes for segment in segments[at:])
        excess_bytes -= config.retention_bytes
        while at < count and excess_bytes >= segments[at].size_bytes:
            excess_bytes -= segments[at].size_bytes
            at += 1
    return max(start, ends[at - 1]) if at else start
