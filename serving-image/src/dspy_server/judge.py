"""An LM that scores answers: with its own target, breaker and daily budget, and no part of any revision's cost.

Whatever happens to it, answers go on; what it does not score is counted.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final

from dspy_server import logs, program, schema
from dspy_server.call import CHARS_PER_TOKEN, Call, asking, classify, open_call
from dspy_server.contract import Drop
from dspy_server.errors import NO_LM
from dspy_server.metrics import REVISION
from dspy_server.sampling import Job, get_score

QUEUE: Final = 200
WORKERS: Final = 4
"""Answers that are judged at once."""
_DAY: Final = 86_400


@dataclass
class Budget:
    """Tokens of a UTC day; 0 means none is set.

    Nobody knows what a call costs before it ends: as much as the dearest so far is kept for it.
    """

    tokens_per_day: int
    clock: Callable[[], float]
    _used: int = 0
    _day: int = -1
    _dearest: int = 0

    def reserve(self, estimate: int) -> int | None:
        """Tokens that are kept for a call; None if less is left of today's."""
        day = int(self.clock()) // _DAY
        if day != self._day:
            self._day, self._used = day, 0
        kept = max(estimate, self._dearest)
        if self.tokens_per_day and self._used + kept > self.tokens_per_day:
            return None
        self._used += kept
        return kept

    def settle(self, kept: int, spent: int) -> None:
        """Book what a call really used."""
        self._used = max(0, self._used - kept + spent)
        self._dearest = max(self._dearest, spent)


@dataclass
class Judge:
    """A DSPy program `(inputs, outputs) -> score` and what it runs on.

    Attributes:
        lm: a `dspy.LM` of the judge's own targets.
        timeout: seconds for one answer.
    """

    module: Any
    lm: Any
    adapter: Any
    workers: Executor
    budget: Budget
    timeout: float
    max_tokens: int
    _logged: set[Drop] = field(default_factory=set)

    async def rate(self, jobs: Sequence[Job]) -> Sequence[float | Drop]:
        """The score of each answer."""
        return [await self._rate_one(job) for job in jobs]

    async def _rate_one(self, job: Job) -> float | Drop:
        try:
            asked = {
                "inputs": schema.encode(job.inputs),
                "outputs": schema.encode_outputs(job.prediction),
            }
            size = len(json.dumps(asked, ensure_ascii=False))
        except (TypeError, ValueError):
            return self._drop(Drop.ERROR, "inputs or outputs are no JSON")
        kept = self.budget.reserve(size // CHARS_PER_TOKEN + self.max_tokens)
        if kept is None:
            return self._drop(Drop.BUDGET, "today's tokens are used")
        call, before = open_call(self.timeout), REVISION.set("")
        try:
            return await self._ask(asked, call)
        finally:
            REVISION.reset(before)
            self.budget.settle(kept, call.count_tokens())

    async def _ask(self, asked: dict[str, Any], call: Call) -> float | Drop:
        try:
            async with asking(call, lm=self.lm, adapter=self.adapter):
                value = await program.call(self.module, asked, self.workers)
        except Exception as exc:  # noqa: BLE001 - user code and a provider: whatever it raises, serving goes on
            reason = Drop.PROVIDER if classify(exc, call) in NO_LM else Drop.ERROR
            return self._drop(reason, type(exc).__name__)
        try:
            return get_score(value)
        except (AttributeError, TypeError, ValueError):
            return self._drop(Drop.NOT_FINITE, "the judge gave no number")

    def _drop(self, reason: Drop, why: str) -> Drop:
        """Say each kind of trouble once; the counter says how often."""
        if reason not in self._logged:
            self._logged.add(reason)
            logs.get_logger().error("judge_gave_no_score", reason=reason, error=why)
        return reason
