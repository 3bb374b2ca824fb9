"""What `--help` promises of every command: a purpose, examples, exit codes; and groups of them."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ottla.cli.main import app


def commands() -> Iterator[tuple[str, ...]]:
    root = get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (name,)
        else:
            yield from ((name, each) for each in inner)


@cache
def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--help"], prog_name="ottla", env={"COLUMNS": "80"})
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_teaches(command: tuple[str, ...]) -> None:
    text = shown(*command)
    examples = [line.strip() for line in text.splitlines() if f"ottla {' '.join(command)}" in line]
    assert len(examples) >= 2, text
    assert re.search(r"Exit codes:\n +0 ", text), text
    assert text.split("\n\n")[1].endswith("."), text


def test_the_commands_stand_in_groups() -> None:
    text = shown()
    heads = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert heads == [
        "Options:",
        "Pipelines:",
        "Ottla's broker:",
        "Any cluster, Ottla or Apache Kafka:",
    ]
    assert len(text.splitlines()) <= 45
    for command in {each[0] for each in commands()}:
        assert re.search(rf"^  {command} ", text, re.M), command


def test_every_example_is_a_command_that_there_is() -> None:
    known = {" ".join(each) for each in commands()}
    for command in commands():
        for found in re.findall(r"ottla ((?:[a-z-]+ ?){1,2})", shown(*command)):
            words = found.split()
            assert words[0] in known or " ".join(words) in known, found
