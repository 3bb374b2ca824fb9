"""A request that describes things names each of them once, whatever the client has sent.

What an answer holds for one name can be large: a topic has up to ten thousand partitions, a group
as many members. A small request that names one of them two hundred thousand times would otherwise
make an answer that no memory holds. Kafka collects the names of some of these requests in sets,
and clients never name anything twice.

The first of equals stays, in its place.
"""

from collections.abc import Callable, Hashable
from typing import Any

from ottla.wire.api import ApiKey

_Name = Callable[[Any], Hashable]


def _itself(item: Any) -> Hashable:
    return item  # type: ignore[no-any-return]


_NAMED: dict[int, tuple[str, _Name]] = {
    ApiKey.METADATA: ("topics", lambda topic: (topic.topic_id, topic.name)),
    ApiKey.OFFSET_FETCH: ("groups", lambda group: group.group_id),
    ApiKey.DESCRIBE_GROUPS: ("groups", _itself),
    ApiKey.DESCRIBE_CONFIGS: ("resources", lambda one: (one.resource_type, one.resource_name)),
    ApiKey.DESCRIBE_PRODUCERS: ("topics", lambda topic: topic.name),
    ApiKey.DESCRIBE_TRANSACTIONS: ("transactional_ids", _itself),
    ApiKey.CONSUMER_GROUP_DESCRIBE: ("group_ids", _itself),
    ApiKey.DELETE_ACLS: (
        "filters",
        lambda one: tuple(getattr(one, name) for name in one.__slots__),
    ),
}


def name_once(api_key: int, body: Any) -> None:
    """Take out of a decoded request what it names again."""
    found = _NAMED.get(api_key)
    if found is None:
        return
    field, name = found
    items = getattr(body, field)
    if items is not None and len(items) > 1:
        setattr(body, field, list({name(item): item for item in reversed(items)}.values())[::-1])
    if api_key == ApiKey.DESCRIBE_PRODUCERS:
        for topic in body.topics:
            topic.partition_indexes = list(dict.fromkeys(topic.partition_indexes))
