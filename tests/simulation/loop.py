"""An event loop whose clock jumps to the next timer: an hour of a rollout takes milliseconds, always the same.

Used by `run.py`; nothing in a simulated world reads another clock or opens a socket.
"""

import asyncio
from typing import Final

RESOLUTION: Final = 1e-6
"""Seconds; far above the rounding of the additions below, far below anything that is waited for."""

TURN: Final = 1e-7
"""Seconds of one turn of the loop: who waits for the rounding error of a float must not wait for ever."""


class Stuck(RuntimeError):  # noqa: N818  what happened
    """No task can go on and no timer is set: in a real process that would be a hang for ever."""


class _Jump:
    """Stands where asyncio's selector stands: waiting for input means letting the time pass."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck("every task waits for another one")
        self._loop.now += max(TURN, timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Begins at a small time, so that floats stay exact to well below `RESOLUTION`."""

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self.now = start
        self._selector = _Jump(self)
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[object]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""
