"""OffsetDelete: v0.

Behaviour: forgets a group's offsets of partitions, those of open transactions too. Refused for a
topic that the group's members subscribe to (GROUP_SUBSCRIBED_TO_TOPIC), and as a whole for a group
with members of another protocol than "consumer" (NON_EMPTY_GROUP).
Divergences: none.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(47, 0, 0)
def handle(broker: "Broker", request: "Request[OffsetDeleteRequest]") -> None:
    topics, wanted, answers = [], [], []
    for topic in request.body.topics:
        partitions = []
        for one in topic.partitions:
            index = one.partition_index
            answer = OffsetDeleteResponsePartition(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            partitions.append(answer)
            if broker.catalog.partition(topic.name, index) is not None:
                wanted.append((topic.name, index))
                answers.append(answer)
        topics.append(OffsetDeleteResponseTopic(topic.name, partitions))
    # A KafkaError of the group as a whole becomes the answer's top-level error.
    outcome = broker.groups.delete_offsets(request.body.group_id, wanted)
    broker.commit(outcome.records)
    for answer, error in zip(answers, outcome.reply, strict=True):
        answer.error_code = error
    request.respond(OffsetDeleteResponse(topics=topics))
