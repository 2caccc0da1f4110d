"""What spares a failing target: a circuit breaker, and a gate that narrows when its provider limits the rate.

Both belong to one target and are shared by all programs. Time is handed in; nothing here knows what an LM is.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Final

GROWTH_SECONDS: Final = 1.0
"""A narrowed gate takes one call more after each of these without a rate limit."""


class BreakerState(IntEnum):
    """Values of the gauge `dspy_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Outcome(Enum):
    """What a call said of its target.

    Attributes:
        ANSWERED: it works, also when it found fault with the request.
        FAILED: one failure more in a row.
        UNUSABLE: it will not answer anybody: a refused key, an unknown model.
        UNKNOWN: nothing: a rate limit, a caller who left.
    """

    ANSWERED = auto()
    FAILED = auto()
    UNUSABLE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Permit:
    """One call that the breaker let through, in one of its epochs: a change of state begins the next."""

    epoch: int


class Breaker:
    """`failures` in a row open it for `open_for` seconds; then one probe decides."""

    def __init__(self, failures: int, open_for: float, clock: Callable[[], float]) -> None:
        self._limit = failures
        self._open_for = open_for
        self._clock = clock
        self._epoch = 0
        self._failures = 0
        self._opened_at: float | None = None
        self._is_probing = False

    @property
    def state(self) -> BreakerState:
        """What it is now; half-open once `open_for` is over, until a probe has an outcome."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._get_pause() > 0 else BreakerState.HALF_OPEN

    @property
    def lets_through(self) -> bool:
        """Whether `enter` would give a permit."""
        return self.state is BreakerState.CLOSED or (
            self.state is BreakerState.HALF_OPEN and not self._is_probing
        )

    def get_retry_after(self) -> float:
        """Seconds until it may let a call through again; 0 when it does now or a probe is under way."""
        return 0.0 if self._opened_at is None else self._get_pause()

    def enter(self) -> Permit | None:
        """A permit for one call, whose outcome must be recorded; None: do not call."""
        if not self.lets_through:
            return None
        self._is_probing = self.state is BreakerState.HALF_OPEN
        return Permit(self._epoch)

    def record(self, permit: Permit, outcome: Outcome) -> BreakerState | None:
        """Take in what became of a call; the new state if that changed it.

        A call from an earlier epoch says nothing: it began before what is known now.
        """
        if permit.epoch != self._epoch:
            return None
        was_probe, self._is_probing = self._is_probing, False
        if outcome is Outcome.UNKNOWN:
            return None
        if outcome is Outcome.ANSWERED:
            self._failures = 0
            return self._begin_epoch(None) if was_probe else None
        self._failures += 1
        if was_probe or outcome is Outcome.UNUSABLE or self._failures >= self._limit:
            return self._begin_epoch(self._clock())
        return None

    def _begin_epoch(self, opened_at: float | None) -> BreakerState:
        self._epoch += 1
        self._failures = 0
        self._opened_at = opened_at
        return self.state

    def _get_pause(self) -> float:
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._open_for - self._clock())


@dataclass(frozen=True)
class Place:
    """One call at a gate, in one of its epochs: a narrowing begins the next."""

    epoch: int


class Gate:
    """How many calls may be under way at a target: any number, until its provider limits the rate.

    A rate limit halves what was under way, once for all calls that were; each `GROWTH_SECONDS` without one lets one
    call more under way, up to `ceiling`, where the gate is off again. While the provider asks to wait, nobody enters.
    """

    def __init__(self, ceiling: int, longest_pause: float, clock: Callable[[], float]) -> None:
        self._ceiling = ceiling
        self._longest_pause = longest_pause
        self._clock = clock
        self._epoch = 0
        self._width: int | None = None
        self._limited_at = 0.0
        self._opens_at = 0.0
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def width(self) -> int | None:
        """Calls that may be under way now; None: any number."""
        if self._width is None:
            return None
        width = self._width + int((self._clock() - self._limited_at) / GROWTH_SECONDS)
        return width if width < self._ceiling else None

    @property
    def pause(self) -> float:
        """Seconds for which the provider asked to be left alone, at most `longest_pause`."""
        return max(0.0, self._opens_at - self._clock())

    @property
    def has_room(self) -> bool:
        """Whether `enter` would not wait."""
        return not self._waiting and self._is_open()

    async def enter(self) -> Place:
        """Wait for a place, in turn; the caller bounds the time and gives the place back with `leave`."""
        if self.has_room:
            self._under_way += 1
        else:
            await self._wait()
        return Place(self._epoch)

    def leave(self) -> None:
        """Give a place back."""
        self._under_way -= 1
        self._admit()

    def narrow(self, place: Place, retry_after: float | None) -> None:
        """The provider limited the rate of a call, still under way, and asked to wait `retry_after` seconds."""
        now, width = self._clock(), self.width
        self._opens_at = max(self._opens_at, now + min(retry_after or 0.0, self._longest_pause))
        if place.epoch == self._epoch:
            self._epoch += 1
            width = max(1, (self._under_way if width is None else min(width, self._under_way)) // 2)
        self._width, self._limited_at = width, now

    def _is_open(self) -> bool:
        width = self.width
        return self.pause == 0 and (width is None or self._under_way < width)

    def _admit(self) -> None:
        """Give free places to those who wait longest."""
        while self._waiting and self._is_open():
            self._under_way += 1
            self._waiting.popleft().set_result(None)

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            while not turn.done():
                # A gate that widens, or whose pause ends, tells nobody: look now and then.
                await asyncio.wait([turn], timeout=min(self.pause or GROWTH_SECONDS, GROWTH_SECONDS))
                self._admit()
        except asyncio.CancelledError:
            if turn.done():
                self.leave()
            else:
                self._waiting.remove(turn)
            raise
