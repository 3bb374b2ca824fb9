"""The raw client against brokers that do not behave, and SCRAM against its RFC."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ottla.client.access import Access, read_settings
from ottla.client.errors import ClientError, Fatal, TimedOut
from ottla.client.raw import RESPONSE_BYTES_MAX, Brokers
from ottla.client.scram import ScramClient


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Answers the first thing that it is sent, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer(connection.recv(65_536)))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def size(count: int) -> bytes:
    return count.to_bytes(4, "big", signed=True)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak Kafka's protocol"),
        (size(-1), "does not speak Kafka's protocol"),
        (size(RESPONSE_BYTES_MAX + 1), "does not speak Kafka's protocol"),
        (size(4) + size(77), "response 77 to request 1"),
        (size(6) + size(1) + b"\0\0", "is cut short"),
        (size(10) + size(1) + b"\0\0" + size(100_000_000), "does not speak Kafka's protocol"),
    ],
)
def test_what_is_no_broker_is_told(answer: bytes, why: str) -> None:
    with server(lambda _: answer) as address, pytest.raises(TimedOut, match=why):
        Brokers(Access(address, timeout_ms=5_000))


def test_who_says_nothing_is_not_waited_for() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TimedOut, match="did not answer API_VERSIONS"),
    ):
        Brokers(Access(f"127.0.0.1:{silent.getsockname()[1]}", timeout_ms=200))


def test_all_addresses_are_tried() -> None:
    with pytest.raises(TimedOut, match=r"127.0.0.1:1: .*; cannot connect to 127.0.0.1:2: "):
        Brokers(Access("127.0.0.1:1,127.0.0.1:2"))


def test_addresses() -> None:
    def found(text: str) -> list[tuple[str, int]]:
        return Access(text).addresses()

    assert found("a:1, b,[::1]:3,[::1]") == [("a", 1), ("b", 9092), ("::1", 3), ("::1", 9092)]
    for wrong in ("", ",", "a:0", "a:b", "a:70000", ":1"):
        with pytest.raises(Fatal):
            found(wrong)


def test_settings(tmp_path) -> None:
    path = tmp_path / "conf"
    path.write_text("# a comment\n\n a = b=c \n!d\n")
    assert read_settings(path) == {"a": "b=c"}
    with pytest.raises(Fatal, match="must be one of"):
        Access("a", {"security.protocol": "tls"})
    sasl = Access("a", {"security.protocol": "SASL_SSL", "sasl.mechanisms": "scram-sha-256"})
    assert (sasl.protocol, sasl.mechanism) == ("sasl_ssl", "SCRAM-SHA-256")
    assert Access("a").mechanism is None


# RFC 7677, section 3.
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)


def client(nonce: str = NONCE) -> ScramClient:
    return ScramClient("SCRAM-SHA-256", "user", "pencil", nonce)


def test_scram_as_its_rfc_shows_it() -> None:
    scram = client()
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.final(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    scram.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    for wrong in (b"", b"v=", b"e=invalid-proof", b"v=" + base64.b64encode(bytes(32))):
        with pytest.raises(Fatal, match="do not trust"):
            scram.finish(wrong)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode(),
        SERVER_FIRST.replace(b"4096", b"1"),
        SERVER_FIRST.replace(b"4096", b"2000000000"),
        SERVER_FIRST.replace(b"4096", b"many"),
        SERVER_FIRST.replace(b"s=W22", b"s=?22"),
    ],
)
def test_a_server_that_cheats_gets_no_proof(message: bytes) -> None:
    with pytest.raises(ClientError):
        client().final(message)


def test_names_with_the_signs_of_the_message() -> None:
    assert ScramClient("SCRAM-SHA-512", "a=b,c", "", "n").first() == b"n,,n=a=3Db=2Cc,r=n"
    assert ScramClient("SCRAM-SHA-512", "a", "").first() != (
        ScramClient("SCRAM-SHA-512", "a", "").first()
    )
