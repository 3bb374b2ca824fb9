"""Every API and version that both brokers serve: the same requests, and the same answers.

The requests are made from the schema tables, right ones and ones that are a little wrong, always
the same; OTTLA_SOAK=1 makes more of them. Where an answer may differ, `allowed.py` says why.
"""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from ottla.broker import handlers
from ottla.broker.registry import REGISTRY
from ottla.wire.message import Message
from ottla.wire.messages.api_versions import ApiVersionsRequest
from tests.differential.allowed import ALLOWED, NOT_COMPARED, USED, reason_for
from tests.differential.comparing import Place, differences
from tests.differential.generated import Pools
from tests.differential.raw import Raw
from tests.unit.wire.samples import apis

REQUESTS = 200 if os.environ.get("OTTLA_SOAK") == "1" else 12
SEED = os.environ.get("OTTLA_SEED", "1")

handlers.load()
COMPARED = [api for api in apis() if api.key in REGISTRY and api.name not in NOT_COMPARED]

_asked: set[str] = set()
_tries: Counter[str] = Counter()


def served(bootstrap_servers: str) -> dict[int, tuple[int, int]]:
    raw = Raw(bootstrap_servers)
    answer = raw.ask(3, ApiVersionsRequest("tests", "1"))
    raw.close()
    return {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}


@pytest.mark.kafka
@pytest.mark.parametrize("api", COMPARED, ids=lambda api: api.name)
def test_the_answers_are_the_same(
    api, ottla_broker_session, kafka_bootstrap: str, record_property: Callable[[str, object], None]
) -> None:
    _tries[api.name] += 1
    prefix = f"generated-{api.name}-{_tries[api.name]}-"  # a second try has a world of its own
    bootstraps = (ottla_broker_session.bootstrap_servers, kafka_bootstrap)
    ranges = [served(bootstrap)[api.key] for bootstrap in bootstraps]
    first = max(api.versions.first, *(lowest for lowest, _ in ranges))
    last = min(highest for _, highest in ranges)
    record_property("versions", f"{first}-{last}" if first < last else first)
    record_property("requests", REQUESTS * (last - first + 1))
    ours, theirs = (Place(bootstrap, prefix) for bootstrap in bootstraps)
    pools = Pools(api, prefix, random.Random(f"{SEED} {api.name}"))
    found: list[str] = []
    for version in range(first, last + 1):
        for request in pools.requests(version, REQUESTS):
            found += different(api.name, ours, theirs, version, request)
    ours.close()
    theirs.close()
    _asked.add(api.name)
    assert not found, f"{len(found)} differences\n" + "\n".join(found[:60])


@pytest.mark.kafka
def test_every_row_of_the_table_is_needed() -> None:
    if len(_asked) < len(COMPARED) or SEED != "1":
        pytest.skip("these are not the requests that the table is for")
    needed = [row for row in ALLOWED if not row.rare]
    assert [row.reason for row in needed if row.reason not in USED] == []


def different(
    api_name: str, ours: Place, theirs: Place, version: int, request: Message
) -> list[str]:
    """The differences in the answers to one request that nothing allows, as text."""
    answers = ours.answer(version, request), theirs.answer(version, request)
    if reason_for(api_name, "", *answers) is not None:
        return []
    return [
        f"v{version} {path}: ottla {our!r:.300}, kafka {their!r:.300}, asked {request!r:.700}"
        for path, our, their in differences(*answers)
        if reason_for(api_name, path, our, their) is None
    ]
