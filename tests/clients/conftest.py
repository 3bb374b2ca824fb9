"""The clients: every test that takes `driver` runs once with each of them."""

from collections.abc import Callable, Iterator

import pytest

from tests.clients import building, drivers, remote
from tests.clients.driver import Driver
from tests.conftest import unavailable

REMOTE_CLIENTS = ["java", "franz-go", "kafkajs"]
CLIENTS = [*drivers.PYTHON_CLIENTS, *REMOTE_CLIENTS]


@pytest.fixture(scope="session", params=CLIENTS)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A client library behind the common face."""
    held = {"java": "java_driver", "franz-go": "go_driver"}.get(request.param)
    if held is not None:
        yield request.getfixturevalue(held)
        return
    try:
        found = _make(request.param)
    except building.WorkerUnavailable as missing:
        unavailable(missing)
    yield found
    found.close()


def _make(name: str) -> Driver:
    if name == "kafkajs":
        return remote.node_driver(building.node_worker())
    return drivers.make(name)


@pytest.fixture(scope="session")
def java_driver(java_worker: tuple[str, str]) -> Iterator[remote.RemoteDriver]:
    """Java's client, in one process for the whole run."""
    driver = remote.java_driver(*java_worker)
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def go_driver() -> Iterator[remote.RemoteDriver]:
    """franz-go, in one process for the whole run."""
    try:
        driver = remote.go_driver(building.go_worker())
    except building.WorkerUnavailable as missing:
        unavailable(missing)
    yield driver
    driver.close()


@pytest.fixture
def topic(driver: Driver, bootstrap: str, unique: Callable[[str], str]) -> str:
    """A topic with three partitions, made by the client under test."""
    name = unique("topic")
    with driver.admin(bootstrap) as admin:
        admin.create_topic(name, 3)
    return name
