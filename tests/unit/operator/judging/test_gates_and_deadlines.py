"""Gates, approvals, deadlines with every policy, pause, bake."""

import math
from dataclasses import replace

import pytest
from tests.unit.operator.judging.rollouts import (
    ERRORS,
    LATENCY,
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
    Approval,
    Counts,
    Look,
    Mode,
    OnDeadline,
    Reason,
    State,
    StepConfig,
    enter_bake,
    enter_step,
    judge,
    judge_blind,
    resume,
)


def test_a_gate_needs_its_samples() -> None:
    _, verdict = judge_all(start_rollout(build_config(SCORE)), list_score_looks(2, canary=0.8))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.MIN_SAMPLES)


def test_a_gate_needs_the_larger_of_the_steps_and_the_metrics_samples() -> None:
    config = replace(
        build_config(SCORE), steps=(StepConfig(10, min_samples=100), StepConfig(50), StepConfig(100))
    )
    state, verdict = judge_all(start_rollout(config), list_score_looks(4, canary=0.8))
    assert verdict.metrics[0].required_samples == 100
    assert verdict.reason is Reason.MIN_SAMPLES
    _, verdict = judge(state, build_score_look(200, 0.8))
    assert verdict.action is Action.ADVANCE


def test_a_gate_needs_observed_time_not_time() -> None:
    state = start_rollout(build_config(SCORE, min_duration=120))
    state, verdict = judge(state, build_score_look(1000, 0.8, n=(60, 540)))
    assert (verdict.reason, verdict.observed) == (Reason.MIN_DURATION, 90)
    _, verdict = judge(state, build_score_look(1030, 0.8))
    assert (verdict.action, verdict.reason) == (Action.ADVANCE, Reason.GATE_OPEN)


def test_a_gate_stays_closed_above_the_margin() -> None:
    _, verdict = judge(start_rollout(build_config(SCORE)), build_score_look(30, 0.75, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.DROP_ABOVE_MARGIN)


def test_a_gate_stays_closed_below_the_absolute_floor() -> None:
    config = build_config(replace(SCORE, min=0.81))
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.DROP_ABOVE_MARGIN)


def test_a_gate_stays_closed_above_the_absolute_ceiling_of_errors() -> None:
    config = build_config(replace(ERRORS, max=0.05))
    look = Look(t=30, metrics={"errors": (Counts(100, bad=6), Counts(900, bad=54))})
    _, verdict = judge(start_rollout(config), look)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.DROP_ABOVE_MARGIN)


def test_the_last_step_promotes_on_evidence_only() -> None:
    config = build_config(SCORE, weights=(50, 100))
    state, verdict = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 60)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.COLLECTING_EVIDENCE)
    assert "% of what a promotion needs" in verdict.message
    _, verdict = judge_all(state, [build_score_look(60 + 30 * k, 0.8, n=(60, 60)) for k in range(12)])
    assert (verdict.action, verdict.reason) == (Action.PROMOTE, Reason.EVIDENCE_OF_QUALITY)


def test_the_literal_rule_promotes_without_evidence() -> None:
    config = build_config(SCORE, weights=(50, 100), mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 60)))
    assert (verdict.action, verdict.reason) == (Action.PROMOTE, Reason.THRESHOLD_PASSED)


def test_an_open_gate_with_manual_approval_waits_for_a_person() -> None:
    config = build_config(SCORE, approval=Approval.MANUAL, deadline=300)
    state, verdict = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.AWAITING_PROMOTION)
    assert verdict.gate_open
    assert state.clock.is_waiting


def test_the_deadline_does_not_run_while_a_person_is_asked() -> None:
    config = build_config(SCORE, approval=Approval.MANUAL, deadline=300, on_deadline=OnDeadline.ROLLBACK)
    state, _ = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    state, waiting = judge(state, build_score_look(10_000, 0.8, n=(60, 540)))
    assert waiting.reason is Reason.AWAITING_PROMOTION
    # The gate closes: the clock goes on where it stood, 30 s used.
    state, closed = judge(state, build_score_look(10_030, 0.55, n=(60, 540)))
    assert (closed.action, closed.reason) == (Action.HOLD, Reason.DROP_ABOVE_MARGIN)
    assert judge_blind(state, 10_200).action is Action.HOLD
    assert judge_blind(state, 10_330).action is Action.ROLL_BACK


def test_an_empty_look_does_not_close_an_open_gate() -> None:
    config = build_config(SCORE, approval=Approval.MANUAL)
    state, _ = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    state, verdict = judge(state, Look(t=60))
    assert verdict.gate_open
    assert state.clock.is_waiting


def test_an_outage_while_a_person_is_asked_does_not_start_the_deadline() -> None:
    config = build_config(SCORE, approval=Approval.MANUAL, deadline=300, on_deadline=OnDeadline.ROLLBACK)
    state, _ = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    state, blind = judge(state, build_score_look(60, 0.8, settled=False))
    assert blind.reason is Reason.WEIGHT_NOT_EFFECTIVE
    assert judge_blind(state, 5000).action is Action.HOLD


