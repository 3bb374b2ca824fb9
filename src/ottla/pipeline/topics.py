"""The topics of a pipeline: making them, reading one from its start to its end."""

import time
from collections.abc import Iterator

from ottla.client import Admin, Consumer, Message, Partition, TopicSpec
from ottla.client.settings import shown
from ottla.pipeline.errors import PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.urls import KafkaTopic
from ottla.streams.topics import ANY_TIME

_COMPACTED = {"cleanup.policy": "compact"}
# Rows stay until they are in the destination and audited, however long that takes.
_KEPT = {"retention.ms": "-1"} | ANY_TIME
_BATCH = 5_000
_POLL_S = 0.2
CHECK_TIMEOUT_MS = 3_000  # of questions that are asked again anyway


def make_topics(spec: PipelineSpec, bootstrap_servers: str) -> dict[str, int]:
    """Make the pipeline's topics that are not there; the partition counts of all of them.

    Raises PipelineStopped if the topic it reads from is not there.
    """
    admin = Admin(bootstrap_servers)
    wanted = [TopicSpec(spec.dead_letters_topic, 1, _KEPT)]
    if isinstance(spec.source, KafkaTopic):
        if not admin.partition_counts([spec.input_topic]):
            raise PipelineStopped(
                f"there is no topic {spec.input_topic} on {shown(bootstrap_servers)} to read from"
            )
    else:
        wanted.append(TopicSpec(spec.input_topic, spec.partitions, _KEPT))
        wanted.append(TopicSpec(spec.positions_topic, 1, _COMPACTED))
    if spec.has_streams:
        wanted.append(TopicSpec(spec.output_topic, spec.partitions, _KEPT))
    there = admin.partition_counts()
    admin.create_topics([topic for topic in wanted if topic.name not in there])
    names = {spec.input_topic, spec.output_topic, *(topic.name for topic in wanted)}
    return admin.partition_counts(names)


def read_topic(
    bootstrap_servers: str, topic: str, start_offsets: dict[int, int] | None = None
) -> Iterator[Message]:
    """What is committed in a topic now, partition by partition; nothing if it is not there.

    `start_offsets` by partition, where it is not the beginning. Raises ClientError.
    """
    starts = start_offsets or {}
    counts = Admin(bootstrap_servers).partition_counts([topic])
    partitions = [Partition(topic, number) for number in range(counts.get(topic, 0))]
    with Consumer(bootstrap_servers, group_id=f"{topic}-reader") as consumer:
        for partition in partitions:
            first = max(
                starts.get(partition.partition, 0), consumer.end_offsets([partition])[partition][0]
            )
            consumer.assign({partition: first})
            while not consumer.at_end(partition):
                for _, messages in consumer.consume(_BATCH, _POLL_S):
                    yield from messages


def nothing_behind(bootstrap_servers: str, offsets: dict[Partition, int]) -> bool:
    """Whether there is no committed record at or behind these offsets.

    Offsets alone cannot tell: transaction markers take offsets too. False as well when the broker
    does not answer soon. Raises ClientError.
    """
    deadline = time.monotonic() + CHECK_TIMEOUT_MS / 1000
    with Consumer(
        bootstrap_servers, group_id="ottla-end-check", timeout_ms=CHECK_TIMEOUT_MS
    ) as consumer:
        consumer.assign(offsets)
        while not all(map(consumer.at_end, offsets)):
            if consumer.consume(1, _POLL_S) or time.monotonic() > deadline:
                return False
    return True
