import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import dspy
import pytest
from tests.unit.serving.worlds import Clock

from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics, Moments
from dspy_server.sampling import FunctionRuler, ScoreQueue, Scorer, get_score


def build_metrics() -> Metrics:
    return Metrics("triage")


def get_dropped(metrics: Metrics, reason: Drop) -> float:
    return float(metrics.scoring_dropped.labels("triage", "rev0", reason)._value.get())


def build_scorer(
    function: Callable[[Mapping[str, Any], Any], Any], metrics: Metrics, size: int = 1000, **options: Any
) -> Scorer:
    queue = ScoreQueue(ScoreSource.METRIC, FunctionRuler(function).rate, metrics, size=size)
    return Scorer([queue], **{"sample": 1.0, "clock": Clock(), **options})


@asynccontextmanager
async def run(scorer: Scorer) -> AsyncIterator[None]:
    task = asyncio.create_task(scorer.run())
    yield
    await scorer.flush()
    task.cancel()


async def score_all(
    function: Callable[[Mapping[str, Any], Any], Any], inputs: list[Any], **options: Any
) -> Metrics:
    metrics = build_metrics()
    scorer = build_scorer(function, metrics, **options)
    async with run(scorer):
        for value in inputs:
            scorer.offer("rev0", None, {"x": value}, None)
    return metrics


async def test_scores_become_moments() -> None:
    metrics = await score_all(lambda inputs, _: inputs["x"], [0.5, 1.0, 0.0])
    assert metrics.get_moments() == {("rev0", ScoreSource.METRIC): Moments(3, 1.5, 1.25)}


async def test_scores_are_clipped_to_0_and_1() -> None:
    metrics = await score_all(lambda inputs, _: inputs["x"], [-3, 7, True])
    assert metrics.get_moments() == {("rev0", ScoreSource.METRIC): Moments(3, 2.0, 2.0)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "good", []])
async def test_what_is_no_finite_number_is_dropped_and_counted(value: Any) -> None:
    metrics = await score_all(lambda inputs, _: inputs["x"], [value])
    assert metrics.get_moments() == {}
    assert get_dropped(metrics, Drop.NOT_FINITE) == 1


async def test_a_failing_function_is_counted_and_scores_go_on() -> None:
    metrics = await score_all(lambda inputs, _: 1 / inputs["x"], [0, 2])
    assert metrics.get_moments() == {("rev0", ScoreSource.METRIC): Moments(1, 0.5, 0.25)}
    assert get_dropped(metrics, Drop.ERROR) == 1


async def test_a_full_queue_is_counted_and_never_waits() -> None:
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, size=2)
    for _ in range(5):
        scorer.offer("rev0", None, {}, None)
    assert get_dropped(metrics, Drop.QUEUE) == 3
    async with run(scorer):
        pass
    assert metrics.get_moments()["rev0", ScoreSource.METRIC].count == 2


async def test_only_the_sample_is_scored() -> None:
    draws = iter([0.2, 0.7, 0.49])
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, sample=0.5, choose=lambda: next(draws))
    async with run(scorer):
        for _ in range(3):
            scorer.offer("rev0", None, {}, None)
    assert metrics.get_moments()["rev0", ScoreSource.METRIC].count == 2


def test_a_prediction_with_a_score_is_a_score() -> None:
    assert get_score(dspy.Prediction(score=0.75)) == 0.75


def test_a_prediction_without_one_is_none() -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        get_score(dspy.Prediction(answer="x"))


async def count_offers(scorer: Scorer, metrics: Metrics, users: list[str | None]) -> int:
    async with run(scorer):
        for user in users:
            scorer.offer("rev0", user, {}, None)
    found = metrics.get_moments().get(("rev0", ScoreSource.METRIC), Moments())
    return found.count


async def test_a_user_has_one_score_in_an_interval() -> None:
    clock, metrics = Clock(), build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, interval=60.0, clock=clock)
    assert await count_offers(scorer, metrics, ["alice", "alice", "bob", "alice"]) == 2
    clock.now += 59.9
    assert await count_offers(scorer, metrics, ["alice"]) == 2
    clock.now += 0.1
    assert await count_offers(scorer, metrics, ["alice", "alice", "bob"]) == 4


async def test_who_is_not_named_is_always_scored_and_without_an_interval_everybody() -> None:
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, interval=60.0)
    assert await count_offers(scorer, metrics, [None, None, None]) == 3
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics)
    assert await count_offers(scorer, metrics, ["alice", "alice"]) == 2


async def test_an_answer_outside_the_sample_does_not_use_up_the_interval() -> None:
    draws = iter([0.9, 0.1])
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, sample=0.5, interval=60.0, choose=lambda: next(draws))
    assert await count_offers(scorer, metrics, ["alice", "alice"]) == 1


async def test_a_million_users_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspy_server.sampling.MAX_USERS", 3)
    metrics = build_metrics()
    scorer = build_scorer(lambda *_: 1.0, metrics, interval=60.0)
    await count_offers(scorer, metrics, [f"user-{n}" for n in range(10)])
    assert list(scorer._last) == ["user-7", "user-8", "user-9"]


async def test_an_answer_goes_to_every_ruler() -> None:
    metrics = build_metrics()
    queues = [
        ScoreQueue(source, FunctionRuler(lambda *_: 0.5).rate, metrics)
        for source in (ScoreSource.METRIC, ScoreSource.JUDGE)
    ]
    scorer = Scorer(queues, sample=1.0, clock=Clock())
    async with run(scorer):
        scorer.offer("rev0", None, {}, None)
    assert {key[1] for key in metrics.get_moments()} == {ScoreSource.METRIC, ScoreSource.JUDGE}
