"""P5: a delayed message cannot enter or end a later transaction, also not of an old client.

Method: a client before transaction version 2 (one producer id and epoch for all its transactions)
over a network that may stall any connection. The client then gives that connection up, opens
another and repeats its request; what was stalled arrives later, at any time, in order. After every
step the committed records and offsets must be those of transactions that the client has decided to
commit, whole and in order (KAFKA-17754). When the network is well again, everything proceeds.
"""

import os
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker.config import BrokerConfig
from ottla.coordinator.connection_order import ConnectionOrder
from ottla.coordinator.transaction_states import TransactionState
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.message import Message
from ottla.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.wire.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.wire.records import Record, build_batch
from tests.crash.workload import observe

NAME = "transfers"
ATTEMPTS_MAX = 10
SOAK = bool(os.environ.get("OTTLA_SOAK"))


class Network:
    """Connections that may stall: what was sent on one then arrives when `arrive` says so."""

    def __init__(self, broker: InProcessBroker, choose: Callable[[int], int]) -> None:
        self.broker = broker
        self.choose = choose
        self.well = False
        self.stalled: list[deque[tuple[InProcessClient, Message, int]]] = []

    def arrive(self) -> None:
        """Some of what was stalled arrives."""
        while self.stalled and self.choose(3) == 0:
            self._deliver(self.stalled[self.choose(len(self.stalled))])

    def arrive_all(self) -> None:
        while self.stalled:
            self._deliver(self.stalled[0])

    def _deliver(self, queue: deque[tuple[InProcessClient, Message, int]]) -> None:
        """One request arrives; a connection that the broker closes brings no more."""
        client, message, version = queue.popleft()
        try:
            client.request(message, version)
        except ProtocolError:
            queue.clear()
        if not queue:
            self.stalled.remove(queue)

    def stalls(self) -> bool:
        return not self.well and self.choose(4) == 0


class OldClient:
    """One transactional producer: a connection for the coordinator, one for data and offsets."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.connections = {role: network.broker.connect() for role in ("coordinator", "data")}
        self.sequence = 0
        answer = self.ask("coordinator", InitProducerIdRequest(NAME, 900_000), 4)
        assert answer.error_code == ErrorCode.NONE
        self.producer = (answer.producer_id, answer.producer_epoch)

    def ask(self, role: str, message: Message, version: int) -> Any:
        """Repeat the request over new connections until one is answered."""
        network = self.network
        for attempt in range(ATTEMPTS_MAX):
            network.well = attempt == ATTEMPTS_MAX - 1
            network.arrive()
            client = self.connections[role]
            if network.stalls():
                network.stalled.append(deque([(client, message, version)]))
            else:
                try:
                    return client.request(message, version)
                except ProtocolError:
                    assert not network.well, "the newest connection was refused"
            self.connections[role] = network.broker.connect()
        raise AssertionError("no answer over a network that is well")

    def run(self, number: int) -> None:
        """Transaction `number`: a record in each partition, and the number as the offset."""
        topics = [AddPartitionsToTxnTopic("t", [0, 1])]
        self.ask("coordinator", AddPartitionsToTxnRequest([], NAME, *self.producer, topics), 0)
        self.ask("coordinator", AddOffsetsToTxnRequest(NAME, *self.producer, "group"), 0)
        for partition in (0, 1):
            answer = self.ask("data", self.batch(number, partition), 9)
            assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NONE
        self.sequence += 1
        offsets = [TxnOffsetCommitRequestPartition(0, number)]
        request = TxnOffsetCommitRequest(
            NAME, "group", *self.producer, topics=[TxnOffsetCommitRequestTopic("t", offsets)]
        )
        answer = self.ask("data", request, 3)
        assert answer.topics[0].partitions[0].error_code == ErrorCode.NONE

    def end(self, *, commit: bool) -> None:
        answer = self.ask("coordinator", EndTxnRequest(NAME, *self.producer, commit), 1)
        assert answer.error_code == ErrorCode.NONE

    def batch(self, number: int, partition: int) -> ProduceRequest:
        records = build_batch(
            [Record(0, 1_700_000_000_000, None, str(number).encode(), [])],
            producer_id=self.producer[0],
            producer_epoch=self.producer[1],
            base_sequence=self.sequence,
            transactional=True,
        )
        data = TopicProduceData("t", partition_data=[PartitionProduceData(partition, records)])
        return ProduceRequest(NAME, -1, 1000, [data])


def committed(broker: InProcessBroker) -> tuple[list[list[int]], list[int]]:
    """The values of each partition that a read_committed consumer gets, and the offset."""
    seen = observe(broker)
    values = [[int(v) for _, v in seen[f"t-{partition}"]["committed"]] for partition in (0, 1)]
    return values, [each.offset for each in broker.core.groups.fetch_offsets("group", None, False)]


class TornError(AssertionError):
    """What a consumer sees is not what the client decided."""


def run(results: list[bool], choose: Callable[[int], int]) -> None:
    """Run these transactions over a bad network, checking before and after each end.

    Raises TornError.
    """
    broker = InProcessBroker(config=BrokerConfig(auto_create_topics=False))
    topic = CreatableTopic(name="t", num_partitions=2, replication_factor=1)
    broker.connect().request(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
    network = Network(broker, choose)
    client = OldClient(network)
    expected: list[int] = []
    for number, commit in enumerate(results):
        client.run(number)
        network.well = False
        network.arrive()
        if committed(broker) != ([expected, expected], expected[-1:]):
            raise TornError(f"transaction {number} was ended before its client did")
        client.end(commit=commit)
        expected = [*expected, number] if commit else expected
        if committed(broker) != ([expected, expected], expected[-1:]):
            raise TornError(f"transaction {number} did not end as its client said")
    network.arrive_all()
    record = broker.core.transactions.transaction(NAME)
    if record is None or record.state == TransactionState.ONGOING:
        raise TornError("a late request began a transaction that nobody will end")


@settings(max_examples=5_000 if SOAK else 150, deadline=None, derandomize=not SOAK, database=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6), st.data())
def test_what_comes_late_changes_nothing(results: list[bool], data: st.DataObject) -> None:
    run(results, lambda count: data.draw(st.integers(0, count - 1)))


def test_without_the_order_of_connections_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is bad enough to tear a transaction, and the check would notice it."""
    monkeypatch.setattr(ConnectionOrder, "check", lambda *_: None)

    def is_torn(seed: int) -> bool:
        try:
            run([True, False, True], random.Random(seed).randrange)
        except TornError:
            return True
        except AssertionError:  # the client was refused something: harm, but not this one
            return False
        return False

    assert any(map(is_torn, range(200)))
