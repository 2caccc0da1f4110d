"""One `dspy.LM` over a list of targets: the process's own, the judge's, the regression gate's, or a predictor's choice.

Built on the event loop that its calls run on.
"""

import asyncio
from typing import Any

from dspy_server import compat, targets
from dspy_server.artifact_lm import LmChoice
from dspy_server.engine import AsyncFallbackEngine, FallbackEngine
from dspy_server.metrics import Metrics
from dspy_server.settings import Config, Lm, Target
from dspy_server.targets import LmTarget


def build_lm(lm: Lm, lms: tuple[LmTarget, ...], metrics: Metrics, *, cached: bool = False) -> Any:
    """The `dspy.LM` that asks `lms` in order; if `cached`, only what DSPy's cache does not know."""
    blocking, ask = _build_engines(lm, lms, metrics)
    return compat.build_lm(
        targets.get_lm_name(lm), blocking, ask, sampling=_get_sampling(lm.primary), cached=cached
    )


class LmChoices:
    """The LMs that an artifact's predictors may choose: each asks its own model first, then the others in order."""

    def __init__(self, lm: Lm, lms: tuple[LmTarget, ...], metrics: Metrics, *, cached: bool = False) -> None:
        self._lm = lm
        self._cached = cached
        self._specs: dict[str, Target] = {}
        self._engines: dict[str, tuple[FallbackEngine, AsyncFallbackEngine]] = {}
        for index, spec in enumerate([lm.primary, *lm.fallbacks]):
            if spec.model not in self._specs:  # of two of one name the first
                self._specs[spec.model] = spec
                order = (lms[index], *lms[:index], *lms[index + 1 :])
                self._engines[spec.model] = _build_engines(lm, order, metrics)

    @property
    def models(self) -> frozenset[str]:
        """What may be chosen."""
        return frozenset(self._specs)

    def build(self, choice: LmChoice) -> Any:
        """The `dspy.LM` of one predictor; may be called in a thread."""
        blocking, ask = self._engines[choice.model]
        wished = {
            "temperature": choice.temperature, "top_p": choice.top_p, "max_tokens": choice.max_tokens
        }  # fmt: skip
        sampling = _get_sampling(self._specs[choice.model])
        sampling |= {name: value for name, value in wished.items() if value is not None}
        name = f"{targets.get_lm_name(self._lm)}/{choice.model}"
        return compat.build_lm(name, blocking, ask, sampling=sampling, cached=self._cached)


def find_choices(
    config: Config, lms: tuple[LmTarget, ...], metrics: Metrics, *, cached: bool = False
) -> LmChoices | None:
    """The LMs that artifacts may choose from; None: they may not."""
    if config.serving.artifact_lm == "Drop":
        return None
    return LmChoices(config.lm, lms, metrics, cached=cached)


def _build_engines(
    lm: Lm, lms: tuple[LmTarget, ...], metrics: Metrics
) -> tuple[FallbackEngine, AsyncFallbackEngine]:
    loop = asyncio.get_running_loop()
    ask = AsyncFallbackEngine(lms, metrics, timeout=lm.timeout, clock=loop.time)
    return FallbackEngine(ask, loop), ask


def _get_sampling(spec: Target) -> dict[str, Any]:
    return spec.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True)
