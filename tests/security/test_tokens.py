"""OAUTHBEARER: only tokens that were checked in full let anybody in.

CVE-2026-33557 (any JWT was taken), CVE-2026-110985 (without keys the signature was not checked),
CVE-2025-27817 (a URL in the configuration, or in a token, is read). Tokens are made with PyJWT.
"""

import asyncio
import base64
import gc
import hmac
import json
import logging
import ssl
import time
import warnings

import confluent_kafka
import jwt
import pytest
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

import ottla
from ottla.broker.sasl.oauthbearer import TokenRefused
from ottla.client.settings import Refusals
from ottla.server.address import NotUsable
from ottla.server.tokens import JwtVerifier, OauthSettings
from tests import kafka_runner
from tests.conftest import unavailable
from tests.security.java_logins import java_logins
from tests.security.speaking import AUTHENTICATED, FAILED, guarded, handshake, knock, token

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    import kafka
    from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonProvider

ISSUER, AUDIENCE = "https://issuer.example", "ottla"
KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
STRANGER = rsa.generate_private_key(65537, 2048)
_ALGORITHMS = {
    "RS256": RSAAlgorithm,
    "PS256": RSAAlgorithm,
    "ES256": ECAlgorithm,
    "EdDSA": OKPAlgorithm,
}


def jwk(name, key):
    public = json.loads(_ALGORITHMS[name].to_jwk(key.public_key()))
    return {**public, "kid": name, "alg": name, "use": "sig"}


@pytest.fixture(scope="session")
def jwks(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(name, key) for name, key in KEYS.items()]}))
    return file


@pytest.fixture(scope="session")
def oauth(jwks):
    return {"jwks": str(jwks), "issuer": ISSUER, "audience": AUDIENCE}


@pytest.fixture(scope="session")
def verify(oauth):
    return JwtVerifier(OauthSettings(**oauth))


def claims(**changes):
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": int(time.time()) + 3_600,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def signed(algorithm="RS256", key=None, headers=None, **changes):
    return jwt.encode(
        claims(**changes),
        key or KEYS[algorithm],
        algorithm=algorithm,
        headers={"kid": algorithm, **(headers or {})},
    )


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_names_its_user_and_its_end(verify, algorithm):
    exp = int(time.time()) + 100
    verified = verify(signed(algorithm, exp=exp))
    assert (verified.user, verified.expires_at_ms) == ("alice", exp * 1_000)


def test_the_claim_that_names_the_user_can_be_another(oauth):
    named = JwtVerifier(OauthSettings(**oauth, principal_claim="email"))
    assert named(signed(email="a@b.c")).user == "a@b.c"
    with pytest.raises(TokenRefused):
        named(signed())


class TestCve202633557NotAnyToken:
    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "https://somebody.example"},
            {"iss": None},
            {"aud": "another"},
            {"aud": None},
            {"exp": 1},
            {"exp": None},
            {"exp": "never"},
            {"nbf": 4_000_000_000},
            {"sub": None},
            {"sub": ""},
        ],
    )
    def test_claims(self, verify, changes):
        with pytest.raises(TokenRefused):
            verify(signed(**changes))

    @pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "....", "e30.e30.e30"])
    def test_what_is_no_token(self, verify, text):
        with pytest.raises(TokenRefused):
            verify(text)

    def test_the_key_of_a_stranger(self, verify):
        with pytest.raises(TokenRefused):
            verify(signed(key=STRANGER))

    @pytest.mark.parametrize("kid", ["unknown", "", "../../etc/passwd", "ES256"])
    def test_a_key_that_it_only_names(self, verify, kid):
        with pytest.raises(TokenRefused):
            verify(signed(headers={"kid": kid}))


