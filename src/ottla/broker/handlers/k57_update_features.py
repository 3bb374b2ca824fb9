"""UpdateFeatures: v0-2.

Behaviour: changes the finalised levels of features, all that are named or none, durable before the
answer; ApiVersions tells them from then on. `validate_only` changes nothing.
Versions: v0 allow_downgrade, v1 upgrade types and validate_only; until v1 an answer for each
feature, v2 one for all (KIP-1022).
Divergences: metadata.version cannot be changed: there is no older broker to go back to.
"""

from typing import TYPE_CHECKING

from ottla.broker.features import SAFE_DOWNGRADE, UPGRADE
from ottla.broker.registry import api
from ottla.ports.errors import ErrorCode, KafkaError, error_text
from ottla.wire.messages.update_features import (
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_TYPES_VERSION = 1
_NO_RESULTS_VERSION = 2


@api(57, 0, 2)
def handle(broker: "Broker", request: "Request[UpdateFeaturesRequest]") -> None:
    body = request.body
    updates = []
    for one in body.feature_updates:
        upgrade_type = one.upgrade_type
        if request.version < _TYPES_VERSION:
            upgrade_type = SAFE_DOWNGRADE if one.allow_downgrade else UPGRADE
        updates.append((one.feature, one.max_version_level, upgrade_type))
    try:
        record = broker.catalog.features.update(updates)
        if not body.validate_only and record.levels != broker.catalog.features.levels:
            broker.check_disk_space()
            broker.commit([record])
    except KafkaError as error:
        request.respond(
            UpdateFeaturesResponse(error_code=error.code, error_message=error_text(error))
        )
        return
    named = body.feature_updates if request.version < _NO_RESULTS_VERSION else []
    request.respond(
        UpdateFeaturesResponse(
            error_code=ErrorCode.NONE,
            error_message=None,
            results=[UpdatableFeatureResult(one.feature, ErrorCode.NONE, "NONE") for one in named],
        )
    )
