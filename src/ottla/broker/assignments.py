"""Replicas that a client assigns by hand: to this node, once, and to nobody else."""

from collections.abc import Sequence

from ottla.ports.errors import ErrorCode, KafkaError

REPLICATION_FACTOR = 1


def check_assignment(broker_ids: Sequence[int], node_id: int) -> None:
    """Raise KafkaError(INVALID_REPLICA_ASSIGNMENT) unless a partition can have these replicas."""
    if not broker_ids:
        raise _refused("an empty replica list.")
    for place, broker_id in enumerate(sorted(broker_ids)):
        if broker_id != node_id:
            raise _refused(f"broker {broker_id}, but no such broker is registered.")
        if place >= REPLICATION_FACTOR:
            raise _refused(f"the broker {broker_id} more than once.")


def _refused(what: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The manual partition assignment includes {what}"
    )
