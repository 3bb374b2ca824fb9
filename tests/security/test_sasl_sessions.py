"""What a connection may do before, during and after its authentication; PLAIN; reauthentication.

The broker runs in this process with a clock of the test's.
"""

import struct

import pytest

from ottla.broker.registry import REGISTRY
from ottla.ports.clock import SimulatedClock
from ottla.ports.errors import ProtocolError
from ottla.wire.api import API, ApiKey
from ottla.wire.messages.api_versions import ApiVersionsRequest
from ottla.wire.messages.describe_cluster import DescribeClusterRequest
from ottla.wire.messages.find_coordinator import FindCoordinatorRequest
from ottla.wire.messages.metadata import MetadataRequest
from tests.security.speaking import (
    AUTHENTICATED,
    FAILED,
    ILLEGAL_STATE,
    UNSUPPORTED,
    Scram,
    guarded,
    handshake,
    knock,
    plain,
    scram,
    token,
)

OPEN_TO_ALL = {ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE}
VERSIONS = ApiVersionsRequest(client_software_name="test", client_software_version="1")


@pytest.mark.parametrize("key", sorted(REGISTRY), ids=lambda key: API[key].name)
def test_before_authentication_only_three_requests_are_taken(key):
    client = knock(guarded())
    if key in OPEN_TO_ALL:
        assert client.request(VERSIONS, 3).error_code == 0
        return
    with pytest.raises(ProtocolError, match="before authentication"):
        client.send(API[key].request(), REGISTRY[key].max_version)


@pytest.mark.parametrize("stage", ["handshake", "exchange", "refused"])
def test_nothing_else_is_taken_on_the_way(stage):
    client = knock(guarded())
    if stage != "handshake":
        handshake(client, "PLAIN")
    if stage == "refused":
        token(client, b"\0alice\0wrong")
    with pytest.raises(ProtocolError, match="Metadata before authentication"):
        client.send(MetadataRequest(topics=[]), 12)


def test_a_refused_connection_cannot_go_on():
    client = knock(guarded())
    assert plain(client, "alice", "wrong").error_code == FAILED
    with pytest.raises(ProtocolError):
        client.send(VERSIONS, 3)
    assert client.connection.principal == "User:ANONYMOUS"


def test_plain():
    broker = guarded()
    client = knock(broker)
    assert plain(client, "alice", "wonderland").error_code == AUTHENTICATED
    assert client.connection.principal == "User:alice"
    assert client.request(MetadataRequest(topics=[]), 12).brokers
    assert plain(knock(broker), "alice", "wonderland", "alice").error_code == AUTHENTICATED


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"\0alice\0builder", "Authentication failed: Invalid username or password"),
        (b"\0nobody\0wonderland", "Authentication failed: Invalid username or password"),
        (b"\0\0wonderland", "Authentication failed: username not specified"),
        (b"\0alice\0", "Authentication failed: password not specified"),
        (
            b"bob\0alice\0wonderland",
            "Authentication failed: Client requested an authorization id that is different from "
            "username",
        ),
        *(
            (
                message,
                "Authentication failed during authentication due to invalid credentials with "
                "SASL mechanism PLAIN",
            )
            for message in (b"", b"alice", b"\0alice\0wonderland\0", b"\xff\0\xfe\0", b"\0" * 9)
        ),
    ],
)
def test_plain_refuses_with_kafkas_words(message, told):
    client = knock(guarded())
    handshake(client, "PLAIN")
    answer = token(client, message)
    assert (answer.error_code, answer.error_message) == (FAILED, told)
    assert client.connection.refused


def test_brute_force_costs_the_broker_little_however_many_connections_there_are():
    """After twenty wrong passwords in a second the next is refused unseen, whatever it is."""
    clock = SimulatedClock()
    broker = guarded(clock=clock)
    for _ in range(20):
        answer = plain(knock(broker), "alice", "wrong")
        assert answer.error_message == "Authentication failed: Invalid username or password"
    client = knock(broker)
    assert plain(client, "alice", "wonderland").error_code == FAILED
    assert client.connection.refused == "PLAIN: too many wrong passwords from 127.0.0.1"
    elsewhere = knock(broker)
    elsewhere.connection.client_host = "127.0.0.2"
    assert plain(elsewhere, "alice", "wonderland").error_code == AUTHENTICATED
    one = Scram("SCRAM-SHA-256", "alice", "wonderland")
    assert scram(knock(broker), one).error_code == AUTHENTICATED, "there the client does the work"
    clock.advance(1_000)
    assert plain(knock(broker), "alice", "wonderland").error_code == AUTHENTICATED


def test_a_mechanism_that_is_not_offered():
    client = knock(guarded(), "SCRAM-SHA-512", "SCRAM-SHA-256")
    answer = handshake(client, "PLAIN")
    assert answer.error_code == UNSUPPORTED
    assert answer.mechanisms == ["SCRAM-SHA-512", "SCRAM-SHA-256"]
    assert client.connection.refused


