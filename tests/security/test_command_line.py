"""`ottla acls` and `ottla users`, and how the command line comes in: TLS, passwords, refusals."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ottla import Broker
from ottla.client.access import read_settings
from tests.cli.conftest import Cli, eventually
from tests.security.certificates import Pair

PASSWORD = "canary-9f2c"


@pytest.fixture
def cli(bootstrap: str) -> Cli:
    return Cli(bootstrap)


@pytest.fixture
def acl_cli(authorizing: str) -> Cli:
    return Cli(authorizing)


def test_acls_are_added_listed_and_removed(acl_cli: Cli, unique: Callable[[str], str]) -> None:
    cli, topic, user = acl_cli, unique("topic"), f"User:{unique('user')}"
    us = ("--principal", "User:ANONYMOUS", "--cluster")  # once a rule is on it, nobody else may
    cli("acls", "add", "--operation", "all", *us)
    rule = ("--principal", user, "--operation", "read", "--operation", "describe-configs")
    done = cli("acls", "add", *rule, "--topic", topic)
    assert done.lines[0] == f"added: allow {user} from * to read topic {topic}"
    cli("acls", "add", "--principal", user, "--operation", "all", "--group", "g", "--prefixed")
    cli("acls", "add", "--principal", user, "--operation", "write", "--transactional-id", "t")
    deny = ("--deny", "--principal", user, "--operation", "alter", "--host", "10.0.0.1")
    cli("acls", "add", *deny, "--cluster")
    eventually(lambda: len(cli("acls", "list", "--principal", user).table) == 5)
    listed = cli("acls", "list", "--principal", user, "-o", "json").json
    assert sorted(
        (each["permission"], each["operation"], each["resource"], each["pattern"], each["host"])
        for each in listed
    ) == [
        ("allow", "all", "group", "prefixed", "*"),
        ("allow", "describe-configs", "topic", "literal", "*"),
        ("allow", "read", "topic", "literal", "*"),
        ("allow", "write", "transactional-id", "literal", "*"),
        ("deny", "alter", "cluster", "literal", "10.0.0.1"),
    ]
    assert {row[2] for row in cli("acls", "list", "--topic", topic).table} == {
        "read",
        "describe-configs",
    }
    only = ("acls", "remove", "--principal", user, "--topic", topic, "--operation", "read")
    cli(*only, answer="n\n", code=3)
    assert f"remove: allow {user} from * to read topic {topic}" in cli(*only, "--yes").err
    eventually(lambda: "there are no such rules" in cli(*only, "--yes").err)
    assert len(cli("acls", "remove", "--principal", user, "--yes").lines) == 4
    eventually(lambda: "there are no such rules" in cli("acls", "list", "--principal", user).err)
    cli("acls", "remove", "--yes", *us)


def test_who_may_not_see_the_rules_is_told_so() -> None:
    with Broker(authorizer=True, allow_everyone_if_no_acl_found=True) as broker:
        cli, other = Cli(broker.bootstrap_servers), ("--principal", "User:other")
        cli("acls", "add", *other, "--operation", "all", "--cluster")
        for command in (("list",), ("remove", *other, "--yes")):
            refusal = cli("acls", *command, code=3).err
            assert "CLUSTER_AUTHORIZATION_FAILED" in refusal
            assert "ask for an ACL on the cluster" in refusal


def test_a_broker_without_acls_says_so(cli: Cli) -> None:
    rule = ("--principal", "User:a", "--operation", "read", "--topic", "t")
    for command in (("list",), ("add", *rule), ("remove", *rule, "--yes")):
        refusal = cli("acls", *command, code=3).err
        assert "SECURITY_DISABLED" in refusal
        assert "authorizer" in refusal


@pytest.mark.parametrize(
    "command",
    [
        ("add", "--principal", "User:a", "--topic", "t"),
        ("add", "--principal", "User:a", "--operation", "read"),
        ("add", "--principal", "User:a", "--operation", "raed", "--topic", "t"),
        ("add", "--principal", "User:a", "--operation", "read", "--topic", "t", "--group", "g"),
        ("remove",),
    ],
)
def test_rules_have_to_be_whole(command: tuple[str, ...]) -> None:
    Cli("127.0.0.1:1")("acls", *command, code=2)


def test_users_are_added_and_removed(
    cli: Cli, unique: Callable[[str], str], tmp_path: Path
) -> None:
    name = unique("user")
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    added = cli("users", "add", name, "--password-file", str(file))
    assert added.out == f"added user {name} (SCRAM-SHA-512)\n"
    cli("users", "add", name, "-m", "SCRAM-SHA-256", "--password-file", "-", answer="other\n")
    asked = cli("users", "add", name, answer=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in asked.out + asked.err + added.err
    eventually(lambda: [row[0] for row in cli("users", "list").table].count(name) == 2)
    listed = [each for each in cli("users", "list", "-o", "json").json if each["user"] == name]
    assert [(each["mechanism"], each["iterations"]) for each in listed] == [
        ("SCRAM-SHA-256", 8192),
        ("SCRAM-SHA-512", 8192),
    ]
    cli("users", "remove", name, answer="n\n", code=3)
    cli("users", "remove", name, "--yes")
    cli("users", "remove", name, "-m", "SCRAM-SHA-256", "-y")
    eventually(lambda: name not in cli("users", "list").out)
    assert "RESOURCE_NOT_FOUND" in cli("users", "remove", name, "--yes", code=3).err
    cli("users", "add", name, "--password-file", "-", answer="\n", code=2)


@pytest.fixture(scope="module")
def secured(
    server_pair: Pair, ca: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, Path]]:
    """A broker that asks for a password over TLS, and the client's settings for it."""
    with Broker(
        security_protocol="sasl_ssl",
        tls_cert=server_pair.certificate,
        tls_key=server_pair.key,
        users={"alice": PASSWORD},
    ) as broker:
        settings = tmp_path_factory.mktemp("client") / "client.conf"
        settings.write_text(
            "# how alice comes in\n"
            "security.protocol = SASL_SSL\n"
            "sasl.mechanism=SCRAM-SHA-512\n"
            f"sasl.username=alice\nsasl.password={PASSWORD}\nssl.ca.location={ca}\n"
        )
        yield broker, settings


