"""`import ottla` is enough, costs nothing, and what editors see is what there is."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ottla


@pytest.mark.parametrize("name", ottla.__all__)
def test_every_public_name_is_there(name):
    found = getattr(ottla, name)
    assert found.__name__ == name
    assert found.__doc__
    assert name in dir(ottla)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(str(ottla.__file__)).read_text())
    declared = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert declared == {name: getattr(ottla, name).__module__ for name in ottla.__all__}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Brocker'"):
        _ = ottla.Brocker


def test_importing_ottla_costs_nothing():
    """Nor does the pytest plugin, which pytest loads in every run where Ottla is installed."""
    script = """
        import sys
        import pytest
        before = set(sys.modules)
        import ottla
        import ottla.testing.pytest_plugin
        print(*sorted(set(sys.modules) - before))
        ottla.Broker
        heavy = {"asyncio", "confluent_kafka", "msgspec", "typer", "ottla.broker"}
        print(*sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ottla ottla.testing ottla.testing.pytest_plugin\n\n"
