"""What the package promises to have can be had."""

import pytest

import ottla.testing


def test_every_name_can_be_loaded() -> None:
    for name in ottla.testing.__all__:
        assert getattr(ottla.testing, name).__name__ == name


def test_any_other_name_cannot() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Testing'"):
        ottla.testing.Testing  # noqa: B018
