"""Members of groups of the new protocol (KIP-848): Java's client, and librdkafka's.

Only these two speak it. `Members` makes them with one client, behind the common face.
"""

from collections.abc import Callable
from typing import Any

from tests.clients.confluent import ConfluentConsumer
from tests.clients.driver import Consumer
from tests.clients.remote import RemoteConsumer, RemoteDriver

CLIENTS = ("java", "confluent")


class Members:
    """Makes members with one client."""

    def __init__(self, client: str, java: Callable[[], RemoteDriver]) -> None:
        self.client = client
        self._java = java

    def join(
        self,
        bootstrap_servers: str,
        group_id: str,
        *topics: str,
        pattern: str | None = None,
        instance_id: str | None = None,
    ) -> Consumer:
        """A consumer that subscribes to a topic, or to all that a pattern matches."""
        settings: dict[str, Any] = {"group.protocol": "consumer"}
        if instance_id is not None:
            settings["group.instance.id"] = instance_id
        if self.client == "java":
            consumer = self._java_consumer(bootstrap_servers, group_id, settings)
            if pattern is not None:
                consumer.subscribe_pattern(pattern)
                return consumer
        else:
            consumer = ConfluentConsumer(
                {
                    "bootstrap.servers": bootstrap_servers,
                    "group.id": group_id,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 50,
                    "reconnect.backoff.max.ms": 500,
                    **settings,
                }
            )
        for topic in topics:
            consumer.subscribe(topic)
        if pattern is not None:
            consumer.subscribe(f"^{pattern}")  # what begins so is a pattern to librdkafka
        return consumer

    def _java_consumer(
        self, bootstrap_servers: str, group_id: str, settings: dict[str, Any]
    ) -> RemoteConsumer:
        driver = self._java()
        # These two are the broker's to say in the new protocol: the client refuses them.
        settings |= {"session.timeout.ms": None, "heartbeat.interval.ms": None}
        settings |= {"reconnect.backoff.max.ms": 500}
        made = driver.call(0, "consumer", bootstrap_servers, group_id, True, settings)
        return RemoteConsumer(driver, made)
