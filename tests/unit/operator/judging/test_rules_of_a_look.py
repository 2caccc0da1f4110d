"""Which rule wins in a look, several metrics at once, and the numbers that status shows."""

import math
from dataclasses import replace
from random import Random

import pytest
from tests.unit.operator.judging.rollouts import (
    ERRORS,
    LATENCY,
    RATIO,
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
    Mode,
    OnDeadline,
    OnMissing,
    Reason,
    Reference,
    State,
    Verdict,
    enter_bake,
    enter_step,
    judge,
    start,
)


def build_two(t: float, canary: float, bad: float, n: tuple[float, float] = (60, 540)) -> Look:
    """A mean score of the canary and its failed requests; stable has 0.8 and 1 %."""
    return Look(
        t=t,
        metrics={
            "score": (build_scores(n[0], canary), build_scores(n[1], 0.8)),
            "errors": (Counts(n[0], bad=bad), Counts(n[1], bad=round(n[1] / 100))),
        },
    )


def test_evidence_against_the_canary_needs_neither_samples_nor_time() -> None:
    config = build_config(replace(SCORE, min_samples=10**6), min_duration=10**6)
    _, verdict = judge_all(start_rollout(config), list_score_looks(4, canary=0.1))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION)


@pytest.mark.parametrize("order", [(SCORE, ERRORS), (ERRORS, SCORE)])
def test_a_promotion_needs_the_proof_of_every_deciding_metric(order: tuple[MetricConfig, ...]) -> None:
    config = build_config(*order, weights=(50, 100))
    state = start_rollout(config)
    answers: list[Verdict] = []
    for k in range(1, 40):
        state, verdict = judge(state, build_two(30 * k, 0.8, bad=1, n=(100, 100)))
        answers.append(verdict)
    promoted = next(verdict for verdict in answers if verdict.action is Action.PROMOTE)
    assert {metric.verdict for metric in promoted.metrics} == {MetricAnswer.PROMOTE}
    one = next(v for v in answers if MetricAnswer.PROMOTE in {metric.verdict for metric in v.metrics})
    assert answers.index(one) < answers.index(promoted)
    assert (one.action, one.reason) == (Action.HOLD, Reason.COLLECTING_EVIDENCE)
    waiting = next(metric.name for metric in one.metrics if metric.verdict is MetricAnswer.WAIT)
    assert f"collecting evidence for {waiting} (" in one.message


def test_a_look_that_saw_nothing_moves_nothing_although_the_gate_is_open() -> None:
    state, verdict = judge(start_rollout(build_config(SCORE)), build_score_look(30, 0.8, n=(60, 540)))
    assert verdict.action is Action.ADVANCE
    _, blind = judge(state, Look(t=60))
    assert (blind.action, blind.reason) == (Action.HOLD, Reason.EVIDENCE_MISSING)


def test_evidence_for_a_promotion_of_exactly_one_over_alpha_suffices() -> None:
    config = build_config(SCORE, weights=(50, 100))
    state, verdict = judge_all(
        start_rollout(config), [build_score_look(30 * k, 0.8, n=(60, 60)) for k in range(1, 9)]
    )
    ln_e = verdict.metrics[0].ln_e_promote
    assert ln_e > 1
    alpha = math.exp(-ln_e)
    while -math.log(alpha) > ln_e:
        alpha = math.nextafter(alpha, 1)
    # The same evidence at the confidence that it just reaches, and at one a little stricter: a look later, unseen.
    for exact, action in ((alpha, Action.PROMOTE), (alpha * (1 - 1e-12), Action.HOLD)):
        at = replace(state, config=replace(state.config, alpha=exact))
        idle = Look(t=state.clock.last + 30, metrics={"score": (Counts(), build_scores(9, 0.8))})
        assert judge(at, idle)[1].action is action