class TestCve2026110985NoSignatureIsNoSignature:
    def test_algorithm_none(self, verify):
        bare = jwt.encode(claims(), "", algorithm="none", headers={"kid": "RS256"})
        with pytest.raises(TokenRefused):
            verify(bare)

    def test_a_signature_cut_off(self, verify):
        with pytest.raises(TokenRefused):
            verify(signed().rpartition(".")[0] + ".")

    def test_the_public_key_as_a_shared_secret(self, verify, jwks):
        """RS256 turned into HS256: everybody has the "secret"."""

        def part(content):
            return base64.urlsafe_b64encode(content).rstrip(b"=")

        header = {"alg": "HS256", "kid": "RS256", "typ": "JWT"}
        text = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims()).encode())
        for secret in (
            jwks.read_bytes(),
            KEYS["RS256"]
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ):
            forged = text + b"." + part(hmac.digest(secret, text, "sha256"))
            with pytest.raises(TokenRefused):
                verify(forged.decode())

    def test_another_algorithm_of_the_same_key(self, verify):
        with pytest.raises(TokenRefused):
            verify(signed("PS256", key=KEYS["RS256"], headers={"kid": "RS256"}))

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{}",
            '{"keys": []}',
            '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
            '{"keys": [{"kty": "RSA"}]}',
        ],
    )
    def test_without_keys_to_check_with_there_is_no_start(self, oauth, tmp_path, content):
        file = tmp_path / "keys.json"
        file.write_text(content)
        with pytest.raises(NotUsable):
            JwtVerifier(OauthSettings(**{**oauth, "jwks": str(file)}))


def test_cve_2025_27817_nothing_is_read_from_an_address(verify, oauth, tmp_path):
    """Not from one in the settings, and not from one that a token names."""
    (tmp_path / "evil.json").write_text(json.dumps({"keys": [jwk("RS256", STRANGER)]}))
    url = (tmp_path / "evil.json").as_uri()
    for header in ({"jku": url}, {"x5u": url}, {"jwk": jwk("RS256", STRANGER)}):
        with pytest.raises(TokenRefused):
            verify(signed(key=STRANGER, headers=header))
    for address in (url, "http://127.0.0.1:1/keys", "https://127.0.0.1:1/keys"):
        with pytest.raises(NotUsable, match="No such file"):
            JwtVerifier(OauthSettings(**{**oauth, "jwks": address}))


def test_keys_are_renewed_while_it_runs(oauth, tmp_path, caplog):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk("ES256", KEYS["ES256"])]}))
    verify = JwtVerifier(OauthSettings(**{**oauth, "jwks": str(file)}))
    assert verify(signed("ES256")).user == "alice"
    file.write_text("broken")
    verify.reload_if_changed()
    assert "goes on with the keys it has" in caplog.text
    assert verify(signed("ES256")).user == "alice"
    file.write_text(json.dumps({"keys": [jwk("RS256", KEYS["RS256"])]}))
    verify.reload_if_changed()
    assert verify(signed("RS256")).user == "alice"
    with pytest.raises(TokenRefused):
        verify(signed("ES256"))


