"""A real Redis on loopback that a test may pause, kill and start again, and servers that share it as pods do."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.debian import debian_program
from tests.provider.icl_lm import Provider, run_provider
from tests.servers import get_free_port
from tests.unit.serving.harness import run
from tests.unit.serving.worlds import World, build_artifact

import redis
from dspy_server import compat, parts, store
from dspy_server.server import Server
from dspy_server.store import Store, build_client

compat.configure()
PATIENT = 30.0
"""Seconds for a command where time is not the subject: machines that test are busy."""
START_SECONDS = 60.0


@dataclass
class RedisServer:
    """One Redis process at one address, with nothing on disk."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None
    _log: Any = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """To look and to disturb, from outside of any server."""
        return redis.Redis(port=self.port, socket_timeout=10)

    def start(self) -> None:
        """Run it, until it answers."""
        command = [debian_program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--save", "", "--dir", self.folder], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, as a node that fails does; what it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        with self.client as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, get_free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def stores(redis_server: RedisServer) -> AsyncIterator[list[Store]]:
    """Those of two pods."""
    clock = asyncio.get_running_loop().time
    both = [Store(build_client(redis_server.url), clock, timeout=PATIENT) for _ in range(2)]
    yield both
    for one in both:
        await one.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Stable (rev0) answers billing, the canary (rev1) shipping."""
    world = World(tmp_path)
    world.fill_slot(0, build_artifact(tmp_path, "billing"))
    world.fill_slot(1, build_artifact(tmp_path, "shipping"))
    world.routes_file.parent.mkdir()
    world.write_table(world.route(0, 100, "stable"))
    return world


@dataclass
class Pods:
    """Servers that share a Redis and a provider."""

    world: World
    redis: RedisServer
    provider: Provider
    url: str
    stack: AsyncExitStack
    started: list[Server] = field(default_factory=list)

    async def start(self, serving: dict[str, Any], **more: Any) -> tuple[Server, httpx.AsyncClient]:
        """One more pod, and a client of it."""
        wait_for = more.pop("wait_for", ("rev0",))
        config = {"serving": serving, **more}
        running = run(self.world, self.url, config, wait_for=wait_for, DSPY_REDIS_URL=self.redis.url)
        server, client = await self.stack.enter_async_context(running)
        self.started.append(server)
        return server, client

    def count_calls(self) -> int:
        """Calls that the provider got."""
        return sum(self.provider.calls.values())


@pytest.fixture
async def pods(world: World, redis_server: RedisServer) -> AsyncIterator[Pods]:
    provider = Provider()
    with run_provider(provider) as url:
        async with AsyncExitStack() as stack:
            yield Pods(world, redis_server, provider, url, stack)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test give Redis all the time that a busy machine needs."""
    monkeypatch.setattr(parts, "Store", lambda client, clock: Store(client, clock, timeout=PATIENT))


@pytest.fixture
def forgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test ask a lost Redis again soon."""
    monkeypatch.setattr(store, "OPEN_SECONDS", 0.2)
