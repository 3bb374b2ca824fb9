"""Topics made, described, deleted; what Produce refuses and with which code; offsets by time."""

from typing import Any

import pytest

from ottla.broker.config import BrokerConfig
from ottla.ports.errors import ErrorCode, ProtocolError
from ottla.ports.limits import DISK_RESERVE_BYTES
from ottla.testing.in_process import InProcessBroker, InProcessClient
from ottla.testing.simulated_disk import SimulatedDisk
from ottla.wire.frame import SIZE_BYTES, encode_request
from ottla.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.wire.messages.delete_topics import DeleteTopicsRequest
from ottla.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from ottla.wire.records import Record, build_batch
from tests.unit.broker.conftest import batch, create, produce, produce_request


def metadata(client: InProcessClient, name: str, *, may_create: bool = True) -> Any:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=may_create
    )
    response: Any = client.request(request, 9)
    return response.topics[0]


class TestTopics:
    """CreateTopics, DeleteTopics, Metadata, DescribeConfigs."""

    @pytest.mark.parametrize(
        ("name", "partitions", "configs", "code"),
        [
            ("bad name", 1, {}, ErrorCode.INVALID_TOPIC_EXCEPTION),
            ("..", 1, {}, ErrorCode.INVALID_TOPIC_EXCEPTION),
            ("x" * 250, 1, {}, ErrorCode.INVALID_TOPIC_EXCEPTION),
            ("there", 1, {}, ErrorCode.TOPIC_ALREADY_EXISTS),
            ("the.re_", 0, {}, ErrorCode.INVALID_PARTITIONS),
            ("t", 1, {"no_such": "1"}, ErrorCode.INVALID_CONFIG),
            ("t", 1, {"retention_ms": "soon"}, ErrorCode.INVALID_CONFIG),
            ("t", 1, {"cleanup_policy": "burn"}, ErrorCode.INVALID_CONFIG),
        ],
    )
    def test_what_is_refused(
        self,
        client: InProcessClient,
        name: str,
        partitions: int,
        configs: dict[str, str],
        code: ErrorCode,
    ) -> None:
        create(client, "there")
        result = create(client, name, partitions, **configs)
        assert result.error_code == code
        assert result.error_message

    def test_names_that_differ_in_dots_and_underscores_collide(
        self, client: InProcessClient
    ) -> None:
        create(client, "a.b")
        assert create(client, "a_b").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION

    def test_validate_only_makes_nothing(self, client: InProcessClient) -> None:
        topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        response: Any = client.request(CreateTopicsRequest(topics=[topic], validate_only=True), 7)
        assert response.topics[0].error_code == ErrorCode.NONE
        found = metadata(client, "t", may_create=False)
        assert found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def test_two_replicas_cannot_be_had(self, client: InProcessClient) -> None:
        topic = CreatableTopic(name="t", num_partitions=1, replication_factor=2)
        response: Any = client.request(CreateTopicsRequest(topics=[topic]), 7)
        assert response.topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR

    def test_metadata_makes_a_topic_when_it_may(self, client: InProcessClient) -> None:
        assert metadata(client, "t").error_code == ErrorCode.NONE
        assert len(metadata(client, "t", may_create=False).partitions) == 1

    def test_metadata_makes_none_when_the_broker_says_so(self) -> None:
        broker = InProcessBroker(config=BrokerConfig(auto_create_topics=False))
        found = metadata(broker.connect(), "t")
        assert found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def test_a_topic_made_anew_begins_anew(self, client: InProcessClient) -> None:
        """Its records are gone, its id is another, and no group has an offset for it."""
        first = create(client, "t")
        produce(client, "t", "a", "b")
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=2)
        client.request(
            OffsetCommitRequest(
                group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=[partition])]
            ),
            8,
        )
        client.request(DeleteTopicsRequest(topic_names=["t"]), 5)
        second = create(client, "t")
        assert second.topic_id != first.topic_id
        assert produce(client, "t", "c").base_offset == 0
        wanted = OffsetFetchRequestTopic(name="t", partition_indexes=[0])
        response: Any = client.request(OffsetFetchRequest(group_id="g", topics=[wanted]), 5)
        assert response.topics[0].partitions[0].committed_offset == -1

    def test_configs_are_described_in_full_with_their_source(self, client: InProcessClient) -> None:
        create(client, "t", retention_ms="5000")
        resource = DescribeConfigsResource(
            resource_type=2, resource_name="t", configuration_keys=None
        )
        response: Any = client.request(DescribeConfigsRequest(resources=[resource]), 4)
        configs = {one.name: one for one in response.results[0].configs}
        assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("5000", 1)
        assert configs["cleanup.policy"].value == "delete"
        assert configs["cleanup.policy"].config_source == 5
        assert len(configs) > 20


