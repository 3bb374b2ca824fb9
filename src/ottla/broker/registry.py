"""Which API keys are served, at which versions, by which function.

Each file in `handlers` registers one key when it is imported; ApiVersions is computed from this
table, so that it cannot promise what is not there. The right that it asks for is a field of the
same table: a key without a rule in `ottla.broker.rules` cannot be registered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.broker.rules import RULES
from ottla.broker.rules.rule import Rule
from ottla.ports.invariants import invariant

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

Handle = Callable[["Broker", "Request[Any]"], None]
H = TypeVar("H", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Registration:
    """One served API key. `min_advertised` differs from `min_version` for Produce (KAFKA-18659)."""

    key: int
    min_version: int
    max_version: int
    min_advertised: int
    handle: Handle
    authorize: Rule


REGISTRY: dict[int, Registration] = {}


def api(
    key: int, min_version: int, max_version: int, *, min_advertised: int | None = None
) -> Callable[[H], H]:
    """Register the decorated function as the handler of `key` at these versions.

    The function gets the broker and the request, and sees to it that the request is answered
    exactly once, now or later. A KafkaError that leaves it becomes UNKNOWN_SERVER_ERROR.
    """

    def register(handle: H) -> H:
        invariant(key not in REGISTRY, "an API key is registered once", key=key)
        invariant(
            key in RULES,
            "an API key has a rule that says which right it asks for: write one in "
            "ottla/broker/rules (it takes out of the request what the principal may not touch, or "
            "returns the refusal) and add it to RULES there",
            key=key,
        )
        lowest = min_version if min_advertised is None else min_advertised
        REGISTRY[key] = Registration(key, min_version, max_version, lowest, handle, RULES[key])
        return handle

    return register
