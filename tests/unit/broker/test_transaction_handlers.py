"""The transaction APIs on the wire: each version's errors, what waits for the disk, what does not.

Method: a broker's core in this process; requests and answers are encoded and decoded as on a
connection.
"""

from typing import Any

import pytest

from ottla.broker.config import BrokerConfig
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.describe_producers import DescribeProducersRequest, TopicRequest
from ottla.wire.messages.describe_transactions import DescribeTransactionsRequest
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.list_transactions import ListTransactionsRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.records import Record, build_batch

NAME = "transfers"
Producer = tuple[int, int]


class Desk:
    """A broker with topic `t` of two partitions, and a client of it."""

    def __init__(self, boot_id: str = "") -> None:
        config = BrokerConfig(auto_create_topics=False, boot_id=boot_id)
        self.broker = InProcessBroker(config=config)
        self.client = self.broker.connect()
        topic = CreatableTopic(name="t", num_partitions=2, replication_factor=1)
        self.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)

    def ask(self, message: Any, version: int, client: InProcessClient | None = None) -> Any:
        return (client or self.client).request(message, version)

    def init(self, version: int = 5, **fields: Any) -> Any:
        request = InitProducerIdRequest(
            transactional_id=NAME, transaction_timeout_ms=60_000, **fields
        )
        return self.ask(request, version)

    def started(self) -> Producer:
        answer = self.init()
        assert answer.error_code == ErrorCode.NONE
        return answer.producer_id, answer.producer_epoch

    def offsets(self, group_id: str) -> list[int]:
        fetched = self.broker.core.groups.fetch_offsets(group_id, None, False)
        return [each.offset for each in fetched]

    def visible(self, partition: int = 0) -> int:
        """How far a read_committed consumer of the partition sees."""
        found = self.broker.core.catalog.partition("t", partition)
        assert found is not None
        return found.last_stable_offset


def add_partitions(producer: Producer, *topics: tuple[str, list[int]]) -> AddPartitionsToTxnRequest:
    return AddPartitionsToTxnRequest(
        v3_and_below_transactional_id=NAME,
        v3_and_below_producer_id=producer[0],
        v3_and_below_producer_epoch=producer[1],
        v3_and_below_topics=[AddPartitionsToTxnTopic(*topic) for topic in topics],
    )


def partition_errors(topic_results: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.name, result.partition_index): result.partition_error_code
        for topic in topic_results
        for result in topic.results_by_partition
    }


def add_offsets(producer: Producer) -> AddOffsetsToTxnRequest:
    return AddOffsetsToTxnRequest(NAME, *producer, "readers")


def end(producer: Producer, *, commit: bool = True) -> EndTxnRequest:
    return EndTxnRequest(NAME, *producer, commit)


def offset_commit(
    producer: Producer, offset: int, *topics: str, generation_id: int = -1
) -> TxnOffsetCommitRequest:
    return TxnOffsetCommitRequest(
        transactional_id=NAME,
        group_id="readers",
        producer_id=producer[0],
        producer_epoch=producer[1],
        generation_id=generation_id,
        topics=[
            TxnOffsetCommitRequestTopic(topic, [TxnOffsetCommitRequestPartition(0, offset)])
            for topic in topics or ("t",)
        ],
    )


def offset_errors(answer: Any) -> list[int]:
    return [each.error_code for topic in answer.topics for each in topic.partitions]


def produce(producer: Producer, sequence: int = 0, partition: int = 0) -> ProduceRequest:
    batch = build_batch(
        [Record(0, 1_700_000_000_000, None, b"value", [])],
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=sequence,
        transactional=True,
    )
    data = TopicProduceData(
        name="t", partition_data=[PartitionProduceData(index=partition, records=batch)]
    )
    return ProduceRequest(transactional_id=NAME, acks=-1, timeout_ms=1000, topic_data=[data])


def produce_error(answer: Any) -> int:
    (topic,) = answer.responses
    (partition,) = topic.partition_responses
    code: int = partition.error_code
    return code


