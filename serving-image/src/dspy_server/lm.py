"""One `dspy.LM` over a list of targets: the process's own, the judge's, or the regression gate's.

Built on the event loop that its calls run on.
"""

import asyncio
from typing import Any

from dspy_server import compat, targets
from dspy_server.engine import AsyncFallbackEngine, FallbackEngine
from dspy_server.metrics import Metrics
from dspy_server.settings import Lm
from dspy_server.targets import LmTarget


def build_lm(lm: Lm, lms: tuple[LmTarget, ...], metrics: Metrics, *, cached: bool = False) -> Any:
    """The `dspy.LM` that asks `lms` in order; if `cached`, only what DSPy's cache does not know."""
    loop = asyncio.get_running_loop()
    ask = AsyncFallbackEngine(lms, metrics, timeout=lm.timeout, clock=loop.time)
    sampling = lm.primary.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True)
    name, blocking = targets.get_lm_name(lm), FallbackEngine(ask, loop)
    return compat.build_lm(name, blocking, ask, sampling=sampling, cached=cached)
