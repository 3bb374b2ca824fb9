"""pytest fixtures: a real broker, in a process of its own, gone when the test is.

`ottla_broker` is one broker per test, `ottla_broker_session` one for all tests of a run. Both are
`ottla.Broker`: give `broker.bootstrap_servers` to any Kafka client, and use `kill()` and
`restart()` to see what your code does when the broker dies.

pytest loads this module in every run where Ottla is installed, so it imports next to nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ottla.server.process import Broker


@pytest.fixture
def ottla_broker() -> "Iterator[Broker]":
    """An empty broker for this test alone."""
    from ottla.server.process import Broker

    with Broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def ottla_broker_session() -> "Iterator[Broker]":
    """One broker for the whole run: quicker, but tests must not share topic and group names."""
    from ottla.server.process import Broker

    with Broker() as broker:
        yield broker
