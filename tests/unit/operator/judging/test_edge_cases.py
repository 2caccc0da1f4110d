"""The table of edge cases, one sentence each, and how missing data are neither good nor bad."""

import math
from dataclasses import replace

import pytest
from tests.unit.operator.judging.rollouts import (
    COST,
    ERRORS,
    SCORE,
    build_config,
    build_score_look,
    build_scores,
    judge_all,
    list_score_looks,
    start_rollout,
)

from dspy_operator.rollout.judging import (
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
    State,
    enter_step,
    judge,
    start,
)


def get_evidence(state: State) -> list[object]:
    return [(memory.rows, memory.promote, memory.canary, memory.stable) for memory in state.metrics]


def test_a_look_without_canary_samples_waits_and_joins_the_next_one() -> None:
    state = start_rollout(build_config(SCORE))
    waiting, _ = judge(state, build_score_look(30, 0, n=(0, 90)))
    joined, _ = judge(waiting, build_score_look(60, 0.8, n=(20, 90)))
    at_once, _ = judge(state, build_score_look(60, 0.8, n=(20, 180)))
    assert get_evidence(waiting) == get_evidence(state)
    assert joined.metrics[0].promote == at_once.metrics[0].promote
    assert joined.metrics[0].carried == ()


def test_what_waited_ten_minutes_is_dropped() -> None:
    state = start_rollout(build_config(SCORE))
    state, _ = judge(state, build_score_look(30, 0, n=(0, 90)))
    state, _ = judge(state, build_score_look(600, 0, n=(0, 50)))
    state, _ = judge(state, build_score_look(630, 0.8, n=(20, 40)))
    assert state.metrics[0].step.stable_n == 90


def test_waiting_increments_need_a_bounded_memory() -> None:
    state, _ = judge_all(
        start_rollout(build_config(SCORE)), [build_score_look(t, 0, n=(0, 9)) for t in range(10, 3000, 10)]
    )
    assert 1 < len(state.metrics[0].carried) <= 11


def test_what_waits_is_dropped_when_the_step_ends() -> None:
    state = start_rollout(build_config(SCORE))
    state, _ = judge(state, build_score_look(30, 0, n=(0, 90)))
    state, _ = judge(enter_step(state, 2, 40), build_score_look(60, 0.8, n=(20, 20)))
    assert state.metrics[0].step.stable_n == 20


def test_a_look_without_samples_changes_nothing_and_is_no_dwell() -> None:
    state = start_rollout(build_config(SCORE))
    after, verdict = judge(state, build_score_look(30, 0, n=(0, 0)))
    assert get_evidence(after) == get_evidence(state)
    assert after.clock.observed == 0
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_a_stable_mean_of_zero_holds_unmeasured() -> None:
    _, verdict = judge_all(start_rollout(build_config(SCORE)), list_score_looks(200, canary=0.9, stable=0.0))
    assert verdict.metrics[0].verdict is MetricAnswer.UNMEASURED
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)
    assert "stable's mean is 0" in verdict.message


def test_a_drop_of_exactly_the_margin_passes() -> None:
    config = build_config(SCORE, mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.76, n=(100, 900)))
    assert verdict.metrics[0].drop == pytest.approx(0.05, abs=1e-12)
    assert verdict.action is Action.ADVANCE


def test_a_drop_whose_last_bit_is_above_the_margin_passes() -> None:
    config = build_config(replace(SCORE, min_samples=20), mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.8 * 0.95, n=(20, 180)))
    assert verdict.metrics[0].drop is not None
    assert verdict.metrics[0].drop > 0.05
    assert verdict.action is Action.ADVANCE


def test_a_drop_above_the_margin_violates_the_literal_rule() -> None:
    config = build_config(SCORE, mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.7599, n=(100, 900)))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.THRESHOLD_VIOLATED)


def test_the_literal_rule_waits_for_min_samples() -> None:
    config = build_config(SCORE, mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.1, n=(49, 900)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.MIN_SAMPLES)


