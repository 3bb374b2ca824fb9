"""ApiVersions: v0-4.

Behaviour: tells what is served, computed from the registrations, and the finalised features
(`ottla.broker.features`).
Versions: v3 flexible, with features; features with minimum 0 only from v4 on (KAFKA-17011). The
header of the answer is version 0 always. A version that is not known is answered in version 0 with
UNSUPPORTED_VERSION, in `Broker.handle`.
"""

import re
from typing import TYPE_CHECKING

from ottla.broker.features import supported
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
_FROM_ZERO_VERSION = 4


@api(18, 0, 4)
def handle(broker: "Broker", request: "Request[ApiVersionsRequest]") -> None:
    body = request.body
    if request.version >= 3 and not (
        _SOFTWARE.fullmatch(body.client_software_name)
        and _SOFTWARE.fullmatch(body.client_software_version)
    ):
        request.respond_now(ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST))
        return
    features = broker.catalog.features
    request.respond_now(
        ApiVersionsResponse(
            api_keys=advertised(),
            supported_features=[
                SupportedFeatureKey(name=name, min_version=least, max_version=most)
                for name, (least, most) in sorted(supported().items())
                if least > 0 or request.version >= _FROM_ZERO_VERSION
            ],
            finalized_features_epoch=features.epoch,
            finalized_features=[
                FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
                for name, level in sorted(features.finalized().items())
            ],
        )
    )
