"""OffsetFetch: v1-10.

Behaviour: the committed offsets of partitions, or of all that have one (null topics, v2+); -1 where
there is none, also for a group that does not exist. What is shown is durable: the answer waits for
it. Pending offsets of a transaction are never shown; with RequireStable (v7+) a partition that has
one is answered UNSTABLE_OFFSET_COMMIT, and the client asks again (KIP-447).
Versions: v5 leader epochs, v8 several groups, v9 member id and epoch (of the new protocol:
STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID; a classic group does not look at them), v10 topics by id.
Divergences: none.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.registry import api
from ottla.coordinator.offsets import FetchedOffset
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_GROUPS_VERSION = 8
_TOPIC_ID_VERSION = 10
_NO_TOPIC_ID = UUID(int=0)


@api(9, 1, 10)
def handle(broker: "Broker", request: "Request[OffsetFetchRequest]") -> None:
    body = request.body
    if request.version < _GROUPS_VERSION:
        found = _fetch(broker, body.group_id, body.topics, body.require_stable)
        topics = [
            OffsetFetchResponseTopic(
                topic, [OffsetFetchResponsePartition(*_shown(offset)) for offset in offsets]
            )
            for topic, offsets in found
        ]
        request.respond(OffsetFetchResponse(topics=topics))
        return
    fetch_group = _fetch_by_name if request.version < _TOPIC_ID_VERSION else _fetch_by_id
    groups = []
    for group in body.groups:
        error = broker.groups.check_fetch(group.group_id, group.member_id, group.member_epoch)
        if error is ErrorCode.NONE:
            found_topics = fetch_group(broker, group, body.require_stable)
            groups.append(OffsetFetchResponseGroup(group.group_id, topics=found_topics))
        else:
            groups.append(OffsetFetchResponseGroup(group.group_id, error_code=error))
    request.respond(OffsetFetchResponse(groups=groups))


def _fetch_by_name(
    broker: "Broker", group: OffsetFetchRequestGroup, require_stable: bool
) -> list[OffsetFetchResponseTopics]:
    found = _fetch(broker, group.group_id, group.topics, require_stable)
    return [_topic(name, _NO_TOPIC_ID, offsets) for name, offsets in found]


def _fetch_by_id(
    broker: "Broker", group: OffsetFetchRequestGroup, require_stable: bool
) -> list[OffsetFetchResponseTopics]:
    """As by name; an unknown id is answered as such, and a topic without an id is left out."""
    topics = []
    if group.topics is None:
        for name, offsets in _fetch(broker, group.group_id, None, require_stable):
            topic = broker.catalog.topic(name)
            if topic is not None:
                topics.append(_topic(name, topic.topic_id, offsets))
        return topics
    for wanted in group.topics:
        topic = broker.catalog.topic_by_id(wanted.topic_id)
        if topic is None:
            unknown = [
                FetchedOffset("", partition, error_code=ErrorCode.UNKNOWN_TOPIC_ID)
                for partition in wanted.partition_indexes
            ]
            topics.append(_topic("", wanted.topic_id, unknown))
            continue
        by_name = OffsetFetchRequestTopics(
            name=topic.name, partition_indexes=wanted.partition_indexes
        )
        for name, offsets in _fetch(broker, group.group_id, [by_name], require_stable):
            topics.append(_topic(name, topic.topic_id, offsets))
    return topics


def _fetch(
    broker: "Broker",
    group_id: str,
    topics: Sequence[OffsetFetchRequestTopic | OffsetFetchRequestTopics] | None,
    require_stable: bool,
) -> list[tuple[str, list[FetchedOffset]]]:
    """A group's offsets, by topic."""
    if topics is None:
        fetched = broker.groups.fetch_offsets(group_id, None, require_stable)
        by_topic = groupby(fetched, key=lambda offset: offset.topic)
        return [(name, list(offsets)) for name, offsets in by_topic]
    return [
        (
            topic.name,
            broker.groups.fetch_offsets(
                group_id,
                [(topic.name, partition) for partition in topic.partition_indexes],
                require_stable,
            ),
        )
        for topic in topics
    ]


def _topic(
    name: str, topic_id: UUID, offsets: Iterable[FetchedOffset]
) -> OffsetFetchResponseTopics:
    partitions = [OffsetFetchResponsePartitions(*_shown(offset)) for offset in offsets]
    return OffsetFetchResponseTopics(name, topic_id, partitions)


def _shown(fetched: FetchedOffset) -> tuple[int, int, int, str, int]:
    _, partition, offset, leader_epoch, metadata, error_code = fetched
    return partition, offset, leader_epoch, metadata, error_code
