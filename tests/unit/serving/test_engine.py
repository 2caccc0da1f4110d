import asyncio
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy import lm15

from dspy_server import compat
from dspy_server.breaker import Breaker, Gate
from dspy_server.call import CALL, Call
from dspy_server.contract import ErrorClass
from dspy_server.engine import AsyncFallbackEngine, FallbackEngine
from dspy_server.metrics import REVISION, Metrics
from dspy_server.targets import LmTarget

REQUEST = lm15.Request(
    model="served/x", messages=(lm15.Message.user("hello"),), config=lm15.Config(max_tokens=500)
)


def build_response() -> Any:
    usage = lm15.Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3)
    return lm15.Response(
        id=None, model="m", message=lm15.Message.assistant("hi"), finish_reason="stop", usage=usage
    )


class FakeTarget:
    """One target's engine: does, in order, what it is told."""

    def __init__(self, *deeds: Any) -> None:
        self.deeds = list(deeds)
        self.requests: list[Any] = []

    async def complete(self, request: Any) -> Any:
        self.requests.append(request)
        deed = self.deeds.pop(0) if self.deeds else build_response()
        if isinstance(deed, BaseException):
            raise deed
        return await deed() if callable(deed) else deed

    async def aclose(self) -> None:
        """Nothing to close."""


async def hang() -> Any:
    await asyncio.sleep(60)


def build_engine(
    *fakes: FakeTarget, timeout: float = 5.0, failures: int = 5, clock: Callable[[], float] | None = None
) -> AsyncFallbackEngine:
    """An engine over fakes; `clock` is that of breakers and gates."""
    loop_clock = asyncio.get_running_loop().time
    clock = clock or loop_clock
    targets = tuple(
        LmTarget(
            f"openai/m{index}",
            f"declared:m{index}",
            100 + index,
            fake,
            Breaker(failures, 30.0, clock),
            Gate(100, 30.0, clock),
        )
        for index, fake in enumerate(fakes)
    )
    return AsyncFallbackEngine(
        targets, Metrics("triage"), timeout=timeout, clock=loop_clock, jitter=lambda *_: 0.0
    )


def get_status(engine: AsyncFallbackEngine, model: str, status: str) -> float:
    return float(engine._metrics.lm_calls.labels("triage", REVISION.get(), model, status)._value.get())


def get_fallbacks(engine: AsyncFallbackEngine, reason: str) -> float:
    labels = ("triage", REVISION.get(), "openai/m0", "openai/m1", reason)
    return float(engine._metrics.fallbacks.labels(*labels)._value.get())


async def test_the_primary_answers_with_its_own_model_and_limit() -> None:
    primary = FakeTarget()
    await build_engine(primary).complete(REQUEST)
    assert (primary.requests[0].model, primary.requests[0].config.max_tokens) == ("declared:m0", 100)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lm15.TransportError("x"), "transport"),
        (lm15.TimeoutError("x"), "timeout"),
        (lm15.ServerError("x"), "server"),
        (lm15.RateLimitError("x", retry_after=30), "rate_limit"),
        (lm15.AuthError("x"), "auth"),
        (lm15.UnsupportedModelError("x"), "auth"),
        (lm15.InvalidRequestError("no such model", status=404), "auth"),
    ],
)
async def test_a_failing_primary_hands_over_to_the_fallback(error: Exception, reason: str) -> None:
    primary, fallback = FakeTarget(error), FakeTarget()
    engine = build_engine(primary, fallback)
    await engine.complete(REQUEST)
    assert len(fallback.requests) == 1
    assert get_fallbacks(engine, reason) == 1
    assert get_status(engine, "openai/m0", reason) == 1
    assert get_status(engine, "openai/m1", "ok") == 1


@pytest.mark.parametrize(
    "error",
    [lm15.ContextLengthError("x"), lm15.InvalidRequestError("x"), lm15.InvalidRequestError("x", status=400)],
)
async def test_a_request_that_is_wrong_goes_to_no_fallback(error: Exception) -> None:
    primary, fallback = FakeTarget(error), FakeTarget()
    with pytest.raises(type(error)):
        await build_engine(primary, fallback).complete(REQUEST)
    assert fallback.requests == []


@pytest.mark.parametrize("error", [lm15.TransportError("x"), lm15.ServerError("x")])
async def test_the_last_target_is_asked_once_more(error: Exception) -> None:
    primary = FakeTarget(error)
    await build_engine(primary).complete(REQUEST)
    assert len(primary.requests) == 2
    primary = FakeTarget(error, error)
    with pytest.raises(type(error)):
        await build_engine(primary).complete(REQUEST)
    assert len(primary.requests) == 2