def test_at_exactly_the_evidence_that_is_needed_the_metric_and_the_rollout_say_so() -> None:
    state = start_rollout(build_config(SCORE, weights=(50, 100)))
    needed = -math.log(state.config.alpha)
    memory = state.metrics[0]
    for cell, answer in ((needed, MetricAnswer.ROLL_BACK), (needed * (1 - 1e-15), MetricAnswer.WAIT)):
        rows = tuple((cell,) * len(row) for row in memory.rows)
        step = replace(memory.step, canary_n=60.0, paired_canary=1.0, paired_stable=1.0)
        at = replace(state, metrics=(replace(memory, rows=rows, step=step),))
        _, verdict = judge(at, Look(t=30))
        assert verdict.metrics[0].verdict is answer
        assert (verdict.action is Action.ROLL_BACK) is (answer is MetricAnswer.ROLL_BACK)


def test_the_rollouts_answer_is_unmeasured_until_a_deciding_metric_is_measured() -> None:
    config = build_config(SCORE, replace(ERRORS, dry_run=True))
    state, silent = judge(start_rollout(config), Look(t=30))
    assert silent.answer is MetricAnswer.UNMEASURED
    dry = {"errors": (Counts(50), Counts(450))}
    state, only_dry = judge(state, Look(t=60, metrics=dry))
    assert only_dry.answer is MetricAnswer.UNMEASURED
    _, measured = judge(state, build_score_look(90, 0.8))
    assert measured.answer is MetricAnswer.WAIT


def test_time_in_which_only_a_dry_run_was_measured_is_not_observed() -> None:
    config = build_config(SCORE, replace(ERRORS, dry_run=True))
    state, _ = judge(start_rollout(config), Look(t=30, metrics={"errors": (Counts(50), Counts(450))}))
    assert state.clock.observed == 0
    state, _ = judge(state, build_score_look(60, 0.8, n=(0, 9)))
    assert state.clock.observed == 30


def test_in_the_bake_time_in_which_only_stable_was_asked_is_not_observed() -> None:
    state = enter_bake(start_rollout(build_config(SCORE, bake=600)), 10)
    state, _ = judge(state, build_score_look(40, 0.8, n=(0, 9)))
    assert state.clock.observed == 0
    state, _ = judge(state, build_score_look(70, 0.8, n=(9, 0)))
    assert state.clock.observed == 30


def test_status_shows_the_share_of_what_either_answer_needs() -> None:
    _, verdict = judge(start_rollout(build_config(SCORE, ERRORS)), build_two(30, 0.5, bad=0))
    score, errors = verdict.metrics
    firing = math.log(1 / 0.05)
    assert score.evidence_rollback == pytest.approx(max(0, score.ln_e_rollback - math.log(2)) / firing)
    assert errors.evidence_promote == pytest.approx(max(0, errors.ln_e_promote) / firing)
    assert 0 < score.evidence_rollback < 1
    assert 0 < errors.evidence_promote < 1
    assert (score.evidence_promote, errors.evidence_rollback) == (0, 0)
    mean = math.log((math.exp(score.ln_e_rollback) + math.exp(errors.ln_e_rollback)) / 2)
    assert verdict.ln_e_rollback == pytest.approx(mean)


def test_two_metrics_may_suffice_together_and_the_message_names_both() -> None:
    state, verdict = judge_all(
        start_rollout(build_config(SCORE, ERRORS)),
        [build_two(30 * k, 0.5, bad=6, n=(20, 180)) for k in (1, 2)],
    )
    alpha = 1.02 * math.exp(-verdict.ln_e_rollback)
    state = replace(state, config=replace(state.config, alpha=alpha))
    _, together = judge(state, Look(t=90))
    assert together.action is Action.ROLL_BACK
    assert all(0 < metric.evidence_rollback < 1 for metric in together.metrics)
    assert "the evidence against score and errors suffices" in together.message


