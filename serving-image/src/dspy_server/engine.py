"""The engine behind the one `dspy.LM`: primary, then fallbacks, under one deadline, each call metered.

A target whose breaker is open is not asked; one whose provider limits the rate is asked as often as its gate allows.

DSPy calls it from the event loop (`AsyncFallbackEngine`) or from a worker thread (`FallbackEngine`, which hands
over to the loop), so there is one implementation, one pool of connections and one clock.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dspy_server import compat, logs
from dspy_server.breaker import BreakerState, Outcome, Permit, Place
from dspy_server.call import CALL, Call
from dspy_server.contract import ErrorClass
from dspy_server.metrics import CANCELLED, OK, REVISION, Metrics
from dspy_server.targets import LmTarget

T = TypeVar("T")

RETRY_SECONDS: Final = (0.1, 0.3)
"""Range of the pause before the last target is asked once more."""

_NEXT_TARGET: Final = frozenset(
    {ErrorClass.TRANSPORT, ErrorClass.TIMEOUT, ErrorClass.SERVER, ErrorClass.RATE_LIMIT, ErrorClass.AUTH}
)
_ASK_AGAIN: Final = frozenset({ErrorClass.TRANSPORT, ErrorClass.TIMEOUT, ErrorClass.SERVER})
_OUTCOMES: Final = {
    ErrorClass.TRANSPORT: Outcome.FAILED,
    ErrorClass.TIMEOUT: Outcome.FAILED,
    ErrorClass.SERVER: Outcome.FAILED,
    ErrorClass.RATE_LIMIT: Outcome.UNKNOWN,
    ErrorClass.AUTH: Outcome.UNUSABLE,
}
"""What a failure says of its target; any other class is an answer that finds fault with the request."""


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
        return await self._walk(request, self._attempt)

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        """One answer, event by event, from the first target that begins one; what breaks off later is lost."""
        head, rest = await self._walk(request, self._begin)
        async with aclosing(rest):
            for event in head:
                yield event
            async for event in rest:
                yield event

    async def _walk(
        self, request: Any, attempt: Callable[[Call, LmTarget, Permit, Any, int], Awaitable[T]]
    ) -> T:
        """What the first target gives that does not fail at it."""
        call = CALL.get() or Call(deadline=self._clock() + self._timeout)
        if self._clock() >= call.deadline:
            call.last_class = call.last_class or ErrorClass.DEADLINE
            raise compat.build_timeout("no time is left to ask")
        error: Exception | None = None
        last: tuple[LmTarget, ErrorClass] | None = None
        for index, target in enumerate(self._targets):
            permit = target.breaker.enter()
            if permit is None:
                last = last or (target, ErrorClass.BREAKER_OPEN)
                continue
            if last is not None:
                self._count_fallback(*last, target)
            others = [item for item in self._targets[index + 1 :] if item.breaker.lets_through]
            try:
                return await attempt(call, target, permit, request, len(others))
            except compat.EngineError as exc:
                error, last = exc, (target, compat.classify_engine_error(exc))
                if last[1] not in _NEXT_TARGET:
                    raise
        if error is None or last is None:
            raise self._refuse(call)
        permit = await self._wait_to_ask_again(call, last[0], error, last[1])
        return await attempt(call, last[0], permit, request, 0)

    def _refuse(self, call: Call) -> Exception:
        """All breakers are open: nobody is asked."""
        call.retry_after = min(target.breaker.get_retry_after() for target in self._targets)
        call.last_class = ErrorClass.BREAKER_OPEN
        return compat.build_breaker_open(call.retry_after)

    async def _wait_to_ask_again(
        self, call: Call, target: LmTarget, error: Exception, reason: ErrorClass
    ) -> Permit:
        """Leave for another try after a short pause, if the failure may pass and the deadline allows.

        A 429 says how long the pause is. Without leave the error is raised again.
        """
        pause = self._jitter(*RETRY_SECONDS)
        if reason is ErrorClass.RATE_LIMIT:
            call.retry_after = compat.get_retry_after(error)
            pause = call.retry_after or pause
        elif reason not in _ASK_AGAIN:
            raise error
        if self._clock() + pause >= call.deadline:
            raise error
        await asyncio.sleep(pause)
        permit = target.breaker.enter()
        if permit is None:
            raise error
        return permit

    async def _attempt(self, call: Call, target: LmTarget, permit: Permit, request: Any, others: int) -> Any:
        """One call of one target, within its share of the time that is left, if its gate lets it through."""
        until = self._get_share(call, others)
        async with self._hold(call, target, permit, until, others=others):
            return await self._ask(call, target, request, until)

    async def _begin(
        self, call: Call, target: LmTarget, permit: Permit, request: Any, others: int
    ) -> tuple[list[Any], AsyncGenerator[Any, None]]:
        """The same for a stream: its events up to the first with content, and the rest."""
        events = self._listen(call, target, permit, request, others)
        head: list[Any] = []
        async for event in events:
            head.append(event)
            if compat.is_content(event):
                break
        return head, events

    async def _listen(
        self, call: Call, target: LmTarget, permit: Permit, request: Any, others: int
    ) -> AsyncGenerator[Any, None]:
        """One stream of one target: the first content within its share of the time, the rest by the deadline."""
        until = self._get_share(call, others)
        async with self._hold(call, target, permit, until, others=others):
            with self._meter(call, target) as receipt:
                source = target.engine.stream(compat.retarget(request, target.wire_model, target.max_tokens))
                async with aclosing(source):
                    while True:
                        limit = call.deadline if receipt.has_content else until
                        async with asyncio.timeout(max(limit - self._clock(), 0.0)):
                            event = await anext(source, None)
                        if event is None:
                            return
                        receipt.has_content = receipt.has_content or compat.is_content(event)
                        if compat.is_end(event):
                            receipt.answer = event
                        yield event

    def _get_share(self, call: Call, others: int) -> float:
        """Until when a target is waited for, so that as much is left for each of the others."""
        now = self._clock()
        return now + max((call.deadline - now) / (1 + others), 0.0)

    @asynccontextmanager
    async def _hold(
        self, call: Call, target: LmTarget, permit: Permit, until: float, *, others: int
    ) -> AsyncIterator[None]:
        """A place at the target for what happens inside; its outcome goes to breaker and gate."""
        patience = until - self._clock()
        outcome, place = Outcome.UNKNOWN, None
        try:
            place = await self._enter_gate(target, patience, others=others)
            yield
            outcome = Outcome.ANSWERED
        except compat.EngineError as exc:
            reason = compat.classify_engine_error(exc)
            call.last_class = reason
            if not self._was_rushed(exc, reason, patience):
                outcome = _OUTCOMES.get(reason, Outcome.ANSWERED)
            if place is not None and reason is ErrorClass.RATE_LIMIT:
                target.gate.narrow(place, compat.get_retry_after(exc))
            raise
        finally:
            if place is not None:
                target.gate.leave()
            _log_change(target, target.breaker.record(permit, outcome))

    def _was_rushed(self, error: Exception, reason: ErrorClass, patience: float) -> bool:
        """Whether a target ran out of a time that was never enough: that says nothing about it."""
        fair = self._timeout / (2 * len(self._targets))
        return reason is ErrorClass.TIMEOUT and not compat.has_status(error) and patience < fair

    async def _enter_gate(self, target: LmTarget, patience: float, *, others: int) -> Place:
        """A place at a target whose provider limits the rate, unless somebody else can answer at once."""
        pause = target.gate.pause
        if target.gate.has_room:
            return await target.gate.enter()
        if others > 0 or pause >= patience:
            raise compat.build_rate_limit(pause)
        try:
            async with asyncio.timeout(patience):
                return await target.gate.enter()
        except TimeoutError as exc:
            raise compat.build_rate_limit(target.gate.pause) from exc

    async def _ask(self, call: Call, target: LmTarget, request: Any, until: float) -> Any:
        """One call on the wire, metered."""
        with self._meter(call, target) as receipt:
            async with asyncio.timeout(max(until - self._clock(), 0.0)):
                receipt.answer = await target.engine.complete(
                    compat.retarget(request, target.wire_model, target.max_tokens)
                )
        return receipt.answer

    @contextmanager
    def _meter(self, call: Call, target: LmTarget) -> Iterator["_Receipt"]:
        """Count one call on the wire by what became of it; a whole answer is billed, whatever happens after it."""
        started, receipt, status = self._clock(), _Receipt(), CANCELLED
        call.waiting, call.model = True, target.model
        call.calls += 1
        try:
            yield receipt
            status = OK
        except compat.EngineError as exc:
            status = compat.classify_engine_error(exc)
            if isinstance(exc, compat.StreamCutError):
                raise compat.build_cut() from exc
            raise
        except TimeoutError as exc:
            status = ErrorClass.TIMEOUT
            raise compat.build_timeout("no answer within the request's time") from exc
        finally:
            call.waiting = False
            self._book(call, target, receipt, status, self._clock() - started)

    def _book(self, call: Call, target: LmTarget, receipt: "_Receipt", status: str, seconds: float) -> None:
        key = (self._metrics.program, REVISION.get(), target.model)
        self._metrics.lm_duration.labels(*key).observe(seconds)
        if receipt.answer is not None:
            self._metrics.lm_calls.labels(*key, OK).inc()
            self._meter_answer(call, target, receipt.answer, key)
            return
        call.note(target.model, status, {})
        self._metrics.lm_calls.labels(*key, status).inc()
        if receipt.has_content or status == CANCELLED:  # paid for, and nobody says how much
            self._metrics.unpriced.labels(*key).inc()

    def _meter_answer(self, call: Call, target: LmTarget, answer: Any, key: tuple[str, str, str]) -> None:
        call.last_class = None
        self._meter_cost(target, answer, key)
        usage = compat.get_usage(answer)
        call.note(target.model, OK, usage)
        for kind, tokens in usage.items():
            call.usage[kind] += tokens
            self._metrics.tokens.labels(*key, kind).inc(tokens)

    def _meter_cost(self, target: LmTarget, response: Any, key: tuple[str, str, str]) -> None:
        bill = compat.get_bill(response)
        cost = None if bill is None or target.price is None else target.price.get_cost(bill)
        if cost is None:
            self._metrics.unpriced.labels(*key).inc()
        else:
            self._metrics.cost.labels(*key).inc(cost)

    def _count_fallback(self, target: LmTarget, reason: ErrorClass, following: LmTarget) -> None:
        key = (self._metrics.program, REVISION.get())
        self._metrics.fallbacks.labels(*key, target.model, following.model, reason).inc()


@dataclass
class _Receipt:
    """What one call on the wire gave.

    Attributes:
        answer: the whole answer, or the event that ends a stream: what says how many tokens.
        has_content: whether a part of it came, which is paid for too.
    """

    answer: Any = None
    has_content: bool = False


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
        future = asyncio.run_coroutine_threadsafe(self._engine.complete(request), self._loop)
        handovers = call.handovers if (call := CALL.get()) is not None else set()
        handovers.add(future)
        try:
            return future.result()
        finally:
            handovers.discard(future)


def _log_change(target: LmTarget, state: BreakerState | None) -> None:
    """What a person on call wants to see once, not once a request."""
    if state is BreakerState.OPEN:
        logs.get_logger().error("breaker_opened", model=target.model)
    elif state is BreakerState.CLOSED:
        logs.get_logger().info("breaker_closed", model=target.model)


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
