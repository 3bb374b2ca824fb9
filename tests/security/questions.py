"""What a client without rights asks, and what it is answered: one row for each API and way to ask.

The names: `open` is a topic, group or transactional id that no ACL speaks of; those that begin with
`closed` have an ACL for somebody else, so that for all others they are shut. `closed` itself is a
topic that exists, `closed-gone` one that does not. `described` is none either,
but may be described. Of the cluster the client may do nothing.
"""

from dataclasses import dataclass

from ottla.wire.messages import add_offsets_to_txn as add_offsets
from ottla.wire.messages import add_partitions_to_txn as add_partitions
from ottla.wire.messages import (
    alter_replica_log_dirs,
    create_acls,
    create_partitions,
    delete_acls,
    delete_groups,
    delete_records,
    delete_topics,
    describe_acls,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_transactions,
    elect_leaders,
    find_coordinator,
    heartbeat,
    init_producer_id,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_transactions,
    metadata,
    offset_delete,
    offset_fetch,
    sync_group,
    update_features,
)
from ottla.wire.messages import consumer_group_describe as consumer_describe
from ottla.wire.messages import describe_client_quotas as describe_quotas
from ottla.wire.messages import offset_for_leader_epoch as leader_epoch
from ottla.wire.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
)
from tests.security import asking as ask
from tests.security.asking import CLOSED, DESCRIBED, GONE, OPEN, Make

TOPIC, GROUP, CLUSTER, ID = 29, 30, 31, 53
_NOT_ATTEMPTED = 55


@dataclass(frozen=True)
class Question:
    """A request, and the error codes that are in its answer, in rising order."""

    name: str
    version: int
    make: Make
    codes: list[int]

    def __str__(self) -> str:
        return f"{self.name}-v{self.version}"


