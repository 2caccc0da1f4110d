"""Start and stop of the process: serve both ports, and on SIGTERM leave without losing a request.

SIGTERM: `/ready` says 503, a pause until no Service sends any more, stop accepting, drain, flush the scores, close.
"""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvicorn

from dspy_server import compat, heads, logs
from dspy_server.app import build_app, build_metrics_app
from dspy_server.parts import FLUSH_SECONDS, Parts, build_parts
from dspy_server.routes import Table
from dspy_server.server import Server
from dspy_server.settings import Settings
from dspy_server.snapshot import RouteKeeper

MIN_THREADS: Final = 32
BACKLOG: Final = 2048
LINGER_SECONDS: Final = 0.5
KEEP_ALIVE_SECONDS: Final = 120
SWEEP_SECONDS: Final = 60.0
COLLECT_AFTER: Final = 10_000
"""New objects until the youngest are looked through: those of forty requests; Python's own 700 are those of three."""


class _Listener(uvicorn.Server):
    """uvicorn without its signal handlers: one process, two listeners, one orderly end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and let connections accepted a moment ago still send their request."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(LINGER_SECONDS)
        await super().shutdown(sockets)


async def serve(settings: Settings, build_table: Callable[[int], Table] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a table of the generation given takes the place of the watched file (no operator).

    Raises:
        SettingsError: there is no such table, or a setting is wrong.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    threads = max(MIN_THREADS, settings.config.serving.limits.concurrency)
    loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="loop"))
    compat.configure()
    parts = build_parts(settings)
    parts.server.build_table = build_table
    await compat.warm_up(parts.server.adapter)
    freeze()
    ask, scrape = _build_listeners(parts.server, settings)
    background = [
        asyncio.create_task(_keep(parts.server.keeper, build_table), name="routes"),
        asyncio.create_task(parts.server.scorer.run(), name="scores"),
        asyncio.create_task(parts.server.lm_cache.run(), name="lm cache"),
    ]
    listeners = [asyncio.create_task(ask.serve()), asyncio.create_task(scrape.serve())]
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, *listeners, *background], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await _drain(parts, settings, ask, listeners[0])
    scrape.should_exit = True
    for task in background:
        task.cancel()
    results = await asyncio.gather(*listeners, *background, return_exceptions=True)
    await parts.close()
    logs.get_logger().info("stopped")
    _raise_first(results)


def freeze() -> None:
    """Let the garbage collector forget what is here to stay, and look at the rest less often.

    Looking through all modules took 60 ms each time, under load once a second. Programs come and go later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


def _raise_first(results: list[Any]) -> None:
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _keep(keeper: RouteKeeper, build_table: Callable[[int], Table] | None) -> None:
    """Watch the table's file; a table that is built is looked at again at a reload only."""
    if build_table is None:
        await keeper.run()
        return
    keeper.metrics.bind(keeper.get_view)
    keeper.take(build_table(1))
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        keeper.sweep()


async def _drain(parts: Parts, settings: Settings, ask: uvicorn.Server, listener: asyncio.Task[None]) -> None:
    """Leave the Service first, then stop accepting, then let requests in progress end, then flush their scores."""
    logs.get_logger().info("draining")
    parts.server.draining = True
    if not listener.done():
        await asyncio.sleep(settings.process.shutdown_delay)
        ask.should_exit = True
        await asyncio.wait([listener])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await parts.server.scorer.flush()


def _build_listeners(server: Server, settings: Settings) -> tuple[_Listener, _Listener]:
    """For questions, and for Prometheus."""
    process = settings.process
    app = build_app(server)
    pages = build_metrics_app(server.metrics, has_exemplars=server.tracer is not None)
    return (
        _build_listener(app, process.host, process.port, drain=settings.config.lm.timeout),
        _build_listener(pages, process.host, process.metrics_port, drain=1),
    )


def _build_listener(app: Any, host: str, port: int, *, drain: float) -> _Listener:
    return _Listener(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            backlog=BACKLOG,
            http=heads.Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(drain) + 1,
            limit_concurrency=None,
        )
    )
