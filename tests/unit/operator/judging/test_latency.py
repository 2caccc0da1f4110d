"""LatencyP95: bounds, both tests together, a histogram that cannot tell."""

from dataclasses import replace

import pytest
from tests.unit.operator.judging.rollouts import LATENCY, build_config, judge_all, start_rollout

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricAnswer,
    Reason,
    Reference,
    build_judged,
    find_p95,
    judge,
    start,
)
from dspy_operator.rollout.judging.latency import find_latency_limits

BOUNDS = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0)


def build_look(t: float, slow: float, stable_slow: float, n: tuple[float, float] = (50, 450)) -> Look:
    return Look(t=t, metrics={"latency": (Counts(n[0], bad=slow), Counts(n[1], bad=stable_slow))})


def build_histogram(n: float, slow: float) -> Counts:
    """`slow` of n above 1.2 s, the rest below 0.8 s."""
    fast = n - slow
    return Counts(n, histogram=((0.5, 0.0), (0.8, fast), (1.0, fast), (1.2, fast), (1.5, n), (2.0, n)))


def test_the_limits_are_the_bounds_around_the_margin() -> None:
    limits = find_latency_limits(replace(LATENCY, max=1.3), Reference(p95=1.1, bounds=BOUNDS))
    assert limits is not None
    assert (limits.canary, limits.stable, limits.absolute) == (1.5, 1.2, 1.5)


def test_a_limit_that_falls_on_a_bound_is_that_bound() -> None:
    limits = find_latency_limits(LATENCY, Reference(p95=1.0, bounds=BOUNDS))
    assert limits is not None
    assert (limits.canary, limits.stable) == (1.2, 1.0)


def test_p95_interpolates_inside_its_bucket_and_stops_at_the_last_bound() -> None:
    assert find_p95(((0.5, 90.0), (1.0, 100.0)), 100) == pytest.approx(0.75)
    assert find_p95(((0.5, 50.0), (1.0, 60.0)), 100) == 1.0
    assert find_p95(((0.5, 0.0), (1.0, 0.0)), 0) is None


def test_without_a_bound_above_the_limit_latency_is_unmeasured() -> None:
    state = start(build_config(LATENCY), {"latency": Reference(p95=3.0, bounds=BOUNDS)}, 0)
    _, verdict = judge(state, build_look(30, 25, 0))
    assert verdict.metrics[0].verdict is MetricAnswer.UNMEASURED
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)
    assert "no bounds around the limit of 3.6 s" in verdict.message


def test_a_canary_twice_as_slow_is_rolled_back_within_four_looks() -> None:
    looks = [build_look(30 * k, 13, 22) for k in range(1, 5)]
    _, verdict = judge_all(start_rollout(build_config(LATENCY)), looks)
    assert verdict.action is Action.ROLL_BACK


def test_a_slow_provider_that_slows_both_arms_rolls_nobody_back() -> None:
    looks = [build_look(30 * k, 25, 250) for k in range(1, 100)]
    _, verdict = judge_all(start_rollout(build_config(LATENCY)), looks)
    assert verdict.action is Action.ADVANCE
    assert verdict.ln_e_rollback <= 0


def test_an_equally_fast_canary_is_promoted() -> None:
    config = build_config(LATENCY, weights=(50, 100))
    looks = [build_look(30 * k, 3, 15, n=(100, 300)) for k in range(1, 9)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert verdict.action is Action.PROMOTE


def test_being_too_slow_needs_the_absolute_and_the_relative_limit() -> None:
    state = start_rollout(build_config(LATENCY))
    _, shared = judge(state, build_look(30, 10, 250))
    _, own = judge(state, build_look(30, 10, 20))
    assert shared.reason is not Reason.DROP_ABOVE_MARGIN
    assert own.reason is Reason.DROP_ABOVE_MARGIN


def test_the_absolute_ceiling_closes_the_gate_whatever_stable_does() -> None:
    config = build_config(replace(LATENCY, max=5.0))
    look = Look(t=30, metrics={"latency": (Counts(100, bad=10, over=6), Counts(900, bad=400))})
    _, verdict = judge(start_rollout(config), look)
    assert verdict.reason is Reason.DROP_ABOVE_MARGIN


def test_a_histogram_is_counted_above_the_frozen_bounds() -> None:
    state = start_rollout(build_config(LATENCY))
    look = Look(t=30, metrics={"latency": (build_histogram(50, 9), build_histogram(450, 20))})
    # The reference has more bounds than these histograms; only the frozen ones must be there.
    judged = build_judged(state, look)
    assert judged.metrics["latency"] == (Counts(50, bad=9), Counts(450, bad=20))
    assert judge(state, look) == judge(state, judged)


def test_a_histogram_without_the_frozen_bound_is_no_evidence() -> None:
    state = start_rollout(build_config(LATENCY))
    other = Counts(50, histogram=((0.7, 10.0), (1.4, 50.0)))
    after, verdict = judge(state, Look(t=30, metrics={"latency": (other, other)}))
    assert after.metrics == state.metrics
    assert verdict.action is Action.HOLD


def test_stable_without_a_past_freezes_its_p95_after_a_hundred_requests() -> None:
    state = start(build_config(LATENCY), {}, 0)
    looks = [
        Look(t=30 * k, metrics={"latency": (build_histogram(9, 0), build_histogram(60, 0))}) for k in (1, 2)
    ]
    state, verdict = judge(state, looks[0])
    assert state.find_latency_limits("latency") is None
    assert "collecting" in verdict.message
    state, _ = judge(state, looks[1])
    limits = state.find_latency_limits("latency")
    assert limits is not None
    assert limits.p95 == pytest.approx(0.785)
    assert (limits.canary, limits.stable) == (1.0, 0.8)