def test_evidence_of_exactly_one_over_alpha_fires() -> None:
    state, verdict = judge(start_rollout(build_config(SCORE)), build_score_look(30, 0.4))
    alpha = math.exp(-verdict.ln_e_rollback)
    while -math.log(alpha) > verdict.ln_e_rollback:
        alpha = math.nextafter(alpha, 1)
    at = replace(state.config, alpha=alpha)
    below = replace(state.config, alpha=alpha * (1 - 1e-12))
    fires = judge(replace(state, config=at), Look(t=60))[1]
    holds = judge(replace(state, config=below), Look(t=60))[1]
    assert fires.action is Action.ROLL_BACK
    assert holds.action is Action.HOLD


@pytest.mark.parametrize(
    "bad",
    [
        Counts(math.nan, 1, 1),
        Counts(20, math.inf, 1),
        Counts(20, 21, 20),
        Counts(20, 10, 11),
        Counts(20, 18, 1),
        Counts(-1, 0, 0),
    ],
)
def test_impossible_scores_change_nothing(bad: Counts) -> None:
    state = start_rollout(build_config(SCORE))
    after, verdict = judge(state, Look(t=30, metrics={"score": (bad, build_scores(180, 0.8))}))
    assert get_evidence(after) == get_evidence(state)
    assert after.clock.observed == 0
    assert verdict.action is Action.HOLD


def test_more_bad_requests_than_requests_change_nothing() -> None:
    state = start_rollout(build_config(ERRORS))
    after, _ = judge(state, Look(t=30, metrics={"errors": (Counts(5, bad=6), Counts(100))}))
    assert get_evidence(after) == get_evidence(state)


def test_three_hours_down_are_one_capped_look_and_ninety_seconds_of_dwell() -> None:
    state = start_rollout(build_config(SCORE))
    state, verdict = judge(state, build_score_look(10_800, 0.0, n=(5000, 45_000)))
    assert max(state.metrics[0].rows[0]) == 2
    assert verdict.action is Action.HOLD
    assert state.clock.observed == 90


def test_a_step_entered_again_starts_its_promotion_evidence_but_no_new_row() -> None:
    state, _ = judge_all(start_rollout(build_config(SCORE)), list_score_looks(3, canary=0.8))
    again = enter_step(state, 1, 200)
    assert again.metrics[0].rows == state.metrics[0].rows
    assert set(again.metrics[0].promote) == {0.0}
    assert again.metrics[0].step.canary_n == 0


def test_each_step_starts_a_row_of_rollback_evidence() -> None:
    state, _ = judge_all(start_rollout(build_config(SCORE)), list_score_looks(3, canary=0.8))
    second = enter_step(state, 2, 200)
    after, _ = judge(second, build_score_look(230, 0.6, n=(50, 50)))
    assert len(after.metrics[0].rows) == 2
    grown = [new - old for new, old in zip(after.metrics[0].rows[0], second.metrics[0].rows[0], strict=True)]
    assert list(after.metrics[0].rows[1]) == pytest.approx(grown)


