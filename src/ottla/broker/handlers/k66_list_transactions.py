"""ListTransactions: v0-1 (KIP-664).

Behaviour: all TransactionalIds, or those in some states, of some producer ids, or (v1, KIP-994)
that began more than so many milliseconds ago.
Versions: not v2 (KIP-1152): its pattern is a regular expression, and one from a client could keep
the broker busy for good.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.coordinator.transaction_states import TransactionState as State
from ottla.wire.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_STATES = frozenset(state.label for state in State)


@api(66, 0, 1)
def handle(broker: "Broker", request: "Request[ListTransactionsRequest]") -> None:
    body, now_ms = request.body, broker.clock.now_ms()
    states, producer_ids = set(body.state_filters), set(body.producer_id_filters)
    listed = [
        TransactionState(
            transactional_id=record.transactional_id,
            producer_id=record.producer_id,
            transaction_state=State(record.state).label,
        )
        for record in broker.transactions.transactions()
        if (not producer_ids or record.producer_id in producer_ids)
        and (not states or State(record.state).label in states)
        and (body.duration_filter < 0 or now_ms - record.start_timestamp_ms > body.duration_filter)
    ]
    request.respond(
        ListTransactionsResponse(
            unknown_state_filters=[name for name in body.state_filters if name not in _STATES],
            transaction_states=listed,
        )
    )
