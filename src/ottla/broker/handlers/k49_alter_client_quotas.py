"""AlterClientQuotas: v0-1.

Behaviour: each entity has its own answer, durable before it is given. `validate_only` changes
nothing.
Divergences: addresses are numbers. A host's name is refused like one that cannot be resolved.
"""

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.quotas import Entity, QuotaRecord
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntryData,
    EntryResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(49, 0, 1)
def handle(broker: "Broker", request: "Request[AlterClientQuotasRequest]") -> None:
    body = request.body
    results = []
    records: list[QuotaRecord] = []
    named = Counter(_entity(entry) for entry in body.entries)
    for entry in body.entries:
        code, text = ErrorCode.NONE, ""
        try:
            if named[_entity(entry)] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Ignoring duplicate entity")
            records += _alter(broker, entry)
        except KafkaError as error:
            code, text = error.code, error.message
        results.append(EntryResult(code, text, entry.entity))
    if not body.validate_only:
        broker.commit(records)
    request.respond(AlterClientQuotasResponse(entries=results))


def _alter(broker: "Broker", entry: EntryData) -> list[QuotaRecord]:
    broker.check_disk_space()
    changes = [(op.key, None if op.remove else op.value) for op in entry.ops]
    return broker.quotas.alter(_entity(entry), changes)


def _entity(entry: EntryData) -> Entity:
    return tuple(
        sorted(
            ((one.entity_type, one.entity_name) for one in entry.entity),
            key=lambda named: (named[0], named[1] or ""),
        )
    )
