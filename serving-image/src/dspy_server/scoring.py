"""How good an answer was: the user's function, off the request's path, and feedback from clients.

The function is one ruler for both revisions. What cannot be scored is counted and never scored as 0.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from dspy_server import logs, tokens
from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics
from dspy_server.store import Store, StoreError
from dspy_server.tokens import Feedback, Keys

QUEUE: Final = 1000
BATCH: Final = 100
MAX_VOTES: Final = 100_000
VOTES_PER_USER: Final = 20
_DAY: Final = 86_400

Function = Callable[[Mapping[str, Any], Any], Any]


@dataclass(frozen=True)
class _Job:
    revision: str
    inputs: Mapping[str, Any]
    prediction: Any


def get_score(value: Any) -> float:
    """A score in [0, 1] from what a scoring function returned: a number, a bool, or a prediction with `score`.

    Raises:
        ValueError, TypeError: it is none, or not finite.
    """
    number = float(getattr(value, "score", value))
    if not math.isfinite(number):
        raise ValueError("a score must be finite")
    return min(max(number, 0.0), 1.0)


class Scorer:
    """Scores a sample of the answers with `function`, in a thread, through a bounded queue."""

    def __init__(
        self,
        function: Function | None,
        metrics: Metrics,
        *,
        sample: float,
        choose: Callable[[], float] = random.random,
        queue: int = QUEUE,
    ) -> None:
        self._function = function
        self._metrics = metrics
        self._sample = sample
        self._choose = choose
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(queue)
        self._has_logged = False

    def offer(self, revision: str, inputs: Mapping[str, Any], prediction: Any) -> None:
        """Queue an answer for scoring; never waits."""
        if self._function is None or self._choose() >= self._sample:
            return
        try:
            self._queue.put_nowait(_Job(revision, inputs, prediction))
        except asyncio.QueueFull:
            self._drop(revision, Drop.QUEUE)

    async def run(self) -> None:
        """Score for ever."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await self._score(batch)
            finally:
                for _ in batch:
                    self._queue.task_done()

    async def flush(self) -> None:
        """Wait until everything offered is scored."""
        await self._queue.join()

    async def _score(self, batch: list[_Job]) -> None:
        results = await asyncio.to_thread(self._apply, batch)
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, float):
                self._metrics.add_score(job.revision, ScoreSource.METRIC, result)
            else:
                self._drop(job.revision, result)

    def _apply(self, batch: list[_Job]) -> list[float | Drop]:
        return [self._apply_one(job) for job in batch]

    def _apply_one(self, job: _Job) -> float | Drop:
        assert self._function is not None  # noqa: S101 - offer() queues nothing without one
        try:
            value = self._function(job.inputs, job.prediction)
        except Exception as exc:  # noqa: BLE001 - user code: whatever it raises, serving goes on
            if not self._has_logged:
                self._has_logged = True
                logs.get_logger().error("scoring_function_failed", error=type(exc).__name__)
            return Drop.ERROR
        try:
            return get_score(value)
        except (TypeError, ValueError):
            return Drop.NOT_FINITE

    def _drop(self, revision: str, reason: Drop) -> None:
        self._metrics.scoring_dropped.labels(self._metrics.program, revision, reason).inc()


class Vote(Enum):
    """What became of a client's feedback."""

    COUNTED = auto()
    USED = auto()
    LIMITED = auto()


@dataclass
class FeedbackBox:
    """Takes one vote a token, and twenty a day of one user: of all pods with `store`, else of this process."""

    keys: Keys
    metrics: Metrics
    clock: Callable[[], float]
    store: Store | None = None
    _votes: dict[str, int] = field(default_factory=dict)
    _by_user: dict[tuple[int, str], int] = field(default_factory=dict)

    def issue(self, revision: str, request_id: str, user: str | None) -> str:
        """The token that lets a client score this answer; `user` is the user header's value."""
        pseudonym = self.keys.get_user(user) if user else ""
        expires = int(self.clock()) + tokens.LIFETIME_SECONDS
        return tokens.sign(
            self.keys, Feedback(self.metrics.program, revision, request_id, expires, pseudonym)
        )

    async def vote(self, token: str, score: float) -> Vote:
        """Count a score in [0, 1].

        Raises:
            TokenError: the token is not ours, expired, or of another program.
        """
        now = self.clock()
        feedback = tokens.verify(self.keys, token, program=self.metrics.program, now=now)
        if not await self._is_first(feedback, now):
            return Vote.USED
        if feedback.user and not await self._has_allowance(int(now) // _DAY, feedback.user):
            self.metrics.scoring_dropped.labels(
                self.metrics.program, feedback.revision, Drop.USER_LIMIT
            ).inc()
            return Vote.LIMITED
        self.metrics.add_score(feedback.revision, ScoreSource.FEEDBACK, score)
        return Vote.COUNTED

    async def _is_first(self, feedback: Feedback, now: float) -> bool:
        """Whether this is the token's first vote; remembered here too, for when the store is lost."""
        if feedback.request_id in self._votes:
            return False
        if len(self._votes) >= MAX_VOTES:  # the oldest first: dicts keep their order
            del self._votes[next(iter(self._votes))]
        self._votes[feedback.request_id] = feedback.expires
        if self.store is None:
            return True
        key = f"dspy:v:{self.metrics.program}:{feedback.request_id}"
        try:
            return await self.store.add(key, feedback.expires - now)
        except StoreError:
            return True

    async def _has_allowance(self, day: int, user: str) -> bool:
        """Whether a user's vote is among the day's first twenty: of all pods, or those that this one has seen."""
        if (day, user) not in self._by_user and len(self._by_user) >= MAX_VOTES:
            self._by_user.clear()
        seen = self._by_user[day, user] = self._by_user.get((day, user), 0) + 1
        if self.store is not None:
            with contextlib.suppress(StoreError):
                seen = max(seen, await self.store.count(f"dspy:f:{self.metrics.program}:{user}:{day}", _DAY))
        return seen <= VOTES_PER_USER
