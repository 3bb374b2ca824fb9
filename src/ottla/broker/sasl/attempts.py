"""How often passwords were wrong of late, for each client's address.

A wrong password costs its client a tenth of a second, and the broker some milliseconds of work: it
is hashed thousands of times, by the one thread that does everything. Whoever opens many connections
to guess on all of them is therefore refused without the work, for the rest of the second.
"""

from collections import Counter

from ottla.ports.limits import WRONG_PASSWORDS_PER_SECOND_MAX

_WINDOW_MS = 1_000


class Attempts:
    """Counts wrong passwords by address, and forgets them after a second."""

    def __init__(self) -> None:
        self._window = 0
        self._wrong: Counter[str] = Counter()

    def too_many(self, host: str, now_ms: int) -> bool:
        self._turn(now_ms)
        return self._wrong[host] >= WRONG_PASSWORDS_PER_SECOND_MAX

    def wrong(self, host: str, now_ms: int) -> None:
        """A password from there was wrong."""
        self._turn(now_ms)
        self._wrong[host] += 1

    def _turn(self, now_ms: int) -> None:
        if self._window != now_ms // _WINDOW_MS:
            self._window = now_ms // _WINDOW_MS
            self._wrong.clear()
