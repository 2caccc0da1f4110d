"""The benchmark's arrays judge as the operator does: same evidence, same m̂, same looks consumed."""

import numpy as np
import pytest
from bench.decisions.engine import Judge, LatencyJudge
from bench.decisions.laws import LAWS, Ints, Sums, build_generator, build_reference
from numpy.random import Generator

from dspy_operator.rollout.judging import (
    Counts,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
)
from dspy_operator.rollout.judging.estimates import find_drop
from dspy_operator.rollout.judging.measuring import build_measured, build_metric_start, build_metric_step
from dspy_operator.rollout.judging.readings import get_ln_e_promote, get_ln_e_rollback
from dspy_operator.rollout.judging.state import MetricState

SCORE = MetricConfig("score", MetricType.SCORE, margin=0.05)
STRICT = MetricConfig("score", MetricType.SCORE, margin=0.05, tolerance=0.0)
CONFIG = RolloutConfig(steps=(StepConfig(10), StepConfig(50), StepConfig(100)), metrics=(SCORE,))
RUNS, LOOKS, STEP_AT = 12, 60, 30


def draw_sizes(rng: Generator, mean: int) -> Ints:
    """Some looks without a sample, in runs of their own."""
    sizes = rng.poisson(mean, RUNS).astype(np.int64)
    sizes[rng.random(RUNS) < 0.3] = 0
    return sizes


def get_counts(sums: Sums, run: int) -> Counts:
    return Counts(float(sums.n[run]), float(sums.total[run]), float(sums.squares[run]))


def list_differences(judge: Judge, metric: MetricConfig, memories: list[MetricState]) -> list[float]:
    arrays = (judge.get_ln_e_rollback(), judge.get_ln_e_promote(), judge.get_factor(), judge.step_n)
    differences = []
    for run, memory in enumerate(memories):
        expected = (
            get_ln_e_rollback(CONFIG, metric, memory),
            get_ln_e_promote(memory),
            memory.dispersion.factor,
            memory.step.canary_n,
        )
        differences += [abs(array[run] - value) for array, value in zip(arrays, expected, strict=True)]
        drop = find_drop(metric, memory.step)
        assert (drop is None) == bool(np.isnan(judge.get_drop()[run]))
        if drop is not None:
            differences.append(abs(judge.get_drop()[run] - drop))
    return differences


@pytest.mark.parametrize("metric", [SCORE, STRICT])
@pytest.mark.parametrize("interval", [30.0, 250.0])
@pytest.mark.parametrize("law", list(LAWS))
def test_arrays_give_the_operators_evidence_look_by_look(
    law: str, interval: float, metric: MetricConfig
) -> None:
    rng, reference = build_generator(f"equal {law} {interval}"), build_reference(LAWS[law])
    judge = Judge(RUNS, metric, reference, rows=2)
    memories = [build_metric_step(metric, build_metric_start(metric, reference), 1)] * RUNS
    for look in range(1, LOOKS + 1):
        if look == STEP_AT:
            judge.enter_step(np.arange(RUNS) % 2 == 0, 2)
            memories = [m if run % 2 else build_metric_step(metric, m, 2) for run, m in enumerate(memories)]
        level = 0.4 if look % 5 == 0 else 1.0
        canary = LAWS[law].draw(rng, 0.9 * level, draw_sizes(rng, 6))
        stable = LAWS[law].draw(rng, level, draw_sizes(rng, 30))
        judge.take(interval * look, canary, stable)
        memories = [
            build_measured(
                metric, memory, interval * look, (get_counts(canary, run), get_counts(stable, run))
            )
            for run, memory in enumerate(memories)
        ]
        assert max(list_differences(judge, metric, memories)) < 1e-9
    assert judge.get_factor().max() > 1
    assert judge.get_ln_e_rollback().max() > 1


def test_arrays_judge_error_rates_as_the_operator_does() -> None:
    metric, reference = MetricConfig("errors", MetricType.ERROR_RATE, margin=0.01), Reference(0.99, 0.0099)
    rng, judge = build_generator("equal errors"), Judge(RUNS, metric, reference, rows=2)
    memories = [build_metric_step(metric, build_metric_start(metric, reference), 1)] * RUNS
    for look in range(1, 30):
        good = rng.binomial(50, 0.96, RUNS).astype(float), rng.binomial(450, 0.99, RUNS).astype(float)
        arms = [Sums(np.full(RUNS, n), ok, ok) for n, ok in zip((50.0, 450.0), good, strict=True)]
        judge.take(30.0 * look, *arms)
        for run in range(RUNS):
            counts = (Counts(50, bad=50 - good[0][run]), Counts(450, bad=450 - good[1][run]))
            memories[run] = build_measured(metric, memories[run], 30.0 * look, counts)
            rollback = get_ln_e_rollback(CONFIG, metric, memories[run])
            assert judge.get_ln_e_rollback()[run] == pytest.approx(rollback, abs=1e-9)
            assert judge.get_ln_e_promote()[run] == pytest.approx(get_ln_e_promote(memories[run]), abs=1e-9)


def test_arrays_judge_latencies_as_the_operator_does() -> None:
    rng, metric = (
        build_generator("equal latency"),
        MetricConfig("latency", MetricType.LATENCY_P95, margin=0.2),
    )
    config = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=(metric,))
    judge = LatencyJudge(RUNS, 0.2)
    memories = [build_metric_step(metric, build_metric_start(metric, Reference()), 1)] * RUNS
    for look in range(1, 30):
        slow = rng.binomial(50, 0.12, RUNS), rng.binomial(450, 0.05, RUNS)
        n = np.full(RUNS, 50.0), np.full(RUNS, 450.0)
        judge.take(30.0 * look, n, (slow[0].astype(float), slow[1].astype(float)))
        for run in range(RUNS):
            arms = (Counts(50, bad=float(slow[0][run])), Counts(450, bad=float(slow[1][run])))
            memories[run] = build_measured(metric, memories[run], 30.0 * look, arms)
            rollback = get_ln_e_rollback(config, metric, memories[run])
            assert judge.get_ln_e_rollback()[run] == pytest.approx(rollback, abs=1e-9)
            assert judge.get_ln_e_promote()[run] == pytest.approx(get_ln_e_promote(memories[run]), abs=1e-9)
