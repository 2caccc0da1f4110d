"""The engine spares a target that fails: open breakers, shut gates, and what counts against whom."""

import asyncio
from typing import Any

import pytest
from dspy import lm15
from tests.unit.serving.test_engine import (
    REQUEST,
    FakeTarget,
    build_engine,
    build_response,
    get_fallbacks,
    get_status,
    hang,
)
from tests.unit.serving.worlds import Clock, until

from dspy_server import compat
from dspy_server.breaker import BreakerState
from dspy_server.call import CALL, Call
from dspy_server.contract import ErrorClass
from dspy_server.engine import AsyncFallbackEngine

DOWN = lm15.ServerError("down")


def get_states(engine: AsyncFallbackEngine) -> list[BreakerState]:
    return [target.breaker.state for target in engine._targets]


async def test_a_primary_whose_breaker_is_open_is_not_asked_and_the_fallback_is_counted() -> None:
    primary, fallback = FakeTarget(DOWN, DOWN), FakeTarget()
    engine = build_engine(primary, fallback, failures=2)
    for _ in range(5):
        await engine.complete(REQUEST)
    assert (len(primary.requests), len(fallback.requests)) == (2, 5)
    assert (get_fallbacks(engine, "server"), get_fallbacks(engine, "breaker_open")) == (2, 3)
    assert get_states(engine) == [BreakerState.OPEN, BreakerState.CLOSED]


async def test_nobody_is_asked_while_all_breakers_are_open_and_the_caller_learns_for_how_long() -> None:
    clock = Clock()
    primary, fallback = FakeTarget(*[DOWN] * 9), FakeTarget(*[DOWN] * 9)
    engine = build_engine(primary, fallback, failures=1, clock=clock)
    with pytest.raises(lm15.ServerError):
        await engine.complete(REQUEST)
    asked = len(primary.requests) + len(fallback.requests)
    clock.now += 10
    call = Call(deadline=asyncio.get_running_loop().time() + 5)
    token = CALL.set(call)
    with pytest.raises(compat.BreakerOpenError) as caught:
        await engine.complete(REQUEST)
    CALL.reset(token)
    assert asked == len(primary.requests) + len(fallback.requests) == 2
    assert (call.retry_after, call.calls) == (20, 0)
    wrapped = RuntimeError()
    wrapped.__cause__ = caught.value
    assert compat.classify_program_error(wrapped) is ErrorClass.BREAKER_OPEN


async def test_a_failure_that_opens_the_breaker_is_not_followed_by_a_second_attempt() -> None:
    primary = FakeTarget(DOWN, DOWN)
    with pytest.raises(lm15.ServerError):
        await build_engine(primary, failures=1).complete(REQUEST)
    assert len(primary.requests) == 1


async def test_a_target_that_is_back_is_found_by_one_probe() -> None:
    clock = Clock()
    primary, fallback = FakeTarget(DOWN), FakeTarget()
    engine = build_engine(primary, fallback, failures=1, clock=clock)
    await engine.complete(REQUEST)
    clock.now += 30
    reached = asyncio.Event()
    back = asyncio.Event()

    async def probe() -> Any:
        reached.set()
        await back.wait()
        return build_response()

    primary.deeds.append(probe)
    probing = asyncio.create_task(engine.complete(REQUEST))
    await reached.wait()
    await asyncio.gather(*(engine.complete(REQUEST) for _ in range(5)))
    assert len(primary.requests) == 2
    back.set()
    await probing
    await engine.complete(REQUEST)
    assert len(primary.requests) == 3
    assert get_states(engine)[0] is BreakerState.CLOSED


async def test_a_probe_whose_caller_leaves_lets_the_next_one_probe() -> None:
    clock = Clock()
    primary = FakeTarget(DOWN, hang)
    engine = build_engine(primary, FakeTarget(), failures=1, clock=clock)
    await engine.complete(REQUEST)
    clock.now += 30
    probing = asyncio.create_task(engine.complete(REQUEST))
    await until(lambda: len(primary.requests) == 2)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    await engine.complete(REQUEST)
    assert len(primary.requests) == 3
    assert engine._targets[0].gate._under_way == 0


