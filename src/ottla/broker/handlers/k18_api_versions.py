"""ApiVersions: v0-4.

Behaviour: tells what is served, computed from the registrations, and the finalised features.
`transaction.version` 2 lets clients use KIP-890: an epoch per transaction, implicit adding of
partitions.
Versions: v3 flexible, with features; features with minimum 0 only from v4 on (KAFKA-17011). The
header of the answer is version 0 always. A version that is not known is answered in version 0 with
UNSUPPORTED_VERSION, in `Broker.handle`.
"""

import re
from typing import TYPE_CHECKING

from ottla.broker.handlers import advertised
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.api_versions import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_TRANSACTION_VERSION = 2


@api(18, 0, 4)
def handle(broker: "Broker", request: "Request[ApiVersionsRequest]") -> None:
    body = request.body
    if request.version >= 3 and not (
        _SOFTWARE.fullmatch(body.client_software_name)
        and _SOFTWARE.fullmatch(body.client_software_version)
    ):
        request.respond_now(ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST))
        return
    supported = []
    if request.version >= 4:
        supported.append(
            SupportedFeatureKey(
                name="transaction.version", min_version=0, max_version=_TRANSACTION_VERSION
            )
        )
    request.respond_now(
        ApiVersionsResponse(
            api_keys=advertised(),
            supported_features=supported,
            finalized_features_epoch=1,
            finalized_features=[
                FinalizedFeatureKey(
                    name="transaction.version",
                    max_version_level=_TRANSACTION_VERSION,
                    min_version_level=_TRANSACTION_VERSION,
                )
            ],
        )
    )
