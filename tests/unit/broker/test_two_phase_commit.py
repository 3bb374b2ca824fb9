"""Two-phase commit on the wire (KIP-939): what is prepared survives everything until it is ended.

Method: a broker's core in this process, on a disk that loses its power. A transaction is prepared
when all that its producer sent is acknowledged; from then on another system may decide on it.
"""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from ottla.broker.authorizer import Operation, PatternType, Permission, ResourceType
from ottla.broker.config import BrokerConfig
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker
from ottla.testing.simulated_disk import POLICIES, PowerCutPolicy, SimulatedDisk
from ottla.wire.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.describe_transactions import DescribeTransactionsRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.list_transactions import ListTransactionsRequest
from tests.unit.broker.test_hanging_transactions import write
from tests.unit.broker.test_transaction_handlers import (
    NAME,
    Desk,
    Producer,
    add_offsets,
    add_partitions,
    end,
    offset_commit,
    offset_errors,
    produce,
    produce_error,
)

NONE = ErrorCode.NONE
NOBODY = (-1, -1)
NEVER_MS = 2_147_483_647


class TwoPhaseDesk(Desk):
    """A desk whose broker allows two-phase commit, and can be started anew on what is left."""

    def __init__(self, disk: SimulatedDisk | None = None, boot_id: str = "one") -> None:
        config = BrokerConfig(
            auto_create_topics=False,
            boot_id=boot_id,
            two_phase_commit=True,
            journal_allocate_bytes=0,
        )
        self.broker = InProcessBroker(disk, config=config)
        self.client = self.broker.connect()
        if disk is None:
            topic = CreatableTopic(name="t", num_partitions=2, replication_factor=1)
            self.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)

    def after_power_cut(self, policy: PowerCutPolicy) -> "TwoPhaseDesk":
        disk = self.broker.disk
        assert isinstance(disk, SimulatedDisk)
        return TwoPhaseDesk(disk.after_power_cut(policy, random.Random(7)), boot_id="two")

    def take_over(self) -> tuple[Producer, Producer]:
        """A new instance that keeps what is open: its identity, and the transaction's."""
        answer = self.init(6, enable2_pc=True, keep_prepared_txn=True)
        assert answer.error_code == NONE
        return (
            (answer.producer_id, answer.producer_epoch),
            (answer.ongoing_txn_producer_id, answer.ongoing_txn_producer_epoch),
        )

    def prepared(self, version: int) -> Producer:
        """A transaction over both partitions and a group, all of it acknowledged."""
        producer, ongoing = self.take_over()
        assert ongoing == NOBODY
        if version == 1:
            self.ask(add_partitions(producer, ("t", [0, 1])), 3)
            self.ask(add_offsets(producer), 3)
        for index in (0, 1):
            request = produce(producer, partition=index)
            assert produce_error(self.ask(request, 9 if version == 1 else 12)) == NONE
        committed = self.ask(offset_commit(producer, 7), 3 if version == 1 else 5)
        assert offset_errors(committed) == [NONE]
        return producer

    def outcome(self) -> tuple[int, int, list[int]]:
        """How far a read_committed consumer sees in both partitions; the group's offsets."""
        return self.visible(0), self.visible(1), self.offsets("readers")


OPEN, COMMITTED, ABORTED = (0, 0, []), (2, 2, [7]), (2, 2, [])


def test_it_is_off_by_default() -> None:
    desk = Desk()
    answer = desk.init(6, enable2_pc=True)
    assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert (answer.producer_id, answer.producer_epoch) == NOBODY
    assert desk.ask(ListTransactionsRequest(), 2).transaction_states == []
    empty = desk.ask(InitProducerIdRequest("", 60_000, enable2_pc=True), 6)
    assert empty.error_code == ErrorCode.INVALID_REQUEST
    plain = desk.ask(InitProducerIdRequest(None, 0, enable2_pc=True), 6)
    assert (plain.error_code, plain.producer_epoch) == (NONE, 0)


def test_it_is_a_right_of_its_own() -> None:
    config = BrokerConfig(
        journal_allocate_bytes=0,
        two_phase_commit=True,
        authorizer=True,
        super_users=("User:ANONYMOUS",),
    )
    broker = InProcessBroker(config=config)
    client, alice = broker.connect(), broker.connect()
    alice.connection.principal = "User:alice"
    answers = []
    for operation in (Operation.WRITE, Operation.TWO_PHASE_COMMIT):
        kinds = (ResourceType.TRANSACTIONAL_ID, NAME, PatternType.LITERAL)
        acl = AclCreation(*kinds, "User:alice", "*", operation, Permission.ALLOW)
        client.request(CreateAclsRequest([acl]), 3)
        for two_phase in (False, True):
            request = InitProducerIdRequest(NAME, 60_000, enable2_pc=two_phase)
            answer: Any = alice.request(request, 6)
            answers.append(answer.error_code)
    assert answers == [NONE, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NONE, NONE]