def test_a_silent_metric_keeps_the_others_from_promoting() -> None:
    config = build_config(SCORE, ERRORS, weights=(50, 100))
    looks = [build_score_look(30 * k, 0.8, n=(100, 100)) for k in range(1, 40)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_a_silent_metric_to_skip_is_left_out_and_named() -> None:
    config = build_config(SCORE, replace(ERRORS, on_missing=OnMissing.SKIP), weights=(50, 100))
    looks = [build_score_look(30 * k, 0.8, n=(100, 100)) for k in range(1, 40)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert verdict.action is Action.PROMOTE
    assert verdict.skipped == ("errors",)


def test_skipping_every_metric_promotes_nothing() -> None:
    config = build_config(replace(SCORE, on_missing=OnMissing.SKIP), deadline=60)
    _, verdict = judge_all(start_rollout(config), [Look(t=30 * k) for k in range(1, 10)])
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_at_the_deadline_stables_samples_alone_promote_nothing_although_every_metric_may_be_skipped() -> None:
    config = build_config(replace(SCORE, on_missing=OnMissing.SKIP), deadline=60)
    looks = [build_score_look(30 * k, 0, n=(0, 90)) for k in range(1, 10)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_a_bad_metric_rolls_back_although_another_is_silent() -> None:
    config = build_config(SCORE, ERRORS)
    _, verdict = judge_all(start_rollout(config), list_score_looks(8, canary=0.3))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION)


def test_several_metrics_share_one_alpha_by_the_mean_of_their_evidence() -> None:
    _, alone = judge_all(start_rollout(build_config(SCORE)), list_score_looks(2, canary=0.5))
    _, among = judge_all(start_rollout(build_config(SCORE, ERRORS)), list_score_looks(2, canary=0.5))
    expected = math.log((math.exp(alone.ln_e_rollback) + 1) / 2)
    assert among.ln_e_rollback == pytest.approx(expected)
    assert among.metrics[0].evidence_rollback < alone.metrics[0].evidence_rollback


def test_unsettled_looks_leave_no_trace_but_time() -> None:
    state = start_rollout(build_config(SCORE))
    after, verdict = judge(state, build_score_look(30, 0.0, settled=False))
    assert get_evidence(after) == get_evidence(state)
    assert after.clock.observed == 0
    assert verdict.reason is Reason.WEIGHT_NOT_EFFECTIVE


def test_a_look_that_is_not_later_changes_nothing() -> None:
    state, _ = judge(start_rollout(build_config(SCORE)), build_score_look(30, 0.8))
    after, verdict = judge(state, build_score_look(30, 0.0))
    assert after == state
    assert verdict.action is Action.HOLD


def test_stable_without_a_past_is_judged_from_the_look_after_its_twentieth_score() -> None:
    state = start(build_config(SCORE), {}, 0)
    state, first = judge(state, build_score_look(30, 0.8, n=(2, 19)))
    state, second = judge(state, build_score_look(60, 0.8, n=(2, 19)))
    assert first.metrics[0].verdict is MetricAnswer.UNMEASURED
    assert second.metrics[0].canary_samples == 0
    reference = state.find_reference("score")
    assert reference is not None
    assert reference.mean == pytest.approx(0.8)
    assert reference.variance == pytest.approx(0.16)
    _, third = judge(state, build_score_look(90, 0.8, n=(2, 19)))
    assert third.metrics[0].canary_samples == 2


def test_sums_of_squares_that_are_unknown_are_taken_as_the_sums() -> None:
    state = start_rollout(build_config(SCORE))
    without = Look(t=30, metrics={"score": (Counts(20, 14.5), Counts(180, 144))})
    largest = Look(t=30, metrics={"score": (Counts(20, 14.5, 14.5), Counts(180, 144, 144))})
    assert judge(state, without)[0].metrics == judge(state, largest)[0].metrics


def test_a_dry_run_metric_is_reported_and_decides_nothing() -> None:
    dry = replace(SCORE, name="shadow", dry_run=True)
    config = build_config(SCORE, dry)
    looks = [
        Look(
            t=30 * k,
            metrics={
                "score": (build_scores(20, 0.8), build_scores(180, 0.8)),
                "shadow": (build_scores(20, 0.1), build_scores(180, 0.8)),
            },
        )
        for k in range(1, 4)
    ]
    with_past = start(config, {"score": Reference(0.8, 0.04), "shadow": Reference(0.8, 0.04)}, 0)
    _, verdict = judge_all(with_past, looks)
    assert verdict.action is Action.ADVANCE
    assert verdict.metrics[1].verdict is MetricAnswer.ROLL_BACK


def test_a_cost_metric_may_only_be_a_dry_run() -> None:
    with pytest.raises(ValueError, match="dryRun"):
        MetricConfig("cost", MetricType.COST_PER_REQUEST, margin=0.3)


def test_a_dearer_canary_gathers_evidence_in_blocks() -> None:
    state = start_rollout(build_config(SCORE, COST))
    looks = [Look(t=30 * k, metrics={"cost": (Counts(20, 0.4), Counts(180, 1.8))}) for k in range(1, 12)]
    _, verdict = judge_all(state, looks)
    assert verdict.metrics[1].drop == pytest.approx(1.0)
    assert verdict.metrics[1].verdict is MetricAnswer.ROLL_BACK
    assert verdict.action is Action.HOLD


def test_a_look_with_an_unpriced_call_has_no_cost() -> None:
    look = Look(t=30, metrics={"cost": (Counts(20, 0.4, bad=1), Counts(180, 1.8))})
    _, verdict = judge(start_rollout(build_config(SCORE, COST)), look)
    assert verdict.metrics[1].canary_samples == 0
