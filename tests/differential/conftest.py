"""Both brokers, asked the same, and a topic on both; some modules have their own of that name."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients import drivers, remote
from tests.clients.driver import Driver
from tests.differential.both import Both
from tests.differential.raw import Raw
from tests.differential.scene import Scene, make_scene

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


@pytest.fixture(scope="session")
def java(java_worker: tuple[str, str]) -> Iterator[remote.RemoteDriver]:
    driver = remote.java_driver(*java_worker)
    yield driver
    driver.close()


@pytest.fixture(params=["confluent", "java"])
def client(request: pytest.FixtureRequest) -> Driver:
    """Both versions of transactions."""
    if request.param == "java":
        found: Driver = request.getfixturevalue("java")
        return found
    return drivers.make("confluent")


@pytest.fixture
def scene(client: Driver, bootstrap: str, unique: Unique) -> Scene:
    return make_scene(client, bootstrap, unique)


@pytest.fixture
def confluent(bootstrap: str, unique: Unique) -> Scene:
    """A scene with confluent-kafka alone, where the version of transactions changes nothing."""
    return make_scene(drivers.make("confluent"), bootstrap, unique)