def test_worse_news_roll_back_while_a_person_is_asked() -> None:
    config = build_config(SCORE, approval=Approval.MANUAL)
    state, _ = judge(start_rollout(config), build_score_look(30, 0.8, n=(60, 540)))
    _, verdict = judge_all(state, list_score_looks(20, canary=0.2, first=60))
    assert verdict.action is Action.ROLL_BACK


def test_the_deadline_decides_by_the_literal_rule() -> None:
    config = build_config(SCORE, deadline=60)
    _, worse = judge(start_rollout(config), build_score_look(60, 0.75, n=(60, 540)))
    assert (worse.action, worse.reason) == (Action.ROLL_BACK, Reason.DEADLINE_THRESHOLD_VIOLATED)
    last = build_config(SCORE, deadline=60, weights=(50, 100))
    _, good = judge(start_rollout(last), build_score_look(60, 0.8, n=(60, 60)))
    assert (good.action, good.reason) == (Action.PROMOTE, Reason.DEADLINE_THRESHOLD_PASSED)


def test_the_literal_rule_at_a_deadline_reads_the_absolute_limits_too() -> None:
    config = build_config(replace(SCORE, min=0.85), deadline=60)
    _, verdict = judge(start_rollout(config), build_score_look(60, 0.8, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.DEADLINE_THRESHOLD_VIOLATED)


def test_a_deadline_with_manual_approval_still_asks() -> None:
    config = build_config(SCORE, deadline=60, weights=(50, 100), approval=Approval.MANUAL)
    _, verdict = judge(start_rollout(config), build_score_look(60, 0.8, n=(60, 60)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.AWAITING_PROMOTION)


def test_a_deadline_short_of_samples_holds_until_a_usable_look_decides() -> None:
    state = start_rollout(build_config(SCORE, deadline=60))
    state, short = judge(state, build_score_look(60, 0.75, n=(49, 441)))
    assert (short.action, short.reason) == (Action.HOLD, Reason.MIN_SAMPLES)
    assert "deadline" in short.message
    state, empty = judge(state, Look(t=90))
    assert empty.action is Action.HOLD
    _, decided = judge(state, build_score_look(120, 0.6, n=(5, 45)))
    assert decided.action is Action.ROLL_BACK


def test_a_deadline_without_any_sample_holds() -> None:
    _, verdict = judge(start_rollout(build_config(SCORE, deadline=60)), Look(t=600))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_a_silent_metric_holds_at_the_deadline_although_another_passed() -> None:
    config = build_config(SCORE, ERRORS, deadline=60)
    _, verdict = judge(start_rollout(config), build_score_look(60, 0.8, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_a_deadline_that_holds_goes_on_by_evidence() -> None:
    config = build_config(SCORE, deadline=60, on_deadline=OnDeadline.HOLD)
    state, verdict = judge(start_rollout(config), build_score_look(60, 0.75, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.DEADLINE_HOLD)
    _, verdict = judge(state, build_score_look(90, 0.85, n=(60, 540)))
    assert verdict.action is Action.ADVANCE


@pytest.mark.parametrize(
    ("policy", "action", "reason"),
    [
        (OnDeadline.PROMOTE, Action.ADVANCE, Reason.DEADLINE_PROMOTE),
        (OnDeadline.ROLLBACK, Action.ROLL_BACK, Reason.DEADLINE_ROLLBACK),
        (OnDeadline.HOLD, Action.HOLD, Reason.EVIDENCE_MISSING),
        (OnDeadline.THRESHOLD, Action.HOLD, Reason.EVIDENCE_MISSING),
    ],
)
def test_without_prometheus_only_promote_and_rollback_act_at_the_deadline(
    policy: OnDeadline, action: Action, reason: Reason
) -> None:
    state, _ = judge(
        start_rollout(build_config(SCORE, deadline=60, on_deadline=policy)), build_score_look(30, 0.8)
    )
    assert judge_blind(state, 59.9).action is Action.HOLD
    verdict = judge_blind(state, 60)
    assert (verdict.action, verdict.reason) == (action, reason)


def test_promote_at_the_deadline_does_not_pass_over_an_approval() -> None:
    config = build_config(SCORE, deadline=60, on_deadline=OnDeadline.PROMOTE, approval=Approval.MANUAL)
    assert judge_blind(start_rollout(config), 60).reason is Reason.AWAITING_PROMOTION


def test_an_open_gate_beats_the_deadline() -> None:
    config = build_config(SCORE, deadline=60, on_deadline=OnDeadline.ROLLBACK)
    _, verdict = judge(start_rollout(config), build_score_look(60, 0.8, n=(60, 540)))
    assert verdict.action is Action.ADVANCE


def test_a_step_without_a_deadline_has_a_day_or_twice_its_duration() -> None:
    assert StepConfig(10, min_duration=60).deadline_or_default == 86_400
    assert StepConfig(10, min_duration=86_400).deadline_or_default == 172_800


def test_resume_restarts_the_deadline_and_the_observed_time_but_keeps_the_evidence() -> None:
    config = build_config(SCORE, deadline=300, min_duration=60, on_deadline=OnDeadline.ROLLBACK)
    state, _ = judge_all(start_rollout(config), list_score_looks(2, canary=0.8))
    resumed = resume(state, 10_000)
    assert resumed.clock.observed == 0
    assert resumed.metrics == state.metrics
    assert judge_blind(resumed, 10_299).action is Action.HOLD
    assert judge_blind(resumed, 10_300).action is Action.ROLL_BACK


def test_promotion_evidence_starts_again_in_each_step() -> None:
    state, verdict = judge_all(start_rollout(build_config(SCORE)), list_score_looks(30, canary=0.8))
    assert verdict.metrics[0].evidence_promote > 0.5
    state = enter_step(state, 2, 1000)
    _, verdict = judge(state, build_score_look(1030, 0.8, n=(60, 60)))
    assert verdict.metrics[0].evidence_promote < 0.4


def start_bake(bake: float = 120.0) -> State:
    config = build_config(SCORE, ERRORS, LATENCY, bake=bake)
    state, _ = judge_all(start_rollout(config), list_score_looks(10, canary=0.8))
    return enter_bake(state, 1000)


def build_bake_look(t: float, mean: float, n: float = 40) -> Look:
    return Look(t=t, metrics={"score": (build_scores(n, mean), Counts()), "errors": (Counts(n), Counts())})


def test_a_bake_ends_after_its_observed_time() -> None:
    state = start_bake()
    assert (state.step, state.is_baking) == (3, True)
    for t in (1030, 1060, 1090):
        state, verdict = judge(state, build_bake_look(t, 0.8))
        assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.BAKING)
    _, verdict = judge(state, build_bake_look(1120, 0.8))
    assert (verdict.action, verdict.reason) == (Action.PROMOTE, Reason.BAKE_COMPLETE)


def test_the_bake_compares_with_stables_mean_as_measured_until_promotion() -> None:
    state, _ = judge_all(
        start_rollout(build_config(SCORE, bake=600)), list_score_looks(50, canary=0.6, stable=0.6)
    )
    baking = enter_bake(state, 2000)
    assert baking.metrics[0].frozen_mean == state.metrics[0].stable.mean
    assert baking.metrics[0].frozen_mean == pytest.approx(0.6, abs=0.01)


def test_the_bake_adds_to_its_own_row_only() -> None:
    state = start_bake()
    after, _ = judge(state, build_bake_look(1030, 0.6))
    assert after.metrics[0].rows[:-1] == state.metrics[0].rows[:-1]
    # One look: w = 0, r = 0.92, x_s as frozen; worked out by hand for the first component.
    memory = state.metrics[0]
    assert memory.frozen_mean is not None
    delta = 0.08 * memory.frozen_mean
    bound = 1 - memory.canary.mean
    bet = delta / (memory.canary.variance + bound * delta)
    spread = 24 - 2 * memory.canary.mean * 24 + 40 * memory.canary.mean**2
    penalty = spread * (-math.log(1 - bet * bound) - bet * bound) / bound**2
    gain = bet * (0.92 * 40 * memory.frozen_mean - 24) - penalty
    assert after.metrics[0].rows[-1][0] == pytest.approx(gain, abs=1e-9)


def test_a_bake_without_traffic_is_not_observed() -> None:
    state, verdict = judge_all(start_bake(), [Look(t=1000 + 30 * k) for k in range(1, 100)])
    assert verdict.action is Action.HOLD
    assert state.clock.observed == 0


def test_a_canary_that_turns_bad_in_the_bake_is_rolled_back() -> None:
    _, verdict = judge_all(start_bake(3600), [build_bake_look(1000 + 30 * k, 0.5) for k in range(1, 8)])
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION)


def test_a_canary_five_percent_lower_in_the_bake_is_kept() -> None:
    looks = [build_bake_look(1000 + 30 * k, 0.76) for k in range(1, 100)]
    _, verdict = judge_all(start_bake(36_000), looks)
    assert verdict.reason is Reason.BAKING
    assert verdict.metrics[0].drop == pytest.approx(0.05)


def test_blue_green_is_judged_in_its_bake_only() -> None:
    config = build_config(SCORE, weights=(100,), bake=3600)
    state = start_rollout(config)
    assert state.step == 0
    state, before = judge(state, build_score_look(30, 0.0))
    assert (before.action, before.reason) == (Action.HOLD, Reason.NOT_JUDGED)
    assert before.ln_e_rollback == 0
    state = enter_bake(state, 60)
    _, verdict = judge_all(state, [build_bake_look(60 + 30 * k, 0.4) for k in range(1, 8)])
    assert verdict.action is Action.ROLL_BACK


def test_without_a_step_below_100_and_without_a_bake_nothing_is_judged() -> None:
    state = start_rollout(build_config(SCORE, weights=(100,)))
    _, verdict = judge_all(state, list_score_looks(50, canary=0.0))
    assert (verdict.action, verdict.reason, verdict.ln_e_rollback) == (Action.HOLD, Reason.NOT_JUDGED, 0)
    with pytest.raises(ValueError, match="bake"):
        enter_bake(state, 60)
    with pytest.raises(ValueError, match="no judged step"):
        enter_step(state, 1, 60)
