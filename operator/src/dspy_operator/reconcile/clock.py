"""The time of the API server, and that of Prometheus, between their answers carried on by the monotonic clock.

`observe.py` hands both to `decide`; the operator's own wall clock is never read, so it may be wrong by hours. The two
servers' clocks may differ as well: looks and confirmations bear Prometheus' time and are compared with no other.
"""

from collections.abc import Callable
from typing import Final

LARGEST_ERROR: Final = 2.0
"""Seconds: a `Date` header has whole seconds, and an answer takes a while; more than this is a changed clock."""


class ServerClock:
    """Seconds since 1970 by a server's clock.

    A `Date` header is up to a second old, and a reading as old as its query was slow, so the largest offset seen is the
    best one, until it is off by more than `LARGEST_ERROR`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None
        self._last = 0.0

    def learn(self, server_time: float) -> None:
        """Take the newest time that the server told, right after the answer that brought it."""
        if server_time <= 0:
            return
        offset = server_time - self._monotonic()
        if self._offset is None or offset > self._offset or self._offset - offset > LARGEST_ERROR:
            self._offset = offset

    def now(self) -> float:
        """The time, never running backwards by less than a changed clock.

        Raises:
            RuntimeError: the server has not answered yet.
        """
        now = self.find_now()
        if now is None:
            raise RuntimeError("the server has not told the time yet")
        return now

    def find_now(self) -> float | None:
        """The time, None before the server's first answer."""
        return None if self._offset is None else self._monotonic() + self._offset
