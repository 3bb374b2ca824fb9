"""The configs of the broker under Apache Kafka's names, and which of them can be changed while it
runs.

Changed can be the defaults of topics (log.retention.ms and the like) and the assignment interval
of groups, for this node or for the cluster; they act at once on every topic or group that has no
value of its own. The others tell how this
broker was started, or what its limits are (`ottla.ports.limits`), for tools that ask.

A name that is not in the table is kept when somebody sets it, as Kafka does, and shown without its
value: it may be meant for a broker that this data goes to later. Divergences: Kafka has some 300
more, for threads, replicas and security, which mean nothing here.
"""

from collections.abc import Mapping
from dataclasses import replace

from ottla.broker.config import BrokerConfig
from ottla.broker.configs import LONG_MAX, ConfigDefinition, ConfigType, by_name
from ottla.broker.group_configs import GROUP_CONFIGS
from ottla.broker.topic_configs import TOPIC_CONFIGS
from ottla.ports import limits
from ottla.ports.errors import ErrorCode, KafkaError

_BOOLEAN, _STRING, _INT = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.INT
_LONG, _LIST = ConfigType.LONG, ConfigType.LIST
# Those whose default in Kafka is another config's, in another unit.
_WITHOUT_DEFAULT = (
    "log.retention.ms",
    "log.roll.ms",
    "log.roll.jitter.ms",
    "log.flush.interval.ms",
)
_LEAST = {  # with words of its own, and only after all the others are found good
    "log.retention.ms": (1, "must be unlimited (-1) or, greater than or equal to 1"),
    "log.roll.ms": (1, "must be greater than or equal to 1"),
    "log.roll.jitter.ms": (0, "must be greater than or equal to 0"),
}
_PER_NODE = ("listeners",)


def _topic_default(definition: ConfigDefinition) -> ConfigDefinition:
    """The broker's config that is the default of this config of topics."""
    name = definition.synonyms[0]
    unset = name in _WITHOUT_DEFAULT
    return replace(
        definition,
        name=name,
        default=None if unset else definition.default,
        documentation=f"For topics without {definition.name}. {definition.documentation}",
        minimum=None if unset else definition.minimum,
    )


def _group_default(definition: ConfigDefinition) -> ConfigDefinition:
    return replace(
        definition,
        name=definition.synonyms[0],
        documentation=f"For groups without {definition.name}. {definition.documentation}",
        read_only=not definition.name.endswith(".assignment.interval.ms"),
    )


def _fixed(
    kind: ConfigType, name: str, default: object, documentation: str, *synonyms: str
) -> ConfigDefinition:
    text = None if default is None else str(default)
    return ConfigDefinition(
        name, kind, text, documentation, synonyms=(name, *synonyms), read_only=True
    )


