"""SCRAM: the vectors of its RFCs, and what has gone wrong in Kafka's (CVE-2024-56128, -2017-12610).

Exchanges run against a broker in this process; the client is written from the RFC for these tests.
"""

import base64

import pytest

from ottla.broker.sasl import credentials as credentials_module
from ottla.broker.sasl import scram as scram_module
from ottla.broker.sasl.credentials import credential_of, salted_password
from ottla.broker.sasl.exchange import AuthenticationFailed
from ottla.broker.sasl.scram import ScramExchange
from tests.security.speaking import (
    AUTHENTICATED,
    FAILED,
    HASHES,
    Scram,
    guarded,
    handshake,
    knock,
    scram,
    token,
)

RFC = {
    # RFC 5802 section 5; its hash is none that Kafka offers, the steps are the same.
    "SCRAM-SHA-1": (
        "QSXCR+Q6sek8bf92",
        "3rfcNHYJY1ZVvWVs7j",
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    # RFC 7677 section 3
    "SCRAM-SHA-256": (
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize("mechanism", RFC)
def test_the_vectors_of_the_rfcs(mechanism, monkeypatch):
    for module in (credentials_module, scram_module):
        monkeypatch.setitem(module.HASHES, "SCRAM-SHA-1", "sha1")
    salt64, nonce, client_first, server_first, client_final, server_final = RFC[mechanism]
    salt = base64.b64decode(salt64)
    salted = salted_password(mechanism, "pencil", salt, 4096)
    kept = credential_of("user", mechanism, salt, 4096, salted)
    exchange = ScramExchange(mechanism, lambda user: (kept, user == "user"), nonce)
    assert exchange.step(client_first.encode()) == server_first.encode()
    assert exchange.user == ""
    assert exchange.step(client_final.encode()) == server_final.encode()
    assert exchange.user == "user"


@pytest.mark.parametrize("mechanism", HASHES)
def test_a_user_with_the_password_and_nobody_else(mechanism):
    broker = guarded()
    client = knock(broker)
    one = Scram(mechanism, "alice", "wonderland")
    answer = scram(client, one)
    assert answer.error_code == AUTHENTICATED
    assert bytes(answer.auth_bytes) == one.signature, "the broker has proved itself as well"
    assert client.connection.principal == "User:alice"
    for user, password in (("alice", "builder"), ("alice", ""), ("nobody", "wonderland")):
        client = knock(broker)
        answer = scram(client, Scram(mechanism, user, password))
        assert answer.error_code == FAILED
        assert answer.error_message == (
            "Authentication failed during authentication due to invalid credentials with SASL "
            f"mechanism {mechanism}"
        )
        assert client.connection.refused
        assert client.connection.principal == "User:ANONYMOUS"


@pytest.mark.parametrize("mechanism", HASHES)
@pytest.mark.parametrize("which", ["only the client's", "another server's", "none"])
def test_cve_2024_56128_the_nonce_of_the_second_message_is_checked(mechanism, which):
    client = knock(guarded())
    one = Scram(mechanism, "alice", "wonderland")
    mine = "fyko+d2lbbFgONRv9qkxdawL"
    nonce = {"only the client's": mine, "another server's": mine + "AAAA", "none": "x"}[which]
    assert scram(client, one, nonce).error_code == FAILED
    assert client.connection.refused == f"{mechanism}: a SCRAM message with another nonce"


def test_a_proof_cannot_be_played_again():
    broker = guarded()
    one = Scram("SCRAM-SHA-256", "alice", "wonderland")
    client = knock(broker)
    handshake(client, one.mechanism)
    final = one.final(bytes(token(client, one.first()).auth_bytes))
    assert token(client, final).error_code == AUTHENTICATED
    thief = knock(broker)
    handshake(thief, one.mechanism)
    assert token(thief, one.first()).error_code == AUTHENTICATED
    assert token(thief, final).error_code == FAILED


@pytest.mark.parametrize("mechanism", HASHES)
def test_cve_2017_12610_nobody_acts_for_somebody_else(mechanism):
    broker = guarded()
    one = Scram(mechanism, "alice", "wonderland")
    one.gs2 = "n,a=bob,"
    client = knock(broker)
    answer = scram(client, one)
    assert answer.error_code == FAILED
    assert answer.error_message == (
        "Authentication failed: Client requested an authorization id that is different from "
        "username"
    )
    one = Scram(mechanism, "alice", "wonderland")
    one.gs2 = "n,a=alice,"
    client = knock(broker)
    assert scram(client, one).error_code == AUTHENTICATED
    assert client.connection.principal == "User:alice"


def test_the_channel_binding_is_what_was_said_at_first():
    one = Scram("SCRAM-SHA-256", "alice", "wonderland")
    client = knock(guarded())
    handshake(client, one.mechanism)
    answer = token(client, one.first())
    one.gs2 = "y,,"
    assert token(client, one.final(bytes(answer.auth_bytes))).error_code == FAILED


@pytest.mark.parametrize(
    "message",
    [
        *(
            b"",
            b"\xff\xfe",
            b"n,,",
            b"n,,n=alice",
            b"n,,n=,r=abc",
            b"n,,n=alice,r=",
            b"n=alice,r=a",
        ),
        *(b"p=tls-unique,,n=alice,r=abc", b"n,,m=x,n=alice,r=abc", b"n,,n=al=ice,r=abc"),
        *(b"n,,n=al=2Dice,r=abc", b"n,,n=alice,r=a\nb", b"n,,n=alice,r=abc,tokenauth=true"),
        b"n," + b"," * 60_000,
        b"n,,n=alice,r=a" + b",x=y" * 15_000 + b",",
    ],
)
def test_first_messages_that_are_none_are_refused(message):
    client = knock(guarded())
    handshake(client, "SCRAM-SHA-256")
    assert token(client, message).error_code == FAILED


@pytest.mark.parametrize(
    "message", [b"", b"c=biws", b"c=biws,r=%s", b"c=biws,r=%s,p=", b"c=biws,r=%s,p=!!", b"p=AAAA"]
)
def test_final_messages_that_are_none_are_refused(message):
    one = Scram("SCRAM-SHA-256", "alice", "wonderland")
    client = knock(guarded())
    handshake(client, one.mechanism)
    nonce = one.fields(bytes(token(client, one.first()).auth_bytes))["r"]
    assert token(client, message.replace(b"%s", nonce.encode())).error_code == FAILED


def test_names_with_commas_and_equals_signs():
    name = "a=b,c"
    client = knock(guarded({name: "secret"}))
    assert scram(client, Scram("SCRAM-SHA-512", "a=3Db=2Cc", "secret")).error_code == 0
    assert client.connection.principal == "User:a=b,c"


@pytest.mark.parametrize("mechanism", HASHES)
def test_an_answer_does_not_tell_which_users_there_are(mechanism):
    """A user that does not exist has a salt that stays, also over a restart, and is its own."""
    broker = guarded()

    def asked(user, of=broker):
        client = knock(of)
        handshake(client, mechanism)
        one = Scram(mechanism, user, "")
        fields = one.fields(bytes(token(client, one.first()).auth_bytes))
        return fields["s"], fields["i"]

    nobody, alice = asked("nobody"), asked("alice")
    assert len(nobody[0]) == len(alice[0])
    assert nobody[1] == alice[1] == "8192"
    assert asked("nobody") == nobody != asked("nobody2")
    broker.core.close()
    again = type(broker)(disk=broker.disk, config=broker.core.config)
    assert asked("nobody", again) == nobody
    assert asked("alice", again) == alice


def test_a_first_message_does_not_come_twice():
    kept = credential_of("user", "SCRAM-SHA-256", b"salt", 4096, b"salted")
    exchange = ScramExchange("SCRAM-SHA-256", lambda user: (kept, True), "nonce")
    exchange.step(b"n,,n=user,r=abc")
    with pytest.raises(AuthenticationFailed):
        exchange.step(b"n,,n=user,r=abc")
