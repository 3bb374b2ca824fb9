"""Which connection speaks for a producer: a message that comes late on an older one is dropped.

Before transaction version 2 a transaction has no number (KAFKA-17754): transaction N+1 has the
producer id and epoch of N. A client that waits too long for an answer gives up its connection,
opens another and repeats the request there. If the first copy was only slow (a stalled network, a
full socket buffer) it may arrive when N+1 is open, and commit half of it.

A client sends the requests of one role over one connection at a time, and connection ids rise in
the order of acceptance. So once a request of some role was accepted from a connection, a request
of that role for the same producer id and epoch from an older connection is a leftover: the client
has given that connection up.

- Roles, not all requests, are compared: librdkafka has a connection for the coordinator beside
  those for data, and TxnOffsetCommit goes to the group's coordinator. Which of the two connections
  is older says nothing.
- What is late is answered by closing its connection. Nobody waits for the answer of a leftover.
  And should the client be alive on it after all (a pool of connections, or a handshake that was
  overtaken by a later one), it connects again, is the newest then, and its retry is accepted. An
  error code could only tell such a client something wrong.
- InitProducerId without a producer id starts a new instance, and fences. It is held against the
  newest connection of the TransactionalId whatever the epoch, so that a late one does not abort a
  transaction of the instance it started.
- A leftover that is the first of its role is not recognised. Produce needs none of this: its
  sequence numbers tell.

Volatile: after a restart all connections are new. Memory is bounded by the number of
TransactionalIds, since only accepted requests are noted.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from ottla.ports.errors import ProtocolError


class Role(Enum):
    """What a client uses a connection for."""

    COORDINATOR = auto()
    """InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn."""
    OFFSETS = auto()
    """TxnOffsetCommit."""


@dataclass(slots=True)
class _Speaker:
    """The newest connections of one producer id and epoch."""

    producer_id: int
    producer_epoch: int
    newest: dict[Role, int] = field(default_factory=dict)


class ConnectionOrder:
    """The newest connection of each TransactionalId's producer, by role."""

    def __init__(self) -> None:
        self._speakers: dict[str, _Speaker] = {}

    def check(
        self,
        role: Role,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        connection_id: int,
    ) -> None:
        """Raise ProtocolError when a newer connection has spoken for this producer and epoch.

        Requests with another id or epoch are the coordinator's to judge.
        """
        speaker = self._speakers.get(transactional_id)
        if (
            speaker is not None
            and speaker.producer_id == producer_id
            and speaker.producer_epoch == producer_epoch
        ):
            _refuse_older(speaker, role, transactional_id, connection_id)

    def check_new_instance(self, transactional_id: str, connection_id: int) -> None:
        """Raise ProtocolError when InitProducerId comes from other than the newest connection."""
        speaker = self._speakers.get(transactional_id)
        if speaker is not None:
            _refuse_older(speaker, Role.COORDINATOR, transactional_id, connection_id)

    def note(
        self,
        role: Role,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        connection_id: int,
    ) -> None:
        """A request for this producer and epoch was accepted from this connection."""
        speaker = self._speakers.get(transactional_id)
        if (
            speaker is None
            or speaker.producer_id != producer_id
            or speaker.producer_epoch != producer_epoch
        ):
            speaker = self._speakers[transactional_id] = _Speaker(producer_id, producer_epoch)
        speaker.newest[role] = connection_id

    def forget(self, transactional_id: str) -> None:
        """The TransactionalId has expired."""
        self._speakers.pop(transactional_id, None)


def _refuse_older(speaker: _Speaker, role: Role, transactional_id: str, connection_id: int) -> None:
    newest = speaker.newest.get(role, connection_id)
    if connection_id < newest:
        raise ProtocolError(
            f"connection {connection_id} is older than {newest}, which already spoke for "
            f"transactional.id {transactional_id!r}: what it sends is late (KAFKA-17754)"
        )
