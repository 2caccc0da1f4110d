"""What was counted is what the provider counted: calls by status, tokens, money, failures included."""

import asyncio
from typing import Any

import pytest
from dspy import lm15
from tests.provider.icl_lm import Fault, Provider, run_provider
from tests.unit.serving.test_metrics import get, scrape

from dspy_server import compat
from dspy_server.breaker import Breaker, Gate
from dspy_server.engine import AsyncFallbackEngine
from dspy_server.metrics import REVISION, Metrics
from dspy_server.pricing import Price, Rates
from dspy_server.targets import LmTarget

CALLS = 1000
WIRE_STATUS = {"ok": "200", "server": "500"}
PRICE = Price((Rates(0, 1e-6, 1e-7, None, 4e-6, 4e-6),))


def build_target(url: str, model: str, price: Price | None) -> LmTarget:
    clock = asyncio.get_running_loop().time
    engine, wire = compat.build_engine(model, f"{url}/v1", "k", timeout=30, connections=32)
    return LmTarget(model, wire, 100, engine, Breaker(5, 0.02, clock), Gate(100, 1.0, clock), price)


async def ask(engine: AsyncFallbackEngine, index: int) -> bool:
    token = REVISION.set(f"rev{index % 2}")
    request = lm15.Request(
        model="served/x", messages=(lm15.Message.user(f"question {index} " * (index % 7 + 1)),)
    )
    try:
        await engine.complete(request)
    except compat.EngineError:
        return False
    else:
        return True
    finally:
        REVISION.reset(token)


def add(samples: dict[Any, float], name: str, **labels: str) -> float:
    """The sum over both revisions; 0 where nothing was counted."""
    return sum(
        value
        for (found, pairs), value in samples.items()
        if found == name and set(labels.items()) <= set(pairs)
    )


async def test_over_a_thousand_calls_the_counters_equal_the_providers() -> None:
    provider = Provider(
        faults={
            "icl-90": Fault("fail500", 0.3),
            "icl-95": Fault("fail500", 0.1),
            "icl-80": Fault("fail500", 0.5),
        }
    )
    models = {"openai/icl-90": PRICE, "openai/icl-95": None, "openai/icl-80": PRICE}
    metrics = Metrics("triage", list(models))
    with run_provider(provider) as url:
        targets = tuple(build_target(url, model, price) for model, price in models.items())
        clock = asyncio.get_running_loop().time
        engine = AsyncFallbackEngine(targets, metrics, timeout=30, clock=clock, jitter=lambda *_: 0.0)
        busy = asyncio.Semaphore(16)

        async def one(index: int) -> bool:
            async with busy:
                return await ask(engine, index)

        answered = sum(await asyncio.gather(*(one(index) for index in range(CALLS))))
        for target in targets:
            await target.engine.aclose()
    samples, theirs = scrape(metrics), provider.get_stats()
    assert CALLS * 0.9 < answered <= CALLS
    for model, price in models.items():
        name = model.partition("/")[2]
        calls, tokens = theirs["calls"][name], theirs["tokens"][name]
        assert calls["500"] > 20
        for status in ("ok", "server"):
            counted = add(samples, "dspy_requests_total", model=model, status=status)
            assert counted == calls[WIRE_STATUS[status]], (model, status)
        for kind in ("prompt", "completion"):
            assert add(samples, "dspy_tokens_total", model=model, kind=kind) == tokens[kind] > 0
        assert add(samples, "dspy_lm_duration_seconds_count", model=model) == sum(calls.values())
        cost = add(samples, "dspy_lm_cost_usd_total", model=model)
        unpriced = add(samples, "dspy_lm_unpriced_calls_total", model=model)
        expected = tokens["prompt"] * 1e-6 + tokens["completion"] * 4e-6
        assert (cost, unpriced) == ((pytest.approx(expected), 0) if price else (0, calls["200"]))
    assert answered == sum(theirs["calls"][model.partition("/")[2]]["200"] for model in models)


async def test_a_failure_costs_nothing_and_a_revision_pays_for_its_own_calls() -> None:
    provider = Provider()
    metrics = Metrics("triage", ["openai/icl-90"])
    for revision in ("rev0", "rev1"):
        metrics.add_revision(revision, [])
    with run_provider(provider) as url:
        target = build_target(url, "openai/icl-90", PRICE)
        engine = AsyncFallbackEngine((target,), metrics, timeout=30, clock=asyncio.get_running_loop().time)
        assert await ask(engine, 1)
        provider.set_faults({"icl-90": {"fault": "fail401"}})
        assert not await ask(engine, 0)
        await target.engine.aclose()
    samples = scrape(metrics)
    costs = [
        get(samples, "dspy_lm_cost_usd_total", revision=revision, model="openai/icl-90")
        for revision in ("rev0", "rev1")
    ]
    assert costs[0] == 0 < costs[1]
