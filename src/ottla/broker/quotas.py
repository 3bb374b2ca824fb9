"""Client quotas: how much a user or a client id may use, and how long it then has to wait.

A quota is set for an entity: a user, a client id, both together, or the default of either. The
most particular one that is set counts, in Kafka's order:

    user + client id, user + default client id, user,
    default user + client id, default user + default client id, default user,
    client id, default client id

All connections of an entity share what it measures: a quota for a user is one for all its client
ids together, one for client ids is the same for whoever uses them. An address may have a quota of
its own, or the default of all addresses, for the connections that come from it (KIP-612).

Bytes produced and fetched and the time of request handling are rates over eleven windows of a
second (quota.window.num). Partitions made and removed fill a bucket of tokens (KIP-599), so that a
burst is allowed and what comes after it refused. The wait is as long as it takes until the rate is
within the quota again; the client is told (`throttle_time_ms`), and its connection not read
(KIP-219).

Nothing is measured for whom no quota is set.
"""

from collections import OrderedDict, deque
from enum import IntEnum

import msgspec

from ottla.broker.quota_configs import canonical_address, check_alterations, check_entity
from ottla.ports.limits import QUOTA_METERS_MAX

USER, CLIENT_ID, ADDRESS = "user", "client-id", "ip"
PRODUCER_BYTE_RATE = "producer_byte_rate"
CONSUMER_BYTE_RATE = "consumer_byte_rate"
REQUEST_PERCENTAGE = "request_percentage"
CONTROLLER_MUTATION_RATE = "controller_mutation_rate"
CONNECTION_CREATION_RATE = "connection_creation_rate"

REQUEST_THROTTLE_MS_MAX = 1_000  # a wait for request_percentage is at most one window
_CONNECTION_THROTTLE_MS_MAX = 1_000  # so is the wait of a connection

_WINDOWS = 11  # quota.window.num
_WINDOW_MS = 1_000  # quota.window.size.seconds

Entity = tuple[tuple[str, str | None], ...]  # types and names, by type; None is the default


class QuotaRecord(msgspec.Struct, tag="quota", frozen=True, array_like=True):
    """An entity has this quota from here on; None: it has it no longer."""

    entity: Entity
    key: str
    value: float | None


class Match(IntEnum):
    """How DescribeClientQuotas names entities of a type."""

    EXACT = 0
    DEFAULT = 1
    ANY = 2


class Quotas:
    """All quotas, and what has been used of them."""

    def __init__(self) -> None:
        self._values: dict[Entity, dict[str, float]] = {}
        self._of_addresses: dict[str | None, float] = {}  # None: the default
        self._set: frozenset[str] = frozenset()  # the keys that any entity has
        self._rates: OrderedDict[tuple[str, str | None, str | None], _Rate | _Bucket] = (
            OrderedDict()
        )

    # -- what is set ----------------------------------------------------------------------------

    def alter(self, entity: Entity, changes: list[tuple[str, float | None]]) -> list[QuotaRecord]:
        """The records of what changes. Raises KafkaError as AlterClientQuotas answers."""
        check_entity(entity)
        check_alterations(entity, changes)
        current = self._values.get(entity, {})
        return [
            QuotaRecord(entity, key, value) for key, value in changes if current.get(key) != value
        ]

    def apply(self, record: QuotaRecord) -> None:
        entity = tuple((kind, name) for kind, name in record.entity)
        values = self._values.setdefault(entity, {})
        if record.value is None:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
        if not values:
            del self._values[entity]
        if entity[0][0] == ADDRESS:
            self._of_addresses = {
                name and (canonical_address(name) or name): values[CONNECTION_CREATION_RATE]
                for ((kind, name), *_), values in self._values.items()
                if kind == ADDRESS
            }
        self._set = frozenset(key for values in self._values.values() for key in values)
        self._rates.clear()

    def snapshot(self) -> list[QuotaRecord]:
        """The records that rebuild the quotas."""
        return [
            QuotaRecord(entity, key, value)
            for entity, values in self._values.items()
            for key, value in values.items()
        ]

    def describe(
        self, components: list[tuple[str, Match, str | None]], *, strict: bool
    ) -> dict[Entity, dict[str, float]]:
        """The entities that all components match; `strict`: and that have no other type."""
        found = {}
        for entity, values in self._values.items():
            named = dict(entity)
            if strict and len(named) != len(components):
                continue
            if all(_matches(named, *component) for component in components):
                found[entity] = values
        return found

    # -- what is used ---------------------------------------------------------------------------

    @property
    def any_set(self) -> bool:
        """Whether anybody has any quota."""
        return bool(self._set)

    def is_set(self, key: str) -> bool:
        """Whether anybody has a quota of this kind."""
        return key in self._set

    def charge(self, key: str, principal: str, client_id: str, amount: float, now_ms: int) -> int:
        """Count what a client has used; how long it has to wait, in milliseconds."""
        found = self._limit(key, principal, client_id)
        if found is None:
            return 0
        limit, meter = found
        meter.record(amount, now_ms)
        return meter.throttle_ms(limit, now_ms)

    def throttle_ms(self, key: str, principal: str, client_id: str, now_ms: int) -> int:
        """How long a client has to wait for what it has used already."""
        found = self._limit(key, principal, client_id)
        return 0 if found is None else found[1].throttle_ms(found[0], now_ms)

    def connection_throttle_ms(self, host: str, now_ms: int) -> int:
        """Count a connection from an address, or tell for how long it is one too many.

        One that is too many does not count.
        """
        if not self._of_addresses:
            return 0
        address = canonical_address(host)
        limit = self._of_addresses.get(address, self._of_addresses.get(None))
        if limit is None:
            return 0
        meter = self._meter(CONNECTION_CREATION_RATE, limit, address, None)
        meter.record(1, now_ms)
        throttle_ms = min(meter.throttle_ms(limit, now_ms), _CONNECTION_THROTTLE_MS_MAX)
        if throttle_ms:
            meter.record(-1, now_ms)
        return throttle_ms

    def _limit(
        self, key: str, principal: str, client_id: str
    ) -> "tuple[float, _Rate | _Bucket] | None":
        """The quota that counts for a client, and the meter of all that share it."""
        if key not in self._set:
            return None
        user = principal.partition(":")[2]
        for entity, share in _candidates(user, client_id):
            limit = self._values.get(entity, {}).get(key)
            if limit is not None:
                return limit, self._meter(key, limit, *share)
        return None

    def _meter(
        self, key: str, limit: float, user: str | None, client_id: str | None
    ) -> "_Rate | _Bucket":
        """The meter, made at its first use; the one that was used longest ago makes room."""
        name = (key, user, client_id)
        meter = self._rates.get(name)
        if meter is None:
            meter = _Bucket(limit) if key == CONTROLLER_MUTATION_RATE else _Rate()
            self._rates[name] = meter
            if len(self._rates) > QUOTA_METERS_MAX:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(name)
        return meter


