"""What one run of a program may use and has used: its deadline, the calls of a model, their tokens.

The engine writes it; `ask.py`, the judge and the regression gate open one for each run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from dspy_server import compat
from dspy_server.contract import ErrorClass

CHARS_PER_TOKEN: Final = 3
"""To guess what inputs will cost, before the provider says it; rather too much than too little."""
GRACE_SECONDS: Final = 0.25
"""The program's own timeout, beyond the deadline: a provider that is too late is reported as such first."""


@dataclass
class Call:
    """What one request has used so far; the engine writes it, the answer's `meta` reads it.

    Attributes:
        deadline: of the event loop's clock.
        waiting: whether a provider is being waited for right now.
        last_class: class of the last failure of a target.
        revision: whose request it is; its calls of a model are cached for this revision only, without one not at all.
        hits: calls of a model that a cache answered.
        entries: keys of what the LM cache found or kept for it.
        handovers: what its worker threads wait for.
        on_attempt: told of each call on the wire: model, status, tokens.
    """

    deadline: float
    revision: str = ""
    model: str = ""
    calls: int = 0
    hits: int = 0
    entries: list[str] = field(default_factory=list)
    waiting: bool = False
    last_class: ErrorClass | None = None
    retry_after: float | None = None
    handovers: set[Future[Any]] = field(default_factory=set)
    on_attempt: Callable[[str, str, Mapping[str, int]], None] | None = None
    usage: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("prompt", "completion", "cached", "reasoning"), 0)
    )

    def note(self, model: str, status: str, usage: Mapping[str, int]) -> None:
        """Tell the request's trace, if it has one, of one call on the wire."""
        if self.on_attempt is not None:
            self.on_attempt(model, status, usage)

    def abandon(self) -> None:
        """Nobody waits any more. A thread cannot be cancelled: its calls of a model can, and it may begin none."""
        self.deadline = 0.0
        for handover in list(self.handovers):
            handover.cancel()

    @property
    def is_cached(self) -> bool:
        """Whether a cache answered all calls of a model."""
        return self.hits > 0 and self.calls == 0

    def count_tokens(self) -> int:
        """Tokens that were billed so far."""
        return self.usage["prompt"] + self.usage["completion"]


CALL: Final[ContextVar[Call | None]] = ContextVar("dspy_server_call", default=None)


def open_call(timeout: float) -> Call:
    """The use of what is asked from now on, for so many seconds; it belongs to no revision's request."""
    return Call(asyncio.get_running_loop().time() + timeout)


@asynccontextmanager
async def asking(call: Call, *, lm: Any, adapter: Any) -> AsyncIterator[None]:
    """Run a program of the server's own inside: with this LM, in the call's time, its use booked to the call."""
    before = CALL.set(call)
    try:
        async with asyncio.timeout_at(call.deadline + GRACE_SECONDS):
            with compat.overrides(lm=lm, adapter=adapter):
                yield
    finally:
        CALL.reset(before)


def classify(error: Exception, call: Call) -> ErrorClass:
    """The class of a program's failure; one that ran out of time while no provider was waited for is `deadline`."""
    error_class = compat.classify_program_error(error)
    if not isinstance(error, TimeoutError) and error_class is not ErrorClass.TIMEOUT:
        return error_class
    has_waited = call.waiting or call.last_class is ErrorClass.TIMEOUT
    return ErrorClass.TIMEOUT if has_waited else ErrorClass.DEADLINE
