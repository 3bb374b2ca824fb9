"""Addresses to listen on and to tell clients."""

import socket

WILDCARDS = {"", "0.0.0.0", "::"}
PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")  # Kafka's security protocols


class NotUsable(Exception):  # noqa: N818 - says what is wrong
    """The broker cannot be started with these settings. `hint` is what to do next."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


class AddressUnusable(NotUsable):
    """The broker cannot listen on the address, or clients could not connect to it."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet. Raises AddressUnusable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        place = join_address(host, port)
        raise AddressUnusable(
            f"cannot listen on {place}: {error.strerror}",
            "free the address or choose another one; port 0 is any free port",
        ) from error
    return listener


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT, with an IPv6 address in brackets. Raises AddressUnusable."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise AddressUnusable(
            f"{address!r} is not an address", "write HOST:PORT, as in 127.0.0.1:9092"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def split_listener(text: str) -> tuple[str, str, int]:
    """[PROTOCOL://]HOST:PORT: protocol (of PROTOCOLS), host, port. Raises AddressUnusable."""
    protocol, separator, address = text.rpartition("://")
    protocol = protocol.lower() if separator else PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        raise AddressUnusable(
            f"{protocol!r} is not a security protocol", f"use one of {', '.join(PROTOCOLS)}"
        )
    return (protocol, *split_address(address))


def join_address(host: str, port: int) -> str:
    """The opposite of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
