"""A request on a connection that was given up is recognised, and nothing else is."""

import pytest

from ottla.coordinator.connection_order import ConnectionOrder, Role
from ottla.ports.errors import ProtocolError
from ottla.ports.limits import TRANSACTIONAL_ID_EXPIRATION_MS
from tests.unit.coordinator.transactions_desk import ID, Desk

COORDINATOR, OFFSETS = Role.COORDINATOR, Role.OFFSETS


def test_an_older_connection_is_refused_and_the_newest_is_not() -> None:
    order = ConnectionOrder()
    order.check(COORDINATOR, ID, 7, 0, 5)
    order.note(COORDINATOR, ID, 7, 0, 5)
    order.check(COORDINATOR, ID, 7, 0, 5)
    order.check(COORDINATOR, ID, 7, 0, 9)
    order.note(COORDINATOR, ID, 7, 0, 9)
    with pytest.raises(ProtocolError, match="connection 5 is older than 9"):
        order.check(COORDINATOR, ID, 7, 0, 5)


def test_roles_have_connections_of_their_own() -> None:
    order = ConnectionOrder()
    order.note(COORDINATOR, ID, 7, 0, 9)
    order.check(OFFSETS, ID, 7, 0, 5)
    order.note(OFFSETS, ID, 7, 0, 5)
    order.check(COORDINATOR, ID, 7, 0, 9)
    with pytest.raises(ProtocolError):
        order.check(OFFSETS, ID, 7, 0, 4)


@pytest.mark.parametrize(("producer_id", "epoch"), [(7, 1), (7, -1), (8, 0)])
def test_another_producer_is_the_coordinators_to_judge(producer_id: int, epoch: int) -> None:
    order = ConnectionOrder()
    order.note(COORDINATOR, ID, 7, 0, 9)
    order.check(COORDINATOR, ID, producer_id, epoch, 5)
    order.check(COORDINATOR, "another", 7, 0, 5)


def test_a_new_epoch_starts_anew() -> None:
    order = ConnectionOrder()
    order.note(OFFSETS, ID, 7, 0, 9)
    order.note(COORDINATOR, ID, 7, 1, 12)
    order.check(OFFSETS, ID, 7, 1, 5)
    with pytest.raises(ProtocolError):
        order.check(COORDINATOR, ID, 7, 1, 11)


def test_a_late_new_instance_is_refused_whatever_the_epoch() -> None:
    order = ConnectionOrder()
    order.check_new_instance(ID, 5)
    order.note(COORDINATOR, ID, 7, 3, 9)
    order.check_new_instance(ID, 9)
    order.check_new_instance(ID, 10)
    with pytest.raises(ProtocolError):
        order.check_new_instance(ID, 5)


def test_an_expired_id_is_forgotten_here_too() -> None:
    desk = Desk()
    producer = desk.started()
    order = desk.coordinator.connections
    order.note(COORDINATOR, ID, *producer, 9)
    desk.tick(TRANSACTIONAL_ID_EXPIRATION_MS)
    order.check_new_instance(ID, 5)
