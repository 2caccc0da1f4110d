"""Streams of the engine: another target before the first content, none after it; metered as they were billed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from dspy import lm15
from tests.provider.icl_lm import Fault, Provider, run_provider
from tests.unit.serving.test_engine import REQUEST, FakeTarget, build_engine, get_fallbacks, get_status
from tests.unit.serving.test_metering import PRICE, add, build_target
from tests.unit.serving.test_metrics import scrape
from tests.unit.serving.worlds import until

from dspy_server import compat
from dspy_server.breaker import BreakerState
from dspy_server.engine import AsyncFallbackEngine
from dspy_server.metrics import Metrics

START = lm15.StreamStartEvent(id="x")
END = lm15.StreamEndEvent(finish_reason="stop", usage=lm15.Usage(input_tokens=10, output_tokens=5))
CALLS = 120


def say(text: str) -> Any:
    return lm15.StreamDeltaEvent(lm15.TextDelta(text, 0))


class Speaker(FakeTarget):
    """One target that speaks: events in order; an error is raised, a number is a pause."""

    def __init__(self, *turns: list[Any]) -> None:
        super().__init__()
        self.turns = list(turns)
        self.closed = 0

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        try:
            for event in self.turns.pop(0) if self.turns else [START, say("a"), END]:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, float):
                    await asyncio.sleep(event)
                else:
                    yield event
        finally:
            self.closed += 1


async def collect(engine: AsyncFallbackEngine) -> list[Any]:
    return [event async for event in engine.stream(REQUEST)]


def get_unpriced(engine: AsyncFallbackEngine) -> float:
    return float(engine._metrics.unpriced.labels("triage", "", "openai/m0")._value.get())


async def test_the_primarys_events_are_passed_on_and_metered() -> None:
    engine = build_engine(Speaker([START, say("a"), say("b"), END]))
    assert await collect(engine) == [START, say("a"), say("b"), END]
    assert get_status(engine, "openai/m0", "ok") == 1
    assert engine._metrics.tokens.labels("triage", "", "openai/m0", "prompt")._value.get() == 10


@pytest.mark.parametrize("events", [[lm15.ServerError("x")], [START, lm15.StreamAssemblyError("x")]])
async def test_a_primary_that_fails_before_its_first_word_hands_over(events: list[Any]) -> None:
    engine = build_engine(Speaker(events), Speaker())
    assert await collect(engine) == [START, say("a"), END]
    reason = "server" if len(events) == 1 else "transport"
    assert get_fallbacks(engine, reason) == 1
    assert get_unpriced(engine) == 0


async def test_a_primary_that_breaks_off_after_its_first_word_is_followed_by_nobody() -> None:
    fallback = Speaker()
    engine = build_engine(Speaker([START, say("a"), lm15.StreamAssemblyError("cut")]), fallback, failures=1)
    with pytest.raises(lm15.TransportError):
        await collect(engine)
    assert fallback.requests == []
    assert get_status(engine, "openai/m0", "transport") == 1
    assert get_unpriced(engine) == 1
    assert engine._targets[0].breaker.state is BreakerState.OPEN


async def test_a_primary_that_is_slow_to_begin_gets_its_share_and_one_that_speaks_gets_the_rest() -> None:
    engine = build_engine(Speaker([START, 60.0]), Speaker(), timeout=0.4)
    assert await collect(engine) == [START, say("a"), END]
    assert get_fallbacks(engine, "timeout") == 1
    engine = build_engine(Speaker([START, say("a"), 0.25, END]), Speaker(), timeout=0.4)
    assert await collect(engine) == [START, say("a"), END]
    assert get_status(engine, "openai/m0", "ok") == 1


async def test_the_deadline_ends_a_stream_that_speaks() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(lm15.TimeoutError):
        await collect(build_engine(Speaker([START, say("a"), 60.0]), timeout=0.2))
    assert 0.2 <= loop.time() - started <= 0.4


async def test_a_listener_that_leaves_frees_the_target_and_the_call_is_counted() -> None:
    primary = Speaker([START, say("a"), say("b"), END])
    engine = build_engine(primary, failures=1)
    async with aclosing(engine.stream(REQUEST)) as events:
        async for event in events:
            if compat.is_content(event):
                break
    assert primary.closed == 1
    assert get_status(engine, "openai/m0", "cancelled") == 1
    assert get_unpriced(engine) == 1
    assert engine._targets[0].breaker.state is BreakerState.CLOSED
    assert engine._targets[0].gate._under_way == 0


async def test_a_listener_that_is_cancelled_frees_the_target() -> None:
    primary = Speaker([START, 60.0])
    engine = build_engine(primary)
    task = asyncio.create_task(collect(engine))
    await until(lambda: bool(primary.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (primary.closed, engine._targets[0].gate._under_way) == (1, 0)
    assert get_status(engine, "openai/m0", "cancelled") == 1


async def test_streams_are_counted_as_the_provider_counts_them_and_cut_ones_as_unpriced() -> None:
    provider = Provider(faults={"icl-90": Fault("fail500", 0.3), "icl-95": Fault("cut", 0.25)})
    with run_provider(provider) as url:
        for model, failures in (("icl-90", "server"), ("icl-95", "transport")):
            target = build_target(url, f"openai/{model}", PRICE)
            metrics = Metrics("triage")
            loop = asyncio.get_running_loop()
            engine = AsyncFallbackEngine((target,), metrics, timeout=30.0, clock=loop.time)
            whole = 0
            for _ in range(CALLS):
                try:
                    whole += len(await collect(engine)) > 0
                except compat.EngineError:
                    await asyncio.sleep(0.03)  # the breaker may be open
            samples = scrape(metrics)
            labels = {"model": f"openai/{model}"}
            assert whole > 0
            assert add(samples, "dspy_requests_total", status="ok", **labels) == whole
            failed = add(samples, "dspy_requests_total", status=failures, **labels)
            asked = sum(count for (name, _), count in provider.calls.items() if name == model)
            assert whole + failed == asked
            told = provider.tokens[model, "completion"]
            counted = add(samples, "dspy_tokens_total", kind="completion", **labels)
            unpriced = add(samples, "dspy_lm_unpriced_calls_total", **labels)
            assert (counted == told) == (unpriced == 0) == (failures == "server")
            await target.engine.aclose()
