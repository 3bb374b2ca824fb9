"""Fetch: v4-18.

Behaviour: reads durable batches, up to the last stable offset for read_committed, with the aborted
transactions among them. Waits (Kafka's purgatory) until min_bytes are there, an error shows, or
max_wait_ms are over. The first batch is given whole whatever its size (KIP-74); partitions are
served in turn from where the last answer of the session stopped being able to.
Versions: v4 isolation level, v7 sessions (KIP-227), v9 leader epochs, v13 topic ids, v15 replica
state, which a consumer does not send. Empty record sets are empty, not null: librdkafka refuses
null.
A request that claims to be a replica's is NOT_LEADER_OR_FOLLOWER: there are none (CVE-2018-1288).
Divergences: leader epochs are always 0; an epoch above is UNKNOWN_LEADER_EPOCH.
"""

from typing import TYPE_CHECKING

from ottla.broker.authorizer import Operation
from ottla.broker.fetch_sessions import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    FetchedPartition,
    FetchSession,
    TopicKey,
)
from ottla.broker.registry import api
from ottla.broker.waiters import Waiter
from ottla.log.partition import Partition
from ottla.log.segment import LEADER_EPOCH
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import FETCH_BYTES_MAX
from ottla.wire.messages.fetch import (
    AbortedTransaction,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_TOPIC_IDS_VERSION = 13
_SESSIONS_VERSION = 7
_WAIT_MS_MAX = 2_147_483_647


@api(1, 4, 18)
def handle(broker: "Broker", request: "Request[FetchRequest]") -> None:
    try:
        fetch = _Fetch(broker, request)
    except KafkaError as error:
        request.respond_now(FetchResponse(error_code=error.code))
        return
    body = request.body
    if fetch.attempt(last=body.max_wait_ms <= 0 or body.min_bytes <= 0):
        return
    deadline_ms = broker.clock.monotonic_ms() + min(body.max_wait_ms, _WAIT_MS_MAX)
    broker.waiters.add(
        Waiter(deadline_ms, fetch.partitions(), lambda last: fetch.attempt(last=last))
    )


class _Fetch:
    """One fetch: what it asks for, and its attempts to answer."""

    def __init__(self, broker: "Broker", request: "Request[FetchRequest]") -> None:
        """Find or make the session. Raises KafkaError when it is not there."""
        self._broker = broker
        self._request = request
        self._by_id = request.version >= _TOPIC_IDS_VERSION
        self._read_committed = request.body.isolation_level == 1
        body = request.body
        state = body.replica_state
        self._as_replica = body.replica_id >= 0 or (state is not None and state.replica_id >= 0)
        self._session: FetchSession | None = None
        self._incremental = False
        asked = self._asked()
        epoch = body.session_epoch if request.version >= _SESSIONS_VERSION else FINAL_EPOCH
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if body.session_id:
                broker.fetch_sessions.close(body.session_id)
            if epoch == INITIAL_EPOCH:
                self._session = broker.fetch_sessions.open(asked)
            self._wanted = asked
        else:
            self._session = broker.fetch_sessions.resume(body.session_id, epoch)
            self._incremental = True
            self._update(self._session, asked)
            self._wanted = list(self._session.partitions.values())
        # A fetch may wait: what it holds meanwhile is what the broker has, not what was sent.
        body.topics, body.forgotten_topics_data = [], []

    def _asked(self) -> list[FetchedPartition]:
        """What is asked for; of a partition that is named twice, the last counts, as in Kafka."""
        asked = {}
        for topic in self._request.body.topics:
            key = self._key(topic)
            for one in topic.partitions:
                asked[key, one.partition] = FetchedPartition(
                    key,
                    one.partition,
                    one.fetch_offset,
                    one.partition_max_bytes,
                    one.current_leader_epoch,
                )
        return list(asked.values())

    def _key(self, topic: object) -> TopicKey:
        key: TopicKey = topic.topic_id if self._by_id else topic.topic  # type: ignore[attr-defined]
        return key

    def _update(self, session: FetchSession, asked: list[FetchedPartition]) -> None:
        """Take over what an incremental fetch adds, changes and forgets."""
        for one in asked:
            known = session.partitions.get((one.topic, one.index))
            if known is not None:
                one.told = known.told
            session.partitions[(one.topic, one.index)] = one
        for topic in self._request.body.forgotten_topics_data:
            for index in topic.partitions:
                session.partitions.pop((self._key(topic), index), None)

    def partitions(self) -> list[Partition]:
        """The partitions whose news the fetch waits for."""
        found = [self._find(one) for one in self._wanted]
        return [partition for partition in found if isinstance(partition, Partition)]

    def _find(self, wanted: FetchedPartition) -> Partition | ErrorCode:
        """The partition, if it may be read: rights are looked at again with every answer."""
        catalog = self._broker.catalog
        if isinstance(wanted.topic, str):
            topic = catalog.topic(wanted.topic)
        else:
            topic = catalog.topic_by_id(wanted.topic)
            if topic is None:
                return ErrorCode.UNKNOWN_TOPIC_ID
        access = self._request.access
        if self._as_replica:
            allowed = access.cluster(Operation.CLUSTER_ACTION)
        else:
            name = topic.name if topic is not None else str(wanted.topic)
            allowed = access.topic(Operation.READ, name)
        if not allowed:
            return ErrorCode.TOPIC_AUTHORIZATION_FAILED
        if topic is None or not 0 <= wanted.index < len(topic.partitions):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if self._as_replica:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return topic.partitions[wanted.index]

    def attempt(self, *, last: bool) -> bool:
        """Answer if there is enough, or if it is the `last` attempt."""
        body = self._request.body
        bytes_left = min(body.max_bytes, FETCH_BYTES_MAX)
        got_bytes, has_error = 0, False
        answers: list[tuple[FetchedPartition, PartitionData]] = []
        for wanted in self._wanted:
            data = self._read(wanted, bytes_left, first=got_bytes == 0)
            size_bytes = len(data.records or b"")
            got_bytes += size_bytes
            bytes_left = max(bytes_left - size_bytes, 0)
            has_error = has_error or data.error_code != ErrorCode.NONE
            answers.append((wanted, data))
        if not last and not has_error and self._wanted and got_bytes < body.min_bytes:
            return False
        self._answer(answers)
        return True

    def _read(self, wanted: FetchedPartition, bytes_left: int, *, first: bool) -> PartitionData:
        partition = self._find(wanted)
        if isinstance(partition, ErrorCode):
            return _failed(wanted.index, partition)
        if wanted.leader_epoch > LEADER_EPOCH:
            return _failed(wanted.index, ErrorCode.UNKNOWN_LEADER_EPOCH, was_there=True)
        try:
            read = partition.read(
                wanted.fetch_offset,
                min(wanted.bytes_max, bytes_left),
                self._read_committed,
                whole_batch=first,
            )
        except KafkaError as error:
            return _failed(wanted.index, error.code, was_there=True)
        return PartitionData(
            partition_index=wanted.index,
            error_code=ErrorCode.NONE,
            high_watermark=read.high_watermark,
            last_stable_offset=read.last_stable_offset,
            log_start_offset=read.log_start_offset,
            aborted_transactions=[
                AbortedTransaction(producer_id=one.producer_id, first_offset=one.first_offset)
                for one in read.aborted
            ]
            if self._read_committed
            else None,
            records=read.records,
        )

    def _answer(self, answers: list[tuple[FetchedPartition, PartitionData]]) -> None:
        topics: dict[TopicKey, FetchableTopicResponse] = {}
        for wanted, data in answers:
            told = (data.high_watermark, data.last_stable_offset, data.log_start_offset)
            news = bool(data.records) or data.error_code != ErrorCode.NONE or told != wanted.told
            wanted.told = told if data.error_code == ErrorCode.NONE else None
            if self._incremental and not news:
                continue
            topic = topics.get(wanted.topic)
            if topic is None:
                topic = topics[wanted.topic] = FetchableTopicResponse(partitions=[])
                if isinstance(wanted.topic, str):
                    topic.topic = wanted.topic
                else:
                    topic.topic_id = wanted.topic
            topic.partitions.append(data)
        self._request.respond_now(
            FetchResponse(
                session_id=self._session.id if self._session is not None else 0,
                responses=list(topics.values()),
            )
        )


def _failed(index: int, code: ErrorCode, *, was_there: bool = False) -> PartitionData:
    return PartitionData(
        partition_index=index,
        error_code=code,
        high_watermark=-1,
        last_stable_offset=-1,
        log_start_offset=-1,
        aborted_transactions=None if was_there else [],
        records=b"",
    )
