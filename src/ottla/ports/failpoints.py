"""Named places where a test can make the code fail, stop or die.

`failpoint("journal.after_write")` does nothing unless armed. Tests arm it in process with `armed`;
another process is armed through the environment: OTTLA_FAILPOINTS="name=exit@3,other=raise", where
`@n` means the n-th time the place is reached (1 when left out).
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_armed: dict[str, Callable[[], None]] = {}


class FailpointHit(Exception):  # noqa: N818
    """Raised by a failpoint that was armed with `raise`."""


def failpoint(name: str) -> None:
    """Run what is armed at `name`; with nothing armed, do nothing."""
    if _armed:
        action = _armed.get(name)
        if action is not None:
            action()


@contextmanager
def armed(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Arm `name` with `action` for the block."""
    _armed[name] = action
    try:
        yield
    finally:
        _armed.pop(name, None)


def arm_from_environment(text: str | None = None) -> None:
    """Arm what OTTLA_FAILPOINTS (or `text`) names. Raises ValueError on a form it does not know."""
    text = os.environ.get("OTTLA_FAILPOINTS", "") if text is None else text
    for part in filter(None, text.split(",")):
        name, _, how = part.partition("=")
        kind, _, count = how.partition("@")
        _armed[name] = _counted(_action(name, kind), int(count or 1))


def _action(name: str, kind: str) -> Callable[[], None]:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def fail() -> None:
        raise FailpointHit(name)

    actions = {"exit": kill, "stop": stop, "raise": fail}
    if kind not in actions:
        raise ValueError(f"failpoint {name}: {kind!r} is not one of {', '.join(actions)}")
    return actions[kind]


def _counted(action: Callable[[], None], count: int) -> Callable[[], None]:
    left = count

    def act() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            action()

    return act
