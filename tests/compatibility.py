"""docs/compatibility.md, written from a run of the tests (`make compatibility`).

A pytest plugin: with `--compatibility FILE` it notes the outcome of every test of tests/clients and
tests/differential by client and broker, and writes what it has seen when the run is over.

    python -m pytest -p tests.compatibility --compatibility FILE tests/clients tests/differential
"""

import json
import re
from collections import defaultdict
from collections.abc import Generator, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import kafka_runner

TESTS = Path(__file__).parent
MARK = "<!-- Written by `make compatibility`: change the tests, not this file. -->"
SECTIONS = (
    "Clients and their versions",
    "What was run with each client",
    "Kafka's own tools",
    "Every request, field by field",
    "Differences that are meant",
)
BROKERS = ("ottla", "kafka")
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
_OUTCOMES = (FAILED, SKIPPED, PASSED)  # of several, the first counts


class Seen(NamedTuple):
    """One test of this run."""

    module: str
    feature: str
    client: str
    broker: str
    outcome: str
    reason: str
    properties: dict[str, list[str]]


class Compatibility:
    """The plugin: collects while the tests run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Seen] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        decides = report.when == "call" or report.outcome != PASSED
        if decides and isinstance(item, pytest.Function):
            self._seen[item.nodeid] = _seen(item, report)
        return report

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(render(self._seen.values()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compatibility", metavar="FILE", help="write docs/compatibility.md")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--compatibility")
    if path:
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--compatibility sees the tests of one process: leave -n out")
        config.pluginmanager.register(Compatibility(Path(path)))


def _seen(item: pytest.Function, report: pytest.TestReport) -> Seen:
    params: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    words = item.originalname.removeprefix("test_").replace("_", " ")
    broker = _taken(params, BROKERS) or "both"
    client = _taken(params, client_versions()) or _client_of(item, words)
    values = [str(getattr(value, "name", value)) for value in params.values()]
    properties = defaultdict(list)
    for name, value in report.user_properties:
        properties[name].append(str(value))
    return Seen(
        f"{item.path.parent.name}/{item.path.name}",
        ": ".join([words, *values]),
        client,
        broker,
        report.outcome,
        _reason(report),
        properties,
    )


def _taken(params: dict[str, Any], known: Iterable[str]) -> str:
    """The parameter that has one of the known values, taken out of the others."""
    for name, value in params.items():
        if isinstance(value, str) and value in known:
            del params[name]
            return str(value)
    return ""


def _client_of(item: pytest.Function, words: str) -> str:
    """The one client of a test that is not made for several."""
    own = {"java_driver": "java", "go_driver": "franz-go"}
    named = {client.replace("-", " "): client for client in client_versions()}
    found = [own[fixture] for fixture in item.fixturenames if fixture in own]
    found += [client for name, client in named.items() if words.startswith(name)]
    return (found or ["ottla" if "ottla" in item.path.stem else ""])[0]


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped, in one line."""
    where = report.longrepr
    if report.outcome != SKIPPED or not isinstance(where, tuple):
        return ""
    return str(where[2]).removeprefix("Skipped: ").splitlines()[0]


# -- the page ----------------------------------------------------------------------------------


def client_versions() -> dict[str, str]:
    """Client by client, the version that the tests use."""
    go_module = (TESTS / "clients/go/go.mod").read_text()
    packages = json.loads((TESTS / "clients/node/package.json").read_text())["dependencies"]
    (franz_go,) = re.findall(r"twmb/franz-go v(\S+)", go_module)
    return {
        "confluent": f"confluent-kafka {version('confluent-kafka')} (librdkafka)",
        "kafka-python": f"kafka-python {version('kafka-python')}",
        "aiokafka": f"aiokafka {version('aiokafka')}",
        "java": f"Apache Kafka's Java clients and tools {kafka_runner.VERSION}",
        "franz-go": f"franz-go {franz_go} (Go)",
        "kafkajs": f"kafkajs {packages['kafkajs']} (Node.js)",
    }


