"""What the principal behind one request may do: the authorizer, asked in its name.

Without an authorizer everything is allowed, as in Kafka. Rules (`ottla.broker.rules`) and the few
handlers that must ask for each topic themselves get it as `request.access`.
"""

from ottla.broker.authorizer import (
    CLUSTER_NAME,
    SUPPORTED_OPERATIONS,
    Authorizer,
    Operation,
    ResourceType,
)

NOT_ASKED_FOR = -(1 << 31)  # of an authorized-operations field


class Access:
    """The rights of one principal on one host."""

    __slots__ = ("_authorizer", "_host", "_principal")

    def __init__(self, authorizer: Authorizer | None, principal: str, host: str) -> None:
        self._authorizer = authorizer
        self._principal = principal
        self._host = host

    def allows(self, operation: Operation, kind: ResourceType, name: str) -> bool:
        if self._authorizer is None:
            return True
        return self._authorizer.authorize(self._principal, self._host, operation, kind, name)

    def topic(self, operation: Operation, name: str) -> bool:
        return self.allows(operation, ResourceType.TOPIC, name)

    def group(self, operation: Operation, name: str) -> bool:
        return self.allows(operation, ResourceType.GROUP, name)

    def transactional_id(self, operation: Operation, name: str) -> bool:
        return self.allows(operation, ResourceType.TRANSACTIONAL_ID, name)

    def cluster(self, operation: Operation) -> bool:
        return self.allows(operation, ResourceType.CLUSTER, CLUSTER_NAME)

    def any_topic(self, operation: Operation) -> bool:
        """Whether there can be a topic to which the principal may do this."""
        return self._authorizer is None or self._authorizer.authorize_any(
            self._principal, self._host, operation, ResourceType.TOPIC
        )

    def operations(self, kind: ResourceType, name: str) -> int:
        """An authorized-operations field (KIP-430): a bit for each operation allowed."""
        return sum(
            1 << operation
            for operation in SUPPORTED_OPERATIONS[kind]
            if self.allows(operation, kind, name)
        )

    def cluster_operations(self) -> int:
        """The same for the cluster: nothing to whom may not describe it."""
        if not self.cluster(Operation.DESCRIBE):
            return 0
        return self.operations(ResourceType.CLUSTER, CLUSTER_NAME)
