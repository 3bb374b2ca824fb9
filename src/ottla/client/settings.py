"""Settings of librdkafka that producers, consumers and admin clients share."""

from typing import Any

CONNECTION: dict[str, Any] = {
    # With "rebootstrap", its default (KIP-899), librdkafka 2.16 drops a broker that is down for a
    # moment while a request for the group's coordinator waits for it: the call that commits offsets
    # in a transaction then never returns, and no time limit ends it.
    "metadata.recovery.strategy": "none",
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
}
