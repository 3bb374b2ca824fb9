"""What all rules are made of."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.ports.errors import ErrorCode
from ottla.wire.api import API
from ottla.wire.message import Message

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

Rule = Callable[["Broker", "Request[Any]"], Message | None]
T = TypeVar("T")

TOPIC_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
GROUP_DENIED = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER_DENIED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TRANSACTIONAL_ID_DENIED = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

MESSAGES = {
    TOPIC_DENIED: "Topic authorization failed.",
    GROUP_DENIED: "Group authorization failed.",
    CLUSTER_DENIED: "Cluster authorization failed.",
    TRANSACTIONAL_ID_DENIED: "Transactional Id authorization failed.",
}


def anyone(broker: "Broker", request: "Request[Any]") -> Message | None:
    """No right is needed."""
    return None


def in_handler(broker: "Broker", request: "Request[Any]") -> Message | None:
    """The handler asks `request.access` itself."""
    return None


def part(items: Sequence[T], allowed: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """What is allowed, and what is not."""
    yes: list[T] = []
    no: list[T] = []
    for item in items:
        (yes if allowed(item) else no).append(item)
    return yes, no


def refusal(request: "Request[Any]", code: ErrorCode) -> Message:
    """The answer of an API whose response has one error for all of it."""
    response: Any = API[request.api_key].response()
    response.error_code = code
    if hasattr(response, "error_message"):
        response.error_message = MESSAGES[code]
    return response  # type: ignore[no-any-return]
