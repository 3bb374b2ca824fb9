"""Fetch: long polls, sessions, limits, errors; what a consumer is told and when."""

from typing import Any
from uuid import UUID

import pytest

from ottla.broker.handlers import k01_fetch
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.wire.messages.delete_topics import DeleteTopicsRequest
from ottla.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.wire.records import iterate_batches, read_records
from tests.unit.broker.conftest import batch, create, produce, produce_request

WAIT_MS = 500


def fetch_request(*wanted: tuple[str, int, int], **fields: Any) -> FetchRequest:
    """(topic, partition, offset) …; v11."""
    names = dict.fromkeys(topic for topic, _, _ in wanted)
    settings = {"max_wait_ms": WAIT_MS, "min_bytes": 1, "max_bytes": 1 << 20} | fields
    return FetchRequest(
        **{"session_epoch": -1} | settings,
        topics=[
            FetchTopic(
                topic=name,
                partitions=[
                    FetchPartition(
                        partition=partition,
                        current_leader_epoch=-1,
                        fetch_offset=offset,
                        partition_max_bytes=1 << 20,
                    )
                    for topic, partition, offset in wanted
                    if topic == name
                ],
            )
            for name in names
        ],
    )


def values(response: Any) -> dict[tuple[str, int], list[str]]:
    return {
        (topic.topic, one.partition_index): [
            (record.value or b"").decode()
            for _, content in iterate_batches(memoryview(one.records or b""))
            for record in read_records(content)
        ]
        for topic in response.responses
        for one in topic.partitions
    }


def only(response: Any) -> Any:
    [topic] = response.responses
    [partition] = topic.partitions
    return partition


def test_what_is_there_is_answered_at_once(client: InProcessClient) -> None:
    create(client, "t")
    produce(client, "t", "a", "b")
    pending = client.send(fetch_request(("t", 0, 0)), 11)
    assert values(pending.response) == {("t", 0): ["a", "b"]}
    assert only(pending.response).high_watermark == 2


def test_a_fetch_waits_for_durable_data_and_not_longer(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    create(client, "t")
    pending = broker.connect().send(fetch_request(("t", 0, 0)), 11)
    broker.advance(WAIT_MS - 1)
    assert not pending.answered
    client.send(produce_request("t", batch("x")), 9)
    assert not pending.answered, "appended is not durable"
    broker.sync()
    assert values(pending.response) == {("t", 0): ["x"]}


def test_a_fetch_ends_empty_at_its_deadline(broker: InProcessBroker) -> None:
    client = broker.connect()
    create(client, "t")
    pending = client.send(fetch_request(("t", 0, 0)), 11)
    broker.advance(WAIT_MS)
    assert only(pending.response).records == b""


def test_min_bytes_are_waited_for(broker: InProcessBroker, client: InProcessClient) -> None:
    create(client, "t")
    pending = broker.connect().send(fetch_request(("t", 0, 0), min_bytes=300), 11)
    produce(client, "t", "a" * 100)
    assert not pending.answered
    produce(client, "t", "b" * 100)
    assert values(pending.response) == {("t", 0): ["a" * 100, "b" * 100]}


def test_a_fetch_from_beyond_the_end_is_an_error_at_once(client: InProcessClient) -> None:
    create(client, "t")
    partition = only(client.send(fetch_request(("t", 0, 7)), 11).response)
    assert partition.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert partition.records == b""


def test_an_unknown_topic_is_an_error_at_once_by_name_and_by_id(client: InProcessClient) -> None:
    by_name = only(client.send(fetch_request(("nobody", 0, 0)), 11).response)
    assert by_name.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    request = fetch_request(("", 0, 0))
    request.topics[0].topic_id = UUID(int=9)
    by_id = only(client.send(request, 13).response)
    assert by_id.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_a_deleted_topic_wakes_its_fetches(
    broker: InProcessBroker, client: InProcessClient
) -> None:
    create(client, "t")
    pending = broker.connect().send(fetch_request(("t", 0, 0)), 11)
    client.request(DeleteTopicsRequest(topic_names=["t"]), 5)
    assert only(pending.response).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_the_limit_of_bytes_goes_over_all_partitions_but_for_the_first_batch(
    client: InProcessClient,
) -> None:
    create(client, "t", 2)
    for partition in (0, 1):
        produce(client, "t", "x" * 500, partition=partition)
    response = client.send(fetch_request(("t", 0, 0), ("t", 1, 0), max_bytes=100), 11).response
    assert values(response) == {("t", 0): ["x" * 500], ("t", 1): []}


def test_the_broker_has_a_limit_of_its_own(
    client: InProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k01_fetch, "FETCH_BYTES_MAX", 1_000)
    create(client, "t")
    for _ in range(4):
        produce(client, "t", "x" * 400)
    response = client.send(fetch_request(("t", 0, 0), max_bytes=2**31 - 1), 11).response
    assert values(response) == {("t", 0): ["x" * 400, "x" * 400]}


class TestSessions:
    """KIP-227: full, incremental, forgotten, wrong."""

    def opened(self, client: InProcessClient) -> int:
        create(client, "t", 2)
        produce(client, "t", "a")
        request = fetch_request(("t", 0, 0), ("t", 1, 0), session_epoch=0)
        response: Any = client.send(request, 11).response
        assert set(values(response)) == {("t", 0), ("t", 1)}
        assert response.session_id > 0
        return int(response.session_id)

    def test_an_incremental_fetch_tells_only_what_is_new(self, client: InProcessClient) -> None:
        session = self.opened(client)
        produce(client, "t", "b", partition=1)
        request = fetch_request(("t", 0, 1), session_id=session, session_epoch=1)
        assert values(client.send(request, 11).response) == {("t", 1): ["b"]}

    def test_a_forgotten_partition_is_not_told(self, client: InProcessClient) -> None:
        session = self.opened(client)
        produce(client, "t", "b", partition=1)
        request = fetch_request(session_id=session, session_epoch=1, max_wait_ms=0)
        request.forgotten_topics_data = [ForgottenTopic(topic="t", partitions=[1])]
        assert values(client.send(request, 11).response) == {("t", 0): ["a"]}

    def test_a_wrong_epoch_and_a_wrong_session(self, client: InProcessClient) -> None:
        session = self.opened(client)
        wrong: Any = client.send(fetch_request(session_id=session, session_epoch=5), 11).response
        assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
        unknown: Any = client.send(fetch_request(session_id=99, session_epoch=1), 11).response
        assert unknown.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    def test_a_full_fetch_closes_the_session(self, client: InProcessClient) -> None:
        session = self.opened(client)
        client.send(fetch_request(("t", 0, 0), session_id=session, session_epoch=-1), 11)
        gone: Any = client.send(fetch_request(session_id=session, session_epoch=1), 11).response
        assert gone.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
