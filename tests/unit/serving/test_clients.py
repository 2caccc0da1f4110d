"""A client that leaves: its request is cancelled, counted as 499, and its slot is free again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from tests.unit.serving.harness import build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World, until

from dspy_server import heads
from dspy_server.app import build_app
from dspy_server.clients import ClientGoneError, cancelled_when_gone
from dspy_server.server import Server

MODULES = {"with aforward": "Triage", "in a thread": "SyncTriage"}


@asynccontextmanager
async def listen(server: Server) -> AsyncIterator[int]:
    """The application on a real socket; its port."""
    listener = uvicorn.Server(
        uvicorn.Config(
            build_app(server),
            host="127.0.0.1",
            port=0,
            http=heads.Protocol,
            lifespan="off",
            log_config=None,
        )
    )
    task = asyncio.create_task(listener._serve())
    await until(lambda: listener.started)
    yield int(listener.servers[0].sockets[0].getsockname()[1])
    listener.should_exit = True
    await task


async def send(port: int, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request and do not wait for its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
async def test_a_client_that_leaves_is_counted_and_frees_its_slot(
    world: World, base_url: str, module: str
) -> None:
    world.write_table(world.route(0, 100, "stable", module=f"tests.unit.serving.programs:{module}"))
    config = build_lm(base_url, "openai/icl-100+slow", timeout="30s")
    async with run(world, base_url, config) as (server, _), listen(server) as port:
        _, writer = await send(port, "/ask", {"ticket": "hello"})

        await until(lambda: get(scrape(server.metrics), "dspy_inflight", revision="rev0") == 1)
        writer.close()
        gone = server.metrics.http.labels("triage", "rev0", "/ask", "499")
        await until(lambda: gone._value.get() == 1)
        samples = scrape(server.metrics)
        assert get(samples, "dspy_inflight", revision="rev0") == 0
        assert get(samples, "dspy_program_errors_total", revision="rev0", class_="internal") == 0
        assert not server.admission._slots.locked()


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    class Waiting:
        async def receive(self) -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

    async def work() -> None:
        async with cancelled_when_gone(Waiting()):  # type: ignore[arg-type]  # only what is used of a request
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_has_gone_ends_the_work_inside() -> None:
    class Gone:
        async def receive(self) -> dict[str, str]:
            return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        async with cancelled_when_gone(Gone()):  # type: ignore[arg-type]  # only what is used of a request
            await asyncio.wait_for(asyncio.Event().wait(), 10)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test is a task