def test_each_listener_tells_its_own_address():
    client = guarded().connect()
    client.connection.advertised = ("db1.example", 9093)
    (node,) = client.request(MetadataRequest(topics=[]), 12).brokers
    assert (node.host, node.port) == ("db1.example", 9093)
    (node,) = client.request(DescribeClusterRequest(), 1).brokers
    assert (node.host, node.port) == ("db1.example", 9093)
    (found,) = client.request(FindCoordinatorRequest(coordinator_keys=["group"]), 4).coordinators
    assert (found.host, found.port) == ("db1.example", 9093)


def test_sasl_where_there_is_none():
    client = guarded().connect()
    assert handshake(client, "PLAIN").error_code == ILLEGAL_STATE
    assert token(client, b"\0alice\0wonderland").error_code == ILLEGAL_STATE
    assert client.connection.principal == "User:ANONYMOUS"


def test_tokens_before_a_handshake():
    with pytest.raises(ProtocolError, match="before a SaslHandshake"):
        token(knock(guarded()), b"\0alice\0wonderland")


def test_a_handshake_in_the_middle_of_an_exchange():
    client = knock(guarded())
    handshake(client, "SCRAM-SHA-256")
    assert handshake(client, "PLAIN").error_code == ILLEGAL_STATE
    assert client.connection.refused


def test_more_after_the_end():
    client = knock(guarded())
    plain(client, "alice", "wonderland")
    assert token(client, b"\0bob\0builder").error_code == ILLEGAL_STATE
    assert client.connection.principal == "User:alice"


def test_after_the_old_handshake_tokens_come_bare():
    broker = guarded()
    client = knock(broker)
    handshake(client, "PLAIN", version=0)
    answers = []
    broker.core.handle(client.connection, memoryview(b"\0alice\0wonderland"), answers.append)
    broker.sync()
    assert answers == [[struct.pack(">i", 0)]]
    assert client.connection.principal == "User:alice"
    assert client.request(MetadataRequest(topics=[]), 12).brokers

    client = knock(broker)
    handshake(client, "PLAIN", version=0)
    broker.core.handle(client.connection, memoryview(b"\0alice\0wrong"), answers.append)
    assert answers[1:] == [[]], "there is no way to say it: the connection is closed"
    assert client.connection.refused


class TestReauthentication:
    """KIP-368: a session has an end, and can be renewed before it."""

    @pytest.fixture
    def clock(self):
        return SimulatedClock()

    @pytest.fixture
    def broker(self, clock):
        return guarded(clock=clock, connections_max_reauth_ms=60_000)

    @pytest.fixture
    def client(self, broker):
        client = knock(broker)
        assert plain(client, "alice", "wonderland").session_lifetime_ms == 60_000
        return client

    def test_a_session_that_is_not_renewed_ends(self, client, clock):
        clock.advance(59_000)
        assert client.request(MetadataRequest(topics=[]), 12).brokers
        clock.advance(1_001)
        with pytest.raises(ProtocolError, match="session is over"):
            client.send(MetadataRequest(topics=[]), 12)

    def test_it_can_be_renewed_even_late(self, client, clock):
        clock.advance(70_000)
        assert plain(client, "alice", "wonderland").session_lifetime_ms == 60_000
        clock.advance(50_000)
        assert client.request(MetadataRequest(topics=[]), 12).brokers

    def test_without_a_limit_there_is_none(self):
        answer = plain(knock(guarded()), "alice", "wonderland")
        assert answer.session_lifetime_ms == 0

    def test_not_as_somebody_else(self, client, clock):
        clock.advance(2_000)
        answer = plain(client, "bob", "builder")
        assert answer.error_code == FAILED
        assert answer.error_message == (
            "Cannot change principals during re-authentication from User:alice to User:bob"
        )
        assert client.connection.refused

    def test_not_with_the_wrong_password(self, client, clock):
        clock.advance(2_000)
        assert plain(client, "alice", "x").error_code == FAILED
        assert client.connection.refused

    def test_not_by_another_mechanism(self, client, clock):
        clock.advance(2_000)
        assert handshake(client, "SCRAM-SHA-256").error_code == UNSUPPORTED
        assert client.connection.refused

    def test_not_all_the_time(self, client, clock):
        clock.advance(500)
        assert handshake(client, "PLAIN").error_code == ILLEGAL_STATE
        assert client.request(MetadataRequest(topics=[]), 12).brokers, "no harm done"

    def test_by_scram(self, broker, clock):
        client = knock(broker)
        one = Scram("SCRAM-SHA-256", "alice", "wonderland")
        assert scram(client, one).error_code == AUTHENTICATED
        clock.advance(2_000)
        assert scram(client, one).error_code == AUTHENTICATED
