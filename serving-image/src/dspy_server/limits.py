"""Admission: so many requests at once, so many in the queue, so many a second; the rest is refused at once.

A request that would wait so long that its deadline passed is refused too: a queue of the doomed serves nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from dspy_server.errors import ServerError

_MEMORY: Final = 0.1
"""Weight of the newest request in the mean time that a slot is held."""
_MARGIN: Final = 1.5
"""Times that mean must be left at the start: work that is cut off by its deadline is work for nobody."""


class QueueFullError(ServerError):
    """No slot is free, and no place in the queue that would lead to one in time.

    Attributes:
        retry_after: seconds until it is worth while to ask again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class Bucket:
    """`burst` requests at once, refilled evenly with `rate` a second."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """0 and one request is let through; else seconds until one would be."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Admission:
    """Slots with a bounded queue; `rate` (0: any) bounds the requests of a second before that."""

    def __init__(self, concurrency: int, queue: int, clock: Callable[[], float], *, rate: int = 0) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._clock = clock
        self._bucket = Bucket(rate, rate, clock()) if rate else None
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting = 0
        self._held = 0.0

    @asynccontextmanager
    async def slot(self, deadline: float) -> AsyncIterator[None]:
        """Hold a slot; waits in the queue for one. `deadline` is of the clock.

        Raises:
            QueueFullError: at once, if there is no place in the queue, or none that leads to a slot in time.
        """
        now = self._clock()
        pause = 0.0 if self._bucket is None else self._bucket.take(now)
        if pause > 0:
            raise QueueFullError(pause)
        if self._slots.locked():
            wait = self._held * (self._waiting + 1) / self._concurrency
            if self._waiting >= self._queue:
                raise QueueFullError(wait)
            self._refuse_doomed(now + wait, deadline)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        started, is_whole = self._clock(), True
        try:
            if started > now:
                self._refuse_doomed(started, deadline)
        except QueueFullError:
            self._slots.release()
            raise
        try:
            yield
        except asyncio.CancelledError:
            is_whole = False
            raise
        finally:
            self._learn(self._clock() - started, is_whole=is_whole)
            self._slots.release()

    def _refuse_doomed(self, now: float, deadline: float) -> None:
        if now + _MARGIN * self._held > deadline:
            raise QueueFullError(self._held)

    def _learn(self, held: float, *, is_whole: bool) -> None:
        """Work that was cut off took at least so long: it never makes the mean smaller."""
        if is_whole or held > self._held:
            self._held += (held - self._held) * (_MEMORY if self._held else 1.0)