@pytest.mark.parametrize("version", range(6))
def test_init_producer_id_at_every_version(version: int) -> None:
    desk = Desk()
    assert (desk.init(version).producer_id, desk.init(version).producer_epoch) == (0, 1)
    plain = desk.ask(InitProducerIdRequest(None, 0), version)
    assert (plain.error_code, plain.producer_id, plain.producer_epoch) == (0, 1, 0)
    if version >= 3:
        fenced = desk.init(version, producer_id=0, producer_epoch=0)
        expected = ErrorCode.INVALID_PRODUCER_EPOCH if version < 4 else ErrorCode.PRODUCER_FENCED
        assert (fenced.error_code, fenced.producer_id) == (expected, -1)


@pytest.mark.parametrize("version", range(4))
def test_add_partitions_is_all_or_none(version: int) -> None:
    desk = Desk()
    producer = desk.started()
    request = add_partitions(producer, ("t", [0, 2]), ("unknown", [0]))
    answer = desk.ask(request, version)
    assert partition_errors(answer.results_by_topic_v3_and_below) == {
        ("t", 0): ErrorCode.OPERATION_NOT_ATTEMPTED,
        ("t", 2): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("unknown", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert produce_error(desk.ask(produce(producer), 9)) == ErrorCode.INVALID_TXN_STATE
    answer = desk.ask(add_partitions(producer, ("t", [1, 0])), version)
    assert partition_errors(answer.results_by_topic_v3_and_below) == {("t", 1): 0, ("t", 0): 0}
    assert produce_error(desk.ask(produce(producer), 9)) == ErrorCode.NONE


@pytest.mark.parametrize(
    ("request_of", "version", "is_old"),
    [
        (lambda producer: add_partitions(producer, ("t", [0])), 1, True),
        (lambda producer: add_partitions(producer, ("t", [0])), 2, False),
        (add_offsets, 1, True),
        (add_offsets, 2, False),
        (add_offsets, 4, False),
        (end, 1, True),
        (end, 2, False),
        (end, 5, False),
    ],
)
def test_old_versions_do_not_know_producer_fenced(
    request_of: Any, version: int, is_old: bool
) -> None:
    desk = Desk()
    zombie = desk.started()
    desk.init()
    answer = desk.ask(request_of(zombie), version)
    if isinstance(answer.API_KEY, int) and answer.API_KEY == 24:
        code = partition_errors(answer.results_by_topic_v3_and_below)["t", 0]
    else:
        code = answer.error_code
    assert code == (ErrorCode.INVALID_PRODUCER_EPOCH if is_old else ErrorCode.PRODUCER_FENCED)


@pytest.mark.parametrize("version", [4, 5])
def test_add_partitions_in_the_form_of_brokers(version: int) -> None:
    desk = Desk()
    producer_id, epoch = producer = desk.started()
    desk.ask(add_partitions(producer, ("t", [0])), 3)

    def transaction(verify_only: bool, epoch: int, *topics: Any) -> AddPartitionsToTxnTransaction:
        return AddPartitionsToTxnTransaction(
            NAME, producer_id, epoch, verify_only, [AddPartitionsToTxnTopic(*t) for t in topics]
        )

    answer = desk.ask(
        AddPartitionsToTxnRequest(
            transactions=[
                transaction(True, epoch, ("t", [0, 1])),
                transaction(True, epoch + 1, ("t", [0])),
                transaction(False, epoch, ("t", [1]), ("unknown", [0])),
                transaction(False, epoch, ("t", [1])),
                transaction(True, epoch, ("t", [0, 1])),
            ]
        ),
        version,
    )
    errors = [partition_errors(result.topic_results) for result in answer.results_by_transaction]
    assert [list(each.values()) for each in errors] == [
        [0, ErrorCode.TRANSACTION_ABORTABLE],
        [ErrorCode.PRODUCER_FENCED],
        [ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION],
        [0],
        [0, 0],
    ]


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", [0, 3])
def test_a_version_1_transaction_over_a_partition_and_a_group(version: int, commit: bool) -> None:
    desk = Desk()
    producer = desk.started()
    assert desk.ask(offset_commit(producer, 7), 3).topics[0].partitions[0].error_code == (
        ErrorCode.INVALID_TXN_STATE
    )
    desk.ask(add_partitions(producer, ("t", [0])), version)
    assert desk.ask(add_offsets(producer), version).error_code == 0
    assert produce_error(desk.ask(produce(producer), 9)) == 0
    errors = offset_errors(desk.ask(offset_commit(producer, 7, "t", "unknown"), version))
    assert errors == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert (desk.visible(), desk.offsets("readers")) == (0, [])
    assert desk.ask(end(producer, commit=commit), version).error_code == 0
    assert desk.visible() == 2, "the record and the marker"
    assert desk.offsets("readers") == ([7] if commit else [])


def test_a_version_2_transaction_adds_by_use_and_tells_the_next_epoch() -> None:
    desk = Desk()
    producer = desk.started()
    assert produce_error(desk.ask(produce(producer), 12)) == 0
    assert offset_errors(desk.ask(offset_commit(producer, 7), 5)) == [0]
    answer = desk.ask(end(producer), 5)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (0, producer[0], 1)
    assert desk.offsets("readers") == [7]
    assert produce_error(desk.ask(produce(producer, 1), 12)) == ErrorCode.INVALID_PRODUCER_EPOCH
    again = desk.ask(end(producer), 5)
    assert (again.error_code, again.producer_epoch) == (0, 1)
    assert desk.visible() == 2


def test_offsets_that_the_group_refuses_do_not_begin_a_transaction() -> None:
    desk = Desk()
    producer = desk.started()
    answer = desk.ask(offset_commit(producer, 7, generation_id=4), 5)
    assert offset_errors(answer) == [ErrorCode.ILLEGAL_GENERATION]
    described = desk.ask(DescribeTransactionsRequest([NAME]), 0).transaction_states[0]
    assert described.transaction_state == "Empty"


@pytest.mark.parametrize("version", [0, 3, 4, 5])
def test_a_fenced_producer_commits_no_offsets(version: int) -> None:
    desk = Desk()
    zombie = desk.started()
    desk.init()
    errors = offset_errors(desk.ask(offset_commit(zombie, 7), version))
    assert errors == [ErrorCode.INVALID_PRODUCER_EPOCH]


def test_what_waits_for_the_disk_and_what_does_not() -> None:
    desk = Desk()
    producer = desk.started()
    send = desk.client.send
    desk.ask(add_partitions(producer, ("t", [0])), 3)
    desk.ask(add_offsets(producer), 3)
    written = [send(offset_commit(producer, 7), 3), send(produce(producer), 9)]
    assert not any(each.answered for each in written)
    ticket = desk.broker.core.begin_sync()
    assert ticket is not None
    assert not ticket.journal_write.sync
    ticket.run()
    desk.broker.core.complete_sync(ticket)
    assert all(each.answered for each in written)
    waiting = [
        send(end(producer), 3),
        send(end(producer), 3),  # a retry says what only the disk can promise
        send(end(producer, commit=False), 3),  # a refusal rests on it too
        send(InitProducerIdRequest(NAME, 60_000), 4),
        send(add_partitions(producer, ("t", [0])), 3),  # fenced: by what is not durable yet
        send(add_offsets(producer), 3),
        send(DescribeTransactionsRequest([NAME]), 0),
    ]
    assert not any(each.answered for each in waiting)
    desk.broker.sync()
    assert all(each.answered for each in waiting)


@pytest.mark.parametrize("begin", ["partitions", "offsets"])
def test_the_beginning_of_a_version_1_transaction_waits_for_the_disk(begin: str) -> None:
    """Without it a power cut could take all of it: its EndTxn would pass for the last one's."""
    desk = Desk()
    producer = desk.started()
    request: Any = (
        add_offsets(producer) if begin == "offsets" else add_partitions(producer, ("t", [0]))
    )
    pending = desk.client.send(request, 3)
    ticket = desk.broker.core.begin_sync()
    assert ticket is not None
    assert ticket.journal_write.sync
    assert not pending.answered
    ticket.run()
    desk.broker.core.complete_sync(ticket)
    assert pending.answered


def test_what_an_open_transaction_wrote_is_durable_a_moment_later() -> None:
    desk = Desk()
    producer = desk.started()
    pending = desk.client.send(produce(producer), 12)
    desk.broker.settle()
    assert pending.answered
    partition = desk.broker.core.catalog.partition("t", 0)
    assert partition is not None
    assert partition.high_watermark == 0
    desk.broker.advance(10)
    assert partition.high_watermark == 1
    assert partition.last_stable_offset == 0


@pytest.mark.parametrize("transaction_version", [1, 2])
def test_a_power_cut_aborts_what_is_open(transaction_version: int) -> None:
    """A slow producer would be told the same: it can abort, and go on (KIP-588)."""
    desk = Desk()
    producer = desk.started()
    version = 12 if transaction_version == 2 else 9
    if transaction_version == 1:
        desk.ask(add_partitions(producer, ("t", [0])), 3)
    desk.ask(produce(producer), version)
    broker = InProcessBroker(desk.broker.disk, desk.broker.clock)
    client = broker.connect()
    broker.sync()
    partition = broker.core.catalog.partition("t", 0)
    assert partition is not None
    assert partition.last_stable_offset == partition.high_watermark == 2
    refused = desk.ask(produce(producer, 1), version, client)
    assert produce_error(refused) == ErrorCode.INVALID_PRODUCER_EPOCH
    if transaction_version == 2:
        aborted: Any = client.request(end(producer, commit=False), 5)
        assert (aborted.error_code, aborted.producer_epoch) == (0, producer[1] + 1)
    again: Any = client.request(InitProducerIdRequest(NAME, 60_000, *producer), 4)
    assert (again.error_code, again.producer_epoch) == (0, producer[1] + 1)


@pytest.mark.parametrize("ended", ["never", "committed"])
def test_a_power_cut_shuts_out_who_may_have_had_a_transaction_open(ended: str) -> None:
    desk = Desk()
    before = producer = desk.started()
    if ended == "committed":
        desk.ask(produce(producer), 12)
        answer = desk.ask(end(producer), 5)
        producer = answer.producer_id, answer.producer_epoch
    broker = InProcessBroker(desk.broker.disk, desk.broker.clock)
    client = broker.connect()
    refused = desk.ask(produce(producer), 12, client)
    assert produce_error(refused) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert desk.ask(end(producer), 5, client).error_code == ErrorCode.TRANSACTION_ABORTABLE
    if ended == "committed":  # and that end can still be asked for again
        assert desk.ask(end(before), 5, client).error_code == ErrorCode.NONE
    aborted = desk.ask(end(producer, commit=False), 5, client)
    assert (aborted.error_code, aborted.producer_epoch) == (0, producer[1] + 1)
    renewed = desk.ask(InitProducerIdRequest(NAME, 60_000, *producer), 4, client)
    assert (renewed.error_code, renewed.producer_epoch) == (0, producer[1] + 1)
    alive = aborted.producer_id, aborted.producer_epoch
    assert produce_error(desk.ask(produce(alive), 12, client)) == ErrorCode.NONE


def test_a_power_cut_leaves_alone_who_had_nothing_open() -> None:
    """Version 1: what was open would still be there, and its epoch is the next one's too."""
    desk = Desk()
    producer = desk.started()
    desk.ask(add_partitions(producer, ("t", [0])), 3)
    desk.ask(end(producer), 3)
    broker = InProcessBroker(desk.broker.disk, desk.broker.clock)
    client = broker.connect()
    assert desk.ask(end(producer), 3, client).error_code == ErrorCode.NONE
    desk.ask(add_partitions(producer, ("t", [0])), 3, client)
    assert produce_error(desk.ask(produce(producer), 9, client)) == ErrorCode.NONE


def test_a_restart_keeps_open_and_ended_transactions() -> None:
    desk = Desk("one")
    producer = desk.started()
    desk.ask(add_partitions(producer, ("t", [0])), 3)
    desk.ask(produce(producer), 9)
    desk.ask(end(producer), 3)
    desk.ask(add_partitions(producer, ("t", [1])), 3)
    desk.ask(produce(producer, 0, 1), 9)
    before = desk.broker.core.transactions.snapshot()
    broker = InProcessBroker(desk.broker.disk, desk.broker.clock, BrokerConfig(boot_id="one"))
    assert broker.core.transactions.snapshot() == before
    client = broker.connect()
    assert client.request(end(producer), 3).error_code == 0  # type: ignore[attr-defined]
    partition = broker.core.catalog.partition("t", 1)
    assert partition is not None
    assert partition.last_stable_offset == 2


def test_a_transaction_that_times_out_is_aborted_by_the_broker() -> None:
    desk = Desk()
    producer = desk.started()
    desk.ask(produce(producer), 12)
    desk.broker.advance(59_999)
    assert desk.visible() == 0
    desk.broker.advance(1)
    assert desk.visible() == 2
    assert produce_error(desk.ask(produce(producer, 1), 12)) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert desk.ask(end(producer), 4).error_code == ErrorCode.PRODUCER_FENCED


def test_describe_transactions() -> None:
    desk = Desk()
    producer = desk.started()
    desk.ask(add_partitions(producer, ("t", [1, 0])), 3)
    request = DescribeTransactionsRequest([NAME, "unknown", ""])
    known, unknown, nameless = desk.ask(request, 0).transaction_states
    assert (known.error_code, known.transactional_id) == (0, NAME)
    assert (known.transaction_state, known.transaction_timeout_ms) == ("Ongoing", 60_000)
    assert known.transaction_start_time_ms == desk.broker.clock.now_ms()
    assert (known.producer_id, known.producer_epoch) == producer
    assert [(each.topic, each.partitions) for each in known.topics] == [("t", [1, 0])]
    assert unknown.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    assert unknown.transactional_id == "unknown"
    assert nameless.error_code == ErrorCode.INVALID_REQUEST


def test_list_transactions() -> None:
    desk = Desk()
    producer = desk.started()
    desk.ask(InitProducerIdRequest("other", 60_000), 4)
    desk.ask(add_partitions(producer, ("t", [0])), 3)
    desk.broker.advance(100)

    def listed(version: int = 1, **filters: Any) -> list[tuple[str, int, str]]:
        answer = desk.ask(ListTransactionsRequest(**filters), version)
        return [
            (each.transactional_id, each.producer_id, each.transaction_state)
            for each in answer.transaction_states
        ]

    ongoing, empty = (NAME, 0, "Ongoing"), ("other", 1, "Empty")
    assert listed(0) == [ongoing, empty]
    assert listed(state_filters=["Empty", "Dead"]) == [empty]
    assert listed(producer_id_filters=[0, 99]) == [ongoing]
    assert listed(duration_filter=99, state_filters=["Ongoing"]) == [ongoing]
    assert listed(duration_filter=100, state_filters=["Ongoing"]) == []
    odd = desk.ask(ListTransactionsRequest(state_filters=["Odd", "PrepareCommit"]), 1)
    assert (odd.unknown_state_filters, odd.transaction_states) == (["Odd"], [])


def test_describe_producers() -> None:
    desk = Desk()
    producer = desk.started()
    desk.ask(produce(producer), 12)
    request = DescribeProducersRequest(
        [TopicRequest("t", [0, 1, 2]), TopicRequest("unknown", [0]), TopicRequest("b/d", [0])]
    )
    topics = desk.ask(request, 0).topics
    used, unused, absent = topics[0].partitions
    (state,) = used.active_producers
    assert (state.producer_id, state.producer_epoch, state.last_sequence) == (*producer, 0)
    assert (state.current_txn_start_offset, state.coordinator_epoch) == (0, -1)
    assert state.last_timestamp == desk.broker.clock.now_ms()
    assert (unused.error_code, unused.active_producers) == (0, [])
    assert absent.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert "t-2" in absent.error_message
    assert topics[1].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert topics[2].partitions[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    desk.ask(end(producer), 5)
    (state,) = desk.ask(request, 0).topics[0].partitions[0].active_producers
    assert (state.producer_epoch, state.current_txn_start_offset) == (1, -1)
