"""Client quotas: what is set is told, and who uses more has to wait, as on Apache Kafka."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ottla
from ottla.broker.quotas import QuotaRecord, Quotas
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages import alter_client_quotas as altering
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.describe_client_quotas import ComponentData, DescribeClientQuotasRequest
from ottla.wire.messages.list_groups import ListGroupsRequest
from ottla.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.wire.records import Record, build_batch
from tests.differential.raw import Raw

Unique = Callable[[str], str]
Entity = dict[str, str | None]
EXACT, DEFAULT, SPECIFIED = 0, 1, 2
CLIENT_ID = "raw"  # of every Raw
LIMIT_S = 20.0


def alter(entity: Entity, **quotas: float | None) -> altering.AlterClientQuotasRequest:
    """The request that sets quotas, or with None takes them away."""
    named = [altering.EntityData(kind.replace("_", "-"), name) for kind, name in entity.items()]
    changes = [altering.OpData(key, value or 0.0, value is None) for key, value in quotas.items()]
    return altering.AlterClientQuotasRequest([altering.EntryData(named, changes)], False)


def outcome(answer: Any) -> tuple[int, str]:
    return answer.entries[0].error_code, answer.entries[0].error_message or ""


def described(raw: Any, *components: tuple[str, int, str | None], strict: bool = False) -> Any:
    """The answer's error, or its entities with their quotas."""
    asked = [ComponentData(*component) for component in components]
    answer = raw.ask(1, DescribeClientQuotasRequest(asked, strict))
    if answer.error_code:
        return answer.error_code
    return {
        tuple(sorted((one.entity_type, one.entity_name) for one in entry.entity)): {
            value.key: value.value for value in entry.values
        }
        for entry in answer.entries
    }


def produce(topic: str, size_bytes: int, acks: int = -1) -> ProduceRequest:
    batch = build_batch([Record(value=b"x" * size_bytes)])
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(0, batch)])
    return ProduceRequest(None, acks, 10_000, [data])


@pytest.fixture
def raw(bootstrap: str) -> Iterator[Raw]:
    connection = Raw(bootstrap)
    yield connection
    connection.close()


@pytest.fixture
def limited(bootstrap: str, raw: Raw) -> Iterator[Callable[..., None]]:
    """Give every Raw a quota, for this test."""
    keys: set[str] = set()

    def limit(**quotas: float) -> None:
        keys.update(quotas)
        assert outcome(raw.ask(1, alter({"client_id": CLIENT_ID}, **quotas))) == (0, "")

    yield limit
    another = Raw(bootstrap)  # `raw` may have to wait
    another.ask(1, alter({"client_id": CLIENT_ID}, **dict.fromkeys(keys)))
    until_told(another, ("client-id", EXACT, CLIENT_ID), set())
    another.close()


def test_what_is_set_is_told(raw: Raw, unique: Unique) -> None:
    user, client = unique("user"), unique("client")
    entities: list[Entity] = [
        {"user": user},
        {"user": user, "client_id": client},
        {"user": user, "client_id": None},
    ]
    for number, entity in enumerate(entities):
        assert outcome(raw.ask(1, alter(entity, producer_byte_rate=1000.0 + number))) == (0, "")
    exactly = ("user", EXACT, user)
    one, both, default = (
        (("user", user),),
        (("client-id", client), ("user", user)),
        (("client-id", None), ("user", user)),
    )
    until_told(raw, exactly, {one, both, default})
    assert set(described(raw, exactly, strict=True)) == {one}
    assert set(described(raw, exactly, ("client-id", DEFAULT, None))) == {default}
    assert set(described(raw, exactly, ("client-id", SPECIFIED, None))) == {both, default}
    assert described(raw, exactly, ("client-id", EXACT, client)) == {
        both: {"producer_byte_rate": 1001.0}
    }
    for entity in entities:
        raw.ask(1, alter(entity, producer_byte_rate=None))
    until_told(raw, exactly, set())


def until_told(raw: Raw, component: tuple[str, int, str | None], wanted: set[Any]) -> None:
    """Kafka answers an alteration before its broker part has heard of it."""
    deadline = time.monotonic() + LIMIT_S
    while set(described(raw, component)) != wanted:
        assert time.monotonic() < deadline, f"never {wanted}"
        time.sleep(0.02)