QUESTIONS = [
    *(
        Question("produce", version, ask.produce_to((OPEN, CLOSED)), [TOPIC])
        for version in (3, 9, 12, 13)
    ),
    *(
        Question("produce-in-a-transaction", version, ask.produce_to((OPEN,), CLOSED), [ID])
        for version in (3, 9, 13)
    ),
    Question("produce-in-nobodys-transaction", 9, ask.produce_to((OPEN,), ""), [ID]),
    *(
        Question("fetch", version, ask.fetch_from(OPEN, CLOSED), [TOPIC])
        for version in (4, 12, 13, 17)
    ),
    Question("fetch-what-is-not-there", 12, ask.fetch_from(GONE), [TOPIC]),
    Question("fetch-as-a-replica", 12, ask.fetch_from(OPEN, CLOSED, replica_id=7), [TOPIC, TOPIC]),
    Question(
        "list-offsets",
        7,
        lambda ids: list_offsets.ListOffsetsRequest(
            -1,
            topics=[
                list_offsets.ListOffsetsTopic(name, [list_offsets.ListOffsetsPartition(0, -1, -1)])
                for name in (OPEN, CLOSED, GONE)
            ],
        ),
        [TOPIC, TOPIC],
    ),
    *(
        Question("metadata", version, ask.metadata_of(OPEN, CLOSED, GONE), [TOPIC, TOPIC])
        for version in (0, 1, 9, 12)
    ),
    Question("metadata-none-left", 0, ask.metadata_of(CLOSED), [TOPIC]),
    Question("metadata-by-id", 12, ask.metadata_by_id, [TOPIC]),
    Question("metadata-that-would-make-it", 9, ask.metadata_of(DESCRIBED), [TOPIC]),
    *(
        Question("offset-commit", version, ask.commit(OPEN, OPEN, CLOSED), [TOPIC])
        for version in (2, 8, 10)
    ),
    *(
        Question(
            "offset-commit-to-group", version, ask.commit(CLOSED, OPEN, CLOSED), [GROUP, GROUP]
        )
        for version in (2, 8, 10)
    ),
    *(Question("offset-fetch", version, ask.offsets(OPEN), [TOPIC]) for version in (1, 5, 7)),
    Question("offset-fetch-of-group", 1, ask.offsets(CLOSED), [GROUP, GROUP]),
    Question("offset-fetch-of-group", 7, ask.offsets(CLOSED), [GROUP]),
    *(
        Question("offset-fetch-of-groups", version, ask.offsets_of_groups, [TOPIC, GROUP])
        for version in (8, 10)
    ),
    *(
        Question(
            f"find-coordinator-{kind}",
            3,
            lambda ids, kind=kind: find_coordinator.FindCoordinatorRequest(CLOSED, kind),
            [code],
        )
        for kind, code in ((0, GROUP), (1, ID))
    ),
    *(
        Question(
            f"find-coordinators-{kind}",
            5,
            lambda ids, kind=kind: find_coordinator.FindCoordinatorRequest(
                "", kind, [OPEN, CLOSED]
            ),
            [code],
        )
        for kind, code in ((0, GROUP), (1, ID))
    ),
    *(Question("join-group", version, ask.join, [GROUP]) for version in (3, 9)),
    Question(
        "sync-group", 3, lambda ids: sync_group.SyncGroupRequest(CLOSED, 1, "member"), [GROUP]
    ),
    Question("heartbeat", 4, lambda ids: heartbeat.HeartbeatRequest(CLOSED, 1, "member"), [GROUP]),
    Question("leave-group", 2, lambda ids: leave_group.LeaveGroupRequest(CLOSED, "m"), [GROUP]),
    *(
        Question(
            "describe-groups",
            version,
            lambda ids: describe_groups.DescribeGroupsRequest([CLOSED], False),
            [GROUP],
        )
        for version in (0, 6)
    ),
    Question("delete-groups", 2, lambda ids: delete_groups.DeleteGroupsRequest([CLOSED]), [GROUP]),
    *(Question("create-topics", version, ask.create(GONE), [TOPIC]) for version in (2, 7)),
    Question(
        "delete-topics",
        1,
        lambda ids: delete_topics.DeleteTopicsRequest([], [CLOSED, GONE], 30_000),
        [TOPIC, TOPIC],
    ),
    Question(
        "delete-topics-that-may-be-described",
        1,
        lambda ids: delete_topics.DeleteTopicsRequest([], [DESCRIBED], 30_000),
        [3],
    ),
    Question("delete-topics-by-id", 6, ask.delete, [TOPIC, TOPIC]),
    Question(
        "delete-records",
        2,
        lambda ids: delete_records.DeleteRecordsRequest(
            [
                delete_records.DeleteRecordsTopic(
                    CLOSED, [delete_records.DeleteRecordsPartition(0, 0)]
                )
            ],
            1_000,
        ),
        [TOPIC],
    ),
    Question(
        "create-partitions",
        3,
        lambda ids: create_partitions.CreatePartitionsRequest(
            [create_partitions.CreatePartitionsTopic(CLOSED, 3, None)], 30_000, True
        ),
        [TOPIC],
    ),
    Question(
        "init-producer-id",
        4,
        lambda ids: init_producer_id.InitProducerIdRequest(CLOSED, 60_000),
        [ID],
    ),
    Question("add-partitions-to-id", 3, ask.add_partitions_to(CLOSED), [ID, ID, ID]),
    Question("add-partitions", 3, ask.add_partitions_to(OPEN), [TOPIC, TOPIC, _NOT_ATTEMPTED]),
    Question(
        "add-partitions-as-broker",
        5,
        lambda ids: add_partitions.AddPartitionsToTxnRequest(
            [
                add_partitions.AddPartitionsToTxnTransaction(
                    OPEN, 1, 0, True, [add_partitions.AddPartitionsToTxnTopic(OPEN, [0])]
                )
            ]
        ),
        [CLUSTER],
    ),
    Question(
        "add-offsets-to-id",
        3,
        lambda ids: add_offsets.AddOffsetsToTxnRequest(CLOSED, 1, 0, OPEN),
        [ID],
    ),
    Question(
        "add-offsets-of-group",
        3,
        lambda ids: add_offsets.AddOffsetsToTxnRequest(OPEN, 1, 0, CLOSED),
        [GROUP],
    ),
    *(Question("end-txn", version, ask.end, [ID]) for version in (3, 5)),
    Question("write-txn-markers", 1, ask.markers, [CLUSTER]),
    Question("txn-offset-commit-of-id", 3, ask.txn_offsets(CLOSED, OPEN, OPEN), [ID]),
    Question("txn-offset-commit-of-group", 3, ask.txn_offsets(OPEN, CLOSED, OPEN), [GROUP]),
    Question("txn-offset-commit", 3, ask.txn_offsets(OPEN, OPEN, CLOSED), [TOPIC]),
    Question(
        "offset-for-leader-epoch",
        4,
        lambda ids: leader_epoch.OffsetForLeaderEpochRequest(
            -1,
            [
                leader_epoch.OffsetForLeaderTopic(
                    name, [leader_epoch.OffsetForLeaderPartition(0, -1, 0)]
                )
                for name in (OPEN, CLOSED)
            ],
        ),
        [TOPIC],
    ),
    Question(
        "offset-delete-of-group",
        0,
        lambda ids: offset_delete.OffsetDeleteRequest(
            CLOSED,
            [
                offset_delete.OffsetDeleteRequestTopic(
                    OPEN, [offset_delete.OffsetDeleteRequestPartition(0)]
                )
            ],
        ),
        [GROUP],
    ),
    Question("describe-configs", 4, ask.describe_some_configs, [TOPIC, TOPIC, CLUSTER]),
    Question("alter-configs", 2, ask.alter, [TOPIC, CLUSTER]),
    Question("incremental-alter-configs", 1, ask.alter_some, [TOPIC, GROUP, CLUSTER]),
    Question(
        "describe-acls",
        3,
        lambda ids: describe_acls.DescribeAclsRequest(1, None, 1, None, None, 1, 1),
        [CLUSTER],
    ),
    Question(
        "create-acls",
        3,
        lambda ids: create_acls.CreateAclsRequest(
            [create_acls.AclCreation(2, "x", 3, "User:me", "*", 3, 3)]
        ),
        [CLUSTER],
    ),
    Question(
        "delete-acls",
        3,
        lambda ids: delete_acls.DeleteAclsRequest(
            [delete_acls.DeleteAclsFilter(2, "x", 3, None, None, 1, 1)]
        ),
        [CLUSTER],
    ),
    Question(
        "alter-replica-log-dirs",
        2,
        lambda ids: alter_replica_log_dirs.AlterReplicaLogDirsRequest(
            [
                alter_replica_log_dirs.AlterReplicaLogDir(
                    "/", [alter_replica_log_dirs.AlterReplicaLogDirTopic(OPEN, [0])]
                )
            ]
        ),
        [CLUSTER],
    ),
    Question(
        "describe-log-dirs",
        4,
        lambda ids: describe_log_dirs.DescribeLogDirsRequest(None),
        [CLUSTER],
    ),
    Question(
        "elect-leaders",
        2,
        lambda ids: elect_leaders.ElectLeadersRequest(
            0, [elect_leaders.TopicPartitions(OPEN, [0])], 1_000
        ),
        [CLUSTER, CLUSTER],
    ),
    Question(
        "describe-client-quotas",
        1,
        lambda ids: describe_quotas.DescribeClientQuotasRequest([], False),
        [CLUSTER],
    ),
    Question("alter-client-quotas", 1, ask.quota, [CLUSTER]),
    Question(
        "alter-user-scram-credentials",
        0,
        lambda ids: AlterUserScramCredentialsRequest([ScramCredentialDeletion("u", 1)], []),
        [CLUSTER],
    ),
    Question(
        "describe-quorum",
        2,
        lambda ids: describe_quorum.DescribeQuorumRequest(
            [
                describe_quorum.RequestedTopic(
                    "__cluster_metadata", [describe_quorum.RequestedPartition(0)]
                )
            ]
        ),
        [CLUSTER],
    ),
    Question(
        "update-features",
        2,
        lambda ids: update_features.UpdateFeaturesRequest(
            1_000, [update_features.FeatureUpdateKey("group.version", 1)], True
        ),
        [CLUSTER],
    ),
    Question(
        "describe-producers",
        0,
        lambda ids: describe_producers.DescribeProducersRequest(
            [describe_producers.TopicRequest(name, [0]) for name in (CLOSED, GONE)]
        ),
        [TOPIC, TOPIC],
    ),
    Question(
        "describe-transactions",
        0,
        lambda ids: describe_transactions.DescribeTransactionsRequest([CLOSED]),
        [ID],
    ),
    Question("consumer-group-heartbeat-to-group", 1, ask.consumer(CLOSED, OPEN), [GROUP]),
    Question("consumer-group-heartbeat", 1, ask.consumer(OPEN, OPEN, CLOSED), [TOPIC]),
    Question(
        "consumer-group-describe",
        1,
        lambda ids: consumer_describe.ConsumerGroupDescribeRequest([CLOSED], True),
        [GROUP],
    ),
    Question(
        "list-config-resources",
        1,
        lambda ids: list_config_resources.ListConfigResourcesRequest([]),
        [CLUSTER],
    ),
    Question("describe-topic-partitions", 0, ask.describe_partitions_of(OPEN, CLOSED), [TOPIC]),
    Question("describe-topic-partitions-none-left", 0, ask.describe_partitions_of(CLOSED), [TOPIC]),
    # What may not be seen is left out where all is asked for.
    Question("metadata-of-all", 12, lambda ids: metadata.MetadataRequest(None), []),
    Question("list-groups", 5, lambda ids: list_groups.ListGroupsRequest(), []),
    Question("list-transactions", 1, lambda ids: list_transactions.ListTransactionsRequest(), []),
    Question(
        "offset-fetch-of-all",
        7,
        lambda ids: offset_fetch.OffsetFetchRequest(OPEN, None),
        [],
    ),
]
