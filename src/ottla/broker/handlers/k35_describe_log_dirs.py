"""DescribeLogDirs: v1-5.

Behaviour: the one data directory, the size of the logs in it, and of the volume it is on.
Versions: v3 top-level error, v4 sizes of the volume (KIP-827), v5 whether the directory is closed
to new partitions (KIP-1066), which it never is.
Divergences: a partition's size is that of its records, as in Kafka; the journal is not part of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.log.partition import Partition
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(35, 1, 5)
def handle(broker: "Broker", request: "Request[DescribeLogDirsRequest]") -> None:
    disk, topics = broker.store.disk, request.body.topics
    if topics is None:
        found = {topic.name: topic.partitions for topic in broker.catalog.topics()}
    else:
        found = {}
        for topic in topics:
            there = {
                index: broker.catalog.partition(topic.topic, index) for index in topic.partitions
            }
            found[topic.topic] = [one for one in there.values() if one is not None]
    request.respond_now(
        DescribeLogDirsResponse(
            error_code=ErrorCode.NONE,
            results=[
                DescribeLogDirsResult(
                    error_code=ErrorCode.NONE,
                    log_dir=disk.describe(""),
                    topics=[
                        DescribeLogDirsTopic(name, _sizes(partitions))
                        for name, partitions in found.items()
                        if partitions
                    ],
                    total_bytes=disk.total_bytes(),
                    usable_bytes=disk.free_bytes(),
                )
            ],
        )
    )


def _sizes(partitions: Iterable[Partition]) -> list[DescribeLogDirsPartition]:
    return [
        DescribeLogDirsPartition(
            partition_index=partition.name.index,
            partition_size=sum(segment.size_bytes for segment in partition.segments),
            offset_lag=0,
            is_future_key=False,
        )
        for partition in partitions
    ]
