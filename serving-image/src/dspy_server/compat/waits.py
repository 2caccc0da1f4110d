"""DSPy's time limits on a provider's socket: six a call, each of which gives what it waits for a task of its own.

Before Python 3.11 a cancelled caller needed that to stay cancelled; `asyncio.timeout`, which Python 3.12's own
`wait_for` is made of too, keeps it so in the caller's task.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dspy._vendor.lm15.transports import _async

_T = TypeVar("_T")


async def wait_for(
    awaitable: Awaitable[_T],
    timeout: float | None,  # noqa: ASYNC109 - DSPy's signature
    *,
    cancel_result: Callable[[_T], None] | None = None,
) -> _T:
    """What `awaitable` gives, within `timeout` seconds, or TimeoutError; it has ended when this returns.

    `cancel_result` is never needed: what is waited for here has no task of its own that could still give something.
    """
    del cancel_result
    async with asyncio.timeout(timeout):
        return await awaitable


def quicken_waits() -> None:
    """Put it in the place of DSPy's own; may be called again."""
    _async.wait_for = wait_for
