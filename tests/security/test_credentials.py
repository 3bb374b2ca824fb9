"""Users as records: set, changed and deleted over the protocol as in Kafka, and durable.

Methods: the same requests to both brokers must have the same answers; a broker in this process is
restarted, with and without a checkpoint.
"""

import hashlib
import logging

import pytest

import ottla
from ottla.broker.sasl.credentials import HASHES
from ottla.client import Admin, NotLetIn, TimedOut
from ottla.ports.errors import ErrorCode
from ottla.testing.in_process import InProcessBroker
from ottla.wire.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.wire.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    UserName,
)
from tests.differential.raw import Raw
from tests.security.speaking import AUTHENTICATED, FAILED, Scram, guarded, knock, plain, scram

SHA_256, SHA_512 = 1, 2
SALT = b"salt" * 6


def salted(password, mechanism=SHA_256, iterations=4_096):
    name = {SHA_256: "sha256", SHA_512: "sha512"}.get(mechanism, "sha256")
    return hashlib.pbkdf2_hmac(name, password.encode(), SALT, iterations)


def upsertion(name, mechanism=SHA_256, iterations=4_096, password="secret"):
    return ScramCredentialUpsertion(
        name=name,
        mechanism=mechanism,
        iterations=iterations,
        salt=SALT,
        salted_password=salted(password, mechanism, max(iterations, 1)),
    )


def deletion(name, mechanism=SHA_256):
    return ScramCredentialDeletion(name=name, mechanism=mechanism)


def alter(*changes):
    return AlterUserScramCredentialsRequest(
        deletions=[each for each in changes if isinstance(each, ScramCredentialDeletion)],
        upsertions=[each for each in changes if isinstance(each, ScramCredentialUpsertion)],
    )


def describe(*names):
    return DescribeUserScramCredentialsRequest(users=[UserName(name) for name in names])


def told(answer):
    return sorted((each.user, each.error_code, each.error_message) for each in answer.results)


REFUSED = {
    "no name": alter(upsertion("")),
    "an unknown mechanism": alter(upsertion("carol", mechanism=3)),
    "too few iterations": alter(upsertion("carol", iterations=4_095)),
    "too many iterations": alter(upsertion("carol", iterations=16_385)),
    "twice": alter(upsertion("carol"), upsertion("carol")),
    "set and deleted": alter(upsertion("carol"), deletion("carol")),
    "two mechanisms": alter(upsertion("dora"), upsertion("dora", mechanism=SHA_512)),
    "an empty salted password": alter(
        ScramCredentialUpsertion("carol", SHA_256, 4_096, SALT, salted_password=b"")
    ),
    "a deletion of nobody": alter(deletion("nobody")),
    "a deletion by an unknown mechanism": alter(deletion("nobody", mechanism=0)),
    "one good and one bad": alter(upsertion("emil"), upsertion("fred", iterations=1)),
    "nothing": alter(),
}


@pytest.mark.kafka
@pytest.mark.parametrize("what", REFUSED)
def test_both_brokers_answer_the_same_to(what, kafka_authorizing, ottla_authorizing):
    answers = []
    for bootstrap_servers in (kafka_authorizing, ottla_authorizing):
        raw = Raw(bootstrap_servers)
        answers.append(told(raw.ask(0, REFUSED[what])))
        raw.close()
    assert answers[0] == answers[1]


@pytest.mark.kafka
def test_both_brokers_answer_the_same_to_a_user_in_both_lists(kafka_authorizing, ottla_authorizing):
    answers = []
    for bootstrap_servers in (kafka_authorizing, ottla_authorizing):
        raw = Raw(bootstrap_servers)
        requests = [
            alter(upsertion("hanna")),
            alter(deletion("hanna"), upsertion("hanna")),
            alter(deletion("hanna"), upsertion("hanna", SHA_512)),
            alter(deletion("hanna", SHA_512), upsertion("hanna")),
            alter(deletion("hanna"), upsertion("hanna", iterations=1)),
            alter(deletion("hanna"), deletion("hanna")),
            alter(deletion("hanna")),
        ]
        answers.append([told(raw.ask(0, request)) for request in requests])
        raw.close()
    assert answers[0] == answers[1]
    codes = [answer[0][1] for answer in answers[0]]
    twice, missing = ErrorCode.DUPLICATE_RESOURCE, ErrorCode.RESOURCE_NOT_FOUND
    assert codes == [0, twice, twice, missing, twice, twice, 0]


