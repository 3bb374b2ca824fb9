"""Both brokers, asked the same, and a topic on both; some modules have their own of that name."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential.both import Both
from tests.differential.raw import Raw

Unique = Callable[[str], str]


@pytest.fixture
def both(ottla_broker_session: Any, kafka_bootstrap: str) -> Iterator[Both]:
    both = Both(Raw(ottla_broker_session.bootstrap_servers), Raw(kafka_bootstrap))
    yield both
    both.close()


@pytest.fixture
def topic(both: Both, unique: Unique) -> str:
    name = unique("topic")
    assert both.create(name, make=True, configs=[("cleanup.policy", "compact")])["error_code"] == 0
    return name
