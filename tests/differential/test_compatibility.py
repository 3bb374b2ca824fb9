"""docs/compatibility.md is what `make compatibility` writes, and says what is tested now."""

import re
from pathlib import Path

import pytest

from tests import compatibility
from tests.clients.conftest import CLIENTS
from tests.compatibility import FAILED, PASSED, SKIPPED, Seen

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/compatibility.md").read_text()


def test_the_page_was_written_by_a_run(page: str) -> None:
    assert compatibility.MARK in page
    assert tuple(re.findall(r"^## (.*)$", page, re.M)) == compatibility.SECTIONS
    assert "**fails**" not in page


def test_the_page_names_the_clients_that_are_tested(page: str) -> None:
    assert set(compatibility.client_versions()) == set(CLIENTS)
    for client in CLIENTS:
        assert re.search(rf"^\| {client} \| \S+", page, re.M)


def test_the_page_has_the_differences_that_are_allowed_now(page: str) -> None:
    assert compatibility.allowed_tables() in page


def test_the_page_names_tests_that_are_there(page: str) -> None:
    modules = re.findall(r"^`(tests/clients/test_\w+\.py)`\n\n(.*?)(?=\n\n)", page, re.M | re.S)
    assert len(modules) >= 3
    for module, rows in modules:
        functions = set(re.findall(r"^def test_(\w+)", (ROOT / module).read_text(), re.M))
        for row in rows.splitlines()[2:]:
            feature = row.split(" | ")[0].removeprefix("| ").partition(":")[0]
            assert feature.replace(" ", "_") in functions, (module, feature)


def seen(client: str, broker: str, outcome: str, reason: str = "") -> Seen:
    return Seen("clients/test_x.py", "a feature", client, broker, outcome, reason, {})


def test_how_outcomes_are_shown() -> None:
    rendered = compatibility.render(
        [
            seen("confluent", "ottla", PASSED),
            seen("confluent", "kafka", PASSED),
            seen("aiokafka", "ottla", PASSED),
            seen("aiokafka", "kafka", FAILED),
            seen("java", "ottla", PASSED),
            seen("java", "kafka", SKIPPED, "Kafka cannot"),
            seen("kafkajs", "ottla", SKIPPED, "not in this client"),
            seen("kafkajs", "kafka", SKIPPED, "not in this client"),
        ]
    )
    assert "| what | confluent | aiokafka | java | kafkajs |" in rendered
    assert "| a feature | same | **fails** | Ottla only [1] | – [2] |" in rendered
    assert "[1] Kafka cannot\n\n[2] not in this client\n" in rendered