class TestProduce:
    """Refusals, each with base offset -1."""

    def refused(self, client: InProcessClient, request: Any, version: int = 9) -> ErrorCode:
        response: Any = client.request(request, version)
        answer = response.responses[0].partition_responses[0]
        assert answer.base_offset == -1
        return ErrorCode(answer.error_code)

    def test_codes(self, client: InProcessClient) -> None:
        create(client, "t", max_message_bytes="200")
        good = batch("a")
        broken = bytearray(good)
        broken[-1] ^= 1
        cases = [
            (produce_request("nobody", good), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (produce_request("t", good, partition=1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            (produce_request("t", good, acks=2), ErrorCode.INVALID_REQUIRED_ACKS),
            (produce_request("t", bytes(broken)), ErrorCode.CORRUPT_MESSAGE),
            (produce_request("t", good + good), ErrorCode.INVALID_RECORD),
            (produce_request("t", b""), ErrorCode.INVALID_RECORD),
            (produce_request("t", batch("x" * 200)), ErrorCode.MESSAGE_TOO_LARGE),
            (produce_request("t", batch("a", base_offset=4)), ErrorCode.INVALID_RECORD),
            (produce_request("t", batch("a", control=True)), ErrorCode.INVALID_RECORD),
            (
                produce_request("t", batch("a", transactional=True)),
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ),
        ]
        for request, code in cases:
            assert self.refused(client, request) == code
        assert produce(client, "t", "a").base_offset == 0

    def test_a_timestamp_in_the_future_is_refused(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "t")
        late = build_batch([Record(timestamp=broker.clock.now_ms() + 3_700_000, value=b"x")])
        assert self.refused(client, produce_request("t", late)) == ErrorCode.INVALID_TIMESTAMP

    def test_acks_0_is_stored_and_not_answered(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        create(client, "t")
        pending = client.send(produce_request("t", batch("a"), acks=0), 9)
        assert pending.silent
        assert produce(client, "t", "b").base_offset == 1
        with pytest.raises(ProtocolError):  # the server closes: nothing else can tell
            client.send(produce_request("no-such-topic", batch("a"), acks=0), 9)
        assert produce(client, "t", "c").base_offset == 2

    def test_an_answer_waits_for_the_disk(
        self, broker: InProcessBroker, client: InProcessClient
    ) -> None:
        """P1: also that of a duplicate, which writes nothing itself."""
        create(client, "t")
        same = batch("a", producer_id=5, producer_epoch=0, base_sequence=0)
        first = client.send(produce_request("t", same), 9)
        again = broker.connect().send(produce_request("t", same), 9)
        assert not first.answered
        assert not again.answered
        broker.sync()
        for pending in (first, again):
            answer: Any = pending.response
            assert answer.responses[0].partition_responses[0].base_offset == 0

    def test_a_full_disk_refuses_before_anything_changes(self) -> None:
        disk = SimulatedDisk()
        before = InProcessBroker(disk)
        create(before.connect(), "t")
        before.core.close()
        disk.free = DISK_RESERVE_BYTES - 1
        client = InProcessBroker(disk).connect()
        assert produce(client, "t", "b").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert create(client, "u").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        disk.free = 1 << 40
        assert produce(client, "t", "c").base_offset == 0


class TestListOffsets:
    """Start, end, time."""

    def look_up(self, client: InProcessClient, timestamp: int, version: int = 7) -> Any:
        partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
        response: Any = client.request(
            ListOffsetsRequest(
                topics=[ListOffsetsTopic(name="t", partitions=[partition])], isolation_level=0
            ),
            version,
        )
        return response.topics[0].partitions[0]

    def test_look_ups(self, client: InProcessClient) -> None:
        create(client, "t")
        produce(client, "t", "a", "b")
        assert self.look_up(client, -1).offset == 2
        assert self.look_up(client, -2).offset == 0
        assert self.look_up(client, 1_700_000_000_000).offset == 0
        assert self.look_up(client, 1_700_000_000_001).offset == -1
        assert self.look_up(client, -3).offset == 0
        assert self.look_up(client, -3, 6).error_code == ErrorCode.UNSUPPORTED_VERSION


def test_api_versions_promises_what_is_registered(client: InProcessClient) -> None:
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    response: Any = client.request(request, 3)
    rows = {one.api_key: (one.min_version, one.max_version) for one in response.api_keys}
    assert rows[0] == (0, 13)
    assert rows[26] == (0, 5)
    features = {one.name: one.max_version_level for one in response.finalized_features}
    assert (features["group.version"], features["transaction.version"]) == (1, 2)
    named = [one.name for one in response.supported_features]
    assert named == ["metadata.version"], "minimum 0 is for version 4 (KAFKA-17011)"


def test_an_api_versions_request_of_the_future_is_answered_in_version_0(
    broker: InProcessBroker,
) -> None:
    frame = bytearray(encode_request(18, 3, 7, "c", ApiVersionsRequest()))
    frame[SIZE_BYTES + 2 : SIZE_BYTES + 4] = (99).to_bytes(2, "big")
    answers: list[Any] = []
    connection = broker.connect().connection
    broker.core.handle(connection, memoryview(bytes(frame))[SIZE_BYTES:], answers.append)
    content = memoryview(b"".join(answers[0]))
    assert int.from_bytes(content[4:8], "big") == 7
    response, _ = ApiVersionsResponse.decode(content, 8, 0)
    assert response.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert [one.api_key for one in response.api_keys] == [18]
