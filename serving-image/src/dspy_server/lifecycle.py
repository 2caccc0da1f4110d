"""Start and stop of the process: build the parts, serve both ports, and on SIGTERM leave without losing a request.

SIGTERM: `/ready` says 503, a pause until no Service sends any more, stop accepting, drain, flush the scores, close.
"""

import asyncio
import contextlib
import functools
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from dspy_server import adapter, compat, logs, program, targets, tokens
from dspy_server.answer_cache import AnswerCache
from dspy_server.app import build_app, build_metrics_app
from dspy_server.capture import Capture
from dspy_server.contract import CacheLabel, ScoreSource
from dspy_server.fetch import Fetcher
from dspy_server.limits import Admission
from dspy_server.lm import build_lm
from dspy_server.lm_cache import LmCache, install_lm_cache, is_wanted
from dspy_server.metrics import Metrics
from dspy_server.program import Program
from dspy_server.redact import Redactor
from dspy_server.routes import Route, Table
from dspy_server.rulers import Rulers, build_rulers, find_is_first, list_sources
from dspy_server.scoring import FeedbackBox
from dspy_server.server import Server
from dspy_server.settings import Settings, list_without_effect
from dspy_server.shared_limits import SharedLimits
from dspy_server.snapshot import KeeperConfig, RouteKeeper
from dspy_server.store import Store, build_client
from dspy_server.targets import LmTarget
from dspy_server.tracing import Tracer
from dspy_server.users import UserLimits

VERSION: Final = "0.1.0"
MIN_THREADS: Final = 32
BACKLOG: Final = 2048
FLUSH_SECONDS: Final = 3.0
LINGER_SECONDS: Final = 0.5
KEEP_ALIVE_SECONDS: Final = 75
SWEEP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Parts:
    """A running server's parts, to be closed at the end."""

    server: Server
    targets: tuple[LmTarget, ...]
    rulers: Rulers
    store: Store | None = None


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
    process = settings.process
    ask = _build_listener(
        build_app(parts.server), process.host, process.port, drain=settings.config.lm.timeout
    )
    scrape = _build_listener(
        build_metrics_app(parts.server.metrics, has_exemplars=parts.server.tracer is not None),
        process.host,
        process.metrics_port,
        drain=1,
    )
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
    await parts.server.keeper.close()
    await targets.close_targets(parts.targets)
    await parts.rulers.close()
    if parts.store is not None:
        await parts.store.close()
    parts.server.workers.shutdown(wait=False, cancel_futures=True)
    if parts.server.tracer is not None:
        await asyncio.to_thread(parts.server.tracer.close, FLUSH_SECONDS)
    logs.get_logger().info("stopped")
    _raise_first(results)


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


def build_parts(settings: Settings) -> Parts:
    """Everything a server is made of; must run on its event loop.

    Raises:
        SettingsError: a target cannot be built.
    """
    config, process, limits = settings.config, settings.process, settings.config.serving.limits
    lms = targets.build_targets(settings, asyncio.get_running_loop().time)
    metrics = Metrics(
        process.program,
        [lm.model for lm in lms],
        dspy_version=compat.DSPY_VERSION,
        timed=tuple(CacheLabel) if settings.redis_url else (CacheLabel.MISS,),
    )
    metrics.bind_breakers(functools.partial(targets.get_breaker_states, lms))
    chat = adapter.build_adapter(metrics, parse_retry=config.serving.parse_retry)
    program.add_source(process.source)
    clock: Callable[[], float] = time.time  # noqa: TID251 - the server's one clock, handed down from here
    keys = tokens.find_keys(settings.feedback_key, settings.lm_keys[0])
    places = KeeperConfig(
        process.routes,
        process.programs_root,
        process.workload,
        process.slot_wait,
        _list_sources(settings, keys),
    )
    shared = _find_store(settings)
    users = _build_users(settings, keys, shared, clock)
    cache = AnswerCache(shared, config.serving.cache, keys, metrics, clock)
    rulers = build_rulers(settings, metrics, chat, clock, find_is_first(settings, shared, keys))
    server = Server(
        config=config,
        keeper=RouteKeeper(
            places, functools.partial(_load, settings, chat), Fetcher(process.pull).fetch, metrics, clock
        ),
        metrics=metrics,
        lm=build_lm(config.lm, lms, metrics, cached=is_wanted(config.serving.cache)),
        adapter=chat,
        scorer=rulers.scorer,
        capture=_build_capture(settings, shared),
        feedback=FeedbackBox(keys, metrics, clock, shared) if keys is not None else None,
        admission=Admission(
            limits.concurrency, limits.queue, asyncio.get_running_loop().time, rate=limits.requests_per_second
        ),
        users=users,
        cache=cache,
        lm_cache=_install_lm_cache(settings, metrics, clock),
        workers=ThreadPoolExecutor(limits.concurrency, thread_name_prefix="program"),
        version=_build_version(settings) | {"userLimits": users.kept_by, "answerCache": cache.scope},
        admin_token=process.admin_token,
        tracer=_find_tracer(settings),
    )
    return Parts(server, lms, rulers, shared)


