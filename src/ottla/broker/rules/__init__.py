"""Which right each API asks for: one rule for every API key, beside the table of handlers.

A rule looks at a request before its handler does, when the broker has an authorizer. It

- returns an answer: the principal may not do this at all, and the handler never sees it; or
- takes out of `request.body` what the principal may not touch, and has the refusals added to the
  handler's answer (`request.amend`); the handler serves the rest as if it were all; or
- leaves the request alone.

So a handler needs to know nothing of rights. Two must ask themselves, through `request.access`:
Fetch, for a session outlives the request that named its partitions, and Metadata, which makes
topics, and where naming none may mean all.

An API key without a rule cannot be registered. Refusals, and what is hidden from whom, are those
of Kafka's KafkaApis and ControllerApis.
"""

from ottla.broker.rules import admin, groups, topics, transactions
from ottla.broker.rules.rule import Rule, anyone, in_handler
from ottla.wire.api import ApiKey

RULES: dict[int, Rule] = {
    ApiKey.PRODUCE: topics.produce,
    ApiKey.FETCH: in_handler,
    ApiKey.LIST_OFFSETS: topics.list_offsets,
    ApiKey.METADATA: in_handler,
    ApiKey.OFFSET_COMMIT: groups.offset_commit,
    ApiKey.OFFSET_FETCH: groups.offset_fetch,
    ApiKey.FIND_COORDINATOR: groups.find_coordinator,
    ApiKey.JOIN_GROUP: groups.join_group,
    ApiKey.HEARTBEAT: groups.member,
    ApiKey.LEAVE_GROUP: groups.member,
    ApiKey.SYNC_GROUP: groups.member,
    ApiKey.DESCRIBE_GROUPS: groups.describe_groups,
    ApiKey.LIST_GROUPS: groups.list_groups,
    ApiKey.SASL_HANDSHAKE: anyone,
    ApiKey.API_VERSIONS: anyone,
    ApiKey.CREATE_TOPICS: topics.create_topics,
    ApiKey.DELETE_TOPICS: topics.delete_topics,
    ApiKey.DELETE_RECORDS: topics.delete_records,
    ApiKey.INIT_PRODUCER_ID: transactions.init_producer_id,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: topics.offset_for_leader_epoch,
    ApiKey.ADD_PARTITIONS_TO_TXN: transactions.add_partitions,
    ApiKey.ADD_OFFSETS_TO_TXN: transactions.add_offsets,
    ApiKey.END_TXN: transactions.end_txn,
    ApiKey.WRITE_TXN_MARKERS: transactions.write_markers,
    ApiKey.TXN_OFFSET_COMMIT: groups.txn_offset_commit,
    ApiKey.DESCRIBE_ACLS: admin.describe_acls,
    ApiKey.CREATE_ACLS: admin.create_acls,
    ApiKey.DELETE_ACLS: admin.delete_acls,
    ApiKey.DESCRIBE_CONFIGS: admin.describe_configs,
    ApiKey.ALTER_CONFIGS: admin.alter_configs,
    ApiKey.ALTER_REPLICA_LOG_DIRS: admin.alter_replica_log_dirs,
    ApiKey.DESCRIBE_LOG_DIRS: admin.describe_log_dirs,
    ApiKey.SASL_AUTHENTICATE: anyone,
    ApiKey.CREATE_PARTITIONS: topics.create_partitions,
    ApiKey.DELETE_GROUPS: groups.delete_groups,
    ApiKey.ELECT_LEADERS: admin.elect_leaders,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: admin.alter_configs,
    ApiKey.OFFSET_DELETE: groups.offset_delete,
    ApiKey.DESCRIBE_CLIENT_QUOTAS: admin.describe_client_quotas,
    ApiKey.ALTER_CLIENT_QUOTAS: admin.alter_client_quotas,
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: admin.describe,
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: admin.alter_user_scram_credentials,
    ApiKey.DESCRIBE_QUORUM: admin.describe,
    ApiKey.UPDATE_FEATURES: admin.alter,
    ApiKey.DESCRIBE_CLUSTER: anyone,
    ApiKey.DESCRIBE_PRODUCERS: topics.describe_producers,
    ApiKey.DESCRIBE_TRANSACTIONS: transactions.describe_transactions,
    ApiKey.LIST_TRANSACTIONS: transactions.list_transactions,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: groups.consumer_group_heartbeat,
    ApiKey.CONSUMER_GROUP_DESCRIBE: groups.consumer_group_describe,
    ApiKey.LIST_CONFIG_RESOURCES: admin.describe_configs_of_cluster,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: topics.describe_topic_partitions,
}