_FIXED = (
    _fixed(_INT, "broker.id", -1, "The number of this node."),
    _fixed(_INT, "node.id", None, "The number of this node."),
    _fixed(_LIST, "advertised.listeners", None, "What clients are told to connect to."),
    _fixed(_STRING, "log.dirs", None, "The data directory.", "log.dir"),
    _fixed(_INT, "num.partitions", 1, "How many partitions a topic gets when nobody says."),
    _fixed(_INT, "default.replication.factor", 1, "How many replicas a topic gets: one."),
    _fixed(_BOOLEAN, "auto.create.topics.enable", "true", "Whether asking for a topic makes it."),
    _fixed(_BOOLEAN, "delete.topic.enable", "true", "Whether topics can be deleted."),
    _fixed(
        _INT,
        "group.initial.rebalance.delay.ms",
        3_000,
        "How long a new classic group waits for more members.",
    ),
    _fixed(
        _INT,
        "group.min.session.timeout.ms",
        limits.GROUP_SESSION_TIMEOUT_MS_MIN,
        "The shortest session timeout of a member of a classic group.",
    ),
    _fixed(
        _INT,
        "group.max.session.timeout.ms",
        limits.GROUP_SESSION_TIMEOUT_MS_MAX,
        "The longest session timeout of a member of a classic group.",
    ),
    _fixed(
        _INT,
        "group.max.size",
        limits.GROUP_MEMBERS_MAX,
        "How many members a classic group may have.",
    ),
    _fixed(
        _INT,
        "offset.metadata.max.bytes",
        limits.OFFSET_METADATA_BYTES_MAX,
        "How long the text beside a committed offset may be.",
    ),
    _fixed(
        _BOOLEAN,
        "transaction.two.phase.commit.enable",
        "false",
        "Whether clients may have transactions that never time out.",
    ),
    _fixed(
        _INT,
        "transaction.max.timeout.ms",
        limits.TRANSACTION_TIMEOUT_MS_MAX,
        "The longest timeout of a transaction.",
    ),
    _fixed(
        _INT,
        "transactional.id.expiration.ms",
        limits.TRANSACTIONAL_ID_EXPIRATION_MS,
        "After how long a TransactionalId that nobody uses is forgotten.",
    ),
    _fixed(
        _INT,
        "producer.id.expiration.ms",
        limits.PRODUCER_ID_EXPIRATION_MS,
        "After how long a partition forgets a producer that writes no more.",
    ),
    _fixed(
        _INT,
        "socket.request.max.bytes",
        limits.REQUEST_BYTES_MAX,
        "How large a request may be.",
    ),
    _fixed(
        _LONG,
        "connections.max.idle.ms",
        limits.CONNECTION_IDLE_MS_MAX,
        "After how long a silent connection is closed.",
    ),
    _fixed(_INT, "max.connections", limits.CONNECTIONS_MAX, "How many connections there may be."),
    _fixed(
        _INT, "fetch.max.bytes", limits.FETCH_BYTES_MAX, "How large the answer to a fetch may be."
    ),
    _fixed(
        _INT,
        "max.incremental.fetch.session.cache.slots",
        limits.FETCH_SESSIONS_MAX,
        "How many fetch sessions are kept.",
    ),
    _fixed(_INT, "log.retention.minutes", None, "log.retention.ms in minutes."),
    _fixed(_INT, "log.retention.hours", 168, "log.retention.ms in hours."),
    _fixed(_INT, "log.roll.hours", 168, "log.roll.ms in hours."),
    _fixed(_INT, "log.roll.jitter.hours", 0, "log.roll.jitter.ms in hours."),
    _fixed(
        _LONG,
        "log.flush.scheduler.interval.ms",
        LONG_MAX,
        "How often Kafka looks for logs to sync.",
    ),
)
_LISTENERS = ConfigDefinition(
    "listeners",
    _LIST,
    "PLAINTEXT://:9092",
    "Where the broker listens.",
    synonyms=("listeners",),
    read_only=True,
)
BROKER_CONFIGS = by_name(
    (
        *(_topic_default(one) for one in TOPIC_CONFIGS.values() if one.synonyms),
        *(_group_default(one) for one in GROUP_CONFIGS.values() if one.name != one.synonyms[0]),
        *_FIXED,
        _LISTENERS,
    )
)


def static_configs(config: BrokerConfig, directory: str) -> dict[str, str]:
    """How the broker was started, where that is not Kafka's default."""
    address = f"PLAINTEXT://{config.host}:{config.port}"
    settings = {
        "broker.id": str(config.node_id),
        "node.id": str(config.node_id),
        "listeners": address,
        "advertised.listeners": address,
        "log.dirs": directory,
        "num.partitions": str(config.num_partitions),
        "auto.create.topics.enable": str(config.auto_create_topics).lower(),
        "transaction.two.phase.commit.enable": str(config.two_phase_commit).lower(),
        "group.initial.rebalance.delay.ms": str(config.group_initial_rebalance_delay_ms),
        "group.consumer.session.timeout.ms": str(config.consumer_groups.session_timeout_ms),
        "group.consumer.heartbeat.interval.ms": str(config.consumer_groups.heartbeat_interval_ms),
        "group.consumer.assignment.interval.ms": str(config.consumer_groups.assignment_interval_ms),
    }
    if config.segment_bytes is not None:
        settings["log.segment.bytes"] = str(config.segment_bytes)
    return {
        name: value for name, value in settings.items() if value != BROKER_CONFIGS[name].default
    }


def check_broker_configs(changed: Mapping[str, str | None]) -> None:
    """Raise KafkaError unless these configs of a broker can be set, or (None) taken back."""
    values = {name: value for name, value in changed.items() if value is not None}
    fixed = [name for name in values if name in BROKER_CONFIGS and BROKER_CONFIGS[name].read_only]
    if fixed:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Cannot update these configs dynamically: [{', '.join(fixed)}]",
        )
    try:
        parsed = {
            name: definition.parse(values[name])
            for name, definition in BROKER_CONFIGS.items()
            if name in values
        }
    except KafkaError as error:  # which Kafka answers with another code than a topic's
        raise KafkaError(ErrorCode.INVALID_REQUEST, error.message) from error
    for name, (least, words) in _LEAST.items():
        if (
            name in parsed
            and int(parsed[name]) < least
            and not (name == "log.retention.ms" and int(parsed[name]) < 0)
        ):
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"requirement failed: {name} {words}")
