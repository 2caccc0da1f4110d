"""An event loop whose clock jumps to the next timer: an hour of a rollout takes milliseconds, always the same.

Used by `run.py`; nothing in a simulated world reads another clock or opens a socket.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

RESOLUTION: Final = 1e-6
"""Seconds; far above the rounding of the additions below, far below anything that is waited for."""

TURN: Final = 1e-7
"""Seconds of one turn of the loop: who waits for the rounding error of a float must not wait for ever."""


class Stuck(RuntimeError):  # noqa: N818  what happened
    """No task can go on and no timer is set: in a real process that would be a hang for ever."""


class _Handle(asyncio.Handle):
    """Made in a fraction of the time: nobody asks where it comes from."""

    __slots__ = ()

    def __init__(  # the real one asks the loop for its mode each time
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: "VirtualLoop",
        context: Context | None,
    ) -> None:
        self._context = context  # nobody in a simulated world has variables of a context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None


class _Timer(asyncio.TimerHandle):
    """The same for timers, of which the heap compares some at every turn."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: "VirtualLoop",
        context: Context | None,
    ) -> None:
        self._context = context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None
        self._when, self._scheduled = when, True

    def __lt__(self, other: "_Timer") -> bool:  # type: ignore[override]  # there is no other kind in the heap
        return self._when < other._when


class VirtualLoop(asyncio.BaseEventLoop):
    """Begins at a small time, so that floats stay exact to well below `RESOLUTION`."""

    _ready: deque[Any]
    _scheduled: list[_Timer]
    _stopping: bool

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self.now = start

    def time(self) -> float:
        return self.now

    get_debug = staticmethod(bool)  # False, said without a frame: each future asks

    def create_task(  # type: ignore[override]  # as below
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """As the real one, without its checks."""
        return asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)

    def call_soon(  # type: ignore[override]  # the real one's types cannot be said of a handle's slots
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As the real one, without its checks: there is one thread, and nobody closes the loop early."""
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As the real one, without its checks."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        return timer

    def _run_once(self) -> None:
        """One turn as in the real loop; where that waits for input, time passes."""
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if ready or self._stopping:
            self.now += TURN
        elif scheduled:
            self.now += max(TURN, scheduled[0]._when - self.now)
        else:
            raise Stuck("every task waits for another one")
        end = self.now + RESOLUTION
        while scheduled and scheduled[0]._when < end:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._callback(*handle._args)

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""
