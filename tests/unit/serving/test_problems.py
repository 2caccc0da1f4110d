"""What a client gets when a request cannot be answered."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World

from dspy_server.contract import ErrorClass
from dspy_server.problems import build_program_problem, build_response

PROBLEMS: dict[str, tuple[Callable[[httpx.AsyncClient], Any], int, str]] = {
    "no JSON": (lambda client: client.post("/ask", content=b"{"), 400, "body"),
    "no object": (lambda client: client.post("/ask", json=[1]), 400, "body"),
    "a missing field": (lambda client: client.post("/ask", json={"inputs": {}}), 422, "inputs"),
    "an unknown field": (lambda client: client.post("/ask", json={"ticket": "x", "y": 1}), 422, "inputs"),
    "another type": (lambda client: client.post("/ask", json={"ticket": {"x": 1}}), 422, "inputs"),
    "a long field": (lambda client: client.post("/ask", json={"ticket": "x" * 40_000}), 422, "inputs"),
    "a large body": (lambda client: client.post("/ask", json={"ticket": "x" * 70_000}), 413, "size"),
    "an unknown path": (lambda client: client.get("/nothing"), 404, "not_found"),
    "another method": (lambda client: client.get("/ask"), 405, "method"),
    "an unknown override": (
        lambda client: client.post("/ask", json={"ticket": "x"}, headers={"X-Revision": "r"}),
        404,
        "no_route",
    ),
    "a forged token": (
        lambda client: client.post("/feedback", json={"feedback_token": "v1.a.b", "score": 1}),
        403,
        "feedback_token",
    ),
    "a score above 1": (
        lambda client: client.post("/feedback", json={"feedback_token": "x", "score": 2}),
        422,
        "inputs",
    ),
    "a score that is no number": (
        lambda client: client.post("/feedback", json={"feedback_token": "x", "score": "1"}),
        422,
        "inputs",
    ),
    "a program that fails": (lambda client: client.post("/ask", json={"ticket": "explode"}), 500, "internal"),
}


@pytest.mark.parametrize("what", PROBLEMS)
async def test_every_failure_is_a_problem_with_a_stable_code(what: str, world: World, base_url: str) -> None:
    send, status, code = PROBLEMS[what]
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        response = await send(client)
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["status"], response.json()["code"]) == (
        status,
        status,
        code,
    )
    assert response.json()["request_id"]
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("openai/icl-100+fail500", 502, "server"),
        ("openai/icl-100+fail401", 502, "auth"),
        ("openai/icl-100+fail429", 503, "rate_limit"),
        ("openai/icl-100+garbage", 502, "parse"),
        ("openai/icl-100+slow", 504, "timeout"),
    ],
)
async def test_a_failing_provider_is_a_problem_of_its_class(
    world: World, base_url: str, model: str, status: int, code: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, build_lm(base_url, model, timeout="500ms")) as (server, client):
        response = await ask(client)
        samples = scrape(server.metrics)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert get(samples, "dspy_program_errors_total", revision="rev0", class_=code) == 1
    assert get(samples, "dspy_http_requests_total", revision="rev0", route="/ask", code=str(status)) == 1
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev0", cache="miss") == 0
    assert ("retry-after" in response.headers) == (status == 503)


def test_a_503_always_says_when_to_come_back() -> None:
    problem = build_program_problem(ErrorClass.RATE_LIMIT)
    assert build_response(problem, "r").headers["retry-after"] == "1"
    assert "retry-after" not in build_response(build_program_problem(ErrorClass.PARSE), "r").headers


async def test_an_unreachable_provider_is_a_transport_problem(world: World) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, "http://127.0.0.1:9") as (_, client):
        response = await ask(client)
    assert (response.status_code, response.json()["code"]) == (502, "transport")


async def test_a_fallback_answers_for_a_failing_primary(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = build_lm(base_url, "openai/icl-100+fail500", "openai/icl-90")
    async with run(world, base_url, config) as (server, client):
        response = await ask(client)
        samples = scrape(server.metrics)
    assert response.json()["meta"]["model"] == "openai/icl-90"
    labels = {"from": "openai/icl-100+fail500", "to": "openai/icl-90", "reason": "server"}
    assert get(samples, "dspy_fallbacks_total", revision="rev0", **labels) == 1


async def test_a_parse_retry_is_counted(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, build_lm(base_url, "openai/icl-100+garbage")) as (server, client):
        await ask(client)
        samples = scrape(server.metrics)
    assert get(samples, "dspy_parse_retries_total", revision="rev0") == 1
    assert (
        get(samples, "dspy_requests_total", revision="rev0", model="openai/icl-100+garbage", status="ok") == 2
    )


async def test_requests_beyond_the_queue_are_refused_at_once_and_so_is_one_that_waited_in_vain(
    world: World, base_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {
        **build_lm(base_url, "openai/icl-100+slow", timeout="300ms"),
        "serving": {"limits": {"concurrency": 1, "queue": 1}},
    }
    async with run(world, base_url, config) as (server, client):
        responses = await asyncio.gather(*(ask(client) for _ in range(4)))
        samples = scrape(server.metrics)
    assert sorted(response.status_code for response in responses) == [429, 429, 429, 504]
    assert get(samples, "dspy_rejected_total", revision="rev0", reason="queue") == 3
