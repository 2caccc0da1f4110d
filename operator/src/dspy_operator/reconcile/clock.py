"""The time of the API server, between its answers carried on by the monotonic clock.

`observe.py` hands it to `decide`; the operator's own wall clock is never read, so it may be wrong by hours.
"""

import time
from collections.abc import Callable
from typing import Final

LARGEST_ERROR: Final = 2.0
"""Seconds: a `Date` header has whole seconds, and an answer takes a while; more than this is a changed clock."""


class ServerClock:
    """Seconds since 1970 by the API server's clock.

    A `Date` header is up to a second old, so the largest offset seen is the best one, until it is off by more than
    `LARGEST_ERROR`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None
        self._last = 0.0

    def learn(self, server_time: float) -> None:
        """Take the newest `Date` header, right after the answer that brought it."""
        if server_time <= 0:
            return
        offset = server_time - self._monotonic()
        if self._offset is None or offset > self._offset or self._offset - offset > LARGEST_ERROR:
            self._offset = offset

    def now(self) -> float:
        """The time, never running backwards by less than a changed clock.

        Raises:
            RuntimeError: the API server has not answered yet.
        """
        if self._offset is None:
            raise RuntimeError("the API server has not told the time yet")
        return self._monotonic() + self._offset
