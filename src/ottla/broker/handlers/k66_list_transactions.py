"""ListTransactions: v0-2 (KIP-664).

Behaviour: all TransactionalIds, or those in some states, of some producer ids, that began more than
so many milliseconds ago, whose whole name a pattern matches.
Versions: v1 the duration (KIP-994), v2 the pattern (KIP-1152). It is RE2, as in Kafka: its time
grows with the name and the pattern, and not beyond, so that no client's pattern keeps the broker
busy. One that is not RE2, or too large, is INVALID_REGULAR_EXPRESSION.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import re2

from ottla.broker.registry import api
from ottla.coordinator.transaction_states import TransactionState as State
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import PATTERN_BYTES_MAX
from ottla.wire.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_STATES = frozenset(state.label for state in State)
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1_048_576


@api(66, 0, 2)
def handle(broker: "Broker", request: "Request[ListTransactionsRequest]") -> None:
    body, now_ms = request.body, broker.clock.now_ms()
    states, producer_ids = set(body.state_filters), set(body.producer_id_filters)
    try:
        matches = _matcher(body.transactional_id_pattern)
    except KafkaError as error:
        request.respond(ListTransactionsResponse(error_code=error.code))
        return
    listed = [
        TransactionState(
            transactional_id=record.transactional_id,
            producer_id=record.identity_in_log[0],
            transaction_state=State(record.state).label,
        )
        for record in broker.transactions.transactions()
        if (not producer_ids or record.identity_in_log[0] in producer_ids)
        and (not states or State(record.state).label in states)
        and (body.duration_filter < 0 or now_ms - record.start_timestamp_ms > body.duration_filter)
        and matches(record.transactional_id)
    ]
    request.respond(
        ListTransactionsResponse(
            unknown_state_filters=[name for name in body.state_filters if name not in _STATES],
            transaction_states=listed,
        )
    )


def _matcher(pattern: str | None) -> Callable[[str], bool]:
    """Is a name matched by the pattern, all of it? Raises KafkaError."""
    if not pattern:
        return lambda _name: True
    if len(pattern) > PATTERN_BYTES_MAX:
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, "the pattern is too long")
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, str(error)) from error
    return lambda name: compiled.fullmatch(name) is not None