def _matches(named: dict[str, str | None], kind: str, match: Match, name: str | None) -> bool:
    if kind not in named:
        return False
    if match is Match.EXACT:
        return named[kind] == name
    return match is Match.ANY or named[kind] is None


def _candidates(user: str, client_id: str) -> list[tuple[Entity, tuple[str | None, str | None]]]:
    """The entities that may speak for a client, and who shares the meter of each."""
    both = (user, client_id)
    return [
        *(
            (((CLIENT_ID, client), (USER, name)), both)
            for name in (user,)
            for client in (client_id, None)
        ),
        (((USER, user),), (user, None)),
        *((((CLIENT_ID, client), (USER, None)), both) for client in (client_id, None)),
        (((USER, None),), (user, None)),
        *((((CLIENT_ID, client),), (None, client_id)) for client in (client_id, None)),
    ]


class _Rate:
    """An amount a second, over the last windows; the time before the first counts as idle."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: deque[list[float]] = deque()  # when each began, and what it has

    def record(self, amount: float, now_ms: int) -> None:
        windows = self._windows
        if windows and now_ms - windows[-1][0] < _WINDOW_MS:
            windows[-1][1] += amount
        else:
            windows.append([now_ms, amount])

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        windows = self._windows
        while windows and now_ms - windows[0][0] >= _WINDOWS * _WINDOW_MS:
            windows.popleft()
        if not windows:
            return 0
        elapsed_ms = now_ms - windows[0][0]
        missing = _WINDOWS - 1 - int(elapsed_ms // _WINDOW_MS)
        elapsed_ms += max(missing, 0) * _WINDOW_MS
        rate = sum(amount for _, amount in windows) * 1_000 / elapsed_ms
        return max(round((rate - limit) / limit * elapsed_ms), 0)


class _Bucket:
    """Tokens that drip in at the rate of the quota; what is taken out may leave a debt."""

    __slots__ = ("_filled_ms", "_limit", "_tokens")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._tokens = limit * _WINDOWS * _WINDOW_MS / 1_000
        self._filled_ms: int | None = None

    def record(self, amount: float, now_ms: int) -> None:
        self._fill(now_ms)
        self._tokens -= amount

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        self._fill(now_ms)
        return max(round(-self._tokens / limit * 1_000), 0)

    def _fill(self, now_ms: int) -> None:
        if self._filled_ms is not None:
            burst = self._limit * _WINDOWS * _WINDOW_MS / 1_000
            filled = self._tokens + self._limit * (now_ms - self._filled_ms) / 1_000
            self._tokens = min(burst, filled)
        self._filled_ms = now_ms