async def test_a_refused_key_is_not_tried_again() -> None:
    primary = FakeTarget(lm15.AuthError("x"))
    with pytest.raises(lm15.AuthError):
        await build_engine(primary).complete(REQUEST)
    assert len(primary.requests) == 1


async def test_a_rate_limit_beyond_the_deadline_is_raised_at_once() -> None:
    primary = FakeTarget(lm15.RateLimitError("x", retry_after=30))
    call = Call(deadline=asyncio.get_running_loop().time() + 5)
    token = CALL.set(call)
    with pytest.raises(lm15.RateLimitError):
        await build_engine(primary).complete(REQUEST)
    CALL.reset(token)
    assert call.retry_after == 30


async def test_a_rate_limit_within_the_deadline_is_honoured() -> None:
    primary = FakeTarget(lm15.RateLimitError("x", retry_after=0.01))
    await build_engine(primary).complete(REQUEST)
    assert len(primary.requests) == 2


async def test_a_slow_primary_gets_half_of_the_time() -> None:
    loop = asyncio.get_running_loop()
    primary, fallback = FakeTarget(hang), FakeTarget()
    started = loop.time()
    engine = build_engine(primary, fallback, timeout=0.4)
    await engine.complete(REQUEST)
    assert 0.15 <= loop.time() - started <= 0.35
    assert get_fallbacks(engine, "timeout") == 1


async def test_the_deadline_holds_when_all_targets_are_slow() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(lm15.TimeoutError):
        await build_engine(FakeTarget(hang), FakeTarget(hang, hang), timeout=0.2).complete(REQUEST)
    assert 0.2 <= loop.time() - started <= 0.3


async def test_a_call_knows_its_model_and_its_usage() -> None:
    engine = build_engine(FakeTarget(lm15.ServerError("x")), FakeTarget())
    call = Call(deadline=asyncio.get_running_loop().time() + 5)
    tokens = (CALL.set(call), REVISION.set("rev0"))
    await engine.complete(REQUEST)
    assert (call.model, call.calls) == ("openai/m1", 2)
    assert call.usage == {"prompt": 10, "completion": 5, "cached": 3, "reasoning": 0}
    assert get_status(engine, "openai/m1", "ok") == 1
    CALL.reset(tokens[0])
    REVISION.reset(tokens[1])


async def test_a_worker_thread_asks_through_the_loop_and_keeps_its_context() -> None:
    engine = build_engine(FakeTarget())
    bridge = FallbackEngine(engine, asyncio.get_running_loop())
    token = REVISION.set("rev0")
    await asyncio.to_thread(bridge.complete, REQUEST)
    assert get_status(engine, "openai/m0", "ok") == 1
    REVISION.reset(token)


async def test_a_synchronous_call_on_the_loop_is_refused_instead_of_waiting_for_itself() -> None:
    bridge = FallbackEngine(build_engine(FakeTarget()), asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="acall"):
        bridge.complete(REQUEST)


async def test_two_interleaved_programs_get_their_own_answers() -> None:
    async def echo(request: Any) -> Any:
        await asyncio.sleep(0)
        text = request.messages[-1].parts[0].text
        word = "left" if "left" in text else "right"
        return lm15.Response(
            id=None,
            model="m",
            message=lm15.Message.assistant(f"[[ ## answer ## ]]\n{word}\n\n[[ ## completed ## ]]"),
            finish_reason="stop",
            usage=lm15.Usage(),
        )

    class Echo(FakeTarget):
        async def complete(self, request: Any) -> Any:
            return await echo(request)

    engine = build_engine(Echo())
    lm = compat.build_lm("served/x", FallbackEngine(engine, asyncio.get_running_loop()), engine, sampling={})
    program = dspy.Predict("question -> answer")

    async def ask(word: str) -> str:
        with compat.overrides(lm=lm, adapter=dspy.ChatAdapter()):
            return str((await program.acall(question=word)).answer)

    words = ["left", "right"] * 30
    assert await asyncio.gather(*(ask(word) for word in words)) == words


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lm15.TransportError("x"), ErrorClass.TRANSPORT),
        (lm15.NotConfiguredError("x"), ErrorClass.AUTH),
        (lm15.ProviderError("x"), ErrorClass.SERVER),
        (ValueError("x"), ErrorClass.INTERNAL),
    ],
)
def test_errors_have_a_class(error: Exception, expected: ErrorClass) -> None:
    assert compat.classify_engine_error(error) is expected
