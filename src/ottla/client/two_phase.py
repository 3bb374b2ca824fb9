"""A Kafka transaction as part of another system's two-phase commit (KIP-939).

The other system decides, a database for example. It gets a note of the prepared transaction in the
same transaction as its own rows; what the note says after a crash is the outcome:

    with ottla.TwoPhaseProducer("127.0.0.1:9092", "orders") as producer:
        producer.complete(database.note())         # what a crash has left: commit it, or abort
        producer.begin()
        producer.send("orders", b"...")
        prepared = producer.prepare()              # all of it is on the broker's disk
        database.commit(rows, note=str(prepared))  # the decision
        producer.commit()

A prepared transaction has no time-out: until it is completed it holds back read_committed readers.
The broker has to allow that (`--two-phase-commit`). Only Ottla can do this: librdkafka does not
speak it, Apache Kafka (4.4) does not keep a transaction for its producer's next instance. So this
is a small client of its own. Requests go one after another, and again until they are answered:
each of them can be repeated.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple, Self, Unpack

from ottla.client.access import access_to
from ottla.client.errors import Abortable, Fatal, ProducerFenced, TimedOut, refused
from ottla.client.raw import Brokers, Connection
from ottla.client.settings import Security, as_url
from ottla.client.types import Headers, Partition
from ottla.ports.errors import ErrorCode
from ottla.wire.message import Message
from ottla.wire.messages.end_txn import EndTxnRequest
from ottla.wire.messages.init_producer_id import InitProducerIdRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch

_BATCH_BYTES = 524_288  # a partition's records are sent when they are so many
_RETRY_S = 0.05
_TWO_PHASE_VERSION = 6  # of InitProducerId
_EPOCH_RAISING_VERSION = 5  # of EndTxn: it can be sent again, and meets no later transaction
_PRODUCE_VERSION = 12  # the first that adds partitions to the transaction by itself
_FENCED = (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH)


class PreparedTransaction(NamedTuple):
    """A transaction's name for the system that decides on it: the identity of its batches."""

    producer_id: int
    producer_epoch: int

    def __str__(self) -> str:
        return f"{self.producer_id}:{self.producer_epoch}"

    @classmethod
    def parse(cls, note: str) -> Self:
        """What `str` made. Raises Fatal for anything else."""
        producer_id, colon, epoch = note.partition(":")
        if not (colon and producer_id.isdecimal() and epoch.isdecimal()):
            raise Fatal(f"{note!r} is no note of a prepared transaction: it reads 4711:3")
        return cls(int(producer_id), int(epoch))


class _State(Enum):
    READY = "nothing is open"
    OPEN = "a transaction is open"
    PREPARED = "a transaction is prepared: complete, commit or abort it first"