def test_what_cannot_be_is_refused(raw: Raw) -> None:
    invalid = ErrorCode.INVALID_REQUEST
    for entity, quotas in (
        ({}, {"producer_byte_rate": 1.0}),
        ({"user": "u", "ip": "10.0.0.1"}, {"connection_creation_rate": 1.0}),
        ({"planet": "u"}, {"producer_byte_rate": 1.0}),
        ({"user": "u"}, {"no_such_rate": 1.0}),
        ({"user": "u"}, {"connection_creation_rate": 1.0}),
        ({"user": "u"}, {"producer_byte_rate": -1.0}),
        ({"user": "u"}, {"consumer_byte_rate": 1.5}),
        ({"ip": "10.0.0.1"}, {"producer_byte_rate": 1.0}),
        ({"ip": "10.0.0.256"}, {"connection_creation_rate": 1.0}),
    ):
        assert outcome(raw.ask(1, alter(entity, **quotas)))[0] == invalid, (entity, quotas)
    twice = alter({"user": "u"}, request_percentage=1.0)
    twice.entries[0].ops *= 2
    assert outcome(raw.ask(1, twice))[0] == invalid
    assert described(raw, ("", EXACT, "u")) == invalid
    assert described(raw, ("user", EXACT, None)) == invalid
    assert described(raw, ("user", DEFAULT, "u")) == invalid
    assert described(raw, ("user", EXACT, "u"), ("user", EXACT, "v")) == invalid
    assert described(raw, ("user", EXACT, "u"), ("ip", EXACT, "10.0.0.1")) == invalid
    assert described(raw, ("planet", EXACT, "u")) == ErrorCode.UNSUPPORTED_VERSION


def test_who_produces_too_much_has_to_wait(
    bootstrap: str, raw: Raw, limited: Callable[..., None], unique: Unique
) -> None:
    """The wait is what brings the rate over the last ten seconds back to the quota."""
    topic = unique("topic")
    raw.ask(7, CreateTopicsRequest([CreatableTopic(topic, 1, 1)]))
    limited(producer_byte_rate=2_000.0)
    until_told(raw, ("client-id", EXACT, CLIENT_ID), {(("client-id", CLIENT_ID),)})
    answer = raw.ask(9, produce(topic, 100_000))
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NONE
    expected_ms = (100_000 / 10 - 2_000) / 2_000 * 10_000
    assert answer.throttle_time_ms == pytest.approx(expected_ms, rel=0.1)


def test_who_makes_too_many_partitions_is_refused(
    raw: Raw, limited: Callable[..., None], unique: Unique
) -> None:
    """KIP-599: eleven seconds of the quota at once, the last request of a burst whole."""
    limited(controller_mutation_rate=1.0)
    until_told(raw, ("client-id", EXACT, CLIENT_ID), {(("client-id", CLIENT_ID),)})
    burst = raw.ask(7, CreateTopicsRequest([CreatableTopic(unique("topic"), 20, 1)]))
    assert burst.topics[0].error_code == ErrorCode.NONE
    refused = raw.ask(7, CreateTopicsRequest([CreatableTopic(unique("topic"), 1, 1)]))
    assert refused.topics[0].error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert 0 < refused.throttle_time_ms <= 9_000


