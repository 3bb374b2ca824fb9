"""What can be set on a broker."""

from dataclasses import dataclass, field
from typing import Literal

from ottla.coordinator.consumer_groups import ConsumerGroupConfig
from ottla.log.store import CHECKPOINT_BYTES, JOURNAL_ALLOCATE_BYTES

Durability = Literal["fsync", "os"]


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Settings of one broker.

    `host` and `port` are what clients are told to connect to. `durability`: "fsync" answers
    acks=all after an fsync; "os" after the write, so that a power cut may lose what was answered.
    With `authorizer`, ACLs decide who may do what, and `super_users` ("User:admin") may do all.
    `two_phase_commit`: clients may have transactions that never time out (KIP-939).
    `boot_id` differs after each start of the machine; "" when that cannot be told.
    """

    host: str = "127.0.0.1"
    port: int = 9092
    node_id: int = 1
    num_partitions: int = 1
    auto_create_topics: bool = True
    durability: Durability = "fsync"
    boot_id: str = ""
    two_phase_commit: bool = False
    group_initial_rebalance_delay_ms: int = 0
    consumer_groups: ConsumerGroupConfig = field(default_factory=ConsumerGroupConfig)
    connections_max_reauth_ms: int = 0
    checkpoint_bytes: int = CHECKPOINT_BYTES
    journal_allocate_bytes: int = JOURNAL_ALLOCATE_BYTES
    segment_bytes: int | None = None
    retention_check_interval_ms: int = 300_000
    cleaner_backoff_ms: int = 15_000
    authorizer: bool = False
    super_users: tuple[str, ...] = ()
    allow_everyone_if_no_acl_found: bool = False
