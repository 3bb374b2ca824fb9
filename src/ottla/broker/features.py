"""Finalised features (KIP-584): which versions of its own ways this broker tells clients to use.

`transaction.version` 2 lets clients use KIP-890: an epoch for each transaction, and partitions that
are added by writing to them. `group.version` 1 is there when the consumer groups of KIP-848 are
served. `metadata.version` is that of Apache Kafka 4.3, for tools that read it; nothing depends on
it here, so it cannot be changed. A level that was changed (UpdateFeatures) is durable.
"""

import msgspec

from ottla.broker.registry import REGISTRY
from ottla.ports.errors import ErrorCode, KafkaError
from ottla.wire.api import ApiKey

METADATA_VERSION = "metadata.version"
TRANSACTION_VERSION = "transaction.version"
GROUP_VERSION = "group.version"
_METADATA_LEVELS = (7, 30)  # 3.3-IV3 to 4.3-IV0
UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3
_INITIAL_EPOCH = 1


class FeaturesRecord(msgspec.Struct, tag="features", frozen=True, array_like=True):
    """The levels that differ from the highest supported ones, and how often levels were changed."""

    levels: dict[str, int]
    epoch: int


def supported() -> dict[str, tuple[int, int]]:
    """The lowest and the highest level of each feature."""
    levels = {METADATA_VERSION: _METADATA_LEVELS, TRANSACTION_VERSION: (0, 2)}
    if ApiKey.CONSUMER_GROUP_HEARTBEAT in REGISTRY:
        levels[GROUP_VERSION] = (0, 1)
    return levels


class Features:
    """The finalised levels."""

    def __init__(self, node: str) -> None:
        """`node`: the number of this node, for Kafka's words."""
        self._node = node
        self.epoch = _INITIAL_EPOCH
        self.levels: dict[str, int] = {}

    def level(self, name: str) -> int:
        """The finalised level; 0: not in use."""
        return self.levels.get(name, supported().get(name, (0, 0))[1])

    def finalized(self) -> dict[str, int]:
        """The levels of all features in use."""
        levels = {name: self.level(name) for name in supported()}
        return {name: level for name, level in levels.items() if level > 0}

    def update(self, updates: list[tuple[str, int, int]]) -> FeaturesRecord:
        """The record of new levels: name, level, type of upgrade. Raises KafkaError."""
        levels = dict(self.levels)
        for name, level, upgrade_type in updates:
            self._check(name, level, upgrade_type)
            if level != self.level(name):
                levels[name] = level
        return FeaturesRecord(levels, self.epoch + 1)

    def _check(self, name: str, level: int, upgrade_type: int) -> None:
        reason = self._refusal(name, level, upgrade_type)
        if not reason and name == METADATA_VERSION and level != self.level(name):
            raise _refused(
                f"Unsupported metadata.version downgrade from {self.level(name)} to {level}. "
                "Refusing to perform the requested downgrade because it might delete metadata "
                "information."
            )
        if reason:
            raise _refused(f"Invalid update version {level} for feature {name}. {reason}")

    def _refusal(self, name: str, level: int, upgrade_type: int) -> str:
        if upgrade_type not in (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE):
            return "The controller does not support the given upgrade type."
        if level < 0:
            return "A feature version cannot be less than 0."
        levels = supported().get(name)
        if levels is None and level == 0:
            return f"Feature {name} not found."
        if levels is None:
            return f"Local controller {self._node} does not support this feature."
        if not levels[0] <= level <= levels[1]:
            return f"Local controller {self._node} only supports versions {levels[0]}-{levels[1]}"
        if level < self.level(name) and upgrade_type == UPGRADE:
            return (
                "Can't downgrade the version of this feature without setting the upgrade type to "
                "either safe or unsafe downgrade."
            )
        if level > self.level(name) and upgrade_type != UPGRADE:
            return "Can't downgrade to a newer version."
        return ""

    def apply(self, record: FeaturesRecord) -> None:
        self.levels, self.epoch = record.levels, record.epoch

    def snapshot(self) -> list[FeaturesRecord]:
        """The records that rebuild this state."""
        return [FeaturesRecord(self.levels, self.epoch)] if self.levels else []


def _refused(reason: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_UPDATE_VERSION,
        f"The update failed for all features since the following feature had an error: {reason}",
    )
