"""What a running server is made of, built from its settings; `lifecycle.py` starts and ends it."""

import asyncio
import functools
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from dspy_server import adapter, compat, logs, program, targets, tokens
from dspy_server.answer_cache import AnswerCache
from dspy_server.capture import Capture
from dspy_server.contract import CacheLabel, ScoreSource
from dspy_server.fetch import Fetcher
from dspy_server.limits import Admission
from dspy_server.lm import LmChoices, build_lm, find_choices
from dspy_server.lm_cache import LmCache, install_lm_cache, is_wanted
from dspy_server.metrics import Metrics
from dspy_server.program import Program
from dspy_server.redact import Redactor
from dspy_server.rehearsal import Rehearsal
from dspy_server.routes import Route
from dspy_server.rulers import Rulers, build_rulers, find_is_first, list_sources
from dspy_server.scoring import FeedbackBox
from dspy_server.server import Server
from dspy_server.settings import Settings
from dspy_server.shared_limits import SharedLimits
from dspy_server.snapshot import KeeperConfig, Loader, Rehearse, RouteKeeper
from dspy_server.store import Store, build_client
from dspy_server.targets import LmTarget
from dspy_server.tracing import Tracer
from dspy_server.users import UserLimits

VERSION: Final = "0.1.0"
FLUSH_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Parts:
    """A running server's parts; `close` them at the end."""

    server: Server
    targets: tuple[LmTarget, ...]
    rulers: Rulers
    store: Store | None = None

    async def close(self) -> None:
        """End loads, connections and threads; send the spans that wait."""
        await self.server.keeper.close()
        await targets.close_targets(self.targets)
        await self.rulers.close()
        if self.store is not None:
            await self.store.close()
        self.server.workers.shutdown(wait=False, cancel_futures=True)
        if self.server.tracer is not None:
            await asyncio.to_thread(self.server.tracer.close, FLUSH_SECONDS)


def build_parts(settings: Settings) -> Parts:
    """Everything a server is made of; must run on its event loop.

    Raises:
        SettingsError: a target cannot be built.
    """
    config, process = settings.config, settings.process
    lms = targets.build_targets(settings, asyncio.get_running_loop().time)
    metrics = _build_metrics(settings, lms)
    chat = adapter.build_adapter(metrics, parse_retry=config.serving.parse_retry)
    program.add_source(process.source)
    clock: Callable[[], float] = time.time  # noqa: TID251 - the server's one clock, handed down from here
    keys = tokens.find_keys(settings.feedback_key, settings.lm_keys[0])
    shared = _find_store(settings)
    users = _build_users(settings, keys, shared, clock)
    cache = AnswerCache(shared, config.serving.cache, keys, metrics, clock)
    rulers = build_rulers(settings, metrics, chat, clock, find_is_first(settings, shared, keys))
    cached = is_wanted(config.serving.cache)
    lm = build_lm(config.lm, lms, metrics, cached=cached)
    load = functools.partial(_load, settings, chat, find_choices(config, lms, metrics, cached=cached))
    workers = ThreadPoolExecutor(config.serving.limits.concurrency, thread_name_prefix="program")
    rehearse = None
    if config.serving.warmup == "Live":
        rehearse = Rehearsal(lm, chat, workers, config.lm.timeout).run
    server = Server(
        config=config,
        keeper=_build_keeper(settings, load, rehearse, metrics, keys, clock),
        metrics=metrics,
        lm=lm,
        adapter=chat,
        scorer=rulers.scorer,
        capture=_build_capture(settings, shared),
        feedback=FeedbackBox(keys, metrics, clock, shared) if keys is not None else None,
        admission=_build_admission(settings),
        users=users,
        cache=cache,
        lm_cache=_install_lm_cache(settings, metrics, clock),
        workers=workers,
        version=_build_version(settings) | {"userLimits": users.kept_by, "answerCache": cache.scope},
        admin_token=process.admin_token,
        tracer=_find_tracer(settings),
    )
    return Parts(server, lms, rulers, shared)


def _build_metrics(settings: Settings, lms: tuple[LmTarget, ...]) -> Metrics:
    metrics = Metrics(
        settings.process.program,
        [lm.model for lm in lms],
        dspy_version=compat.DSPY_VERSION,
        timed=tuple(CacheLabel) if settings.redis_url else (CacheLabel.MISS,),
    )
    metrics.bind_breakers(functools.partial(targets.get_breaker_states, lms))
    return metrics


def _build_keeper(
    settings: Settings,
    load: Loader,
    rehearse: Rehearse | None,
    metrics: Metrics,
    keys: tokens.Keys | None,
    clock: Callable[[], float],
) -> RouteKeeper:
    process = settings.process
    places = KeeperConfig(
        process.routes,
        process.programs_root,
        process.workload,
        process.slot_wait,
        _list_sources(settings, keys),
    )
    return RouteKeeper(places, load, Fetcher(process.pull).fetch, metrics, clock, rehearse)


def _build_admission(settings: Settings) -> Admission:
    limits, clock = settings.config.serving.limits, asyncio.get_running_loop().time
    return Admission(limits.concurrency, limits.queue, clock, rate=limits.requests_per_second)


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


def _load(settings: Settings, chat: Any, choices: LmChoices | None, data: bytes, route: Route) -> Program:
    return program.load_program(
        data,
        revision=route.revision,
        sha256=route.sha256,
        module=route.module,
        adapter=chat,
        max_chars=settings.config.serving.limits.max_field_chars,
        choices=choices,
    )


def _build_version(settings: Settings) -> dict[str, Any]:
    return {
        "version": VERSION,
        "dspy": compat.DSPY_VERSION,
        "python": sys.version.split()[0],
        "program": settings.process.program,
        "workload": settings.process.workload,
        "lm": targets.get_lm_hash(settings.config.lm),
    }
