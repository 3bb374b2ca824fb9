"""TLS: versions, names in certificates, files that change; and listeners that are half set up."""

import os
import signal
import socket
import ssl
import subprocess
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import ottla
from ottla.server.address import AddressUnusable, NotUsable, split_listener
from ottla.server.distinguished_name import UnreadableCertificate, subject_of
from ottla.server.listener import ConnectionLimits
from ottla.server.security import Guard, Security, advertised_address
from ottla.server.tls import Certificates
from ottla.server.tokens import OauthSettings
from tests import kafka_runner
from tests.conftest import unavailable
from tests.security.certificates import Authority
from tests.security.speaking import guarded
from tests.unit.server.core import Core, running


def der(pair):
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).public_bytes(Encoding.DER)


def trusting(ca, pair=None):
    context = ssl.create_default_context(cafile=ca)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def tls_listener(pair, ca=None, **more):
    certificates = Certificates(str(pair.certificate), str(pair.key), ca and str(ca))
    return {"protocol": "ssl", "certificates": certificates, **more}


class Principals(Core):
    """Remembers who came."""

    def __init__(self):
        super().__init__()
        self.principals = []

    def connection_opened(self, connection):
        super().connection_opened(connection)
        self.principals.append(connection.principal)


def test_requests_and_large_answers_over_tls(run, server_pair, ca):
    async def scenario():
        async with running(Core(), listener=tls_listener(server_pair)) as one:
            client = await one.connect(ssl=trusting(ca))
            client.send(b"now a", b"big 3000000", b"later b")
            first, large = await client.receive(2)
            assert (first, len(large)) == (b"a", 3_000_000)
            await one.until(lambda: one.core.later)
            one.core.later[b"b"]()
            one.server.settle()
            assert await client.receive() == [b"b"]

    run(scenario())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_mtls_the_principal_is_the_subject(run, authority, server_pair, client_pair, ca, version):
    async def scenario():
        core = Principals()
        async with running(core, listener=tls_listener(server_pair, ca)) as one:
            context = trusting(ca, client_pair)
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
            client = await one.connect(ssl=context)
            client.send(b"now a")
            await client.receive()
            assert core.principals == ["User:CN=alice"]

    run(scenario())


@pytest.mark.parametrize("which", ["none", "of another authority"])
def test_mtls_nobody_comes_without_a_certificate(run, tmp_path, server_pair, ca, which):
    stranger = None if which == "none" else Authority(tmp_path, "other").issue("alice")

    async def scenario():
        core = Principals()
        async with running(core, listener=tls_listener(server_pair, ca)) as one:

            async def come_in():
                client = await one.connect(ssl=trusting(ca, stranger))
                client.send(b"now a")
                await client.reader.readexactly(1)

            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                await come_in()
            assert core.principals == []
            await one.until(lambda: not one.server._acceptor._total)

    run(scenario())


def test_under_sasl_a_certificate_names_nobody(run, server_pair, client_pair, ca):
    async def scenario():
        core = guarded().core
        listener = tls_listener(server_pair, ca, mechanisms=("PLAIN",)) | {"protocol": "sasl_ssl"}
        async with running(core, listener=listener) as one:
            await one.connect(ssl=trusting(ca, client_pair))
            await one.until(lambda: one.server._connections)
            (connection,) = one.server._connections
            assert connection._identity.principal == "User:ANONYMOUS"

    run(scenario())


def test_old_versions_of_tls_are_refused(run, server_pair, ca):
    async def scenario():
        async with running(Core(), listener=tls_listener(server_pair)) as one:
            context = trusting(ca)
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await one.connect(ssl=context)

    run(scenario())


def test_a_handshake_counts_and_does_not_last(run, server_pair, monkeypatch):
    """Who only connects to a TLS listener is one connection, and not for long."""
    monkeypatch.setattr("ottla.server.listener.HANDSHAKE_MS_MAX", 300)

    async def scenario():
        limits = ConnectionLimits(per_ip=2)
        async with running(Core(), listener=tls_listener(server_pair), limits=limits) as one:
            silent = [await one.connect() for _ in range(2)]
            turned_away = await one.connect()
            assert await turned_away.ended() == b""
            for client in silent:
                await client.ended()
            await one.until(lambda: not one.server._acceptor._total)

    run(scenario())


