"""When Prometheus is read: one reading serves every open attempt, so the load does not grow with their number.

The reconciler says what each resource needs; whoever's reading came in goes back on the worklist.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dspy_operator.metrics.readings import Interest, Reading
from dspy_operator.reconcile.clock import ServerClock
from dspy_operator.reconcile.worklist import Key
from dspy_operator.rollout.model import Unmeasured


class Reads(Protocol):
    """The port to Prometheus."""

    async def read(self, interests: Sequence[Interest], *, at: float | None = None) -> Reading | Unmeasured:
        """One reading for all these programs; `at` in seconds since 1970 for one of the past."""


@dataclass
class _Want:
    interest: Interest
    period: float
    due: float


class Sampler:
    """Reads for all who want it.

    Looks of different intervals meet at multiples of `tick` seconds, so that they share their queries; who waits for a
    table to be confirmed asks more often, at multiples of that shorter period, together with all who wait.

    Attributes:
        clock: of Prometheus, as its readings tell it.
    """

    def __init__(
        self,
        reads: Reads,
        on_reading: Callable[[Key], None],
        *,
        tick: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = ServerClock(monotonic)
        self._reads = reads
        self._on_reading = on_reading
        self._tick = tick
        self._monotonic = monotonic
        self._sleep = sleep
        self._wants: dict[Key, _Want] = {}
        self._latest: dict[Key, Reading | Unmeasured] = {}
        self._wake = asyncio.Event()

    def want(self, interest: Interest, period: float) -> None:
        """Read for this program every `period` seconds from now on."""
        known = self._wants.get(interest.key)
        if known is not None and known.interest == interest and known.period == period:
            return
        due = self._next(period) if known is None else min(known.due, self._next(period))
        self._wants[interest.key] = _Want(interest, period, due)
        self._wake.set()

    def drop(self, key: Key) -> None:
        """Nothing needs to be read for this resource."""
        self._wants.pop(key, None)
        self._latest.pop(key, None)

    def get_latest(self, key: Key) -> Reading | Unmeasured | None:
        """The newest reading of this resource, None before the first."""
        return self._latest.get(key)

    async def read_past(self, interest: Interest, at: float) -> Reading | Unmeasured:
        """What Prometheus saw at an earlier time (seconds since 1970)."""
        return await self._reads.read([interest], at=at)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            self._wake.clear()
            now = self._monotonic()
            due = [want for want in self._wants.values() if want.due <= now]
            if due:
                await self._read(due)
                continue
            wait = min((want.due for want in self._wants.values()), default=now + 60.0) - now
            await _first(self._sleep(wait), self._wake.wait())

    async def _read(self, due: list[_Want]) -> None:
        for want in due:
            want.due = self._next(want.period)
        result = await self._reads.read([want.interest for want in due])
        if isinstance(result, Reading):
            self.clock.learn(result.t)
        for want in due:
            key = want.interest.key
            if key in self._wants:
                self._latest[key] = result
                self._on_reading(key)

    def _next(self, period: float) -> float:
        now = self._monotonic()
        if period < self._tick:
            return (math.floor(now / period) + 1) * period
        return math.ceil((now + period - self._tick / 2) / self._tick) * self._tick


async def _first(*waits: Awaitable[object]) -> None:
    """Return when the first of these is over, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