@pytest.mark.parametrize(
    "error", [lm15.AuthError("x", status=401), lm15.InvalidRequestError("no such model", status=404)]
)
async def test_a_refused_key_or_an_unknown_model_opens_the_breaker_at_once(error: Exception) -> None:
    primary = FakeTarget(error)
    engine = build_engine(primary, FakeTarget())
    await engine.complete(REQUEST)
    await engine.complete(REQUEST)
    assert len(primary.requests) == 1
    assert get_fallbacks(engine, "breaker_open") == 1


@pytest.mark.parametrize("error", [lm15.ContextLengthError("x"), lm15.InvalidRequestError("x", status=400)])
async def test_requests_that_are_wrong_never_open_the_breaker(error: Exception) -> None:
    engine = build_engine(FakeTarget(*[error] * 5), failures=1)
    for _ in range(5):
        with pytest.raises(type(error)):
            await engine.complete(REQUEST)
    assert get_states(engine) == [BreakerState.CLOSED]


async def test_a_timeout_counts_against_a_target_that_had_its_time() -> None:
    engine = build_engine(FakeTarget(hang), FakeTarget(), timeout=0.1, failures=1)
    await engine.complete(REQUEST)
    assert get_states(engine) == [BreakerState.OPEN, BreakerState.CLOSED]


async def test_a_timeout_after_a_long_queue_says_nothing_about_the_target() -> None:
    engine = build_engine(FakeTarget(hang), timeout=60, failures=1)
    token = CALL.set(Call(deadline=asyncio.get_running_loop().time() + 0.02))
    with pytest.raises(lm15.TimeoutError):
        await engine.complete(REQUEST)
    CALL.reset(token)
    assert get_states(engine) == [BreakerState.CLOSED]


async def test_without_any_time_left_nobody_is_asked() -> None:
    primary = FakeTarget()
    call = Call(deadline=asyncio.get_running_loop().time())
    token = CALL.set(call)
    with pytest.raises(lm15.TimeoutError):
        await build_engine(primary).complete(REQUEST)
    CALL.reset(token)
    assert (primary.requests, call.last_class) == ([], ErrorClass.DEADLINE)


async def test_a_rate_limited_primary_is_left_alone_as_long_as_it_asks_and_the_fallback_answers() -> None:
    clock = Clock()
    primary, fallback = FakeTarget(lm15.RateLimitError("x", retry_after=20)), FakeTarget()
    engine = build_engine(primary, fallback, failures=1, clock=clock)
    for _ in range(3):
        await engine.complete(REQUEST)
    assert (len(primary.requests), len(fallback.requests)) == (1, 3)
    assert get_status(engine, "openai/m0", "rate_limit") == 1
    assert get_fallbacks(engine, "rate_limit") == 3
    assert get_states(engine)[0] is BreakerState.CLOSED
    clock.now += 20
    await engine.complete(REQUEST)
    assert len(primary.requests) == 2


async def test_alone_and_shut_beyond_the_deadline_it_refuses_without_a_call() -> None:
    primary = FakeTarget(lm15.RateLimitError("x", retry_after=20))
    engine = build_engine(primary, clock=Clock())
    for _ in range(3):
        with pytest.raises(lm15.RateLimitError) as caught:
            await engine.complete(REQUEST)
    assert caught.value.retry_after == 20
    assert len(primary.requests) == 1


async def test_a_narrow_gate_is_waited_for_no_longer_than_the_deadline_allows() -> None:
    primary = FakeTarget(lm15.RateLimitError("x"), hang)
    engine = build_engine(primary, timeout=0.1, clock=Clock())
    results = await asyncio.gather(*(engine.complete(REQUEST) for _ in range(3)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == [
        "RateLimitError",
        "RateLimitError",
        "TimeoutError",
    ]
    assert len(primary.requests) == 2
    assert engine._targets[0].gate._under_way == 0