def test_one_request_makes_a_bounded_number_of_partitions(raw: Raw, unique: Unique) -> None:
    topics = [CreatableTopic(unique("topic"), 5_001, 1), CreatableTopic(unique("topic"), 5_000, 1)]
    answer = raw.ask(7, CreateTopicsRequest(topics, 30_000, True))
    assert {(one.error_code, one.error_message) for one in answer.topics} == {
        (ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
    }


# -- Ottla's own meters, on a clock that stands still --------------------------------------------


def told(client: InProcessClient, request: Any, version: int) -> int:
    answer: Any = client.request(request, version)
    return int(answer.throttle_time_ms)


def broker_with(*quotas: altering.AlterClientQuotasRequest) -> InProcessBroker:
    broker = InProcessBroker()
    client = broker.connect("admin")
    client.request(CreateTopicsRequest([CreatableTopic("topic", 1, 1)]), 7)
    for quota in quotas:
        assert outcome(client.request(quota, 1)) == (0, "")
    return broker


@pytest.mark.parametrize(
    "quotas",
    [
        [{"client_id": "app"}],
        [{"client_id": None}],
        [{"user": "ANONYMOUS"}],
        [{"user": None}],
        [{"user": "ANONYMOUS", "client_id": "app"}],
        [{"user": None, "client_id": None}],
    ],
)
def test_every_kind_of_entity_limits(quotas: list[Entity]) -> None:
    broker = broker_with(*(alter(entity, producer_byte_rate=1_000.0) for entity in quotas))
    client = broker.connect("app")
    assert told(client, produce("topic", 50_000), 9) > 30_000
    assert client.connection.muted_until_ms > broker.clock.monotonic_ms() + 30_000
    assert told(broker.connect("app"), produce("topic", 0), 9) > 30_000  # it is one meter


def test_the_most_particular_quota_counts() -> None:
    large = alter({"user": "ANONYMOUS", "client_id": "app"}, producer_byte_rate=1e9)
    broker = broker_with(alter({"user": None}, producer_byte_rate=1.0), large)
    assert told(broker.connect("app"), produce("topic", 50_000), 9) == 0
    assert told(broker.connect("other"), produce("topic", 50_000), 9) > 0


def test_a_wait_ends_and_a_quota_outlives_a_restart() -> None:
    broker = broker_with(alter({"client_id": "app"}, producer_byte_rate=1_000.0))
    client = broker.connect("app")
    assert told(client, produce("topic", 15_000), 9) > 0
    broker.advance(11_000)
    assert told(client, produce("topic", 10), 9) == 0
    again = InProcessBroker(broker.disk)
    assert told(again.connect("app"), produce("topic", 15_000), 9) > 0


def test_an_answer_that_nobody_waits_for_mutes_too() -> None:
    broker = broker_with(alter({"client_id": "app"}, producer_byte_rate=1_000.0))
    client = broker.connect("app")
    client.send(produce("topic", 50_000, acks=0), 9)
    assert client.connection.muted_until_ms > broker.clock.monotonic_ms()


def test_time_is_a_quota_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that takes five seconds of a tenth of the broker's time; a wait is one window."""
    broker = broker_with(alter({"client_id": "app"}, request_percentage=10.0))
    ticks = itertools.count(1, 5_000_000_000)
    monkeypatch.setattr(broker.clock, "monotonic_ns", lambda: next(ticks))
    client = broker.connect("app")
    assert told(client, ListGroupsRequest(), 4) == 0
    assert told(client, ListGroupsRequest(), 4) == 1_000


def test_an_address_may_connect_so_often() -> None:
    """KIP-612: what comes in counts, over eleven seconds; what is held does not."""
    quotas = Quotas()
    rate = "connection_creation_rate"
    quotas.apply(QuotaRecord((("ip", "2001:db8:0::1"),), rate, 1.0))
    quotas.apply(QuotaRecord((("ip", None),), rate, 2.0))
    for host, free in (("2001:db8::1", 10), ("::ffff:192.0.2.1", 20), ("192.0.2.2", 20)):
        waits_ms = [quotas.connection_throttle_ms(host, 0) for _ in range(free + 3)]
        assert waits_ms == [0] * free + [1_000 * 10 // free] * 3
        assert quotas.connection_throttle_ms(host, 11_000) == 0
    quotas.apply(QuotaRecord((("ip", None),), rate, None))
    assert not any(quotas.connection_throttle_ms("192.0.2.2", 0) for _ in range(100))
    assert any(quotas.connection_throttle_ms("2001:db8::1", 0) for _ in range(100))


def test_who_connects_too_often_is_held(tmp_path: Path) -> None:
    with ottla.Broker(tmp_path) as broker:
        admin = Raw(broker.bootstrap_servers)

        def limit(rate: float | None) -> None:
            quota = alter({"ip": "127.0.0.1"}, connection_creation_rate=rate)
            assert outcome(admin.ask(1, quota)) == (0, "")

        def comes_in() -> bool:
            another = Raw(broker.bootstrap_servers)
            try:
                return bool(another.ask(4, ListGroupsRequest()).error_code == ErrorCode.NONE)
            except ConnectionError:
                return False
            finally:
                another.close()

        limit(1.0)
        assert not all(comes_in() for _ in range(100))
        limit(None)
        assert comes_in()
        admin.close()
