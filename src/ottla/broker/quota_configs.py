"""Which quotas there are, for which entities, and what they may be: as in Apache Kafka 4.3."""

import ipaddress
import math
from collections import Counter
from collections.abc import Sequence

from ottla.ports.errors import ErrorCode, KafkaError

_LONG_MAX = 9_223_372_036_854_775_807
_INT_MAX = 2_147_483_647
_USER, _CLIENT_ID, _IP = "user", "client-id", "ip"

# The largest value; None for a number that need not be whole.
_OF_CLIENTS: dict[str, int | None] = {
    "producer_byte_rate": _LONG_MAX,
    "consumer_byte_rate": _LONG_MAX,
    "request_percentage": None,
    "controller_mutation_rate": None,
}
_OF_ADDRESSES: dict[str, int | None] = {"connection_creation_rate": _INT_MAX}


def check_entity(entity: Sequence[tuple[str, str | None]]) -> None:
    """Raise KafkaError(INVALID_REQUEST) for an entity that can have no quota."""
    if not entity:
        raise _invalid("Invalid empty client quota entity")
    kinds = Counter(kind for kind, _ in entity)
    for kind, name in entity:
        if kind not in (_USER, _CLIENT_ID, _IP):
            raise _invalid(f"Unhandled client quota entity type: {kind}")
        if kinds[kind] > 1:
            raise _invalid(f"Invalid client quota entity, duplicate entity entry {kind}")
        if name is not None and not name:
            raise _invalid(f"Empty {kind} not supported")
    if _IP in kinds and len(kinds) > 1:
        raise _invalid(
            "Invalid quota entity combination, IP entity should not be combined with User or "
            "ClientId"
        )
    if _IP in kinds and entity[0][1] is not None and canonical_address(entity[0][1]) is None:
        raise _invalid(f"{entity[0][1]} is not a valid IP or resolvable host.")


def canonical_address(name: str) -> str | None:
    """An address in the one form in which addresses are compared; None if it is none."""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def check_alterations(
    entity: Sequence[tuple[str, str | None]], changes: Sequence[tuple[str, float | None]]
) -> None:
    """Raise KafkaError(INVALID_REQUEST) for a quota that the entity cannot have."""
    known = _OF_ADDRESSES if entity[0][0] == _IP else _OF_CLIENTS
    keys = Counter(key for key, _ in changes)
    for key, value in changes:
        if keys[key] > 1:
            raise _invalid(f"Duplicate quota key {key} not updating quota for this entity")
        if value is not None:
            _check_value(known, key, value)


def _check_value(known: dict[str, int | None], key: str, value: float) -> None:
    if key not in known:
        raise _invalid(f"Invalid configuration key {key}")
    if not value > 0.0 or math.isinf(value):
        raise _invalid(f"Quota {key} must be greater than 0")
    largest = known[key]
    if largest is not None:
        if value > largest:
            kind = "an INT" if largest == _INT_MAX else "a LONG"
            raise _invalid(f"Proposed value for {key} is too large for {kind}.")
        if abs(value % 1.0) > 1e-6:
            raise _invalid(f"{key} cannot be a fractional value.")


def check_components(components: Sequence[tuple[str, int, str | None]]) -> None:
    """Raise KafkaError as DescribeClientQuotas answers to components that cannot be."""
    kinds = Counter(kind for kind, _, _ in components)
    for kind, match, name in components:
        if not kind:
            raise _invalid("Invalid empty entity type.")
        if kinds[kind] > 1:
            raise _invalid(f"Entity type {kind} cannot appear more than once in the filter.")
        if kind not in (_USER, _CLIENT_ID, _IP):
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION, f"Custom entity type '{kind}' not supported"
            )
        if match == 0 and name is None:
            raise _invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        if match in (1, 2) and name is not None:
            told = "MATCH_TYPE_DEFAULT" if match == 1 else "MATCH_TYPE_SPECIFIED"
            raise _invalid(f"Request specified {told}, but also specified a match string.")
        if match not in (0, 1, 2):
            raise _invalid(f"Unknown match type {match}")
    if _IP in kinds and len(kinds) > 1:
        raise _invalid(
            "Invalid entity filter component combination, IP filter component should not be used "
            "with user or clientId filter component."
        )


def _invalid(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, text)