def test_a_skipped_metric_stays_in_the_mean_of_the_evidence() -> None:
    looks = list_score_looks(2, canary=0.5)
    skipping = build_config(SCORE, replace(ERRORS, on_missing=OnMissing.SKIP))
    _, silent = judge_all(start_rollout(build_config(SCORE, ERRORS)), looks)
    _, skipped = judge_all(start_rollout(skipping), looks)
    assert skipped.skipped == ("errors",)
    assert skipped.ln_e_rollback == silent.ln_e_rollback


def test_a_silent_dry_run_is_not_named_among_the_skipped() -> None:
    dry = replace(ERRORS, on_missing=OnMissing.SKIP, dry_run=True)
    _, verdict = judge(start_rollout(build_config(SCORE, dry)), build_score_look(30, 0.8, n=(60, 540)))
    assert verdict.skipped == ()
    assert verdict.action is Action.ADVANCE


def test_a_violated_metric_rolls_back_at_the_deadline_although_another_is_silent() -> None:
    config = build_config(SCORE, ERRORS, deadline=60)
    _, verdict = judge(start_rollout(config), build_score_look(60, 0.75, n=(60, 540)))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.DEADLINE_THRESHOLD_VIOLATED)


def test_a_violated_metric_short_of_samples_does_not_roll_back_at_the_deadline() -> None:
    config = build_config(SCORE, replace(ERRORS, min_samples=500), deadline=60)
    _, verdict = judge(start_rollout(config), build_two(60, 0.8, bad=5))
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.MIN_SAMPLES)


def test_a_dry_run_beyond_its_margin_neither_rolls_back_nor_holds_by_the_literal_rule() -> None:
    config = build_config(SCORE, replace(ERRORS, dry_run=True), mode=Mode.THRESHOLD)
    _, verdict = judge(start_rollout(config), build_two(30, 0.8, bad=60))
    assert (verdict.action, verdict.reason) == (Action.ADVANCE, Reason.GATE_OPEN)


def test_each_step_has_a_deadline_of_its_own() -> None:
    config = build_config(SCORE, deadline=100, on_deadline=OnDeadline.ROLLBACK)
    state, _ = judge(start_rollout(config), build_score_look(90, 0.8, n=(60, 540)))
    state = enter_step(state, 2, 95)
    assert judge(state, Look(t=194))[1].action is Action.HOLD
    assert judge(state, Look(t=195))[1].action is Action.ROLL_BACK


@pytest.mark.parametrize("kind", ["unsettled", "outage"])
def test_at_the_deadline_a_look_that_cannot_be_judged_does_not_decide_by_the_literal_rule(kind: str) -> None:
    state, _ = judge(start_rollout(build_config(SCORE, deadline=60)), build_score_look(30, 0.75, n=(60, 540)))
    if kind == "outage":
        state = replace(state, provider_outage=(False, True))
    _, verdict = judge(state, build_score_look(90, 0.5, settled=kind != "unsettled"))
    assert verdict.action is Action.HOLD
    assert verdict.reason in {Reason.WEIGHT_NOT_EFFECTIVE, Reason.LM_OUTAGE}


