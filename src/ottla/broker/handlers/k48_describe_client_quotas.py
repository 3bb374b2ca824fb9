"""DescribeClientQuotas: v0-1.

Behaviour: the quotas of the entities that every component of the filter matches.
"""

from typing import TYPE_CHECKING

from ottla.broker.quota_configs import check_components
from ottla.broker.quotas import Match
from ottla.broker.registry import api
from ottla.ports.errors import KafkaError
from ottla.wire.messages.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(48, 0, 1)
def handle(broker: "Broker", request: "Request[DescribeClientQuotasRequest]") -> None:
    body = request.body
    try:
        check_components([(one.entity_type, one.match_type, one.match) for one in body.components])
    except KafkaError as error:
        request.respond_now(
            DescribeClientQuotasResponse(
                error_code=error.code, error_message=error.message, entries=None
            )
        )
        return
    components = [(one.entity_type, Match(one.match_type), one.match) for one in body.components]
    request.respond(
        DescribeClientQuotasResponse(
            error_message=None,
            entries=[
                EntryData(
                    entity=[EntityData(kind, name) for kind, name in entity],
                    values=[ValueData(key, value) for key, value in values.items()],
                )
                for entity, values in broker.quotas.describe(components, strict=body.strict).items()
            ],
        )
    )