class TwoPhaseProducer:
    """A producer whose transactions can be prepared. To be used by one thread.

    Raises Fatal when the broker does not allow it, TimedOut when nobody answers.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        transactional_id: str,
        *,
        settings: Mapping[str, str] | None = None,
        timeout_ms: int = 30_000,
        **security: Unpack[Security],
    ) -> None:
        """Fence the last instance, and keep what it has left open.

        `security` is how to be let in, as for `Producer`; `settings` are librdkafka's for the same.
        Each call gives up after `timeout_ms`.
        """
        access = access_to(as_url(bootstrap_servers, security), settings or {})
        self._access = replace(access, timeout_ms=timeout_ms)
        self._transactional_id = transactional_id
        self._brokers: Brokers | None = None
        self._sequences: dict[Partition, int] = {}
        self._unsent: dict[Partition, list[Record]] = {}
        self._unsent_bytes: dict[Partition, int] = {}
        request = InitProducerIdRequest(
            transactional_id, timeout_ms, enable2_pc=True, keep_prepared_txn=True
        )
        answer = self._of_coordinator(request, needs_version=_TWO_PHASE_VERSION)
        if answer.error_code:
            raise Fatal(
                f"two-phase commit is not allowed for {transactional_id}: "
                f"{ErrorCode(answer.error_code).name}. Start the broker with --two-phase-commit",
                answer.error_code,
            )
        self._identity = PreparedTransaction(answer.producer_id, answer.producer_epoch)
        self.prepared: PreparedTransaction | None = None
        """The transaction that is prepared, perhaps by an instance before this one."""
        if answer.ongoing_txn_producer_id >= 0:
            self.prepared = PreparedTransaction(
                answer.ongoing_txn_producer_id, answer.ongoing_txn_producer_epoch
            )
        self._state = _State.READY if self.prepared is None else _State.PREPARED
        self._is_known = self.prepared is not None  # to the broker, which has some of it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Begin a transaction."""
        self._expect(_State.READY)
        self._state, self._is_known = _State.OPEN, False
        self._sequences.clear()

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        partition: int = 0,
        headers: Headers = (),
    ) -> None:
        """Make a record part of the transaction. Raises Abortable, ProducerFenced, TimedOut."""
        self._expect(_State.OPEN)
        where = Partition(topic, partition)
        record = Record(0, int(time.time() * 1000), key, value, tuple(headers))
        self._unsent.setdefault(where, []).append(record)
        size_bytes = self._unsent_bytes.get(where, 0) + len(value or b"") + len(key or b"")
        self._unsent_bytes[where] = size_bytes
        if size_bytes >= _BATCH_BYTES:
            self._flush(where)

    def prepare(self) -> PreparedTransaction:
        """Wait until the broker's disk has all of it: from now on it can only be ended.

        Note what is returned where the decision is made. Raises as `send`.
        """
        self._expect(_State.OPEN)
        for where in list(self._unsent):
            self._flush(where)
        self.prepared, self._state = self._identity, _State.PREPARED
        return self.prepared

    def complete(self, note: PreparedTransaction | str | None) -> bool:
        """End what is prepared: commit it if this is its note, else abort it.

        For the start after a crash. Returns whether it was committed; does nothing, and returns
        False, when nothing is prepared.
        """
        if self.prepared is None:
            return False
        noted = PreparedTransaction.parse(note) if isinstance(note, str) else note
        is_decided = noted == self.prepared
        self._end(is_decided)
        return is_decided

    def commit(self) -> None:
        """Commit what is prepared. Raises ProducerFenced, or TimedOut: then call it again."""
        self._expect(_State.PREPARED)
        self._end(True)

    def abort(self) -> None:
        """Abort what is open or prepared. Raises as `commit`."""
        self._expect(_State.OPEN, _State.PREPARED)
        self._end(False)

    def close(self) -> None:
        """Let go of the connections. What is prepared stays prepared."""
        if self._brokers is not None:
            self._brokers.close()
            self._brokers = None

    # -- requests -----------------------------------------------------------------------------

    def _expect(self, *states: _State) -> None:
        if self._state not in states:
            raise Fatal(f"the producer is used in the wrong order: {self._state.value}")

    def _flush(self, where: Partition) -> None:
        """Send a partition's records as one batch."""
        records = self._unsent.pop(where)
        self._unsent_bytes.pop(where)
        sequence = self._sequences.get(where, 0)
        batch = build_batch(
            records,
            producer_id=self._identity.producer_id,
            producer_epoch=self._identity.producer_epoch,
            base_sequence=sequence,
            transactional=True,
        )
        self._sequences[where] = sequence + len(records)
        data = [PartitionProduceData(where.partition, batch)]
        topic = TopicProduceData(name=where.topic, partition_data=data)
        self._is_known = True
        request = ProduceRequest(self._transactional_id, -1, self._access.timeout_ms, [topic])
        answer = self._again(
            lambda brokers: _leader(brokers, where).ask(request, min_version=_PRODUCE_VERSION)
        )
        code = answer.responses[0].partition_responses[0].error_code
        if code:
            raise self._failed(f"write to {where}", code)

    def _end(self, commit: bool) -> None:
        if self._is_known:  # of an empty one the broker has not heard
            request = EndTxnRequest(self._transactional_id, *self._identity, commit)
            answer = self._of_coordinator(request, needs_version=_EPOCH_RAISING_VERSION)
            if answer.error_code:
                raise self._failed("end the transaction", answer.error_code)
            self._identity = PreparedTransaction(answer.producer_id, answer.producer_epoch)
        self.prepared, self._state = None, _State.READY
        self._unsent.clear()
        self._unsent_bytes.clear()

    def _failed(self, doing: str, code: int) -> Exception:
        if code in _FENCED:
            return ProducerFenced(
                f"cannot {doing}: another producer with transactional.id "
                f"{self._transactional_id} was started",
                code,
            )
        return Abortable(str(refused(doing, code)), code)

    def _of_coordinator(self, request: Message, needs_version: int = 0) -> Any:
        return self._again(
            lambda brokers: brokers.ask_coordinator(
                self._transactional_id,
                request,
                lambda answer: int(answer.error_code),
                min_version=needs_version,
            )
        )

    def _again(self, ask: Callable[[Brokers], Any]) -> Any:
        """Ask until there is an answer, on new connections each time. Raises TimedOut."""
        deadline = time.monotonic() + self._access.timeout_ms / 1000
        while True:
            try:
                if self._brokers is None:
                    self._brokers = Brokers(self._access)
                return ask(self._brokers)
            except TimedOut:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)


def _leader(brokers: Brokers, where: Partition) -> Connection:
    """The connection to who leads the partition. Raises Refused when there is no such partition."""
    for node_id, led in brokers.leaders([where.topic]).items():
        if where.partition in led[where.topic]:
            return brokers.broker(node_id)
    raise refused(f"write to {where}", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
