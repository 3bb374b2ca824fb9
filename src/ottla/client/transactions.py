"""Transactions as an administrator sees them (KIP-664): open, hanging, and the way out.

A transaction is open where its coordinator says so, and in each partition from its first record to
its marker. The two can disagree: a partition may hold an open transaction that no coordinator knows
of (KAFKA-9144), and then no marker will ever come. It hangs: read_committed consumers stand still
before it, and the log cannot be cleaned beyond it. The way out is a marker written by hand.

To tell a hanging transaction from one that is only slow, one looks at those that have been open for
longer than any transaction may be, and asks the coordinator whether it has the partition in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ottla.client.errors import ClientError, refused
from ottla.client.raw import Brokers
from ottla.client.types import Partition
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from ottla.wire.messages.describe_transactions import DescribeTransactionsRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.list_transactions import ListTransactionsRequest
from ottla.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)

STATES = (
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A transactional id that a coordinator knows."""

    transactional_id: str
    producer_id: int
    state: str
    coordinator: int


@dataclass(frozen=True, slots=True)
class Described:
    """What its coordinator knows of a transactional id. `start_ms` is -1 with none open."""

    transactional_id: str
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    start_ms: int
    partitions: list[Partition]


@dataclass(frozen=True, slots=True)
class ActiveProducer:
    """What a partition knows of a producer. `start_offset` is -1 with no transaction open."""

    partition: Partition
    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_ms: int
    coordinator_epoch: int
    start_offset: int


@dataclass(frozen=True, slots=True)
class Hanging:
    """A transaction that no coordinator will end; `transactional_id` is None if none has its id."""

    producer: ActiveProducer
    transactional_id: str | None


def list_transactions(
    brokers: Brokers,
    *,
    states: Iterable[str] = (),
    producer_ids: Iterable[int] = (),
    longer_than_ms: int = -1,
) -> list[Listed]:
    """The transactional ids that there are, of all coordinators. Raises Refused, TimedOut."""
    request = ListTransactionsRequest(list(states), list(producer_ids), longer_than_ms)
    found = []
    for node in brokers.nodes():
        answer = brokers.broker(node).ask(request)
        if answer.error_code != ErrorCode.NONE:
            raise refused("list transactions", answer.error_code)
        found += [
            Listed(each.transactional_id, each.producer_id, each.transaction_state, node)
            for each in answer.transaction_states
        ]
    return sorted(found, key=lambda each: each.transactional_id)


def describe_transaction(brokers: Brokers, transactional_id: str) -> Described:
    """What the coordinator knows. Raises Refused when it does not know the id."""
    answer = brokers.ask_coordinator(
        transactional_id,
        DescribeTransactionsRequest([transactional_id]),
        lambda answer: int(answer.transaction_states[0].error_code),
    )
    state = answer.transaction_states[0]
    if state.error_code != ErrorCode.NONE:
        raise refused(
            f"describe transactional id {transactional_id}",
            state.error_code,
            "its coordinator does not know it"
            if state.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
            else None,
        )
    return Described(
        transactional_id,
        state.transaction_state,
        state.producer_id,
        state.producer_epoch,
        state.transaction_timeout_ms,
        state.transaction_start_time_ms,
        [Partition(topic.topic, number) for topic in state.topics for number in topic.partitions],
    )


def describe_producers(
    brokers: Brokers, topics: list[str] | None, only: int | None = None
) -> list[ActiveProducer]:
    """The producers that the partitions of the topics remember, or those of partition `only`.

    Raises Refused, TimedOut.
    """
    found = []
    asked = 0
    for leader, led in brokers.leaders(topics).items():
        wanted = {
            topic: [number for number in numbers if only in (None, number)]
            for topic, numbers in led.items()
        }
        request = DescribeProducersRequest(
            [TopicRequest(topic, numbers) for topic, numbers in wanted.items() if numbers]
        )
        if not request.topics:
            continue
        for topic in brokers.broker(leader).ask(request).topics:
            for each in topic.partitions:
                asked += 1
                partition = Partition(topic.name, each.partition_index)
                if each.error_code != ErrorCode.NONE:
                    raise refused(
                        f"describe the producers of {partition}",
                        each.error_code,
                        each.error_message,
                    )
                found += [_active(partition, producer) for producer in each.active_producers]
    if topics and only is not None and not asked:
        raise refused(f"look at {topics[0]}-{only}", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return sorted(found, key=lambda each: (each.partition, each.producer_id))


def _active(partition: Partition, told: object) -> ActiveProducer:
    fields = (
        *("producer_id", "producer_epoch", "last_sequence", "last_timestamp"),
        *("coordinator_epoch", "current_txn_start_offset"),
    )
    return ActiveProducer(partition, *(getattr(told, name) for name in fields))


def find_hanging(
    brokers: Brokers, topics: list[str] | None, *, now_ms: int, open_for_ms: int
) -> list[Hanging]:
    """Transactions without a write for `open_for_ms` that no coordinator knows of.

    Make it longer than the longest transaction.timeout.ms, or one may be found whose partition its
    coordinator has not been told of yet. Raises Refused, TimedOut.
    """
    old = [
        each
        for each in describe_producers(brokers, topics)
        if each.start_offset >= 0 and now_ms - each.last_ms >= open_for_ms
    ]
    if not old:
        return []
    ids = {each.producer_id for each in old}
    names = {
        each.producer_id: each.transactional_id
        for each in list_transactions(brokers, producer_ids=sorted(ids))
    }
    found = []
    for each in old:
        name = names.get(each.producer_id)
        if name is None or not is_known(brokers, name, each):
            found.append(Hanging(each, name))
    return found


def is_known(brokers: Brokers, transactional_id: str, producer: ActiveProducer) -> bool:
    """Whether the coordinator has this very transaction open, with this partition in it."""
    try:
        described = describe_transaction(brokers, transactional_id)
    except ClientError as error:
        if error.code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
            return False
        raise
    return (
        described.producer_id == producer.producer_id and producer.partition in described.partitions
    )


def transactional_id_of(brokers: Brokers, producer_id: int) -> str | None:
    """Whose producer id this is, or None."""
    found = list_transactions(brokers, producer_ids=[producer_id])
    return found[0].transactional_id if found else None


def abort_in_partition(brokers: Brokers, producer: ActiveProducer) -> None:
    """Write an ABORT marker into one partition. For a hanging transaction only.

    Raises Refused, TimedOut.
    """
    partition = producer.partition
    marker = WritableTxnMarker(
        producer.producer_id,
        producer.producer_epoch,
        False,
        [WritableTxnMarkerTopic(partition.topic, [partition.partition])],
        max(producer.coordinator_epoch, 0),
    )
    for leader, led in brokers.leaders([partition.topic]).items():
        if partition.partition in led[partition.topic]:
            answer = brokers.broker(leader).ask(WriteTxnMarkersRequest([marker]))
            code = answer.markers[0].topics[0].partitions[0].error_code
            if code != ErrorCode.NONE:
                raise refused(f"write an abort marker into {partition}", code)


def abort_by_coordinator(brokers: Brokers, described: Described) -> None:
    """Fence the producer of a transactional id: the coordinator aborts what it has open.

    Raises Refused, TimedOut.
    """
    answer = brokers.ask_coordinator(
        described.transactional_id,
        InitProducerIdRequest(described.transactional_id, described.timeout_ms, -1, -1),
        lambda answer: int(answer.error_code),
    )
    if answer.error_code != ErrorCode.NONE:
        raise refused(f"fence the producer of {described.transactional_id}", answer.error_code)