def test_to_keep_a_transaction_that_can_time_out_is_always_allowed() -> None:
    desk = Desk()
    producer = desk.started()
    assert produce_error(desk.ask(produce(producer), 12)) == NONE
    answer = desk.init(6, keep_prepared_txn=True)
    assert (answer.ongoing_txn_producer_id, answer.ongoing_txn_producer_epoch) == producer
    desk.broker.advance(60_001)
    assert desk.visible() == 2


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_acknowledged_can_be_prepared_so_it_is_durable(version: int) -> None:
    desk = TwoPhaseDesk()
    producer, _ = desk.take_over()
    if version == 1:
        desk.ask(add_partitions(producer, ("t", [0])), 3)
        desk.ask(add_offsets(producer), 3)
    requests: list[tuple[Any, int]] = [
        (produce(producer), 9 if version == 1 else 12),
        (offset_commit(producer, 7), 3 if version == 1 else 5),
    ]
    for request, request_version in requests:
        pending = desk.client.send(request, request_version)
        assert not pending.answered
        ticket = desk.broker.core.begin_sync()
        assert ticket is not None
        assert ticket.journal_write.sync
        ticket.run()
        desk.broker.core.complete_sync(ticket)
        assert pending.answered


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_prepared_transaction_survives_a_power_cut(
    policy: PowerCutPolicy, version: int, commit: bool
) -> None:
    desk = TwoPhaseDesk()
    prepared = desk.prepared(version)
    desk = desk.after_power_cut(policy)
    desk.broker.advance(1_000_000)  # longer than any transaction may last
    assert desk.outcome() == OPEN
    successor, ongoing = desk.take_over()
    assert ongoing == prepared
    assert desk.ask(end(prepared, commit=commit), 3).error_code == ErrorCode.PRODUCER_FENCED
    desk = desk.after_power_cut(policy)
    assert desk.outcome() == OPEN
    last, ongoing = desk.take_over()
    assert (last, ongoing) == ((successor[0], successor[1] + 1), prepared)
    assert desk.ask(end(successor, commit=commit), 5).error_code == ErrorCode.PRODUCER_FENCED
    ended = desk.ask(end(last, commit=commit), 5)
    assert (ended.error_code, ended.producer_epoch) == (NONE, last[1] + 1)
    outcome = COMMITTED if commit else ABORTED
    assert desk.outcome() == outcome
    assert desk.after_power_cut(policy).outcome() == outcome


def test_its_own_producer_may_end_it_after_a_power_cut() -> None:
    desk = TwoPhaseDesk()
    producer = desk.prepared(2)
    desk = desk.after_power_cut(POLICIES[0])
    assert desk.ask(end(producer), 5).error_code == NONE
    assert desk.outcome() == COMMITTED


def test_nothing_more_is_written_to_what_was_kept() -> None:
    desk = TwoPhaseDesk()
    zombie = desk.prepared(2)
    successor, _ = desk.take_over()
    wrong = ErrorCode.INVALID_TXN_STATE
    assert produce_error(desk.ask(produce(successor), 12)) == wrong
    assert offset_errors(desk.ask(offset_commit(successor, 8), 5)) == [wrong]
    assert desk.ask(add_offsets(successor), 3).error_code == wrong
    fenced = ErrorCode.INVALID_PRODUCER_EPOCH
    assert produce_error(desk.ask(produce(zombie, 1), 12)) == fenced
    ended = desk.ask(end(successor), 5)
    assert desk.outcome() == COMMITTED
    following = (ended.producer_id, ended.producer_epoch)
    assert produce_error(desk.ask(produce(following), 12)) == NONE
    assert desk.ask(end(following), 5).error_code == NONE
    assert desk.visible() == 4


def test_an_instance_that_keeps_nothing_aborts() -> None:
    desk = TwoPhaseDesk()
    desk.prepared(1)
    answer = desk.init(6, enable2_pc=True)
    assert (answer.ongoing_txn_producer_id, answer.ongoing_txn_producer_epoch) == NOBODY
    assert desk.outcome() == ABORTED


def test_a_marker_by_hand_knows_both_producer_ids() -> None:
    desk = TwoPhaseDesk()
    producer_id, _ = desk.started()
    record = desk.broker.core.transactions.transaction(NAME)
    assert record is not None
    last = (producer_id, 32_766)
    desk.broker.core.commit([replace(record, producer_epoch=last[1])])
    for index in (0, 1):
        assert produce_error(desk.ask(produce(last, partition=index), 12)) == NONE
    successor, ongoing = desk.take_over()
    assert ongoing == last
    assert successor == (producer_id + 1, 0)
    assert write(desk, successor[0], 1) == [ErrorCode.INVALID_PRODUCER_EPOCH]
    assert write(desk, *last) == [NONE]
    assert desk.outcome() == ABORTED
    ended = desk.ask(end(successor, commit=False), 5)
    assert (ended.error_code, ended.producer_epoch) == (NONE, 1)


def test_an_administrator_terminates_it() -> None:
    """Admin.forceTerminateTransaction is an InitProducerId of an older version."""
    desk = TwoPhaseDesk()
    desk.prepared(1)
    desk.take_over()
    assert desk.init(5).error_code == NONE
    assert desk.outcome() == ABORTED


def test_tools_see_the_identity_that_is_in_the_log() -> None:
    desk = TwoPhaseDesk()
    prepared = desk.prepared(2)
    successor, _ = desk.take_over()
    (state,) = desk.ask(DescribeTransactionsRequest([NAME]), 0).transaction_states
    assert (state.producer_id, state.producer_epoch) == prepared
    assert (state.transaction_state, state.transaction_timeout_ms) == ("Ongoing", NEVER_MS)
    # And by it, it can be aborted by hand, as the identity of whoever is to end it says too.
    assert write(desk, *successor) == [NONE]
    assert desk.outcome() == ABORTED
    assert desk.ask(end(successor), 5).error_code == ErrorCode.INVALID_TXN_STATE
