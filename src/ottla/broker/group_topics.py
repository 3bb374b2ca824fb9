"""The topics as groups of the new protocol see them: those that there are, and who may know it."""

from collections.abc import Collection

from ottla.broker.access import Access
from ottla.broker.authorizer import Authorizer, Operation
from ottla.broker.catalog import Catalog


class GroupTopics:
    """`coordinator.consumer_group.Topics` of a broker."""

    def __init__(self, catalog: Catalog, authorizer: Authorizer | None) -> None:
        self._catalog = catalog
        self._authorizer = authorizer

    @property
    def version(self) -> int:
        return self._catalog.version

    def names(self) -> Collection[str]:
        return self._catalog.names()

    def placement(self, name: str) -> tuple[bytes, int] | None:
        return self._catalog.placement(name)

    def may_describe(self, principal: str, client_host: str, name: str) -> bool:
        """`client_host` as Kafka writes it: "/127.0.0.1"."""
        access = Access(self._authorizer, principal, client_host.removeprefix("/"))
        return access.topic(Operation.DESCRIBE, name)
