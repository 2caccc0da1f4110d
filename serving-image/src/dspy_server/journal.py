"""What one request's steps took: modules, LM calls and tools, told apart by their call id, and its trace if it has one.

`ask.py` lets DSPy's callbacks write it; the log line `asked` reads it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dspy_server.compat import Step, StepKind
from dspy_server.tracing import Trace

MAX_NAMES: Final = 32
"""Modules that are told apart in a log line."""


@dataclass
class Timing:
    """How often a module ran and how long in all, in seconds, with what it called."""

    calls: int = 0
    seconds: float = 0.0


class Journal:
    """One request's; its threads write it too.

    Attributes:
        queue, program: seconds that it waited for a slot, and that its program ran; the longest of a batch.
        lm: seconds of its LM calls, added up: those of calls at the same time too.
        modules: by name.
        trace: its spans, if it was sampled.
    """

    def __init__(self, trace: Trace | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.trace = trace
        self.queue = 0.0
        self.program = 0.0
        self.lm = 0.0
        self.modules: dict[str, Timing] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Step, float]] = {}
        self._started = clock()

    @property
    def total(self) -> float:
        """Seconds since the request came."""
        return self._clock() - self._started

    @contextmanager
    def run(self, queued_at: float) -> Iterator[None]:
        """Around the program; `queued_at`, of the clock, is when it began to wait for its slot."""
        started = self._clock()
        self.queue = max(self.queue, started - queued_at)
        try:
            yield
        finally:
            self.program = max(self.program, self._clock() - started)

    def describe(self, **attributes: str) -> None:
        """What the request's spans say of it."""
        if self.trace is not None:
            self.trace.describe(**attributes)

    def now(self) -> float:
        """The clock."""
        return self._clock()

    def begin(self, call_id: str, step: Step) -> None:
        """A step begins."""
        if self.trace is not None:
            self.trace.begin(call_id, step)
        with self._lock:
            self._open[call_id] = (step, self._clock())

    def end(self, call_id: str, outputs: Any, error: BaseException | None) -> None:
        """It has ended; one that is not known is ignored."""
        now = self._clock()
        with self._lock:
            step, started = self._open.pop(call_id, (None, 0.0))
            if step is not None:
                self._add(step, now - started)
        if self.trace is not None:
            self.trace.end(call_id, outputs, error)

    def _add(self, step: Step, seconds: float) -> None:
        if step.kind is StepKind.LM:
            self.lm += seconds
        if step.kind is not StepKind.MODULE:
            return
        if step.name not in self.modules and len(self.modules) >= MAX_NAMES:
            return
        timing = self.modules.setdefault(step.name, Timing())
        timing.calls += 1
        timing.seconds += seconds
