"""Patterns that clients send: RE2, as in Kafka.

RE2's time grows with the text and the pattern and not beyond, whatever the pattern, and its memory
is bounded: no client's pattern keeps the broker busy. What RE2 does not know (look-around, back
references) is refused, in Kafka too.
"""

from collections.abc import Callable

import re2

from ottla.ports.errors import ErrorCode, KafkaError
from ottla.ports.limits import PATTERN_BYTES_MAX

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1_048_576


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern matches a text, all of it.

    Raises KafkaError: INVALID_REGULAR_EXPRESSION.
    """
    invalid = ErrorCode.INVALID_REGULAR_EXPRESSION
    if len(pattern.encode()) > PATTERN_BYTES_MAX:
        raise KafkaError(invalid, f"a pattern has at most {PATTERN_BYTES_MAX} bytes")
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        (reason,) = error.args
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise KafkaError(
            invalid, f"`{pattern}` is not a valid regular expression: {text}"
        ) from error
    return lambda text: compiled.fullmatch(text) is not None
