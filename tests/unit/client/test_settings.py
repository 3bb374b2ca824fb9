"""How a client is told to be let in: arguments, a URL, and what librdkafka is given for them."""

import pytest

from ottla.client.errors import Fatal
from ottla.client.settings import CONNECTION, Refusals, as_url, connection, shown

SETTINGS = {
    "security.protocol": "sasl_ssl",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "alice",
    "sasl.password": "p@ss:w/rd?&=%",
    "ssl.ca.location": "ca file.pem",
}
ARGUMENTS = {"username": "alice", "password": "p@ss:w/rd?&=%", "ssl_ca": "ca file.pem"}


def of(bootstrap_servers, **security):
    settings = connection(bootstrap_servers, security, Refusals())
    assert callable(settings.pop("error_cb"))
    return {name: value for name, value in settings.items() if name not in CONNECTION}


def test_without_security():
    assert of("a:1,b:2") == {"bootstrap.servers": "a:1,b:2"}


def test_arguments():
    assert of("a:1", **ARGUMENTS) == {"bootstrap.servers": "a:1", **SETTINGS}
    assert of("a:1", security_protocol="SASL_PLAINTEXT", username="u", password="p") == {
        "bootstrap.servers": "a:1",
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
    }


def test_a_url_says_the_same():
    url = as_url("a:1,b:2", ARGUMENTS)
    assert of(url) == {"bootstrap.servers": "a:1,b:2", **SETTINGS}
    assert as_url(url, {}) == url
    assert as_url("a:1", {}) == "a:1"
    assert of("ssl://a:1?ssl_ca=x&ssl_check_hostname=false") == {
        "bootstrap.servers": "a:1",
        "security.protocol": "ssl",
        "ssl.ca.location": "x",
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert of("sasl_ssl://u:p@a:1", password="newer")["sasl.password"] == "newer"


def test_a_url_is_shown_without_its_password():
    assert shown(as_url("a:1", ARGUMENTS)) == "sasl_ssl://a:1"
    assert shown("a:1") == "a:1"


def test_what_is_meant_is_never_less_than_it_could_be():
    assert of("a:1", username="u", password="p")["security.protocol"] == "sasl_ssl"
    assert of("a:1", ssl_ca="x")["security.protocol"] == "ssl"
    assert of("a:1", ssl_check_hostname=True)["ssl.endpoint.identification.algorithm"] == "https"


def test_a_token_is_asked_for_each_time():
    tokens = iter([("one", 1.0), ("two", 2.0)])
    settings = of("a:1", token=lambda: next(tokens))
    assert settings["sasl.mechanism"] == "OAUTHBEARER"
    assert [settings["oauth_cb"](""), settings["oauth_cb"]("")] == [("one", 1.0), ("two", 2.0)]
    with pytest.raises(Fatal):
        as_url("a:1", {"token": lambda: ("x", 1.0)})


@pytest.mark.parametrize(
    "arguments",
    [
        {"bootstrap_servers": "https://a:1"},
        {"bootstrap_servers": "a:1", "security_protocol": "tls"},
        {"bootstrap_servers": "ssl://a:1?sslca=x"},
    ],
)
def test_what_is_not_understood_is_refused(arguments):
    with pytest.raises(Fatal):
        of(**arguments)
