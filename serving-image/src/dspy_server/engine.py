"""The engine behind the one `dspy.LM`: primary, then fallbacks, under one deadline, each call metered.

DSPy calls it from the event loop (`AsyncFallbackEngine`) or from a worker thread (`FallbackEngine`, which hands
over to the loop), so there is one implementation, one pool of connections and one clock.
"""

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from dspy_server import compat
from dspy_server.contract import ErrorClass
from dspy_server.metrics import OK, REVISION, Metrics
from dspy_server.targets import LmTarget

RETRY_SECONDS: Final = (0.1, 0.3)
"""Range of the pause before the last target is asked once more."""

_NEXT_TARGET: Final = frozenset(
    {ErrorClass.TRANSPORT, ErrorClass.TIMEOUT, ErrorClass.SERVER, ErrorClass.RATE_LIMIT, ErrorClass.AUTH}
)
_ASK_AGAIN: Final = frozenset({ErrorClass.TRANSPORT, ErrorClass.TIMEOUT, ErrorClass.SERVER})


@dataclass
class Call:
    """What one request has used so far; the engine writes it, the answer's `meta` reads it.

    Attributes:
        deadline: of the event loop's clock.
        waiting: whether a provider is being waited for right now.
        last_class: class of the last failure of a target.
    """

    deadline: float
    model: str = ""
    calls: int = 0
    waiting: bool = False
    last_class: ErrorClass | None = None
    retry_after: float | None = None
    usage: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("prompt", "completion", "cached", "reasoning"), 0)
    )


CALL: Final[ContextVar[Call | None]] = ContextVar("dspy_server_call", default=None)


class AsyncFallbackEngine:
    """Asks the targets in order; what it raises are DSPy's own engine errors."""

    supports_function_calling = True
    supports_response_schema = False
    supports_reasoning = False
    supported_params = frozenset(
        {"temperature", "top_p", "max_tokens", "stop", "tools", "tool_choice", "response_format"}
    )

    def __init__(
        self,
        targets: tuple[LmTarget, ...],
        metrics: Metrics,
        *,
        timeout: float,
        clock: Callable[[], float],
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._targets = targets
        self._metrics = metrics
        self._timeout = timeout
        self._clock = clock
        self._jitter = jitter

    async def complete(self, request: Any) -> Any:
        """One answer, from the first target that gives one."""
        call = CALL.get() or Call(deadline=self._clock() + self._timeout)
        for index, target in enumerate(self._targets):
            is_last = index == len(self._targets) - 1
            try:
                return await self._attempt(call, target, request, share=len(self._targets) - index)
            except compat.EngineError as exc:
                reason = compat.classify_engine_error(exc)
                if reason not in _NEXT_TARGET:
                    raise
                if is_last:
                    return await self._ask_again(call, target, request, exc, reason)
                self._count_fallback(target, self._targets[index + 1], reason)
        raise AssertionError("settings demand a primary")

    async def _ask_again(
        self, call: Call, target: LmTarget, request: Any, error: Exception, reason: ErrorClass
    ) -> Any:
        """Once more after a short pause, if the failure may pass and the deadline allows; a 429 says how long."""
        pause = self._jitter(*RETRY_SECONDS)
        if reason is ErrorClass.RATE_LIMIT:
            call.retry_after = compat.get_retry_after(error)
            pause = call.retry_after or pause
        elif reason not in _ASK_AGAIN:
            raise error
        if self._clock() + pause >= call.deadline:
            raise error
        await asyncio.sleep(pause)
        return await self._attempt(call, target, request, share=1)

    async def _attempt(self, call: Call, target: LmTarget, request: Any, *, share: int) -> Any:
        """One call of one target, within its share of the time that is left."""
        started = self._clock()
        patience = (call.deadline - started) / share
        call.waiting, call.model = True, target.model
        call.calls += 1
        try:
            async with asyncio.timeout(max(patience, 0.0)):
                response = await target.engine.complete(
                    compat.retarget(request, target.wire_model, target.max_tokens)
                )
        except TimeoutError as exc:
            self._meter_failure(call, target, ErrorClass.TIMEOUT, started)
            raise compat.build_timeout("no answer within the request's time") from exc
        except compat.EngineError as exc:
            self._meter_failure(call, target, compat.classify_engine_error(exc), started)
            raise
        finally:
            call.waiting = False
        self._meter_answer(call, target, response, started)
        return response

    def _meter_failure(self, call: Call, target: LmTarget, reason: ErrorClass, started: float) -> None:
        call.last_class = reason
        key = (self._metrics.program, REVISION.get(), target.model)
        self._metrics.lm_calls.labels(*key, reason).inc()
        self._metrics.lm_duration.labels(*key).observe(self._clock() - started)

    def _meter_answer(self, call: Call, target: LmTarget, response: Any, started: float) -> None:
        call.last_class = None
        key = (self._metrics.program, REVISION.get(), target.model)
        self._metrics.lm_calls.labels(*key, OK).inc()
        self._metrics.unpriced.labels(*key).inc()
        self._metrics.lm_duration.labels(*key).observe(self._clock() - started)
        for kind, tokens in compat.get_usage(response).items():
            call.usage[kind] += tokens
            self._metrics.tokens.labels(*key, kind).inc(tokens)

    def _count_fallback(self, target: LmTarget, following: LmTarget, reason: ErrorClass) -> None:
        key = (self._metrics.program, REVISION.get())
        self._metrics.fallbacks.labels(*key, target.model, following.model, reason).inc()


class FallbackEngine:
    """The same for programs without `aforward`, which run in a worker thread: it waits there for the loop's answer."""

    supports_function_calling = AsyncFallbackEngine.supports_function_calling
    supports_response_schema = AsyncFallbackEngine.supports_response_schema
    supports_reasoning = AsyncFallbackEngine.supports_reasoning
    supported_params = AsyncFallbackEngine.supported_params

    def __init__(self, engine: AsyncFallbackEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    def complete(self, request: Any) -> Any:
        """One answer; from the event loop itself it refuses, because it would wait for itself."""
        if _is_on(self._loop):
            raise RuntimeError(
                "a synchronous call inside aforward would block every other request: await acall() instead"
            )
        # The task copies this thread's context, so the call stays attributed to its request.
        return asyncio.run_coroutine_threadsafe(self._engine.complete(request), self._loop).result()


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
