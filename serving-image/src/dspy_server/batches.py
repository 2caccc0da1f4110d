"""Commands that travel together: while one batch is on the wire, those that come meanwhile wait for the next.

A write and a read of the socket cost more than the commands in them; `store.py` says what sending is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

TURNS: Final = 10
"""Turns of the event loop that a batch gets beside its time: a busy loop is not a slow server."""

Words = tuple[bytes | str | float, ...]
"""One command."""
Send = Callable[[Sequence[Words]], Awaitable[Sequence[Any]]]
"""Answers of a batch, in its order; an exception among them is that command's alone, a raised one all commands'."""


class Batches:
    """One batch under way at a time; a command has its answer within `timeout` seconds, or TimeoutError.

    What fails fails for those that wait behind it, too: they would only wait for the same once more.
    """

    def __init__(self, send: Send, *, timeout: float) -> None:
        self._send = send
        self._timeout = timeout
        self._waiting: list[tuple[Words, asyncio.Future[Any]]] = []
        self._oldest = 0.0
        self._running: asyncio.Task[None] | None = None

    def add(self, words: Words) -> asyncio.Future[Any]:
        """The answer to come; whoever stops waiting for it disturbs nobody."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            self._oldest = loop.time()
        self._waiting.append((words, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return future

    async def close(self) -> None:
        """End what is under way; who waits is told so."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._run_batch(batch)
        finally:
            self._running = None

    async def _run_batch(self, batch: list[tuple[Words, asyncio.Future[Any]]]) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                alarm = _Alarm(limit, self._oldest + self._timeout)
                try:
                    answers = await self._send([words for words, _ in batch])
                finally:
                    alarm.cancel()
        except BaseException as exc:
            behind, self._waiting = self._waiting, []
            for _, future in (*batch, *behind):
                _answer(future, ConnectionAbortedError() if isinstance(exc, asyncio.CancelledError) else exc)
            if not isinstance(exc, Exception):
                raise
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            _answer(future, answer)


class _Alarm:
    """Ends a wait at a time of the loop's clock and then so many turns of the loop."""

    def __init__(self, limit: asyncio.Timeout, when: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._turns = TURNS
        self._handle: asyncio.Handle = self._loop.call_at(when, self._ring)

    def cancel(self) -> None:
        """The wait has ended."""
        self._handle.cancel()

    def _ring(self) -> None:
        if self._turns:
            self._turns -= 1
            self._handle = self._loop.call_soon(self._ring)
        else:
            self._limit.reschedule(self._loop.time())


def _answer(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # nobody waits any more
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
