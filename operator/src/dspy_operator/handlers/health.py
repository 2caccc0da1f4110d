"""`/healthz` and `/readyz` on a port of their own: kopf's probes hang when one of them raises."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

STUCK: Final = 30.0
"""Seconds without a turn of the event loop after which the process is better restarted."""
BEAT: Final = 1.0


@dataclass
class Health:
    """What the probes say. `is_ready` is asked at each probe."""

    is_ready: Callable[[], bool]
    monotonic: Callable[[], float] = time.monotonic
    beat_at: float = field(default_factory=time.monotonic)

    async def beat(self) -> None:
        """Note that the event loop turns, for ever."""
        while True:
            self.beat_at = self.monotonic()
            await asyncio.sleep(BEAT)

    def is_alive(self) -> bool:
        """Whether the loop has turned lately."""
        return self.monotonic() - self.beat_at < STUCK


async def serve_health(health: Health, port: int) -> web.AppRunner:
    """Answer probes on `port` until the runner is cleaned up."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(ok=health.is_alive(), bad="the event loop hangs")

    async def readyz(_: web.Request) -> web.Response:
        return _answer(ok=health.is_ready(), bad="the API server has not answered yet")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104  the kubelet asks from outside the pod
    return runner


def _answer(*, ok: bool, bad: str) -> web.Response:
    return web.Response(text="ok\n") if ok else web.Response(status=503, text=f"{bad}\n")
