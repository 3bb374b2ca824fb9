"""What the mechanisms have in common: one exchange of tokens, with a name at its end."""

from typing import Protocol


class AuthenticationFailed(Exception):  # noqa: N818 - says what happened
    """The client has not proved who it is.

    `message` is what the client may be told; None is Kafka's usual text, which tells nothing.
    """

    def __init__(self, why: str, message: str | None = None) -> None:
        super().__init__(why)
        self.message = message


class Exchange(Protocol):
    """One authentication by one mechanism."""

    @property
    def user(self) -> str:
        """Who it is; known once the exchange is complete, "" before."""
        ...

    @property
    def expires_at_ms(self) -> int | None:
        """Until when what it proved is valid, by the wall clock; None is for ever."""
        ...

    def step(self, token: bytes) -> bytes:
        """Take the client's token, give the server's. Raises AuthenticationFailed."""
        ...
