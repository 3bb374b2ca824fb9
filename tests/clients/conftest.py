"""The clients: every test that takes `driver` runs once with each of them."""

from collections.abc import Callable, Iterator

import pytest

from tests.clients import drivers, remote
from tests.clients.driver import Driver

CLIENTS = [*drivers.PYTHON_CLIENTS, "java"]


@pytest.fixture(scope="session", params=CLIENTS)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A client library behind the common face."""
    if request.param == "java":
        found: Driver = request.getfixturevalue("java_driver")
    else:
        found = drivers.make(request.param)
    yield found
    if request.param != "java":
        found.close()


@pytest.fixture(scope="session")
def java_driver(java_worker: tuple[str, str]) -> Iterator[remote.RemoteDriver]:
    """Java's client, in one process for the whole run."""
    driver = remote.java_driver(*java_worker)
    yield driver
    driver.close()


@pytest.fixture
def topic(driver: Driver, bootstrap: str, unique: Callable[[str], str]) -> str:
    """A topic with three partitions, made by the client under test."""
    name = unique("topic")
    with driver.admin(bootstrap) as admin:
        admin.create_topic(name, 3)
    return name