def render(seen: Iterable[Seen]) -> str:
    """The whole page."""
    tests = list(seen)
    notes: list[str] = []
    of_clients = [test for test in tests if test.module.startswith("clients/") and test.client]
    parts = [
        "# What works with Ottla, and how it was found out",
        MARK,
        f"Each test ran on Ottla and on Apache Kafka {kafka_runner.VERSION}, with the same "
        "assertions. **same**: passed on both; **passed**: a test of Ottla alone; **–**: not run, "
        "for the reason in the note.",
        f"## {SECTIONS[0]}",
        table(("client", "version"), list(client_versions().items())),
        f"## {SECTIONS[1]}",
        *_client_tables(of_clients, notes),
        f"## {SECTIONS[2]}",
        _tools(tests, notes),
        f"## {SECTIONS[3]}",
        _requests(tests, notes),
        f"## {SECTIONS[4]}",
        allowed_tables(),
        *(f"[{number}] {note}" for number, note in enumerate(notes, 1)),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def _client_tables(tests: list[Seen], notes: list[str]) -> list[str]:
    parts = []
    for module in sorted({test.module for test in tests}):
        mine = [test for test in tests if test.module == module]
        order = ["ottla", *client_versions()]
        clients = sorted({test.client for test in mine}, key=order.index)
        rows = [
            (
                feature,
                *(
                    _cell([t for t in mine if (t.feature, t.client) == (feature, c)], notes)
                    for c in clients
                ),
            )
            for feature in dict.fromkeys(test.feature for test in mine)
        ]
        parts += [f"`tests/{module}`", table(("what", *clients), rows)]
    return parts


def _cell(tests: list[Seen], notes: list[str]) -> str:
    """What became of a feature with one client, on both brokers."""
    if not tests:
        return ""
    worst = min((test.outcome for test in tests), key=_OUTCOMES.index)
    if worst == FAILED:
        return "**fails**"
    if worst == PASSED:
        alone = tests[0].client and {test.broker for test in tests} != set(BROKERS)
        return "passed" if alone else "same"
    skipped = [test for test in tests if test.outcome == SKIPPED]
    (reason, *_others) = [test.reason for test in skipped]
    if reason not in notes:
        notes.append(reason)
    only = f"{'Ottla' if skipped[0].broker == 'kafka' else 'Kafka'} only "
    return f"{only if len(skipped) < len(tests) else '– '}[{notes.index(reason) + 1}]"


def _tools(tests: list[Seen], notes: list[str]) -> str:
    by_tool: dict[str, list[Seen]] = defaultdict(list)
    for test in tests:
        for tool in test.properties.get("tool", ()):
            by_tool[tool].append(test)
    rows = [
        (
            tool,
            "; ".join(dict.fromkeys(test.feature for test in by_tool[tool])),
            _cell(by_tool[tool], notes),
        )
        for tool in sorted(by_tool)
    ]
    return table(("tool", "in the test", "outcome"), rows)


def _requests(tests: list[Seen], notes: list[str]) -> str:
    rows = [
        (
            test.feature.partition(": ")[2],
            test.properties["versions"][0],
            test.properties["requests"][0],
            _cell([test], notes),
        )
        for test in tests
        if "requests" in test.properties
    ]
    return table(("API", "versions", "requests, right and slightly wrong", "answers"), rows)


def allowed_tables() -> str:
    """Where the answers may differ, as tests/differential/allowed.py has it."""
    from tests.differential.allowed import (
        ALLOWED,
        MET_BY_CLIENTS,
        NOT_COMPARED,
        TAKEN_FOR_NULL,
    )

    rows = [
        (
            "any" if row.api == ".*" else row.api,
            f"`{row.place}`" if row.place else "the whole answer",
            row.reason,
        )
        for row in ALLOWED
    ]
    rows += MET_BY_CLIENTS
    rows += [(api, "lengths below null", reason) for api, reason in TAKEN_FOR_NULL.items()]
    rows += [(api, "not compared", reason) for api, reason in NOT_COMPARED.items()]
    return table(("API", "place", "reason"), rows)
