"""Fetch sessions (KIP-227): a consumer names its partitions once, then only what has changed.

A session holds for each partition what was asked and what was told last. An incremental answer
leaves out a partition that has no records, no error and no changed offsets. The cache is bounded;
the session that was used longest ago makes room, and its client begins a new one.
"""

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSIONS_MAX

FINAL_EPOCH = -1  # a full fetch that closes the session
INITIAL_EPOCH = 0  # a full fetch that opens one
_EPOCH_MAX = 2_147_483_647

TopicKey = UUID | str  # by id from version 13 on, by name before


@dataclass(slots=True)
class FetchedPartition:
    """A partition as the client asks for it; `told` is what the last answer said of it."""

    topic: TopicKey
    index: int
    fetch_offset: int
    bytes_max: int
    leader_epoch: int  # that the client believes in, -1 if in none
    told: tuple[int, int, int] | None = None  # high watermark, last stable offset, log start


@dataclass(slots=True)
class FetchSession:
    """The partitions of one consumer, in the order in which it named them."""

    id: int
    next_epoch: int
    partitions: dict[tuple[TopicKey, int], FetchedPartition]


class FetchSessions:
    """The cache of sessions."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self._last_id = 0

    def open(self, partitions: list[FetchedPartition]) -> FetchSession:
        """A new session; the one used longest ago goes if there are too many."""
        self._last_id = self._last_id % _EPOCH_MAX + 1
        while self._last_id in self._sessions:
            self._last_id = self._last_id % _EPOCH_MAX + 1
        session = FetchSession(
            self._last_id, 1, {(one.topic, one.index): one for one in partitions}
        )
        self._sessions[session.id] = session
        self._make_room()
        return session

    def _make_room(self) -> None:
        """Let go of the sessions that were used longest ago, but of the newest never."""
        held = sum(len(session.partitions) for session in self._sessions.values())
        while len(self._sessions) > 1 and (
            len(self._sessions) > FETCH_SESSIONS_MAX or held > FETCH_SESSION_PARTITIONS_MAX
        ):
            _, oldest = self._sessions.popitem(last=False)
            held -= len(oldest.partitions)

    def close(self, session_id: int) -> None:
        self._sessions.pop(session_id, None)

    def resume(self, session_id: int, epoch: int) -> FetchSession:
        """The session of an incremental fetch. Raises KafkaError if it is not that one's turn."""
        session = self._sessions.get(session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.next_epoch != epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        session.next_epoch = epoch % _EPOCH_MAX + 1
        self._sessions.move_to_end(session_id)
        return session
