"""DeleteTopics: v1-6.

Behaviour: the topic is gone for everyone at once, durable before the answer; its files go with the
next checkpoint. An open transaction that touched it ends without it, and the groups' offsets for
it are forgotten: a topic made anew with its name begins anew.
Versions: v5 error message, v6 by name or by id.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.catalog import Topic, TopicDeleted
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_BY_ID_VERSION = 6


@api(20, 1, 6)
def handle(broker: "Broker", request: "Request[DeleteTopicsRequest]") -> None:
    body = request.body
    results = []
    if request.version < _BY_ID_VERSION:
        for name in body.topic_names:
            results.append(_delete(broker, broker.catalog.topic(name), name, None))
    else:
        for wanted in body.topics:
            if wanted.name is not None:
                found = broker.catalog.topic(wanted.name)
            else:
                found = broker.catalog.topic_by_id(wanted.topic_id)
            results.append(_delete(broker, found, wanted.name, wanted.topic_id))
    request.respond(DeleteTopicsResponse(responses=results))


def _delete(
    broker: "Broker", topic: Topic | None, name: str | None, topic_id: UUID | None
) -> DeletableTopicResult:
    if topic is None:
        code = (
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if name is not None else ErrorCode.UNKNOWN_TOPIC_ID
        )
        return DeletableTopicResult(
            name=name, topic_id=topic_id or UUID(int=0), error_code=code, error_message=None
        )
    partitions = topic.partitions
    offsets = broker.groups.delete_topic(topic.name)
    broker.commit([TopicDeleted(topic.topic_id.bytes), *offsets])
    broker.wake(partitions)
    return DeletableTopicResult(name=topic.name, topic_id=topic.topic_id, error_code=ErrorCode.NONE)
