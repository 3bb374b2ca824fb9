"""One cluster, for administration: librdkafka's admin client, and raw connections for the rest.

Both are made when first needed, but reaching the cluster comes first: a refused connection, a
certificate that is not trusted or a wrong password is told at once and in its own words, where
librdkafka would go on trying in silence until the time is up.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Self, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ottla.client.access import Access
from ottla.client.errors import Refused, kafka_error, refused, translate
from ottla.client.raw import Brokers
from ottla.client.settings import CONNECTION
from ottla.ports.errors import ErrorCode

K = TypeVar("K")
_RETRY_S = 0.05
_NOT_YET = frozenset(
    (
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)


class Cluster:
    """A cluster. Raises TimedOut when it is not there, Fatal when it does not let us in."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.timeout_s = access.timeout_ms / 1000
        self.brokers = Brokers(access)

    @cached_property
    def admin(self) -> AdminClient:
        """librdkafka's admin client."""
        try:
            return AdminClient(librdkafka(self.access))
        except KafkaException as error:
            raise translate(kafka_error(error), "make an admin client") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.brokers.close()

    def call(self, doing: str, call: Callable[[], Any]) -> Any:
        """Call, with errors as Refused or TimedOut."""
        try:
            return call()
        except KafkaException as error:
            found = kafka_error(error)
            raise refused(doing, found.code(), found.str()) from error

    def wait(
        self, doing: Callable[[K], str], futures: Mapping[K, "Future[Any]"]
    ) -> Iterator[tuple[K, Any]]:
        """Each key with its result, in the order in which they were asked for."""
        for key, future in futures.items():
            yield key, self.call(doing(key), future.result)

    def patiently(self, doing: str, ask: Callable[[], "Future[Any]"]) -> Any:
        """The result of a request to a group's coordinator, asked again until there is one."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            future = ask()
            try:
                return self.call(doing, future.result)
            except Refused as error:
                if error.code not in _NOT_YET or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def check(self, doing: str, error: KafkaError | None) -> None:
        """Raise the error that came with a part of an answer."""
        if error is not None:
            raise refused(doing, error.code(), error.str())


def reach(access: Access) -> None:
    """Raises TimedOut or Fatal when the cluster cannot be used. Leaves no connection behind."""
    Brokers(access).close()


def librdkafka(access: Access) -> dict[str, Any]:
    """The settings for librdkafka."""
    return {
        **CONNECTION,
        "log_level": 2,
        **access.librdkafka(),
        "bootstrap.servers": access.bootstrap_servers,
    }
