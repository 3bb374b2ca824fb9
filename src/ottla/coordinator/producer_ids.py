"""Producer ids: each is given out once, also across crashes.

Ids are reserved in blocks: a ProducerIdsReserved record goes in front of the first id of a block,
so most ids cost no write. The position inside the block is not written down. After a restart the
rest of the block is skipped, for any id below the reservation may have been given out.
"""

from ottla.coordinator.records import ProducerIdsReserved
from ottla.ports.limits import PRODUCER_ID_BLOCK_SIZE


class ProducerIds:
    """The source of producer ids."""

    def __init__(self) -> None:
        self.reserved_end = 0
        self._next: int | None = None  # None until an id is asked for: starts after the reserved

    def take(self) -> tuple[int, list[ProducerIdsReserved]]:
        """A fresh producer id, and the records that must be written before it is used."""
        producer_id = self.reserved_end if self._next is None else self._next
        self._next = producer_id + 1
        if producer_id < self.reserved_end:
            return producer_id, []
        return producer_id, [ProducerIdsReserved(producer_id + PRODUCER_ID_BLOCK_SIZE)]

    def apply(self, record: ProducerIdsReserved) -> None:
        """Take note of a reservation, live or in replay."""
        self.reserved_end = max(self.reserved_end, record.next_producer_id)