class TestExchange:
    """RFC 7628, against a broker in this process."""

    def login(self, verify, message, **config):
        client = knock(guarded(verifier=verify, **config))
        handshake(client, "OAUTHBEARER")
        return client, token(client, message)

    def test_a_good_token(self, verify):
        message = f"n,,\x01auth=Bearer {signed()}\x01\x01"
        client, answer = self.login(verify, message.encode())
        assert answer.error_code == AUTHENTICATED
        assert client.connection.principal == "User:alice"
        assert answer.session_lifetime_ms > 0, "no longer than the token"

    def test_a_session_ends_with_the_token_or_before(self, verify):
        message = f"n,,\x01auth=Bearer {signed()}\x01\x01".encode()
        _, answer = self.login(verify, message, connections_max_reauth_ms=5)
        assert answer.session_lifetime_ms == 5

    def test_a_bad_token_is_challenged_and_then_refused(self, verify):
        message = f"n,,\x01auth=Bearer {signed(exp=1)}\x01\x01"
        client, answer = self.login(verify, message.encode())
        assert answer.error_code == AUTHENTICATED, "as the RFC has it, and Kafka"
        assert json.loads(bytes(answer.auth_bytes)) == {"status": "invalid_token"}
        assert client.connection.principal == "User:ANONYMOUS"
        answer = token(client, b"\x01")
        assert answer.error_code == FAILED
        assert answer.error_message == '{"status":"invalid_token"}'
        assert client.connection.refused

    def test_after_a_challenge_there_is_no_second_try(self, verify):
        client, _ = self.login(verify, f"n,,\x01auth=Bearer {signed(exp=1)}\x01\x01".encode())
        again = f"n,,\x01auth=Bearer {signed()}\x01\x01".encode()
        assert token(client, again).error_code == FAILED
        assert client.connection.principal == "User:ANONYMOUS"

    def test_nobody_acts_for_somebody_else(self, verify):
        message = f"n,a=bob,\x01auth=Bearer {signed()}\x01\x01"
        assert self.login(verify, message.encode())[1].error_code == FAILED
        message = f"n,a=alice,\x01auth=Bearer {signed()}\x01\x01"
        assert self.login(verify, message.encode())[1].error_code == AUTHENTICATED

    @pytest.mark.parametrize(
        "message",
        [
            *(
                b"",
                b"n,,",
                b"n,,\x01\x01",
                b"n,,\x01auth=Bearer\x01\x01",
                b"y,,\x01auth=Bearer x\x01\x01",
            ),
            *(b"n,,\x01auth=Basic x\x01\x01", b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01"),
            *(b"\xff", b"n,,\x01auth=Bearer x\x01", b"n,,\x01" + b"a=b\x01" * 10_000 + b"\x01"),
        ],
    )
    def test_messages_that_are_none(self, verify, message):
        assert self.login(verify, message)[1].error_code == FAILED


@pytest.fixture(scope="module")
def broker(oauth, server_pair, tmp_path_factory):
    with ottla.Broker(
        tmp_path_factory.mktemp("broker"),
        security_protocol="sasl_ssl",
        tls_cert=server_pair.certificate,
        tls_key=server_pair.key,
        oauth=oauth,
    ) as broker:
        yield broker


def test_confluent_kafka(broker, ca):
    refusals = Refusals()
    settings = {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "OAUTHBEARER",
        "ssl.ca.location": str(ca),
        "error_cb": refusals,
        "log_level": 0,
    }

    def good(_):
        return signed(), time.time() + 600

    def bad(_):
        return signed(aud="another"), time.time() + 600

    client = confluent_kafka.Producer({**settings, "oauth_cb": good})
    client.poll(0)
    assert client.list_topics(timeout=30).brokers
    client = confluent_kafka.Producer({**settings, "oauth_cb": bad})
    while not refusals.reason:
        client.poll(0.05)
    assert '{"status":"invalid_token"}' in refusals.reason


def test_ottlas_own_client(broker, ca):
    security = {"token": lambda: (signed(), time.time() + 600), "ssl_ca": str(ca)}
    with ottla.Producer(broker.bootstrap_servers, **security) as producer:
        producer.send("topic", "key", "value")
        producer.flush()


def test_kafka_python(broker, ca):
    class Provider(KafkaPythonProvider):
        def token(self):
            return signed()

    producer = kafka.KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers,
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_provider=Provider(),
        ssl_cafile=str(ca),
    )
    producer.send("topic", b"value").get(30)
    producer.close()


def test_aiokafka(broker, ca, caplog):
    class Provider(AbstractTokenProvider):
        def __init__(self, text):
            self.text = text

        async def token(self):
            return self.text

    async def login(text):
        client = AIOKafkaClient(
            bootstrap_servers=broker.bootstrap_servers,
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauth_token_provider=Provider(text),
            ssl_context=ssl.create_default_context(cafile=ca),
        )
        try:
            await client.bootstrap()
        finally:
            await client.close()
            await asyncio.sleep(0.05)  # aiokafka lets go of a refused connection a moment later
            gc.collect()  # what it leaves behind is reported here, and not in another test

    asyncio.run(login(signed("EdDSA")))
    with caplog.at_level(logging.ERROR), pytest.raises(Exception, match="Unable to bootstrap"):
        asyncio.run(login(signed(key=STRANGER)))


@pytest.mark.kafka
def test_java_with_a_token_and_with_its_unsigned_ones(broker, ca, tmp_path):
    """Java's client makes tokens without a signature by itself when it is not told otherwise."""
    file = tmp_path / "token"
    file.write_text(signed())
    security = "org.apache.kafka.common.security.oauthbearer"
    common = {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
    }
    good = {
        **common,
        "sasl.jaas.config": f"{security}.OAuthBearerLoginModule required;",
        "sasl.login.callback.handler.class": f"{security}.OAuthBearerLoginCallbackHandler",
        "sasl.oauthbearer.jwt.retriever.class": f"{security}.FileJwtRetriever",
        "sasl.oauthbearer.token.endpoint.url": file.as_uri(),
    }
    unsigned = {
        **common,
        "sasl.jaas.config": f"{security}.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="alice";',
    }
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={file.as_uri()}"
    try:
        outcomes = java_logins(tmp_path, [good, unsigned], allowed)
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    assert outcomes == [
        broker.bootstrap_servers,
        'SaslAuthenticationException: {"status":"invalid_token"}',
    ]
