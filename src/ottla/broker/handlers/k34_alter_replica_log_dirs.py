"""AlterReplicaLogDirs: v1-2.

Behaviour: there is one data directory, and every replica is in it: to move one there is right and
does nothing, and no other directory is known.
Versions: v2 flexible.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(34, 1, 2)
def handle(broker: "Broker", request: "Request[AlterReplicaLogDirsRequest]") -> None:
    results: dict[str, AlterReplicaLogDirTopicResult] = {}
    for directory in request.body.dirs:
        for topic in directory.topics:
            result = results.setdefault(topic.name, AlterReplicaLogDirTopicResult(topic.name, []))
            result.partitions.extend(
                AlterReplicaLogDirPartitionResult(
                    index, _moved(broker, directory.path, topic.name, index)
                )
                for index in topic.partitions
            )
    request.respond_now(AlterReplicaLogDirsResponse(results=list(results.values())))


def _moved(broker: "Broker", path: str, topic: str, index: int) -> ErrorCode:
    if path != broker.store.disk.describe(""):
        return ErrorCode.LOG_DIR_NOT_FOUND
    if broker.catalog.partition(topic, index) is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return ErrorCode.NONE
