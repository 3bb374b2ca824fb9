"""Every test of the edge runs on both event loops; certificates are made once."""

from pathlib import Path

import pytest

from tests.security.authorizing import authorizing, kafka_authorizing, ottla_authorizing
from tests.security.certificates import Authority, Pair
from tests.unit.server.conftest import run

__all__ = ["run"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("alice")


@pytest.fixture(scope="session")
def ca(authority: Authority) -> Path:
    return authority.ca
