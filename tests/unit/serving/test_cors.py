"""Browsers of other origins: those that are named may ask, others may not."""

import httpx
import pytest
from tests.unit.serving.harness import run
from tests.unit.serving.worlds import World

from dspy_server.errors import SettingsError
from dspy_server.settings import parse_config

ORIGIN = "https://app.example.com"
CORS = {"serving": {"cors": {"allowOrigins": [ORIGIN, "http://localhost:3000"]}}}


async def preflight(
    client: httpx.AsyncClient, origin: str, method: str = "POST", path: str = "/ask"
) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "content-type,x-user-id",
    }
    return await client.options(path, headers=headers)


async def test_a_browser_of_a_named_origin_may_ask(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, CORS) as (_, client):
        allowed = [
            await preflight(client, ORIGIN, path=path) for path in ("/ask", "/ask/stream", "/feedback")
        ]
        answer = await client.post("/ask", json={"ticket": "hello"}, headers={"origin": ORIGIN})
        wrong = await client.post("/ask", json={}, headers={"origin": ORIGIN})
    for response in allowed:
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in response.headers["access-control-allow-methods"]
        assert "x-user-id" in response.headers["access-control-allow-headers"]
    assert (answer.status_code, wrong.status_code) == (200, 422)
    for response in (answer, wrong):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "x-request-id" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"],
)
async def test_a_browser_of_another_origin_is_refused(world: World, base_url: str, origin: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, CORS) as (_, client):
        refused = await preflight(client, origin)
        answer = await client.post("/ask", json={"ticket": "hello"}, headers={"origin": origin})
    assert refused.status_code == 400
    for response in (refused, answer):
        assert "access-control-allow-origin" not in response.headers


async def test_other_methods_are_refused(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, CORS) as (_, client):
        assert (await preflight(client, ORIGIN, "DELETE")).status_code == 400


async def test_without_the_setting_no_origin_may(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        response = await preflight(client, ORIGIN)
    assert (response.status_code, response.json()["code"]) == (405, "method")
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["*", "https://*.example.com", "app.example.com", "https://a/b"])
def test_an_origin_is_exact(origin: str) -> None:
    text = '{"lm": {"primary": {"model": "openai/m"}}, "serving": {"cors": {"allowOrigins": ["%s"]}}}'
    with pytest.raises(SettingsError, match="allowOrigins"):
        parse_config(text % origin)
