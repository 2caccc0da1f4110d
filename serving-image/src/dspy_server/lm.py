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


def build_lm(lm: Lm, lms: tuple[LmTarget, ...], metrics: Metrics) -> Any:
    """The `dspy.LM` that asks `lms` in order."""
    loop = asyncio.get_running_loop()
    ask = AsyncFallbackEngine(lms, metrics, timeout=lm.timeout, clock=loop.time)
    sampling = lm.primary.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True)
    return compat.build_lm(targets.get_lm_name(lm), FallbackEngine(ask, loop), ask, sampling=sampling)
