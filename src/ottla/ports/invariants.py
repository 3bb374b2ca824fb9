"""Assertions that stay on: `python -O` cannot strip them, and they carry their facts."""

from ottla.ports.errors import InvariantBroken


def invariant(condition: object, text: str, **facts: object) -> None:
    """Raise InvariantBroken with `text` and `facts` unless `condition` is true."""
    if not condition:
        told = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise InvariantBroken(f"{text} ({told})" if told else text)
