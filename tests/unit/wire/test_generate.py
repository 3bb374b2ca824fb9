"""The generated messages are what the tables and the generator say, to the byte."""

from pathlib import Path

import pytest

import ottla.wire.messages
from ottla.ports.errors import InvariantBroken
from ottla.wire import generate
from ottla.wire.schema.grammar import read_table

MESSAGES = Path(ottla.wire.messages.__file__).parent


def test_the_generated_files_are_up_to_date():
    wanted = generate.generate()
    there = {path.name: path.read_text() for path in MESSAGES.glob("*.py")}
    assert there.keys() == wanted.keys()
    stale = [name for name, text in wanted.items() if there[name] != text]
    assert not stale, "run python -m ottla.wire.generate"


def test_main_writes_them_and_removes_strays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = generate.generate()
    (tmp_path / "messages").mkdir()
    (tmp_path / "messages/gone.py").write_text("")
    (tmp_path / "schema").symlink_to(generate.HERE / "schema")
    monkeypatch.setattr(generate, "HERE", tmp_path)
    generate.main()
    assert {path.name: path.read_text() for path in (tmp_path / "messages").iterdir()} == wanted


def test_a_field_may_not_hide_a_name_of_the_function():
    table = read_table(
        "api 7 Odd, version 0, never flexible\n"
        "OddRequest\n  Buffer int8\n"
        "OddResponse\n  ErrorCode int16\n",
        "k07_odd.txt",
    )
    with pytest.raises(InvariantBroken, match="a local name is free"):
        generate.module_text(table)
