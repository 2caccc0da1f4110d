"""Admission: so many requests at once, so many in the queue, the rest refused at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dspy_server.errors import ServerError


class QueueFullError(ServerError):
    """Neither a slot nor a place in the queue is free."""


class Admission:
    """A semaphore with a bounded queue."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._queue = queue
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot; waits in the queue for one.

        Raises:
            QueueFullError: at once, if the queue is full.
        """
        if self._slots.locked() and self._waiting >= self._queue:
            raise QueueFullError
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