def test_certificates_are_renewed_while_it_runs(run, tmp_path, authority, server_pair, ca):
    """New connections see the new one; old ones go on; files that are broken change nothing."""
    pair = authority.issue("renewed")
    files = {name: tmp_path / name for name in ("certificate", "key")}

    def use(which):
        files["certificate"].write_bytes(which.certificate.read_bytes())
        files["key"].write_bytes(which.key.read_bytes())

    async def subject(one):
        client = await one.connect(ssl=trusting(ca))
        client.send(b"now a")
        await client.receive()
        return subject_of(client.writer.get_extra_info("ssl_object").getpeercert(True)), client

    async def scenario():
        use(server_pair)
        certificates = Certificates(str(files["certificate"]), str(files["key"]))
        listener = {"protocol": "ssl", "certificates": certificates}
        async with running(Core(), listener=listener) as one:
            name, old = await subject(one)
            assert name == "CN=server"
            files["key"].write_bytes(b"broken")
            certificates.reload_if_changed()
            assert (await subject(one))[0] == "CN=server"
            use(pair)
            certificates.reload_if_changed()
            assert (await subject(one))[0] == "CN=renewed"
            old.send(b"now b")
            assert await old.receive() == [b"b"]
            os.unlink(files["key"])
            certificates.reload_if_changed()
            certificates.reload()
            assert (await subject(one))[0] == "CN=renewed"

    run(scenario())


def test_sighup_renews_certificates(tmp_path, authority, server_pair, ca):
    """The process that gets it goes on, and shows its new certificate."""
    certificate, key = tmp_path / "certificate", tmp_path / "key"

    def use(pair):
        certificate.write_bytes(pair.certificate.read_bytes())
        key.write_bytes(pair.key.read_bytes())

    def subject():
        with (
            socket.create_connection((broker.host, broker.port), timeout=30) as plain,
            trusting(ca).wrap_socket(plain, server_hostname=broker.host) as secured,
        ):
            return subject_of(secured.getpeercert(binary_form=True))

    use(server_pair)
    options = {"security_protocol": "ssl", "tls_cert": certificate, "tls_key": key}
    with ottla.Broker(tmp_path / "data", **options) as broker:
        assert subject() == "CN=server"
        use(authority.issue("next"))
        os.kill(broker.pid, signal.SIGHUP)
        while subject() != "CN=next":
            assert broker.running


NAMES = [
    [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "A, B"), (NameOID.COMMON_NAME, "x")],
    [(NameOID.COMMON_NAME, "a,CN=admin")],
    [(NameOID.COMMON_NAME, 'q"+;<>\\=#')],
    [(NameOID.COMMON_NAME, "  spaces  ")],
    [(NameOID.COMMON_NAME, "#hash")],
    [(NameOID.COMMON_NAME, "Jürgen 日本")],
    [(NameOID.COMMON_NAME, "x"), (NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.TITLE, "Dr")],
    [
        (NameOID.DOMAIN_COMPONENT, "example"),
        (NameOID.USER_ID, "u1"),
        (NameOID.STREET_ADDRESS, "s"),
        (NameOID.LOCALITY_NAME, "l"),
        (NameOID.STATE_OR_PROVINCE_NAME, "st"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "ou"),
    ],
]


