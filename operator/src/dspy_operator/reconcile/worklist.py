"""Who is due when: one queue, keyed by resource, fair between namespaces.

Filled by `handlers/` and by the reconciler itself, drained by its workers. One worker per key at a time; what is added
twice is done once; failures back off.
"""

import asyncio
import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Key = tuple[str, str]
"""(namespace, name) of a DSPyDeployment."""

FIRST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 300.0


@dataclass
class _Due:
    at: float
    number: int


@dataclass
class Worklist:
    """Keys with the time at which each is due.

    `jitter` gives a factor around 1 for backoffs, so that what failed together is not retried together.
    """

    now: Callable[[], float]
    jitter: Callable[[], float] = lambda: 1.0
    _due: dict[Key, _Due] = field(default_factory=dict)
    _heap: list[tuple[float, int, Key]] = field(default_factory=list)
    _ready: OrderedDict[str, deque[Key]] = field(default_factory=OrderedDict)
    _busy: set[Key] = field(default_factory=set)
    _again: dict[Key, float] = field(default_factory=dict)
    _failures: dict[Key, int] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Make a key due in `delay` seconds, or earlier if it already is."""
        at = self.now() + delay
        if key in self._busy:
            self._again[key] = min(at, self._again.get(key, at))
            return
        known = self._due.get(key)
        if known is not None and known.at <= at:
            return
        entry = _Due(at, next(self._numbers))
        self._due[key] = entry
        heapq.heappush(self._heap, (at, entry.number, key))
        self._wake.set()

    async def take(self) -> Key:
        """The next due key; the caller must say `done`."""
        while True:
            self._collect()
            key = self._pop()
            if key is not None:
                self._busy.add(key)
                return key
            self._wake.clear()
            if not self._heap:
                await self._wake.wait()
                continue
            delay = max(0.0, self._heap[0][0] - self.now())
            alarm = asyncio.get_running_loop().call_later(delay, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                alarm.cancel()

    def done(self, key: Key, again: float | None = None) -> None:
        """A pass over the key went well; look again in `again` seconds."""
        self._failures.pop(key, None)
        self._release(key, again)

    def failed(self, key: Key, retry_after: float | None = None) -> float:
        """A pass failed: look again after a growing delay, which is returned (seconds)."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(count, 10)) * self.jitter()
        delay = max(delay, retry_after or 0.0)
        # Only time heals a failure: events that came meanwhile would turn the backoff into a hot loop.
        self._again.pop(key, None)
        self._release(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._failures.pop(key, None)
        self._again.pop(key, None)
        self._due.pop(key, None)
        self._busy.discard(key)

    def find_next(self) -> float:
        """Seconds until somebody is due: 0 while a pass is being made, infinite when nobody is."""
        if self._busy or self._ready:
            return 0.0
        return min((due.at for due in self._due.values()), default=math.inf) - self.now()

    def __len__(self) -> int:
        return len(self._due) + len(self._busy)

    def _release(self, key: Key, again: float | None) -> None:
        self._busy.discard(key)
        self._wake.set()  # it may have become due meanwhile
        asked = self._again.pop(key, None)
        if asked is not None:
            self.add(key, max(0.0, asked - self.now()))
        if again is not None:
            self.add(key, again)

    def _collect(self) -> None:
        """Move what is due to its namespace's queue."""
        while self._heap and self._heap[0][0] <= self.now():
            _, number, key = heapq.heappop(self._heap)
            entry = self._due.get(key)
            if entry is None or entry.number != number:
                continue
            del self._due[key]
            queue = self._ready.setdefault(key[0], deque())
            if key not in queue:
                queue.append(key)
        if self._ready:
            self._wake.set()

    def _pop(self) -> Key | None:
        """The first key of the namespace whose turn it is."""
        for namespace in list(self._ready):
            queue = self._ready[namespace]
            key = next((key for key in queue if key not in self._busy), None)
            if key is None:
                continue
            queue.remove(key)
            if queue:
                self._ready.move_to_end(namespace)
            else:
                del self._ready[namespace]
            return key
        return None
