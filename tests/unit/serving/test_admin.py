"""`POST /admin/reload`: off without a token file; with one, only for who knows the token."""

import functools
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.serving.harness import run
from tests.unit.serving.worlds import World, build_artifact, until

from dspy_server import cli

TOKEN = "a-token-of-sixteen-bytes-or-more"
PATH = "/admin/reload"


def write_token(folder: Path, token: str = TOKEN) -> dict[str, str]:
    """The environment that names a token file, as a Secret is mounted: with a line's end."""
    path = folder / "token"
    path.write_text(f"{token}\n")
    return {"DSPY_ADMIN_TOKEN_FILE": str(path)}


async def reload(client: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    return await client.post(PATH, headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize("token", [None, "", "short"])
async def test_without_a_token_that_protects_anything_there_is_no_such_endpoint(
    world: World, base_url: str, tmp_path: Path, token: str | None
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    env = {"DSPY_ADMIN_TOKEN_FILE": str(tmp_path / "none")} if token is None else write_token(tmp_path, token)
    async with run(world, base_url, **env) as (_, client):
        response, unknown = await reload(client, token or "x"), await client.post("/nothing")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.json().keys() == unknown.json().keys()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
    ],
)
async def test_another_token_is_refused(
    world: World, base_url: str, tmp_path: Path, headers: dict[str, str]
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, **write_token(tmp_path)) as (server, client):
        world.split(50)
        response = await client.post(f"{PATH}?token={TOKEN}", headers=headers)
        assert server.keeper.seen_generation == 1
    assert (response.status_code, response.json()["code"]) == (401, "admin_token")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_token_reads_the_table_again_and_shows_up_nowhere(
    world: World, base_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, **write_token(tmp_path)) as (server, client):
        world.split(50)
        response = await reload(client)
        await reload(client, "another-token-of-some-length")
        texts = [response.text, server.metrics.render().decode(), (await client.get("/version")).text]
    assert response.status_code == 200
    assert (response.json()["seenGeneration"], set(response.json()["programs"])) == (2, {"rev0", "rev1"})
    output = "".join(capfd.readouterr()) + caplog.text
    assert "reloaded" in output
    assert TOKEN not in output + "".join(texts)


async def test_a_token_that_changes_is_the_new_one(world: World, base_url: str, tmp_path: Path) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, **write_token(tmp_path)) as (_, client):
        write_token(tmp_path, "another-token-of-some-length")
        assert (await reload(client)).status_code == 401
        assert (await reload(client, "another-token-of-some-length")).status_code == 200


async def test_a_table_that_cannot_be_taken_is_said_and_the_old_one_stays(
    world: World, base_url: str, tmp_path: Path
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, **write_token(tmp_path)) as (_, client):
        world.write_table(world.route(0, 99, "stable"))
        response, ready = await reload(client), await client.get("/ready")
    assert (response.status_code, response.json()["code"]) == (409, "table")
    assert "sum to 99" in response.json()["error"]
    assert (ready.status_code, ready.json()["generation"]) == (200, 1)


async def test_an_artifact_that_is_served_alone_is_read_again(
    world: World, base_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "alone.json"
    path.write_bytes(build_artifact(tmp_path, "billing"))
    async with run(world, base_url, wait_for=(), **write_token(tmp_path)) as (server, client):
        settings = world.build_settings(base_url)
        server.build_table = functools.partial(
            cli._build_table, settings, "tests.unit.serving.programs:Triage", path
        )
        assert (await reload(client)).status_code == 200
        await until(lambda: server.keeper.current is not None)
        first = (await client.post("/ask", json={"ticket": "hello"})).json()
        path.write_bytes(build_artifact(tmp_path, "shipping"))
        assert (await reload(client)).json()["seenGeneration"] == 2
        await until(lambda: server.keeper.current is not None and server.keeper.current.generation == 2)
        second = (await client.post("/ask", json={"ticket": "hello"})).json()
        path.unlink()
        missing = await reload(client)
        third = await client.post("/ask", json={"ticket": "hello"})
    assert [answer["outputs"]["queue"] for answer in (first, second)] == ["billing", "shipping"]
    assert first["meta"]["revision"] != second["meta"]["revision"]
    assert (missing.status_code, third.status_code) == (409, 200)