def test_subjects_are_written_as_java_writes_them(authority, tmp_path):
    """Kafka's principal is X500Principal.getName() of the client's certificate."""
    pairs = [authority.issue(f"name{number}", names) for number, names in enumerate(NAMES)]
    source = tmp_path / "Subjects.java"
    source.write_text(
        """
        import java.io.*;
        import java.security.cert.*;
        public class Subjects {
            public static void main(String[] files) throws Exception {
                PrintStream out = new PrintStream(System.out, true, "UTF-8");
                CertificateFactory factory = CertificateFactory.getInstance("X.509");
                for (String file : files)
                    try (InputStream in = new FileInputStream(file)) {
                        X509Certificate one = (X509Certificate) factory.generateCertificate(in);
                        out.println(one.getSubjectX500Principal().getName());
                    }
            }
        }
        """
    )
    try:
        java = kafka_runner.java()
    except kafka_runner.KafkaUnavailable as missing:
        unavailable(missing)
    names = subprocess.run(
        [java, str(source), *(str(pair.certificate) for pair in pairs)],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert [subject_of(der(pair)) for pair in pairs] == names.splitlines()


def test_a_certificate_that_is_none_has_no_subject():
    for rubbish in (b"", b"\x30", b"\x30\x82\xff\xff", b"\x30\x00", b"\x30\x02\x30\x00"):
        with pytest.raises(UnreadableCertificate):
            subject_of(rubbish)


def guard(*protocols, **settings):
    return Guard(Security(**settings), protocols)


class TestSettingsThatAreHalfSaid:
    def test_tls_without_a_certificate(self):
        for settings in ({}, {"tls_cert": "x.pem"}):
            with pytest.raises(NotUsable, match="TLS needs a certificate and its key"):
                guard("sasl_ssl", **settings)

    def test_a_certificate_that_nobody_would_see(self, server_pair):
        files = {"tls_cert": str(server_pair.certificate), "tls_key": str(server_pair.key)}
        with pytest.raises(NotUsable, match="no listener that would use it"):
            guard("plaintext", **files)
        with pytest.raises(NotUsable):
            guard("plaintext", tls_client_ca="ca.pem")

    def test_files_that_are_none(self, tmp_path, server_pair):
        (tmp_path / "broken").write_text("-----BEGIN NOTHING-----")
        for name in ("missing", "broken"):
            with pytest.raises(NotUsable, match="certificate files cannot be used"):
                guard("ssl", tls_cert=str(tmp_path / name), tls_key=str(server_pair.key))

    def test_passwords_in_the_clear(self, server_pair):
        with pytest.raises(NotUsable, match="PLAIN over sasl_plaintext would send passwords"):
            guard("sasl_plaintext", sasl_mechanisms=("PLAIN",))
        assert "PLAIN" not in guard("sasl_plaintext").mechanisms("sasl_plaintext")
        allowed = guard("sasl_plaintext", allow_plaintext_passwords=True)
        assert "PLAIN" in allowed.mechanisms("sasl_plaintext")
        files = {"tls_cert": str(server_pair.certificate), "tls_key": str(server_pair.key)}
        safe = guard("sasl_ssl", **files).mechanisms("sasl_ssl")
        assert safe == ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

    def test_mechanisms_that_there_are_not(self):
        with pytest.raises(NotUsable, match="no SASL mechanism 'GSSAPI'"):
            guard("sasl_plaintext", sasl_mechanisms=("GSSAPI",))

    def test_tokens_without_a_word_on_what_to_expect(self, tmp_path):
        with pytest.raises(NotUsable, match="what to expect of a token"):
            guard("sasl_plaintext", sasl_mechanisms=("OAUTHBEARER",))
        for settings in (
            {"jwks": "keys.json", "issuer": "", "audience": "ottla"},
            {"jwks": "keys.json", "issuer": "me", "audience": ""},
        ):
            with pytest.raises(NotUsable, match="what to expect of a token"):
                guard("sasl_plaintext", oauth=OauthSettings(**settings))
        settings = {"jwks": str(tmp_path / "none"), "issuer": "me", "audience": "ottla"}
        with pytest.raises(NotUsable, match="No such file"):
            guard("sasl_plaintext", oauth=OauthSettings(**settings))

    def test_limits_that_let_nobody_in(self):
        for settings in ({"max_reauth_ms": -1}, {"max_connections": 0}):
            with pytest.raises(NotUsable, match="too small"):
                guard("plaintext", **settings)

    def test_users_without_a_name_or_a_password(self):
        for users in ({"": "x"}, {"alice": ""}):
            with pytest.raises(NotUsable, match="a name and a password"):
                guard("sasl_plaintext", users=users)

    def test_protocols_that_there_are_not(self):
        assert split_listener("SASL_SSL://[::1]:9093") == ("sasl_ssl", "::1", 9093)
        assert split_listener("h:1") == ("plaintext", "h", 1)
        with pytest.raises(AddressUnusable, match="'https' is not a security protocol"):
            split_listener("https://127.0.0.1:9092")

    def test_advertised_addresses(self):
        told = ["sasl_ssl://db:9093", "db:9092"]
        assert advertised_address("sasl_ssl", "::", 1, told, alone=False) == ("db", 9093)
        assert advertised_address("plaintext", "::", 1, told, alone=False) == ("db", 9092)
        assert advertised_address("ssl", "h", 1, told, alone=False) == ("h", 1)
        assert advertised_address("ssl", "h", 1, ["db:5"], alone=True) == ("db", 5)
        with pytest.raises(AddressUnusable):
            advertised_address("ssl", "0.0.0.0", 1, told, alone=False)


def test_a_canary_password_is_nowhere_to_be_seen(tmp_path):
    """Not among the arguments of the process, not in its log, not in its directory."""
    canary = "canary-7f3a9c"
    options = {"users": {"alice": canary}, "security_protocol": "sasl_plaintext"}
    with ottla.Broker(tmp_path / "data", **options) as broker:
        with open(f"/proc/{broker.pid}/cmdline", "rb") as file:
            assert canary.encode() not in file.read()
        with open(f"/proc/{broker.pid}/environ", "rb") as file:
            assert canary.encode() not in file.read()
        host, port = broker.bootstrap_servers.split(":")
        socket.create_connection((host, int(port))).close()
        log = broker.log
    assert canary not in log
    assert canary not in repr(Security(users={"alice": canary}))
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or canary.encode() not in path.read_bytes()
