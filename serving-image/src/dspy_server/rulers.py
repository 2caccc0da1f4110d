"""Builds what scores answers from `spec.scoring`: the user's function, a judge, both or neither.

A ruler that cannot be built leaves the answers unscored and says so; it does not stop them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from dspy_server import compat, judge, logs, program, sampling, targets
from dspy_server.contract import ScoreSource
from dspy_server.errors import LoadError
from dspy_server.lm import build_lm
from dspy_server.metrics import Metrics
from dspy_server.sampling import FunctionRuler, IsFirst, ScoreQueue, Scorer
from dspy_server.settings import Lm, Scoring, Settings
from dspy_server.store import Store, StoreError
from dspy_server.targets import LmTarget
from dspy_server.tokens import Keys

_CONNECTIONS: Final = 2 * judge.WORKERS


@dataclass(frozen=True)
class Rulers:
    """What scores, and what it runs on.

    Attributes:
        targets: the judge's own.
        workers: its threads, for a judge without `aforward`.
    """

    scorer: Scorer
    targets: tuple[LmTarget, ...] = ()
    workers: ThreadPoolExecutor | None = None

    async def close(self) -> None:
        """Close the judge's connections and threads."""
        await targets.close_targets(self.targets)
        if self.workers is not None:
            self.workers.shutdown(wait=False, cancel_futures=True)


def list_sources(scoring: Scoring) -> list[ScoreSource]:
    """The rulers that are configured: their counters exist at 0 from the start."""
    wanted = {ScoreSource.METRIC: bool(scoring.function), ScoreSource.JUDGE: scoring.judge.is_on}
    return [source for source, is_on in wanted.items() if is_on]


def build_rulers(
    settings: Settings,
    metrics: Metrics,
    adapter: Any,
    clock: Callable[[], float],
    is_first: IsFirst | None = None,
) -> Rulers:
    """What `spec.scoring` asks for; must run on the event loop.

    Raises:
        SettingsError: the judge's model cannot be reached by what is configured.
    """
    scoring = settings.config.scoring
    queues = _list_function_queues(scoring.function, metrics)
    module = _find_judge(scoring)
    if module is None:
        return Rulers(_build_scorer(scoring, queues, clock, is_first))
    workers = ThreadPoolExecutor(judge.WORKERS, thread_name_prefix="judge")
    lms, lm = _build_judge_lm(settings, metrics)
    config = settings.config
    rater = judge.Judge(
        module=module,
        lm=lm,
        adapter=adapter,
        workers=workers,
        budget=judge.Budget(scoring.judge.tokens_per_day, clock),
        timeout=config.lm.timeout,
        max_tokens=lms[0].max_tokens,
    )
    queues.append(
        ScoreQueue(ScoreSource.JUDGE, rater.rate, metrics, size=judge.QUEUE, batch=1, workers=judge.WORKERS)
    )
    return Rulers(_build_scorer(scoring, queues, clock, is_first), lms, workers)


def find_is_first(settings: Settings, store: Store | None, keys: Keys | None) -> IsFirst | None:
    """How the pods share who was scored: by pseudonyms in Redis; a Redis that fails leaves it to each pod."""
    if store is None or keys is None:
        return None
    program, interval = settings.process.program, settings.config.scoring.per_user_interval

    async def is_first(user: str) -> bool:
        try:
            return await store.add(f"dspy:s:{program}:{keys.get_user(user)}", interval)
        except StoreError:
            return True

    return is_first


def _build_scorer(
    scoring: Scoring, queues: list[ScoreQueue], clock: Callable[[], float], is_first: IsFirst | None
) -> Scorer:
    interval = scoring.per_user_interval
    return Scorer(queues, sample=scoring.sample, interval=interval, clock=clock, is_first=is_first)


def _list_function_queues(spec: str, metrics: Metrics) -> list[ScoreQueue]:
    if not spec:
        return []
    try:
        function = program.find_function(spec)
    except LoadError as exc:
        logs.get_logger().error("scoring_function_missing", reasons=exc.reasons)
        return []
    return [
        ScoreQueue(ScoreSource.METRIC, FunctionRuler(function).rate, metrics, batch=sampling.BATCH, workers=1)
    ]


def _find_judge(scoring: Scoring) -> Any | None:
    """The judge's program: the user's, or the built-in rubric if only a model is named."""
    if not scoring.judge.is_on:
        return None
    if not scoring.judge.module:
        return compat.build_rubric()
    try:
        return program.build_module(scoring.judge.module)
    except LoadError as exc:
        logs.get_logger().error("judge_missing", reasons=exc.reasons)
        return None


def _build_judge_lm(settings: Settings, metrics: Metrics) -> tuple[tuple[LmTarget, ...], Any]:
    """The judge's own target; without `judge.lm` the primary's model, yet with a breaker of its own."""
    config, spec = settings.config, settings.config.scoring.judge.lm
    target = targets.build_target(
        spec or config.lm.primary,
        settings.judge_key if spec else settings.lm_keys[0],
        path="scoring.judge.lm",
        timeout=config.lm.timeout,
        connections=_CONNECTIONS,
        spare=config.serving.breaker,
        clock=asyncio.get_running_loop().time,
    )
    lm = Lm(primary=spec or config.lm.primary, timeout=config.lm.timeout)
    return (target,), build_lm(lm, (target,), metrics)
