"""LM outages hold without judging; a split that contradicts the routing table is noticed."""

import math
from dataclasses import replace

import pytest
from tests.unit.operator.judging.rollouts import (
    SCORE,
    build_config,
    build_score_look,
    judge_all,
    list_score_looks,
    start_rollout,
)

from dspy_operator.rollout.judging import Action, Look, Reason, enter_bake, enter_step, judge
from dspy_operator.rollout.judging.sample_ratio import NO_RATIO_EVIDENCE, build_ratio_evidence, get_ratio_ln_e


def test_an_outage_in_the_look_before_keeps_this_look_from_counting() -> None:
    state = start_rollout(build_config(SCORE))
    failing = build_score_look(30, 0.8, requests=(10.0, 90.0), provider_errors=(0.0, 9.0))
    state, first = judge(state, failing)
    after, second = judge(state, build_score_look(60, 0.0))
    assert first.reason is not Reason.LM_OUTAGE
    assert (second.action, second.reason) == (Action.HOLD, Reason.LM_OUTAGE)
    assert after.metrics == state.metrics
    assert after.clock.observed == state.clock.observed
    _, third = judge(after, build_score_look(90, 0.8))
    assert third.reason is not Reason.LM_OUTAGE


@pytest.mark.parametrize(("requests", "errors"), [(90.0, 4.0), (91.0, 9.0), (0.0, 0.0)])
def test_few_or_rare_errors_are_no_outage(requests: float, errors: float) -> None:
    state = start_rollout(build_config(SCORE))
    look = build_score_look(30, 0.8, requests=(10.0, requests), provider_errors=(0.0, errors))
    _, verdict = judge(judge(state, look)[0], build_score_look(60, 0.8))
    assert verdict.reason is not Reason.LM_OUTAGE


@pytest.mark.parametrize(("requests", "errors"), [(50.0, 5.0), (100.0, 10.0), (5.0, 5.0)])
def test_five_errors_and_a_tenth_of_the_requests_are_an_outage(requests: float, errors: float) -> None:
    state = start_rollout(build_config(SCORE))
    look = build_score_look(30, 0.8, requests=(10.0, requests), provider_errors=(0.0, errors))
    _, verdict = judge(judge(state, look)[0], build_score_look(60, 0.8))
    assert verdict.reason is Reason.LM_OUTAGE


def test_a_canary_with_a_wrong_key_cannot_hide_behind_its_errors() -> None:
    state = start_rollout(build_config(SCORE))
    look = build_score_look(30, 0.8, requests=(10.0, 90.0), provider_errors=(10.0, 0.0))
    _, verdict = judge(judge(state, look)[0], build_score_look(60, 0.8))
    assert verdict.reason is not Reason.LM_OUTAGE


def test_during_the_bake_the_canarys_own_look_tells_of_an_outage() -> None:
    state = enter_bake(start_rollout(build_config(SCORE, bake=600)), 10)
    look = build_score_look(30, 0.8, n=(50, 0), requests=(50.0, 0.0), provider_errors=(10.0, 0.0))
    _, verdict = judge(judge(state, look)[0], build_score_look(60, 0.0, n=(50, 0)))
    assert verdict.reason is Reason.LM_OUTAGE


def test_an_outage_is_remembered_over_a_step_start() -> None:
    look = build_score_look(30, 0.8, requests=(10.0, 90.0), provider_errors=(0.0, 90.0))
    state, _ = judge(start_rollout(build_config(SCORE)), look)
    _, verdict = judge(enter_step(state, 2, 40), build_score_look(60, 0.2))
    assert verdict.reason is Reason.LM_OUTAGE


def build_split_look(t: float, canary: float, total: float, share: float = 0.1) -> Look:
    return build_score_look(t, 0.8, requests=(canary, total - canary), share=share)


def test_a_split_of_thirteen_instead_of_ten_percent_alarms_within_two_thousand_five_hundred_requests() -> (
    None
):
    looks = [build_split_look(30 * k, 26, 200) for k in range(1, 13)]
    state, verdict = judge_all(start_rollout(build_config(SCORE)), looks)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.SAMPLE_RATIO_MISMATCH)
    assert "13.0 % of 2 400 requests instead of 10 %" in verdict.message
    assert "dspy_route_fallback_total" in verdict.message
    assert enter_step(state, 2, 1000).ratio_evidence == NO_RATIO_EVIDENCE


def test_the_evidence_on_the_split_is_the_mean_over_six_other_splits() -> None:
    evidence = build_ratio_evidence(NO_RATIO_EVIDENCE, 26, 174, 0.1, is_sticky=False)
    products = []
    for theta in (1 / 2, 1 / 1.3, 1 / 1.1, 1.1, 1.3, 2):
        q = theta * 0.1 / (0.9 + theta * 0.1)
        products.append((q / 0.1) ** 26 * ((1 - q) / 0.9) ** 174)
    assert get_ratio_ln_e(evidence) == pytest.approx(math.log(sum(products) / 6), abs=1e-9)


@pytest.mark.parametrize(("e", "alarms"), [(999.0, False), (1001.0, True)])
def test_the_split_alarms_at_a_thousand(e: float, *, alarms: bool) -> None:
    state = start_rollout(build_config(SCORE))
    state = replace(state, ratio_evidence=(math.log(e),) * len(NO_RATIO_EVIDENCE))
    _, verdict = judge(state, build_score_look(30, 0.8, n=(60, 540)))
    assert (verdict.reason is Reason.SAMPLE_RATIO_MISMATCH) is alarms


def test_the_right_split_never_alarms() -> None:
    looks = [build_split_look(30 * k, 20, 200) for k in range(1, 200)]
    _, verdict = judge_all(start_rollout(build_config(SCORE)), looks)
    assert verdict.ln_e_ratio < 0
    assert verdict.action is Action.ADVANCE


def test_users_instead_of_requests_need_ten_times_the_requests() -> None:
    requests = build_ratio_evidence(NO_RATIO_EVIDENCE, 260, 1740, 0.1, is_sticky=False)
    users = build_ratio_evidence(NO_RATIO_EVIDENCE, 2600, 17_400, 0.1, is_sticky=True)
    assert users == pytest.approx(requests)
    assert get_ratio_ln_e(requests) > 0


def test_an_alarm_turns_a_threshold_deadline_into_hold_and_never_rolls_back() -> None:
    config = build_config(SCORE, deadline=60)
    looks = [build_split_look(30 * k, 60, 200) for k in range(1, 10)]
    _, verdict = judge_all(start_rollout(config), looks)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.SAMPLE_RATIO_MISMATCH)


def test_evidence_rolls_back_in_spite_of_an_alarm() -> None:
    looks = [replace(look, requests=(60.0, 140.0), share=0.1) for look in list_score_looks(9, canary=0.2)]
    _, verdict = judge_all(start_rollout(build_config(SCORE)), looks)
    assert verdict.action is Action.ROLL_BACK
