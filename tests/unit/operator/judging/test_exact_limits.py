"""Where each limit lies exactly: one step before it, on it, and what a configuration may say at all."""

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.judging.rollouts import (
    COST,
    ERRORS,
    LATENCY,
    SCORE,
    build_config,
    build_score_look,
    build_scores,
    judge_all,
    start_rollout,
)

from dspy_operator.rollout.judging import (
    UNKNOWN_REFERENCE,
    Action,
    Counts,
    Look,
    MetricAnswer,
    MetricConfig,
    MetricType,
    Mode,
    OnMissing,
    Reason,
    Reference,
    RolloutConfig,
    StepConfig,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.engine import get_spread
from dspy_operator.rollout.judging.looks import build_rounded, is_consistent
from dspy_operator.rollout.judging.moments import Moments


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"margin": -0.01}, "at least 0"),
        ({"margin": math.nan}, "at least 0"),
        ({"margin": math.inf}, "at least 0"),
        ({"margin": 1.01}, "more than 100 %"),
        ({"tolerance": 0.0501}, "between 0 and the margin"),
        ({"tolerance": -0.01}, "between 0 and the margin"),
    ],
)
def test_a_margin_that_makes_no_test_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SCORE, **fields)


@pytest.mark.parametrize(("margin", "tolerance"), [(0.0, 0.0), (1.0, 1.0), (0.05, 0.05), (0.05, 0.0)])
def test_the_ends_of_what_a_margin_may_be_are_allowed(margin: float, tolerance: float) -> None:
    metric = MetricConfig("score", MetricType.SCORE, margin, tolerance)
    assert (metric.lower, metric.upper) == (margin - tolerance, margin + tolerance)


def test_the_tolerance_is_six_tenths_of_the_margin_where_none_is_given() -> None:
    assert (SCORE.lower, SCORE.upper) == pytest.approx((0.02, 0.08))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_confidence_of_all_or_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        RolloutConfig(steps=(StepConfig(10),), metrics=(SCORE,), alpha=alpha)


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        build_config(SCORE, replace(ERRORS, name="score"))


def test_a_latency_or_errors_may_rise_by_more_than_all() -> None:
    assert replace(LATENCY, margin=2.0).margin == 2


def test_a_reference_without_a_line_of_its_own_weighs_one_sample_of_each_arm() -> None:
    assert Reference(0.5, 0.25, canary_weight=1, stable_weight=1) == UNKNOWN_REFERENCE
    assert (Reference().canary_weight, Reference().stable_weight) == (20, 200)


@pytest.mark.parametrize(("stable", "known"), [(19, False), (20, True)])
def test_twenty_scores_of_stable_make_a_reference(stable: int, *, known: bool) -> None:
    state, _ = judge(start(build_config(SCORE), {}, 0), build_score_look(30, 0.8, n=(2, stable)))
    assert (state.find_reference("score") is not None) is known


@pytest.mark.parametrize("metric", [ERRORS, LATENCY], ids=lambda metric: metric.name)
@pytest.mark.parametrize(("stable", "known"), [(99, False), (100, True)])
def test_a_hundred_requests_of_stable_make_a_reference(
    metric: MetricConfig, stable: int, *, known: bool
) -> None:
    histogram = ((0.5, float(stable)), (1.0, float(stable))) if metric is LATENCY else ()
    look = Look(t=30, metrics={metric.name: (Counts(), Counts(stable, histogram=histogram))})
    state, _ = judge(start(build_config(metric), {}, 0), look)
    assert (state.find_reference(metric.name) is not None) is known


def test_other_bounds_than_before_begin_the_baseline_of_a_latency_anew() -> None:
    state = start(build_config(LATENCY), {}, 0)
    for k, bounds in ((1, (0.5, 1.0)), (2, (0.7, 1.4)), (3, (0.7, 1.4))):
        histogram = tuple((bound, 60.0) for bound in bounds)
        look = Look(t=30 * k, metrics={"latency": (Counts(), Counts(60, histogram=histogram))})
        state, _ = judge(state, look)
    reference = state.find_reference("latency")
    assert reference is not None
    assert reference.p95 == pytest.approx(0.95 * 0.7)
    limits = state.find_latency_limits("latency")
    assert limits is not None
    assert (limits.canary, limits.stable) == (1.4, 0.7)


