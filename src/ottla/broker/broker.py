"""The broker's core: one request in, one answer out, all state in one place, no I/O of its own.

`handle` decodes a request and gives it to the handler of its API key. A handler changes state only
through `commit` (records of the catalog and the coordinators, one atomic frame of the journal) or
by appending batches in a `Frame`. Answers are parked until the journal is durable up to what was
written when they were made. What an open transaction has written need not be durable before its
end: those answers are parked until it is in the journal's file, and the sync is left to EndTxn, or
to a timer (docs/decisions/0003). The server (or the simulator) drives the rest: `begin_sync`,
`ticket.run()`, `complete_sync`, and `on_timer` at `next_deadline_ms`.

One thread calls all of it. A ticket's `run` is the only part made for another.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import msgspec

from ottla.broker import handlers
from ottla.broker.authorizer import Acl, AclDeleted, AclRecord, Acls, Authorizer
from ottla.broker.broker_configs import static_configs
from ottla.broker.catalog import (
    Catalog,
    CatalogRecord,
    ClusterRecord,
    RunRecord,
    TopicDeleted,
    TopicRecord,
)
from ottla.broker.config import BrokerConfig
from ottla.broker.counters import Counters, Ending
from ottla.broker.dynamic_configs import ConfigsRecord
from ottla.broker.features import FeaturesRecord
from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.group_topics import GroupTopics
from ottla.broker.housekeeping import Housekeeping
from ottla.broker.once import name_once
from ottla.broker.quotas import QuotaRecord, Quotas
from ottla.broker.registry import REGISTRY, Registration
from ottla.broker.request import Connection, Request, Send
from ottla.broker.sasl.attempts import Attempts
from ottla.broker.sasl.authenticate import take_raw_token
from ottla.broker.sasl.credentials import (
    CredentialRecord,
    Credentials,
    DecoyKey,
    ScramCredential,
    ScramCredentialDeleted,
)
from ottla.broker.sasl.oauthbearer import TokenVerifier
from ottla.broker.sasl.session import State
from ottla.broker.waiters import Waiters
from ottla.coordinator.consumer_group_records import ConsumerGroupsRecord
from ottla.coordinator.groups import GroupCoordinator
from ottla.coordinator.records import (
    CoordinatorRecord,
    GroupDeleted,
    GroupOutcome,
    GroupRecord,
    MarkerRecord,
    OffsetDeleted,
    OffsetRecord,
    OffsetsEnded,
    ProducerIdsReserved,
    TransactionalIdExpired,
    TransactionRecord,
)
from ottla.coordinator.transactions import TransactionCoordinator
from ottla.log.partition import Partition
from ottla.log.recovery import Recovered, recover
from ottla.log.retention import LogStartRecord
from ottla.log.store import CheckpointTicket, Frame, Store, SyncTicket
from ottla.ports.clock import Clock
from ottla.ports.disk import Buffer, Disk
from ottla.ports.errors import (
    ErrorCode,
    InvariantBroken,
    KafkaError,
    ProtocolError,
    StorageFailed,
)
from ottla.ports.limits import DISK_RESERVE_BYTES
from ottla.ports.rng import Rng
from ottla.wire.api import API, ApiKey
from ottla.wire.frame import RequestHeader, decode_request_header, encode_response
from ottla.wire.message import Message
from ottla.wire.messages.api_versions import ApiVersionsResponse

logger = logging.getLogger(__name__)

Parked = tuple[int, Send, Sequence[Buffer]]
Record = (
    CatalogRecord | CoordinatorRecord | CredentialRecord | AclRecord | QuotaRecord | LogStartRecord
)
_TRANSACTION_RECORDS = (TransactionRecord, TransactionalIdExpired, ProducerIdsReserved)
_CREDENTIAL_RECORDS = (ScramCredential, ScramCredentialDeleted, DecoyKey)
_GROUP_RECORDS = (
    OffsetRecord,
    OffsetsEnded,
    OffsetDeleted,
    GroupRecord,
    GroupDeleted,
    *get_args(ConsumerGroupsRecord),
)
_CATALOG_RECORDS = (
    ClusterRecord,
    RunRecord,
    TopicRecord,
    TopicDeleted,
    ConfigsRecord,
    FeaturesRecord,
)
_PRODUCER_EXPIRY_INTERVAL_MS = 600_000  # producer.id.expiration.check.interval.ms
_DEFERRED_SYNC_MS = 5  # how long read_uncommitted consumers wait for an open transaction's batches
_DISK_CHECK_BYTES = DISK_RESERVE_BYTES // 16  # of journal between two looks at the free space

handlers.load()


class Broker:
    """One node on one data directory."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        rng: Rng,
        config: BrokerConfig,
        token_verifier: TokenVerifier | None = None,
    ) -> None:
        """Open the directory and recover. `token_verifier` is what SASL OAUTHBEARER needs.

        Raises DataDamaged when it must not be read as it is, StorageFailed when the disk refuses.
        """
        self.clock = clock
        self.rng = rng
        self.config = config
        self.counters = Counters()
        self.node_id = config.node_id
        self.host = config.host
        self.port = config.port
        self.store = Store(
            disk,
            sync=config.durability == "fsync",
            checkpoint_bytes=config.checkpoint_bytes,
            journal_allocate_bytes=config.journal_allocate_bytes,
            segment_bytes=config.segment_bytes,
        )
        self.catalog = Catalog(self.store, rng, static_configs(config, disk.describe("")))
        self.quotas = Quotas()
        self.acls = Acls()
        self.authorizer: Authorizer | None = None
        if config.authorizer:
            self.authorizer = Authorizer(
                self.acls, config.super_users, config.allow_everyone_if_no_acl_found
            )
        self.transactions = TransactionCoordinator()
        self.groups = GroupCoordinator(
            config.group_initial_rebalance_delay_ms,
            lambda name: f"{name}-{rng.uuid()}",
            GroupTopics(self.catalog, self.authorizer),
            self.catalog.configs.consumer_group,
        )
        self.credentials = Credentials()
        self.token_verifier = token_verifier
        self.attempts = Attempts()
        self.waiters = Waiters()
        self.fetch_sessions = FetchSessions()
        self.housekeeping = Housekeeping(self)
        self._open_frame = Frame()
        self._free_bytes = disk.free_bytes()
        self._check_disk_at = 0  # the journal position at which to look again
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(Record)
        self._parked: deque[Parked] = deque()  # until the journal is durable so far
        self._parked_for_write: deque[Parked] = deque()  # until its file holds so much
        self._hurried_position = 0  # what is below waits for no timer to be synced
        self._deferred_until_ms: int | None = None
        self._next_expiry_ms = clock.monotonic_ms() + _PRODUCER_EXPIRY_INTERVAL_MS
        self._applies = self._owners()
        self.recovered: Recovered = recover(self.store, self._replay, self._snapshot)
        self._begin_run()

    def _begin_run(self) -> None:
        """Found the cluster if this is the first run; abort what a power cut may have torn."""
        records: list[Record] = [] if self.catalog.cluster_id else [self.catalog.found()]
        boot_id = self.config.boot_id
        if self.catalog.power_may_have_gone(boot_id):
            records += self.transactions.after_power_loss(self.clock.now_ms())
        self.commit([*records, RunRecord(boot_id)])

    # -- requests -----------------------------------------------------------------------------

    def handle(self, connection: Connection, frame: memoryview, send: Send) -> None:
        """Take one request (without its length); `send` gets the answer, now or later.

        Raises ProtocolError: close the connection. Raises StorageFailed or InvariantBroken: stop
        the broker and answer nothing more.
        """
        sasl = connection.sasl
        if sasl is not None and sasl.state is State.RAW_EXCHANGE:
            take_raw_token(self, connection, frame, send)
            return
        header, position = decode_request_header(frame)
        if sasl is not None:
            sasl.admit(header.api_key, self.clock.monotonic_ms())
        registration = REGISTRY.get(header.api_key)
        if registration is None:
            raise ProtocolError(f"API key {header.api_key} is not served")
        if not registration.min_version <= header.api_version <= registration.max_version:
            self._refuse_version(registration, header, send)
            return
        api = API[header.api_key]
        body, _ = api.request.decode(frame, position, header.api_version)
        name_once(header.api_key, body)
        request = Request(self, connection, header, body, send)
        request.size_bytes = len(frame)
        began_ns = self.clock.monotonic_ns() if self.quotas.any_set else 0
        try:
            refusal = None if self.authorizer is None else registration.authorize(self, request)
            if refusal is None:
                registration.handle(self, request)
            else:
                request.respond(refusal)
            if began_ns:
                request.charge_time(self.clock.monotonic_ns() - began_ns)
        except (ProtocolError, StorageFailed, InvariantBroken):
            raise
        except KafkaError as error:
            self._refuse(request, error.code)
        except Exception as error:
            logger.exception("%s v%d failed", api.name, header.api_version)
            if self._open_frame.entries:
                raise InvariantBroken(
                    f"{api.name} failed in the middle of a change, which only a restart can undo"
                ) from error
            self._refuse(request, ErrorCode.UNKNOWN_SERVER_ERROR)

    def _refuse_version(
        self, registration: Registration, header: RequestHeader, send: Send
    ) -> None:
        """ApiVersions answers what it can in version 0; for all others Kafka closes."""
        if registration.key != ApiKey.API_VERSIONS:
            raise ProtocolError(
                f"{API[registration.key].name} version {header.api_version} is not served, only "
                f"{registration.min_version} to {registration.max_version}"
            )
        response = ApiVersionsResponse(
            error_code=ErrorCode.UNSUPPORTED_VERSION,
            api_keys=handlers.advertised(only=ApiKey.API_VERSIONS),
        )
        send([encode_response(header.api_key, 0, header.correlation_id, response)])

    @staticmethod
    def _refuse(request: Request[Message], code: ErrorCode) -> None:
        """Answer with the error if the response has a place for it, else close the connection."""
        response = API[request.api_key].response()
        if not hasattr(response, "error_code"):
            raise ProtocolError(f"{API[request.api_key].name} could not be answered: {code.name}")
        response.error_code = code
        request.respond(response)

    def park(self, send: Send, answer: Sequence[Buffer]) -> None:
        """Send `answer` once all that the journal holds now is durable."""
        journal = self.store.journal
        if journal.written_position == journal.durable_position:
            send(answer)
        else:
            self._parked.append((journal.written_position, send, answer))

    def park_for_write(self, send: Send, answer: Sequence[Buffer]) -> None:
        """Send `answer` once the journal's file has all that the journal holds now."""
        journal = self.store.journal
        if journal.written_position == journal.stored_position:
            send(answer)
        else:
            self._parked_for_write.append((journal.written_position, send, answer))

    # -- changes ------------------------------------------------------------------------------

    def commit(self, records: Iterable[Record], *, deferred: bool = False) -> None:
        """Append records as one atomic frame, and apply each."""
        frame = self.new_frame()
        self.add_records(frame, records)
        self.append(frame, deferred=deferred)

    def new_frame(self) -> Frame:
        """An empty frame for one request's changes, which `append` must be given."""
        self._open_frame = Frame()
        return self._open_frame

    def add_records(self, frame: Frame, records: Iterable[Record]) -> None:
        """Put records into a frame that is still to be appended, and apply each."""
        now_ms = self.clock.now_ms()
        for record in records:
            if isinstance(record, MarkerRecord):
                partition = self.catalog.partition(record.topic, record.partition)
                if partition is not None:  # a deleted partition has nothing to end
                    marker = partition.append_marker(
                        record.producer_id, record.producer_epoch, record.commit, now_ms
                    )
                    frame.add_batch(partition, marker, now_ms)
            else:
                frame.add_record(self._encode(record))
                self._apply(record)

    def append(self, frame: Frame, *, deferred: bool = False) -> None:
        """Append what one request did: a crash keeps all of it, or none.

        `deferred`: its sync may wait for the end of the transaction that it belongs to.
        """
        if frame.entries:
            self.store.append(frame)
            self._open_frame = Frame()
            if not (deferred and self.store.sync):
                self._hurried_position = self.store.journal.written_position
            elif self._deferred_until_ms is None:
                self._deferred_until_ms = self.clock.monotonic_ms() + _DEFERRED_SYNC_MS

    def commit_group(self, outcome: GroupOutcome) -> None:
        """Commit what a group operation decided, and answer all that it answers."""
        self.commit(outcome.records)
        for token, response in outcome.replies:
            if isinstance(token, Request) and isinstance(response, Message):
                token.respond(response)

    def check_disk_space(self) -> None:
        """Raise KafkaError(KAFKA_STORAGE_ERROR) while the disk is too full to take in more.

        Asked before anything is changed, so that a full disk refuses requests and stops nothing:
        what was taken in before finds room in the reserve.
        """
        if self._free_bytes < DISK_RESERVE_BYTES:
            self._free_bytes = self.store.disk.free_bytes()  # somebody may have made room
        if self._free_bytes < DISK_RESERVE_BYTES:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                f"{self.store.disk.describe('')} has {self._free_bytes} bytes free, and the broker "
                f"keeps {DISK_RESERVE_BYTES} in reserve: free some space there",
            )

    def _replay(self, encoded: bytes) -> None:
        self._apply(self._decoder.decode(encoded))

    def _apply(self, record: Record) -> None:
        self._applies[type(record)](record)

    def _owners(self) -> dict[type, Callable[[Any], None]]:
        """What applies the records of each type."""
        return {
            **dict.fromkeys(_TRANSACTION_RECORDS, self.transactions.apply),
            **dict.fromkeys(_GROUP_RECORDS, self.groups.apply),
            **dict.fromkeys(_CATALOG_RECORDS, self.catalog.apply),
            **dict.fromkeys(_CREDENTIAL_RECORDS, self.credentials.apply),
            **dict.fromkeys((Acl, AclDeleted), self.acls.apply),
            QuotaRecord: self.quotas.apply,
            LogStartRecord: self.store.raise_log_start,
        }

    def _snapshot(self) -> list[bytes]:
        records: list[Record] = [
            *self.catalog.snapshot(),
            *self.transactions.snapshot(),
            *self.groups.snapshot(),
            *self.acls.snapshot(),
            *self.quotas.snapshot(),
            *self.credentials.snapshot(),
        ]
        return [self._encode(record) for record in records]

    def wake(self, partitions: Iterable[Partition]) -> None:
        """Fetches that wait for these partitions look again."""
        self.waiters.wake(partitions)

    # -- what drives it -----------------------------------------------------------------------

    @property
    def sync_wanted(self) -> bool:
        """There is something that waits for a write or a sync."""
        return self.store.write_wanted or self.sync_is_due

    @property
    def sync_is_due(self) -> bool:
        """What waits for a sync does not wait any longer."""
        return self.store.sync_wanted and (
            bool(self._parked)
            or self.store.journal.durable_position < self._hurried_position
            or self._deferred_until_ms is None
        )

    @property
    def parked_answers(self) -> int:
        """How many answers wait for a write or a sync."""
        return len(self._parked) + len(self._parked_for_write)

    def begin_sync(self) -> SyncTicket | None:
        """Take all that was appended; None when there is nothing. One ticket at a time.

        The ticket only writes when all that waits for a sync can wait longer.
        """
        if self.sync_is_due:
            self._deferred_until_ms = None
            return self.store.begin_sync(self._snapshot)
        return self.store.begin_write() if self.store.write_wanted else None

    def hurry(self) -> None:
        """Let the next sync wait for no timer."""
        self._deferred_until_ms = None

    def complete_sync(self, ticket: SyncTicket) -> None:
        """The ticket has run: release the answers that waited for it, wake fetches."""
        risen = self.store.complete_sync(ticket)
        durable_position = self.store.journal.durable_position
        if durable_position >= self._check_disk_at:
            self._check_disk_at = durable_position + _DISK_CHECK_BYTES
            self._free_bytes = self.store.disk.free_bytes()
        _release(self._parked_for_write, self.store.journal.stored_position)
        _release(self._parked, durable_position)
        self.waiters.wake(risen)

    def begin_checkpoint(self) -> CheckpointTicket | None:
        """A checkpoint whose `run` should be called in another thread, or None."""
        return self.store.begin_checkpoint()

    def complete_checkpoint(self) -> None:
        """The checkpoint has run."""
        self.store.complete_checkpoint()

    def next_deadline_ms(self) -> int | None:
        """When `on_timer` should be called next, in the clock's monotonic milliseconds."""
        monotonic_ms = self.clock.monotonic_ms()
        deadlines = [
            self._next_expiry_ms,
            self.waiters.next_deadline_ms(),
            self.groups.next_deadline_ms(),
            self.housekeeping.next_deadline_ms(),
            self._deferred_until_ms,
        ]
        wall_deadline_ms = self.transactions.next_deadline_ms()
        if wall_deadline_ms is not None:
            deadlines.append(monotonic_ms + wall_deadline_ms - self.clock.now_ms())
        return min(deadline for deadline in deadlines if deadline is not None)

    def on_timer(self) -> None:
        """Do what is due: fetches, sessions, transaction time-outs, forgotten producers."""
        monotonic_ms, now_ms = self.clock.monotonic_ms(), self.clock.now_ms()
        if self._deferred_until_ms is not None and self._deferred_until_ms <= monotonic_ms:
            self.hurry()
        self.waiters.expire(monotonic_ms)
        self.commit_group(self.groups.on_timer(monotonic_ms))
        timed_out = self.transactions.on_timer(now_ms)
        self.commit(timed_out.records)
        self.counters.ended[Ending.TIMED_OUT] += len(timed_out.reply)
        self.housekeeping.on_timer()
        if monotonic_ms >= self._next_expiry_ms:
            self._next_expiry_ms = monotonic_ms + _PRODUCER_EXPIRY_INTERVAL_MS
            for partitions in self.store.partitions.values():
                for partition in partitions:
                    partition.producers.expire(now_ms)

    def connection_opened(self, connection: Connection) -> None:
        """A client has connected."""
        logger.debug("connection %d from %s", connection.id, connection.client_host)

    def connection_closed(self, connection: Connection) -> None:
        """A client has gone: what is parked for it is sent to nobody."""
        logger.debug("connection %d closed", connection.id)

    def close(self) -> None:
        """Sync, write a checkpoint, close the files: the next start has nothing to replay."""
        self.commit([RunRecord(None)])
        self.hurry()
        while self.sync_wanted:
            self._sync_now()
        self.store.request_checkpoint()
        self._sync_now()
        self.store.close()

    def _sync_now(self) -> None:
        ticket = self.begin_sync()
        if ticket is not None:
            ticket.run()
            self.complete_sync(ticket)
        checkpoint = self.begin_checkpoint()
        if checkpoint is not None:
            checkpoint.run()
            self.complete_checkpoint()


def _release(parked: deque[Parked], position: int) -> None:
    """Send the answers that waited for this position."""
    while parked and parked[0][0] <= position:
        _, send, answer = parked.popleft()
        send(answer)
