"""Every test of the edge runs on both event loops."""

from tests.unit.server.conftest import run

__all__ = ["run"]