def _install_lm_cache(settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> LmCache:
    """What DSPy asks before it asks the LM."""
    folder, lm_hash = settings.process.cache_dir, targets.get_lm_hash(settings.config.lm)
    return install_lm_cache(settings.config.serving.cache, folder, lm_hash, metrics, clock)


def _find_tracer(settings: Settings) -> Tracer | None:
    """The tracer, if there is a collector."""
    serving = settings.config.serving
    if not serving.tracing.endpoint:
        return None
    from dspy_server.exporter import build_tracer  # noqa: PLC0415 - a server without traces does not pay for it

    return build_tracer(
        serving.tracing.endpoint,
        serving.tracing.sample,
        settings.process.program,
        VERSION,
        Redactor(serving.logs.redact),
        has_text=serving.logs.text == "Redacted",
    )


def _build_capture(settings: Settings, shared: Store | None) -> Capture:
    serving = settings.config.serving
    if serving.capture.sample and shared is None:
        logs.get_logger().warning("nothing_captured", reason="no Redis: cache.redisSecret")
    redactor = Redactor(serving.logs.redact)
    return Capture(shared, serving.capture, redactor, program=settings.process.program)


def _find_store(settings: Settings) -> Store | None:
    """The Redis that the pods share, if there is one."""
    if not settings.redis_url:
        return None
    return Store(build_client(settings.redis_url), asyncio.get_running_loop().time)


def _build_users(
    settings: Settings, keys: tokens.Keys | None, shared: Store | None, clock: Callable[[], float]
) -> SharedLimits:
    """Users are limited also where no key is configured: their pseudonyms then mean something in this process only."""
    limits = settings.config.serving.limits
    local = UserLimits(
        limits.per_user_requests_per_minute,
        limits.per_user_tokens_per_day,
        get_pseudonym=(keys or tokens.build_keys(secrets.token_bytes(32))).get_user,
        clock=clock,
    )
    return SharedLimits(
        local,
        shared if keys is not None else None,
        program=settings.process.program,
        clock=clock,
        denies=limits.budget_on_redis_error == "Deny",
    )


def _list_sources(settings: Settings, keys: tokens.Keys | None) -> tuple[ScoreSource, ...]:
    """The score sources that are on: their counters exist at 0 from the start."""
    return (
        *list_sources(settings.config.scoring),
        *([ScoreSource.FEEDBACK] if keys is not None else []),
    )


def _load(settings: Settings, chat: Any, data: bytes, route: Route) -> Program:
    return program.load_program(
        data,
        revision=route.revision,
        sha256=route.sha256,
        module=route.module,
        adapter=chat,
        max_chars=settings.config.serving.limits.max_field_chars,
    )


def _build_version(settings: Settings) -> dict[str, Any]:
    return {
        "version": VERSION,
        "dspy": compat.DSPY_VERSION,
        "python": sys.version.split()[0],
        "program": settings.process.program,
        "workload": settings.process.workload,
        "lm": targets.get_lm_hash(settings.config.lm),
        "withoutEffect": list_without_effect(settings.config),
    }


def _build_listener(app: Any, host: str, port: int, *, drain: float) -> _Listener:
    return _Listener(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            backlog=BACKLOG,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(drain) + 1,
            limit_concurrency=None,
        )
    )