def test_at_a_deadline_that_holds_an_alarm_of_the_split_is_still_told() -> None:
    config = build_config(SCORE, deadline=60, on_deadline=OnDeadline.HOLD)
    looks = [build_score_look(30 * k, 0.8, requests=(60.0, 140.0), share=0.1) for k in range(1, 10)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert verdict.reason is Reason.SAMPLE_RATIO_MISMATCH


@pytest.mark.parametrize("policy", list(OnDeadline))
def test_evidence_against_the_canary_beats_every_policy_of_the_deadline(policy: OnDeadline) -> None:
    config = build_config(SCORE, deadline=60, on_deadline=policy)
    _, verdict = judge_all(start_rollout(config), list_score_looks(3, canary=0.1, first=10))
    assert (verdict.action, verdict.reason) == (Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION)


def count_looks(metric: MetricConfig, mean: float, arms: tuple[Counts, Counts], wanted: Action) -> int:
    """Looks of just these increments until that action, in a rollout with one step."""
    reference = Reference(mean, mean * (1 - mean))
    state = start(build_config(metric, weights=(10, 100)), {metric.name: reference}, 0)
    for k in range(1, 100):
        state, verdict = judge(state, Look(t=30 * k, metrics={metric.name: arms}))
        if verdict.action is wanted:
            return k
    raise AssertionError(f"never {wanted}")


@pytest.mark.parametrize("mean", [0.98, 0.999])
def test_a_canary_of_all_zeros_is_found_after_forty_samples_however_good_stable_is(mean: float) -> None:
    arms = build_scores(20, 0.0), build_scores(180, mean)
    assert count_looks(SCORE, mean, arms, Action.ROLL_BACK) == 2


@pytest.mark.parametrize(("more", "looks"), [(0.05, 5), (0.2, 2)])
def test_more_errors_are_found_within_the_published_requests(more: float, looks: int) -> None:
    arms = Counts(50, bad=50 * (0.01 + more)), Counts(450, bad=4.5)
    assert count_looks(ERRORS, 0.99, arms, Action.ROLL_BACK) <= looks


def test_as_many_errors_are_promoted_within_the_published_requests() -> None:
    arms = Counts(50, bad=0.5), Counts(450, bad=4.5)
    assert count_looks(ERRORS, 0.99, arms, Action.PROMOTE) <= 11


def test_a_step_entered_again_and_again_keeps_to_its_rows() -> None:
    state = start_rollout(build_config(SCORE))
    for t in range(10, 100, 10):
        state = enter_step(state, 2, t)
        state = enter_step(state, 1, t + 1)
    assert len(state.metrics[0].rows) == 2


def test_a_ratio_of_a_users_counter_is_judged_like_errors_and_on_in_the_bake() -> None:
    config = build_config(RATIO, bake=3600)
    state = start(config, {"refusals": Reference(0.99, 0.0099)}, 0)
    look = Look(t=30, metrics={"refusals": (Counts(50, bad=6), Counts(450, bad=4))})
    state, verdict = judge(state, look)
    assert verdict.metrics[0].ln_e_promote == pytest.approx(-4.125475, abs=5e-7)
    state = enter_bake(state, 60)
    looks = [Look(t=60 + 30 * k, metrics={"refusals": (Counts(50, bad=20), Counts())}) for k in range(1, 8)]
    _, verdict = judge_all(state, looks)
    assert verdict.action is Action.ROLL_BACK


def test_a_latency_begins_its_proof_anew_in_each_step() -> None:
    looks = [
        Look(t=30 * k, metrics={"latency": (Counts(100, bad=1), Counts(300, bad=9))}) for k in range(1, 9)
    ]
    state, before = judge_all(start_rollout(build_config(LATENCY)), looks)
    assert before.metrics[0].ln_e_promote > 3
    fresh = enter_step(state, 2, 1000)
    _, verdict = judge(fresh, Look(t=1030))
    assert verdict.metrics[0].ln_e_promote == 0


def run_until_end(seed: int, factor: float) -> Action:
    random = Random(seed)
    state: State = start(build_config(SCORE), {"score": Reference(0.8, 0.16)}, 0)
    for k in range(1, 31):
        counts = [
            sum(random.random() < mean for _ in range(n)) for n, mean in ((20, 0.8 * factor), (90, 0.8))
        ]
        arms = (Counts(20, counts[0], counts[0]), Counts(90, counts[1], counts[1]))
        state, verdict = judge(state, Look(t=30.0 * k, metrics={"score": arms}))
        if verdict.action is Action.ROLL_BACK:
            return verdict.action
    return Action.HOLD


def test_the_larger_the_true_drop_the_likelier_the_rollback() -> None:
    rolled_back = [
        sum(run_until_end(seed, factor) is Action.ROLL_BACK for seed in range(60))
        for factor in (1.0, 0.92, 0.85, 0.7)
    ]
    assert rolled_back == sorted(rolled_back)
    assert rolled_back[0] <= 1
    assert rolled_back[-1] == 60
