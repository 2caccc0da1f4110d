"""Rollouts and looks for the tests of the judge."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dspy_operator.rollout.judging import (
    Approval,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Mode,
    OnDeadline,
    Reference,
    RolloutConfig,
    State,
    StepConfig,
    Verdict,
    judge,
    start,
)

SCORE = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)
ERRORS = MetricConfig("errors", MetricType.ERROR_RATE, margin=0.01, min_samples=50)
LATENCY = MetricConfig("latency", MetricType.LATENCY_P95, margin=0.2, min_samples=50)
RATIO = MetricConfig("refusals", MetricType.RATIO, margin=0.01, min_samples=50)
COST = MetricConfig("cost", MetricType.COST_PER_REQUEST, margin=0.3, dry_run=True)

REFERENCES = {
    "score": Reference(mean=0.8, variance=0.04),
    "errors": Reference(mean=0.99, variance=0.0099),
    "refusals": Reference(mean=0.99, variance=0.0099),
    "latency": Reference(p95=1.0, bounds=(0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 5.0, 10.0)),
}

ALL = (SCORE, LATENCY, ERRORS, RATIO, COST)


def build_config(
    *metrics: MetricConfig,
    min_duration: float = 0.0,
    deadline: float | None = None,
    approval: Approval = Approval.AUTO,
    mode: Mode = Mode.EVIDENCE,
    on_deadline: OnDeadline = OnDeadline.THRESHOLD,
    bake: float = 0.0,
    weights: tuple[float, ...] = (10, 50, 100),
    is_sticky: bool = False,
) -> RolloutConfig:
    steps = tuple(StepConfig(weight, min_duration, 0, deadline, approval) for weight in weights)
    return RolloutConfig(
        steps=steps, metrics=metrics, mode=mode, on_deadline=on_deadline, bake=bake, is_sticky=is_sticky
    )


def start_rollout(config: RolloutConfig, t: float = 0.0) -> State:
    return start(config, REFERENCES, t)


def build_scores(n: float, mean: float) -> Counts:
    """Scores that are 0 or 1."""
    return Counts(n, n * mean, n * mean)


def build_score_look(
    t: float, canary: float, stable: float = 0.8, n: tuple[float, float] = (20, 180), **rest: Any
) -> Look:
    """One look at the score alone: the means of both arms."""
    metrics = {"score": (build_scores(n[0], canary), build_scores(n[1], stable))}
    return replace(Look(t=t, metrics=metrics), **rest)


def judge_all(state: State, looks: Iterable[Look]) -> tuple[State, Verdict]:
    verdict = None
    for look in looks:
        state, verdict = judge(state, look)
    assert verdict is not None
    return state, verdict


def list_score_looks(count: int, canary: float, stable: float = 0.8, first: float = 30) -> list[Look]:
    return [build_score_look(first + 30 * k, canary, stable) for k in range(count)]
