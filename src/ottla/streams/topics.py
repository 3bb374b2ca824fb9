"""The topics an application needs, worked out from its topology and the topics there are.

    <app>-<name>-repartition    as many partitions as asked for, or as the widest source has
    <app>-<store>-changelog     one partition for each task, compacted
    what `to()` writes to       as many as the task, if it is not there; likewise dead letters (one)

Retention goes by the timestamps of records, which are event time here: records of last year would
be deleted as soon as they are written. So topics made here keep their records until told otherwise.
For the same reason they take any time: a broker refuses what is an hour ahead of its clock, and one
record with a time in the future would hold up all behind it (KIP-937, Kafka 3.6).
"""

from collections.abc import Mapping

from ottla.client import TopicSpec
from ottla.streams.errors import TopologyError
from ottla.streams.restore import TOMBSTONES_KEPT_MS
from ottla.streams.topology import SubTopology, Topology

ANY_TIME = {"message.timestamp.after.max.ms": "9223372036854775807"}
_KEEP = {"cleanup.policy": "delete", "retention.ms": "-1"} | ANY_TIME
_CHANGELOG = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(2 * TOMBSTONES_KEPT_MS),
}


def topics_to_make(
    topology: Topology, existing: Mapping[str, int], dead_letters: str | None
) -> list[TopicSpec]:
    """The topics that are missing.

    Args: `existing` topics with their number of partitions.
    Raises TopologyError when a source is missing, or partitions do not fit together.
    """
    counts = dict(existing)
    wanted: dict[str, Mapping[str, str]] = {}
    subs = topology.subtopologies()
    _count_repartitions(topology, subs, counts)
    wanted.update((topic, _KEEP) for topic, _ in topology.repartitions)
    for sub in subs:
        tasks = _task_count(sub, counts)
        for store in sub.stores:
            changelog = topology.changelog_topic(store.name)
            if counts.setdefault(changelog, tasks) != tasks:
                raise TopologyError(
                    f"{changelog} has {counts[changelog]} partitions for {tasks} tasks: the input "
                    "was repartitioned. State cannot follow; give the store another name, or reset "
                    "the application"
                )
            wanted[changelog] = _CHANGELOG
        for _, step in sub.sinks:
            counts.setdefault(step.topic, tasks)
            wanted.setdefault(step.topic, _KEEP)
    if dead_letters is not None:
        counts.setdefault(dead_letters, 1)
        wanted.setdefault(dead_letters, _KEEP)
    return [
        TopicSpec(topic, counts[topic], config)
        for topic, config in wanted.items()
        if topic not in existing
    ]


def _count_repartitions(
    topology: Topology, subs: tuple[SubTopology, ...], counts: dict[str, int]
) -> None:
    """Add the partitions of repartition topics to `counts`."""
    asked = dict(topology.repartitions)
    external = {topic for sub in subs for topic in sub.source_topics if topic not in asked}
    missing = sorted(external.difference(counts))
    if missing:
        raise TopologyError(
            f"{topology.app} reads {', '.join(missing)}, which does not exist: make it first"
        )
    widest = max((counts[topic] for topic in external), default=1)
    for topic, partitions in asked.items():
        found = counts.setdefault(topic, partitions or widest)
        if partitions not in (None, found):
            raise TopologyError(
                f"{topic} has {found} partitions, not {partitions}: keys would move away from "
                "their state. Give the repartition another name"
            )


def _task_count(sub: SubTopology, counts: Mapping[str, int]) -> int:
    """How many tasks a sub-topology has."""
    sizes = {topic: counts[topic] for topic in sub.source_topics}
    if sub.stores and len(set(sizes.values())) > 1:
        raise TopologyError(
            f"these topics feed the same state and need as many partitions each: {sizes}. "
            "Put a repartition(name) after the ones that differ"
        )
    return max(sizes.values())
