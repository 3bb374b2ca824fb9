"""DeleteTopics: v1-6.

Behaviour: the topic is gone for everyone at once, durable before the answer; its files go with the
next checkpoint. An open transaction that touched it ends without it, and the groups' offsets for
it are forgotten: a topic made anew with its name begins anew.
Versions: v5 error message, v6 by name or by id.
"""

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.broker.catalog import Topic, TopicDeleted
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_BY_ID_VERSION = 6
_QUOTA_VERSION = 5
_NO_ID = UUID(int=0)
_NOT_HOSTED = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "This server does not host this topic-partition.",
    ErrorCode.UNKNOWN_TOPIC_ID: "This server does not host this topic ID.",
}


@api(20, 1, 6)
def handle(broker: "Broker", request: "Request[DeleteTopicsRequest]") -> None:
    body = request.body
    if request.version < _BY_ID_VERSION:
        wanted = [DeleteTopicState(name=name, topic_id=_NO_ID) for name in body.topic_names]
    else:
        wanted = body.topics
    # Once in the answer however often it is named, as in Kafka.
    times = Counter((one.name, one.topic_id) for one in wanted)
    results = []
    for (name, topic_id), count in times.items():
        try:
            topic = _find(broker, name, topic_id, count)
            request.charge_mutations(len(topic.partitions), strict_from=_QUOTA_VERSION)
        except KafkaError as error:
            results.append(
                DeletableTopicResult(
                    name=name,
                    topic_id=topic_id,
                    error_code=error.code,
                    error_message=error.message,
                )
            )
        else:
            results.append(_delete(broker, topic))
    request.respond(DeleteTopicsResponse(responses=results))


def _find(broker: "Broker", name: str | None, topic_id: UUID, count: int) -> Topic:
    """The topic that is meant. Raises KafkaError."""
    if name is None:
        if topic_id == _NO_ID:
            raise _invalid("Neither topic name nor id were specified.")
        if count > 1:
            raise _invalid("Duplicate topic id.")
        topic, code = broker.catalog.topic_by_id(topic_id), ErrorCode.UNKNOWN_TOPIC_ID
    else:
        if topic_id != _NO_ID:
            raise _invalid("You may not specify both topic name and topic id.")
        if count > 1:
            raise _invalid("Duplicate topic name.")
        topic, code = broker.catalog.topic(name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if topic is None:
        raise KafkaError(code, _NOT_HOSTED[code])
    return topic


def _delete(broker: "Broker", topic: Topic) -> DeletableTopicResult:
    partitions = topic.partitions
    offsets = broker.groups.delete_topic(topic.name)
    broker.commit([TopicDeleted(topic.topic_id.bytes), *offsets])
    broker.wake(partitions)
    return DeletableTopicResult(name=topic.name, topic_id=topic.topic_id, error_code=ErrorCode.NONE)


def _invalid(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, text)