@pytest.mark.kafka
def test_both_brokers_describe_the_same(kafka_authorizing, ottla_authorizing):
    answers = []
    for bootstrap_servers in (kafka_authorizing, ottla_authorizing):
        raw = Raw(bootstrap_servers)
        for mechanism in (SHA_256, SHA_512):
            raw.ask(0, alter(upsertion("gina", mechanism, iterations=5_000)))
        while (found := raw.ask(0, describe("gina"))).results[0].error_code or (
            len(found.results[0].credential_infos) < 2
        ):
            pass  # Kafka's broker learns of it a moment later
        answers.append(
            [
                sorted((i.mechanism, i.iterations) for i in found.results[0].credential_infos),
                told(raw.ask(0, describe("nobody", "gina"))),
                told(raw.ask(0, describe("gina", "gina"))),
                "gina" in {each.user for each in raw.ask(0, describe()).results},
            ]
        )
        raw.close()
    assert answers[0] == answers[1]
    assert answers[0][0] == [(SHA_256, 5_000), (SHA_512, 5_000)]


def restarted(broker, clean):
    if clean:
        broker.core.close()
    return InProcessBroker(disk=broker.disk, config=broker.core.config)


@pytest.mark.parametrize("clean", [True, False])
def test_users_survive_a_restart(clean):
    broker = guarded()
    admin = broker.connect()
    admin.request(alter(upsertion("carol", password="singing")), 0)
    admin.request(alter(deletion("bob", SHA_256)), 0)
    admin.request(alter(deletion("bob", SHA_512)), 0)
    broker = restarted(broker, clean)
    assert broker.core.credentials.users() == ["alice", "carol"]
    right = Scram("SCRAM-SHA-256", "carol", "singing")
    assert scram(knock(broker), right).error_code == AUTHENTICATED
    assert plain(knock(broker), "carol", "singing").error_code == AUTHENTICATED
    assert plain(knock(broker), "alice", "wonderland").error_code == AUTHENTICATED
    assert plain(knock(broker), "bob", "builder").error_code == FAILED
    other = Scram("SCRAM-SHA-512", "carol", "singing")
    assert scram(knock(broker), other).error_code == FAILED, "it was set for one mechanism"


def test_a_new_password_replaces_the_old_one():
    broker = guarded()
    before = broker.core.credentials.find("alice", "SCRAM-SHA-256")
    broker.core.commit(broker.core.credentials.set_password("alice", "mirror", broker.core.rng))
    assert plain(knock(broker), "alice", "wonderland").error_code == FAILED
    for mechanism in HASHES:
        one = Scram(mechanism, "alice", "mirror")
        assert scram(knock(broker), one).error_code == AUTHENTICATED
    after = broker.core.credentials.find("alice", "SCRAM-SHA-256")
    assert before.salt != after.salt
    again = broker.core.credentials.set_password("alice", "mirror", broker.core.rng)
    assert list(again) == [], "the same password is no change"


def test_no_record_shows_a_secret():
    broker = guarded()
    plain(knock(broker), "nobody", "x")
    shown = [repr(record) for record in broker.core.credentials.snapshot()]
    assert sorted(shown) == [
        "DecoyKey()",
        *(f"ScramCredential({user!r}, {name})" for user in ("alice", "bob") for name in HASHES),
    ]


def test_the_first_user_comes_with_the_start_and_others_over_the_protocol(
    tmp_path, server_pair, ca
):
    """The first user sets the second one's password, and takes it away again."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    options = {
        "security_protocol": "sasl_ssl",
        "tls_cert": server_pair.certificate,
        "tls_key": server_pair.key,
    }

    def counts(user, password):
        admin = Admin(
            broker.bootstrap_servers,
            timeout_ms=500,
            username=user,
            password=password,
            ssl_ca=str(ca),
        )
        while True:
            try:
                return admin.partition_counts()
            except TimedOut:
                continue

    with ottla.Broker(tmp_path / "data", users={"root": "first"}, **options) as broker:
        assert counts("root", "first") == {}
        with pytest.raises(NotLetIn):
            counts("root", "wrong")
    with ottla.Broker(tmp_path / "data", **options) as broker:
        assert counts("root", "first") == {}, "it stays"
    with ottla.Broker(tmp_path / "data", users={"root": "second"}, **options) as broker:
        assert counts("root", "second") == {}
        with pytest.raises(NotLetIn):
            counts("root", "first")
