"""Waiting for what must become so, and saying what was seen last when it does not.

Every wait of a story goes through `wait_for`; nothing sleeps for a fixed time and hopes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
POLL = 0.3


class NotSeenError(AssertionError):
    """What was awaited did not come; the text says what was awaited and what was there instead."""


def wait_for(
    what: str,
    look: Callable[[], T | None],
    seconds: float,
    *,
    tell: Callable[[], str] = lambda: "",
    poll: float = POLL,
) -> T:
    """The first truthy answer of `look`.

    Raises:
        NotSeenError: none came within `seconds`; `tell` adds what is there instead.
    """
    ends = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > ends:
            raise NotSeenError(f"waited {seconds:.0f} s for {what}\n{tell()}")
        time.sleep(poll)


def watch_for(what: str, is_so: Callable[[], bool], seconds: float, *, poll: float = POLL) -> None:
    """Hold for `seconds` that something stays so.

    Raises:
        NotSeenError: it was not so at one look.
    """
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if not is_so():
            raise NotSeenError(f"{what} should have stayed so for {seconds:.0f} s")
        time.sleep(poll)
