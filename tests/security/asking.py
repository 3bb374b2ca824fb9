"""The longer requests of the questions: each function makes what makes the request."""

from collections.abc import Callable
from uuid import UUID

from ottla.wire.message import Message
from ottla.wire.messages import add_partitions_to_txn as add_partitions
from ottla.wire.messages import alter_client_quotas as alter_quotas
from ottla.wire.messages import (
    alter_configs,
    create_topics,
    delete_topics,
    describe_configs,
    end_txn,
    fetch,
    join_group,
    metadata,
    offset_commit,
    offset_fetch,
    produce,
    txn_offset_commit,
    write_txn_markers,
)
from ottla.wire.messages import consumer_group_heartbeat as consumer_heartbeat
from ottla.wire.messages import describe_topic_partitions as describe_partitions
from ottla.wire.messages import incremental_alter_configs as incremental
from ottla.wire.records import Record, build_batch

OPEN, CLOSED, GONE = "open", "closed", "closed-gone"
DESCRIBED = "described"  # a topic that is not there, and may be described
_ANY_MEMBER = "AAAAAAAAAAAAAAAAAAAAAQ"

Ids = dict[str, UUID]
Make = Callable[[Ids], Message]
_BATCH = build_batch([Record(value=b"x")])
_IN_TRANSACTION = build_batch(
    [Record(value=b"x")], producer_id=1, producer_epoch=0, base_sequence=0, transactional=True
)


def produce_to(names: tuple[str, ...], transactional_id: str | None = None) -> Make:
    batch = _BATCH if transactional_id is None else _IN_TRANSACTION

    def make(ids: Ids) -> Message:
        return produce.ProduceRequest(
            transactional_id or None,
            -1,
            1_000,
            [
                produce.TopicProduceData(name, ids[name], [produce.PartitionProduceData(0, batch)])
                for name in names
            ],
        )

    return make


def fetch_from(*names: str, replica_id: int = -1) -> Make:
    def make(ids: Ids) -> Message:
        return fetch.FetchRequest(
            replica_id=replica_id,
            max_wait_ms=0,
            topics=[
                fetch.FetchTopic(
                    name, ids[name], [fetch.FetchPartition(0, partition_max_bytes=1_000_000)]
                )
                for name in names
            ],
        )

    return make


def metadata_of(*names: str, **more: bool) -> Make:
    topics = [metadata.MetadataRequestTopic(name=name) for name in names]
    return lambda ids: metadata.MetadataRequest(topics, **more)


def metadata_by_id(ids: Ids) -> Message:
    topics = [metadata.MetadataRequestTopic(ids[name], None) for name in (OPEN, CLOSED)]
    return metadata.MetadataRequest(topics)


def commit(group: str, *names: str) -> Make:
    partition = offset_commit.OffsetCommitRequestPartition(0, 1, -1, "")
    return lambda ids: offset_commit.OffsetCommitRequest(
        group,
        topics=[
            offset_commit.OffsetCommitRequestTopic(name, ids[name], [partition]) for name in names
        ],
    )


def offsets(group: str) -> Make:
    topics = [offset_fetch.OffsetFetchRequestTopic(name, [0]) for name in (OPEN, CLOSED)]
    return lambda ids: offset_fetch.OffsetFetchRequest(group, topics)


def offsets_of_groups(ids: Ids) -> Message:
    return offset_fetch.OffsetFetchRequest(
        groups=[
            offset_fetch.OffsetFetchRequestGroup(
                group,
                topics=[
                    offset_fetch.OffsetFetchRequestTopics(name, ids[name], [0])
                    for name in (OPEN, CLOSED)
                ],
            )
            for group in (OPEN, CLOSED)
        ]
    )


def txn_offsets(transactional_id: str, group: str, topic: str) -> Make:
    partition = txn_offset_commit.TxnOffsetCommitRequestPartition(0, 1, -1, "")
    wanted = txn_offset_commit.TxnOffsetCommitRequestTopic(topic, [partition])
    return lambda ids: txn_offset_commit.TxnOffsetCommitRequest(
        transactional_id, group, 1, 0, -1, "", None, [wanted]
    )


def add_partitions_to(transactional_id: str) -> Make:
    topics = [add_partitions.AddPartitionsToTxnTopic(name, [0]) for name in (OPEN, CLOSED, GONE)]
    return lambda ids: add_partitions.AddPartitionsToTxnRequest(
        v3_and_below_transactional_id=transactional_id, v3_and_below_topics=topics
    )


def create(*names: str) -> Make:
    topics = [create_topics.CreatableTopic(name, 1, 1) for name in names]
    return lambda ids: create_topics.CreateTopicsRequest(topics, 30_000, True)


def delete(ids: Ids) -> Message:
    by_id = delete_topics.DeleteTopicState(None, ids[CLOSED])
    by_name = delete_topics.DeleteTopicState(GONE)
    return delete_topics.DeleteTopicsRequest([by_id, by_name], timeout_ms=30_000)


def alter(ids: Ids) -> Message:
    resources = [
        alter_configs.AlterConfigsResource(kind, name, []) for kind, name in ((2, CLOSED), (4, "1"))
    ]
    return alter_configs.AlterConfigsRequest(resources, True)


def alter_some(ids: Ids) -> Message:
    resources = [
        incremental.AlterConfigsResource(kind, name, [])
        for kind, name in ((2, CLOSED), (4, "1"), (32, CLOSED))
    ]
    return incremental.IncrementalAlterConfigsRequest(resources, True)


def describe_some_configs(ids: Ids) -> Message:
    named = ((2, CLOSED), (2, GONE), (4, "1"))
    return describe_configs.DescribeConfigsRequest(
        [describe_configs.DescribeConfigsResource(kind, name, None) for kind, name in named]
    )


def join(ids: Ids) -> Message:
    protocol = join_group.JoinGroupRequestProtocol("range", b"")
    return join_group.JoinGroupRequest(CLOSED, 10_000, 10_000, "", None, "consumer", [protocol])


def markers(ids: Ids) -> Message:
    topic = write_txn_markers.WritableTxnMarkerTopic(OPEN, [0])
    marker = write_txn_markers.WritableTxnMarker(1, 0, True, [topic], 0, 2)
    return write_txn_markers.WriteTxnMarkersRequest([marker])


def consumer(group: str, *topics: str) -> Make:
    return lambda ids: consumer_heartbeat.ConsumerGroupHeartbeatRequest(
        group,
        _ANY_MEMBER,
        0,
        rebalance_timeout_ms=10_000,
        subscribed_topic_names=list(topics),
        topic_partitions=[],
    )


def describe_partitions_of(*names: str) -> Make:
    topics = [describe_partitions.TopicRequest(name) for name in names]
    return lambda ids: describe_partitions.DescribeTopicPartitionsRequest(topics, 2_000, None)


def quota(ids: Ids) -> Message:
    entity = [alter_quotas.EntityData("user", "u")]
    change = alter_quotas.OpData("producer_byte_rate", 1.0, False)
    return alter_quotas.AlterClientQuotasRequest([alter_quotas.EntryData(entity, [change])], True)


def end(ids: Ids) -> Message:
    return end_txn.EndTxnRequest(CLOSED, 1, 0, True)
