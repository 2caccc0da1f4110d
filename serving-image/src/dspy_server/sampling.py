"""Which answers are scored, and the queues in which they wait for it: off the request's path, bounded, counted.

What scores them is the user's function (here) or a judge (`judge.py`): one ruler for both revisions.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dspy_server import logs
from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics

QUEUE: Final = 1000
BATCH: Final = 100
MAX_USERS: Final = 100_000

Function = Callable[[Mapping[str, Any], Any], Any]


@dataclass(frozen=True)
class Job:
    """An answer to score."""

    revision: str
    inputs: Mapping[str, Any]
    prediction: Any


Rate = Callable[[Sequence[Job]], Awaitable[Sequence[float | Drop]]]
"""A score in [0, 1] for each job, or why it has none; never raises."""


def get_score(value: Any) -> float:
    """A score in [0, 1] from what a ruler returned: a number, a bool, or a prediction with `score`.

    Raises:
        ValueError, TypeError: it is none, or not finite.
    """
    number = float(getattr(value, "score", value))
    if not math.isfinite(number):
        raise ValueError("a score must be finite")
    return min(max(number, 0.0), 1.0)


IsFirst = Callable[[str], Awaitable[bool]]
"""Whether no pod has scored this user (the header's value) for an interval; never raises."""


class ScoreQueue:
    """Answers that wait for one ruler, and the workers that take them, `batch` at a time."""

    def __init__(
        self,
        source: ScoreSource,
        rate: Rate,
        metrics: Metrics,
        *,
        size: int = QUEUE,
        batch: int = BATCH,
        workers: int = 1,
    ) -> None:
        self._source = source
        self._rate = rate
        self._metrics = metrics
        self._queue: asyncio.Queue[Job] = asyncio.Queue(size)
        self._batch = batch
        self._workers = workers

    def put(self, job: Job) -> None:
        """Queue an answer; one that finds no room is counted. Never waits."""
        try:
            self._queue.put_nowait(job)
        except asyncio.QueueFull:
            self._count(job, Drop.QUEUE)

    async def run(self) -> None:
        """Score for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def flush(self) -> None:
        """Wait until everything queued is scored."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            jobs = [await self._queue.get()]
            while len(jobs) < self._batch and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
            try:
                for job, result in zip(jobs, await self._rate(jobs), strict=True):
                    self._count(job, result)
            finally:
                for _ in jobs:
                    self._queue.task_done()

    def _count(self, job: Job, result: float | Drop) -> None:
        if isinstance(result, Drop):
            self._metrics.scoring_dropped.labels(self._metrics.program, job.revision, result).inc()
        else:
            self._metrics.add_score(job.revision, self._source, result)


class FunctionRuler:
    """The user's scoring function, in a thread."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._has_logged = False

    async def rate(self, jobs: Sequence[Job]) -> Sequence[float | Drop]:
        """The score of each answer."""
        return await asyncio.to_thread(lambda: [self._rate_one(job) for job in jobs])

    def _rate_one(self, job: Job) -> float | Drop:
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


class Scorer:
    """Takes a sample of the answers, at most one of a user in `interval` seconds, to each of the rulers.

    What chooses does not look at the revision, so that both are measured alike.
    """

    def __init__(
        self,
        queues: Sequence[ScoreQueue],
        *,
        sample: float,
        clock: Callable[[], float],
        interval: float = 0.0,
        is_first: IsFirst | None = None,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self._queues = tuple(queues)
        self._sample = sample
        self._clock = clock
        self._interval = interval
        self._is_first = is_first
        self._choose = choose
        self._last: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def offer(self, revision: str, user: str | None, inputs: Mapping[str, Any], prediction: Any) -> None:
        """Queue an answer for scoring; `user` is the user header's value. Never waits."""
        if not self._queues or self._choose() >= self._sample or not self._is_due(user):
            return
        job = Job(revision, inputs, prediction)
        if self._is_first is None or not self._interval or user is None:
            self._put(job)
            return
        task = asyncio.create_task(self._put_if_first(self._is_first, user, job))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def run(self) -> None:
        """Score for ever."""
        await asyncio.gather(asyncio.Event().wait(), *(queue.run() for queue in self._queues))

    async def flush(self) -> None:
        """Wait until everything offered is scored."""
        if self._asking:
            await asyncio.wait(self._asking)
        for queue in self._queues:
            await queue.flush()

    def _put(self, job: Job) -> None:
        for queue in self._queues:
            queue.put(job)

    async def _put_if_first(self, is_first: IsFirst, user: str, job: Job) -> None:
        if await is_first(user):
            self._put(job)

    def _is_due(self, user: str | None) -> bool:
        """Whether this pod has not scored this user for an interval; who is not named has no session and always is."""
        if not self._interval or user is None:
            return True
        now = self._clock()
        if now - self._last.get(user, -math.inf) < self._interval:
            return False
        self._last.pop(user, None)
        if len(self._last) >= MAX_USERS:  # who was scored longest ago: dicts keep their order
            del self._last[next(iter(self._last))]
        self._last[user] = now
        return True
