"""Drill D1: the primary is down, then both are, then they are back; and what clients get meanwhile."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World

from dspy_server.contract import ScoreSource
from dspy_server.server import Server

PRIMARY, FALLBACK = "openai/icl-100", "openai/icl-90"
DOWN = {"fault": "fail500"}
SCORING = {"scoring": {"function": "tests.unit.serving.programs:score"}}


@pytest.fixture
def own_provider() -> Provider:
    return Provider()


@pytest.fixture
def own_url(own_provider: Provider) -> Iterator[str]:
    with run_provider(own_provider) as url:
        yield url


def build_config(url: str, *models: str, open_for: str, **serving: Any) -> dict[str, Any]:
    knobs = {"breaker": {"failures": 3, "openFor": open_for}, **serving}
    return {**build_lm(url, *models), "serving": knobs, **SCORING}


def count_calls(provider: Provider) -> int:
    return sum(provider.calls.values())


def get_breaker(server: Server, model: str) -> float:
    return get(scrape(server.metrics), "dspy_breaker_state", model=model)


async def ask_model(client: httpx.AsyncClient) -> str:
    response = await ask(client)
    return str(response.json()["meta"]["model"]) if response.status_code == 200 else ""


async def test_the_fallback_answers_every_request_while_the_primary_is_down(
    world: World, own_provider: Provider, own_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    own_provider.set_faults({"icl-100": DOWN})
    async with run(world, own_url, build_config(own_url, PRIMARY, FALLBACK, open_for="60s")) as (
        server,
        client,
    ):
        models = [await ask_model(client) for _ in range(8)]
        samples = scrape(server.metrics)
        states = get_breaker(server, PRIMARY), get_breaker(server, FALLBACK)
    assert models == [FALLBACK] * 8
    assert own_provider.calls["icl-100", 500] == 3
    assert states == (2, 0)
    between = {"from": PRIMARY, "to": FALLBACK}
    assert get(samples, "dspy_fallbacks_total", revision="rev0", reason="server", **between) == 3
    assert get(samples, "dspy_fallbacks_total", revision="rev0", reason="breaker_open", **between) == 5


async def test_with_all_down_nobody_is_asked_clients_learn_when_to_return_and_pods_stay_ready(
    world: World, own_provider: Provider, own_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    own_provider.set_faults({"*": DOWN})
    async with run(world, own_url, build_config(own_url, PRIMARY, FALLBACK, open_for="60s")) as (
        server,
        client,
    ):
        failed = [(await ask(client)).json()["code"] for _ in range(3)]
        asked = count_calls(own_provider)
        refused = [await ask(client) for _ in range(20)]
        ready, samples = await client.get("/ready"), scrape(server.metrics)
    assert set(failed) == {"server"}
    assert count_calls(own_provider) == asked
    assert {(item.status_code, item.json()["code"]) for item in refused} == {(503, "degraded")}
    assert all(50 <= int(item.headers["retry-after"]) <= 60 for item in refused)
    assert ready.status_code == 200
    assert get(samples, "dspy_program_errors_total", revision="rev0", class_="breaker_open") == 20
    assert get(samples, "dspy_degraded_total", revision="rev0", kind="refused") == 23


async def test_the_configured_answer_is_given_and_never_scored_when_no_model_can_answer(
    world: World, own_provider: Provider, own_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    own_provider.set_faults({"*": DOWN})
    outputs = {"queue": "account"}
    config = build_config(own_url, PRIMARY, open_for="60s", degraded={"outputs": outputs})
    async with run(world, own_url, config) as (server, client):
        responses = [await ask(client) for _ in range(5)]
        wrong = await client.post("/ask", json={"inputs": {}})
        exploded = await ask(client, "explode")
        await server.scorer.flush()
        samples, moments = scrape(server.metrics), server.metrics.get_moments()
    for response in responses:
        body = response.json()
        assert (response.status_code, body["outputs"]) == (200, outputs)
        assert (body["meta"]["degraded"], body["meta"]["feedback_token"]) == (True, None)
    assert (wrong.status_code, exploded.status_code) == (422, 500)
    assert get(samples, "dspy_degraded_total", revision="rev0", kind="outputs") == 5
    assert moments["rev0", ScoreSource.METRIC].count == 0
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev0", cache="miss") == 0
    failures = [
        get(samples, "dspy_program_errors_total", revision="rev0", class_=name)
        for name in ("server", "breaker_open", "internal")
    ]
    assert failures == [2, 3, 1]


async def test_when_the_models_are_back_they_answer_again_without_a_restart(
    world: World, own_provider: Provider, own_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    own_provider.set_faults({"*": DOWN})
    async with run(world, own_url, build_config(own_url, PRIMARY, FALLBACK, open_for="50ms")) as (
        server,
        client,
    ):
        assert [await ask_model(client) for _ in range(4)] == [""] * 4
        own_provider.set_faults({})
        async with asyncio.timeout(20):
            while await ask_model(client) != PRIMARY:
                pass
        assert get_breaker(server, PRIMARY) == 0
        assert (await ask(client)).json()["meta"]["degraded"] is False


async def test_failover_from_a_dead_primary_takes_less_than_300_ms(world: World, own_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
        config = build_config(own_url, PRIMARY, FALLBACK, open_for="60s")
        config["lm"]["primary"]["apiBase"] = f"{dead}/v1"
        took = []
        async with run(world, own_url, config) as (_, client):
            for _ in range(3):
                started = time.perf_counter()
                assert await ask_model(client) == FALLBACK
                took.append(time.perf_counter() - started)
    assert min(took) < 0.3