def test_in_by_tls_and_a_password(secured: tuple[Broker, Path]) -> None:
    broker, settings = secured
    cli, given = Cli(broker.bootstrap_servers), ("--client-config", str(settings))
    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
        changed = (*given, "-X", f"sasl.mechanism={mechanism}")
        cli("produce", "t", *changed, answer=f"by {mechanism}\n")
        cli("transactions", "list", *changed)
        cli("topics", "describe", "t", *changed)
    assert cli("consume", "t", "-e", *given).lines[-1] == "by PLAIN"
    ca = read_settings(settings)["ssl.ca.location"]
    url = f"sasl_ssl://alice:{PASSWORD}@{broker.bootstrap_servers}?ssl_ca={ca}"
    for command in (("topics", "describe", "t"), ("consume", "t", "-e")):
        cli(*command, "-b", url)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("sasl.password=wrong", "does not let alice in"),
        ("sasl.username=mallory", "does not let mallory in"),
        ("sasl.mechanism=GSSAPI", "does not offer the SASL mechanism GSSAPI"),
        ("ssl.ca.location=", "is not trusted"),
        ("ssl.ca.location=/no/such/file", "cannot be used"),
        ("security.protocol=plaintext", "did not answer"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    secured: tuple[Broker, Path], setting: str, why: str
) -> None:
    broker, settings = secured
    given = ("--client-config", str(settings), "-X", setting)
    for command in (("topics", "list"), ("consume", "t", "-e"), ("produce", "t")):
        told = Cli(broker.bootstrap_servers)(*command, *given, answer="", code=None)
        assert told.code in (3, 4)
        assert why in told.err
        assert PASSWORD not in told.err


def test_settings_that_are_none(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("security.protocol\n")
    cli = Cli("127.0.0.1:1")
    assert "line 1" in cli("topics", "list", "--client-config", str(bad), code=2).err
    assert "cannot be read" in cli("topics", "list", "--client-config", "/no", code=2).err
    assert "NAME=VALUE" in cli("topics", "list", "-X", "nothing", code=2).err
    assert "must be one of" in cli("topics", "list", "-X", "security.protocol=x", code=2).err
    assert "is no address" in cli("topics", "list", "-b", "host:port", code=2).err
    unreachable = cli("topics", "list", code=4).err
    assert "cannot connect to 127.0.0.1:1" in unreachable
    assert "ottla broker start" in unreachable
