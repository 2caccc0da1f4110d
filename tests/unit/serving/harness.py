"""A whole server without sockets, for tests: real parts, a real provider, a client that calls the application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from tests.unit.serving.worlds import World, until

from dspy_server.app import build_app
from dspy_server.parts import build_parts
from dspy_server.server import Server


@asynccontextmanager
async def run(
    world: World,
    base_url: str,
    config: dict[str, Any] | None = None,
    *,
    wait_for: tuple[str, ...] = ("rev0",),
    **env: str,
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """A server without sockets, once its programs are loaded, and a client of it."""
    parts = build_parts(world.build_settings(base_url, config, **env))
    server = parts.server
    server.metrics.bind(server.keeper.get_view)
    scores = asyncio.create_task(server.scorer.run())

    def has_settled() -> bool:
        server.keeper.poll()
        current = server.keeper.current
        return (set() if current is None else set(current.programs)) == set(wait_for)

    await until(has_settled)
    transport = httpx.ASGITransport(app=build_app(server), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield server, client
    await server.scorer.flush()
    scores.cancel()
    await parts.close()


def build_lm(base_url: str, model: str, *fallbacks: str, timeout: str = "5s") -> dict[str, Any]:
    primary, *others = ({"model": name, "apiBase": f"{base_url}/v1"} for name in (model, *fallbacks))
    return {"lm": {"primary": primary, "fallbacks": others, "timeout": timeout}}


async def ask(client: httpx.AsyncClient, ticket: str = "hello", **headers: str) -> httpx.Response:
    names = {key.replace("_", "-"): value for key, value in headers.items()}
    return await client.post("/ask", json={"inputs": {"ticket": ticket}}, headers=names)
