"""A producer id is given out once, also across crashes."""

import pytest

from ottla.coordinator.producer_ids import ProducerIds
from ottla.coordinator.records import OffsetDeleted, ProducerIdsReserved
from ottla.coordinator.transactions import TransactionCoordinator
from ottla.ports.errors import InvariantBroken


def test_a_block_costs_one_record() -> None:
    ids = ProducerIds()
    taken = []
    for _ in range(2_001):
        producer_id, records = ids.take()
        taken.append((producer_id, records))
        for record in records:
            ids.apply(record)
    assert [producer_id for producer_id, _ in taken] == list(range(2_001))
    assert [(producer_id, records) for producer_id, records in taken if records] == [
        (0, [ProducerIdsReserved(1_000)]),
        (1_000, [ProducerIdsReserved(2_000)]),
        (2_000, [ProducerIdsReserved(3_000)]),
    ]


def test_after_a_crash_the_rest_of_the_block_is_skipped() -> None:
    ids = ProducerIds()
    _, records = ids.take()
    ids.apply(records[0])
    assert ids.take() == (1, [])
    again = ProducerIds()
    again.apply(records[0])
    assert again.take() == (1_000, [ProducerIdsReserved(2_000)])


def test_each_id_taken_before_its_reservation_is_applied_brings_one_along() -> None:
    ids = ProducerIds()
    first, second = ids.take(), ids.take()
    assert first == (0, [ProducerIdsReserved(1_000)])
    assert second == (1, [ProducerIdsReserved(1_001)])
    for record in (*second[1], *first[1]):
        ids.apply(record)
    assert ids.reserved_end == 1_001


def test_a_snapshot_carries_the_reservation() -> None:
    coordinator = TransactionCoordinator()
    for record in coordinator.init_producer_id(None, 0, -1, -1, 0).records:
        coordinator.apply(record)
    again = TransactionCoordinator()
    for record in coordinator.snapshot():
        again.apply(record)
    assert again.init_producer_id(None, 0, -1, -1, 0).reply.producer_id == 1_000


def test_the_records_of_others_are_refused() -> None:
    with pytest.raises(InvariantBroken, match="another coordinator's"):
        TransactionCoordinator().apply(OffsetDeleted("group", "topic", 0))
