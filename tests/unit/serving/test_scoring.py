import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import dspy
import pytest

from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics, Moments
from dspy_server.scoring import VOTES_PER_USER, FeedbackBox, Scorer, Vote, get_score
from dspy_server.tokens import LIFETIME_SECONDS, Keys, TokenError, find_keys


def build_metrics() -> Metrics:
    return Metrics("triage")


def get_dropped(metrics: Metrics, reason: Drop) -> float:
    return float(metrics.scoring_dropped.labels("triage", "rev0", reason)._value.get())


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
    scorer = Scorer(function, metrics, sample=1.0, **options)
    async with run(scorer):
        for value in inputs:
            scorer.offer("rev0", {"x": value}, None)
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
    scorer = Scorer(lambda *_: 1.0, metrics, sample=1.0, queue=2)
    for _ in range(5):
        scorer.offer("rev0", {}, None)
    assert get_dropped(metrics, Drop.QUEUE) == 3
    async with run(scorer):
        pass
    assert metrics.get_moments()["rev0", ScoreSource.METRIC].count == 2


async def test_only_the_sample_is_scored() -> None:
    draws = iter([0.2, 0.7, 0.49])
    metrics = build_metrics()
    scorer = Scorer(lambda *_: 1.0, metrics, sample=0.5, choose=lambda: next(draws))
    async with run(scorer):
        for _ in range(3):
            scorer.offer("rev0", {}, None)
    assert metrics.get_moments()["rev0", ScoreSource.METRIC].count == 2


def test_a_prediction_with_a_score_is_a_score() -> None:
    assert get_score(dspy.Prediction(score=0.75)) == 0.75


def test_a_prediction_without_one_is_none() -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        get_score(dspy.Prediction(answer="x"))


def get_keys() -> Keys:
    keys = find_keys("0123456789abcdef", "")
    assert keys is not None
    return keys


def build_box(now: float = 0.0) -> tuple[FeedbackBox, list[float]]:
    clock = [now]
    return FeedbackBox(get_keys(), build_metrics(), lambda: clock[0]), clock


async def test_a_vote_counts_once() -> None:
    box, _ = build_box()
    token = box.issue("rev0", "r1", None)
    assert (await box.vote(token, 1.0), await box.vote(token, 0.0)) == (Vote.COUNTED, Vote.USED)
    assert box.metrics.get_moments() == {("rev0", ScoreSource.FEEDBACK): Moments(1, 1.0, 1.0)}


async def test_a_vote_of_another_pod_counts_here() -> None:
    issuer, _ = build_box()
    box, _ = build_box()
    assert await box.vote(issuer.issue("rev7", "r1", "alice"), 0.5) is Vote.COUNTED
    assert ("rev7", ScoreSource.FEEDBACK) in box.metrics.get_moments()


async def test_a_late_vote_is_refused() -> None:
    box, clock = build_box()
    token = box.issue("rev0", "r1", None)
    clock[0] = LIFETIME_SECONDS + 1.0
    with pytest.raises(TokenError):
        await box.vote(token, 1.0)


async def test_a_user_has_twenty_votes_a_day() -> None:
    box, clock = build_box()
    for index in range(VOTES_PER_USER):
        assert await box.vote(box.issue("rev0", f"r{index}", "alice"), 1.0) is Vote.COUNTED
    assert await box.vote(box.issue("rev0", "one more", "alice"), 1.0) is Vote.LIMITED
    assert get_dropped(box.metrics, Drop.USER_LIMIT) == 1
    assert await box.vote(box.issue("rev0", "of another", "bob"), 1.0) is Vote.COUNTED
    clock[0] = 86_400.0
    assert await box.vote(box.issue("rev0", "tomorrow", "alice"), 1.0) is Vote.COUNTED