def test_a_floor_is_not_broken_by_the_last_bit_of_a_mean() -> None:
    config = build_config(replace(SCORE, min_samples=2, min=0.4))
    looks = [
        Look(t=30 * k, metrics={"score": (Counts(1, x, x * x), build_scores(9, 0.4))})
        for k, x in ((1, 0.7), (2, 0.1))
    ]
    assert (0.7 + 0.1) / 2 < 0.4
    _, verdict = judge_all(start(config, {"score": Reference(0.4, 0.1)}, 0), looks)
    assert verdict.action is Action.ADVANCE


@pytest.mark.parametrize(("bad", "action"), [(3, Action.ADVANCE), (4, Action.HOLD)])
def test_a_ceiling_is_broken_above_it_and_not_by_the_last_bit(bad: int, action: Action) -> None:
    config = build_config(replace(ERRORS, margin=0.9, min_samples=10, max=0.3))
    assert 1 - 7 / 10 > 0.3
    look = Look(t=30, metrics={"errors": (Counts(10, bad=bad), Counts(90, bad=27))})
    _, verdict = judge(start_rollout(config), look)
    assert verdict.action is action


def test_a_ceiling_of_a_score_and_a_floor_of_errors_are_limits_too() -> None:
    score = build_config(replace(SCORE, max=0.7))
    _, high = judge(start_rollout(score), build_score_look(30, 0.8, n=(60, 540)))
    errors = build_config(replace(ERRORS, min=0.01))
    _, low = judge(start_rollout(errors), Look(t=30, metrics={"errors": (Counts(60), Counts(540))}))
    assert (high.reason, low.reason) == (Reason.DROP_ABOVE_MARGIN, Reason.DROP_ABOVE_MARGIN)


@pytest.mark.parametrize(("over", "action"), [(5, Action.ADVANCE), (6, Action.HOLD)])
def test_five_percent_above_the_ceiling_of_a_p95_are_allowed(over: float, action: Action) -> None:
    config = build_config(replace(LATENCY, max=5.0))
    look = Look(t=30, metrics={"latency": (Counts(100, over=over), Counts(900))})
    _, verdict = judge(start_rollout(config), look)
    assert verdict.action is action


def test_what_is_above_the_ceiling_adds_up_over_the_looks_of_a_step() -> None:
    config = build_config(replace(LATENCY, max=5.0, min_samples=100))
    looks = [
        Look(t=30 * k, metrics={"latency": (Counts(50, over=over), Counts(450))})
        for k, over in ((1, 6), (2, 0))
    ]
    _, verdict = judge_all(start_rollout(config), looks)
    assert verdict.reason is Reason.DROP_ABOVE_MARGIN


@pytest.mark.parametrize(("slow", "violated"), [(5, False), (6, True)])
def test_a_p95_is_above_its_limit_when_more_than_five_percent_are(slow: float, *, violated: bool) -> None:
    config = build_config(LATENCY, mode=Mode.THRESHOLD)
    look = Look(t=30, metrics={"latency": (Counts(100, bad=slow), Counts(900, bad=9))})
    _, verdict = judge(start_rollout(config), look)
    assert (verdict.action is Action.ROLL_BACK) is violated


def test_a_p95_without_a_bound_below_its_limit_is_unmeasured() -> None:
    state = start(build_config(LATENCY), {"latency": Reference(p95=1.0, bounds=(1.2, 2.0))}, 0)
    look = Look(t=30, metrics={"latency": (Counts(50, bad=40), Counts(450))})
    after, verdict = judge(state, look)
    assert verdict.metrics[0].verdict is MetricAnswer.UNMEASURED
    assert after.metrics[0].rows == state.metrics[0].rows


def test_more_requests_above_a_bound_than_requests_change_nothing() -> None:
    assert not is_consistent(MetricType.LATENCY_P95, Counts(10, over=11))
    assert is_consistent(MetricType.LATENCY_P95, Counts(10, over=10, bad=10))


@pytest.mark.parametrize(
    ("histogram", "possible"),
    [
        (((1.0, 4.0), (1.2, 9.0), (2.0, 10.0)), True),
        (((1.0, 4.0), (1.2, 3.0), (2.0, 10.0)), False),
        (((1.0, -1.0), (1.2, 9.0), (2.0, 10.0)), False),
        (((1.0, 4.0), (1.2, 11.0), (2.0, 11.0)), False),
    ],
)
def test_a_histogram_that_does_not_add_up_is_no_evidence(
    histogram: tuple[tuple[float, float], ...], *, possible: bool
) -> None:
    state = start_rollout(build_config(LATENCY))
    look = Look(t=30, metrics={"latency": (Counts(10, histogram=histogram), Counts(90, bad=9))})
    after, _ = judge(state, look)
    assert (after.metrics != state.metrics) is possible


def test_what_is_judged_has_six_decimals_and_not_five() -> None:
    look = build_rounded(Look(t=1.23456749, metrics={"score": (Counts(3, 0.1234567, 0.0123456), Counts())}))
    assert look.t == 1.234567
    assert look.metrics["score"][0] == Counts(3, 0.123457, 0.012346)


def test_a_spread_and_a_mean_stay_within_their_ranges_for_sums_that_are_a_little_off() -> None:
    assert get_spread(Moments(10, 5, 2.4999995), 0.5) == 0
    assert Moments(1, 1.000001, 1).mean == 1


@pytest.mark.parametrize(("canary", "dearer"), [(0.26, False), (0.2601, True)])
def test_a_block_of_exactly_the_margin_is_not_dearer(canary: float, *, dearer: bool) -> None:
    cost = replace(COST, margin=0.25)
    look = Look(t=30, metrics={"cost": (Counts(20, canary * 1.25 / 1.3), Counts(20, 0.2))})
    _, verdict = judge(start_rollout(build_config(cost)), look)
    assert (verdict.metrics[0].ln_e_rollback > 0) is dearer


@pytest.mark.parametrize(("canary", "stable", "full"), [(20, 20, True), (19, 20, False), (20, 19, False)])
def test_a_block_of_costs_needs_twenty_requests_of_each_arm(
    canary: float, stable: float, *, full: bool
) -> None:
    look = Look(t=30, metrics={"cost": (Counts(canary, 1), Counts(stable, 0.1))})
    _, verdict = judge(start_rollout(build_config(COST)), look)
    assert (verdict.metrics[0].ln_e_rollback != 0) is full


def test_a_block_of_costs_that_is_not_full_is_dropped_when_the_step_ends() -> None:
    look = Look(t=30, metrics={"cost": (Counts(15, 0.3), Counts(15, 0.3))})
    state, _ = judge(start_rollout(build_config(COST)), look)
    _, verdict = judge(enter_step(state, 2, 40), replace(look, t=70))
    assert verdict.metrics[0].ln_e_rollback == 0


def test_an_unpriced_call_of_stable_takes_the_looks_cost_away_too() -> None:
    look = Look(t=30, metrics={"cost": (Counts(20, 0.4), Counts(180, 1.8, bad=1))})
    _, verdict = judge(start_rollout(build_config(SCORE, COST)), look)
    assert verdict.metrics[1].canary_samples == 0


def test_a_metric_to_skip_is_not_skipped_once_the_canary_showed_a_sample_that_could_not_be_judged() -> None:
    config = build_config(SCORE, replace(ERRORS, on_missing=OnMissing.SKIP))
    looks = [
        replace(
            build_score_look(30, 0.8, n=(60, 540)),
            metrics={
                "score": (build_scores(60, 0.8), build_scores(540, 0.8)),
                "errors": (Counts(1), Counts(0)),
            },
        )
    ]
    _, verdict = judge_all(start_rollout(config), looks)
    assert verdict.skipped == ()
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)
