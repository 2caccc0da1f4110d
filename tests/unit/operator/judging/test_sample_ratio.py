"""A split that contradicts the routing table: how soon it is noticed, how seldom wrongly, and what it does."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from statistics import median

import pytest
from tests.unit.operator.judging.rollouts import SCORE, build_config, build_score_look, start_rollout

from dspy_operator.rollout.judging import Action, Approval, Look, OnDeadline, Reason, State, Verdict, judge
from dspy_operator.rollout.judging.sample_ratio import (
    LN_ALARM,
    NO_RATIO_EVIDENCE,
    build_ratio_evidence,
    get_ratio_ln_e,
)

RUNS = 300
REQUESTS = 200
"""A look."""


def find_alarm(
    random: Random, arrives: float, *, share: float = 0.1, most: int, per_user: int = 1
) -> int | None:
    """Requests until the alarm, None: none within `most`; `per_user` requests go the same way together."""
    evidence = NO_RATIO_EVIDENCE
    for asked in range(REQUESTS, most + 1, REQUESTS):
        canary = per_user * sum(random.random() < arrives for _ in range(REQUESTS // per_user))
        evidence = build_ratio_evidence(evidence, canary, REQUESTS - canary, share, is_sticky=per_user > 1)
        if get_ratio_ln_e(evidence) >= LN_ALARM:
            return asked
    return None


def test_thirteen_percent_instead_of_ten_is_noticed_after_about_two_thousand_requests() -> None:
    random = Random(8)
    found = [find_alarm(random, 0.13, most=10_000) for _ in range(RUNS)]
    seen = [asked for asked in found if asked is not None]
    assert len(seen) == RUNS
    assert 1400 <= median(seen) <= 2600


def test_half_the_canarys_share_lost_is_noticed_within_a_thousand_requests() -> None:
    random = Random(9)
    found = [find_alarm(random, 0.05, most=10_000) for _ in range(RUNS)]
    assert median(asked or 10_000 for asked in found) <= 1000


def test_the_right_split_alarms_at_most_once_in_a_hundred_rollouts() -> None:
    random = Random(10)
    alarms = [find_alarm(random, 0.1, most=20_000) for _ in range(RUNS)]
    assert sum(asked is not None for asked in alarms) <= RUNS // 100


def test_users_who_ask_ten_times_each_raise_no_false_alarm_with_a_user_header() -> None:
    random = Random(11)
    alarms = [find_alarm(random, 0.1, most=20_000, per_user=10) for _ in range(RUNS)]
    assert sum(asked is not None for asked in alarms) <= RUNS // 100


def test_with_a_user_header_a_wrong_split_takes_ten_times_the_requests() -> None:
    random = Random(12)
    found = [find_alarm(random, 0.13, most=100_000, per_user=10) for _ in range(60)]
    assert 14_000 <= median(asked or 100_000 for asked in found) <= 26_000


def list_looks(
    canary: float, requests: float = REQUESTS, share: float = 0.1, score: float = 0.8
) -> Iterator[Look]:
    look = 0
    while True:
        look += 1
        n = (canary * requests, (1 - canary) * requests)
        yield replace(build_score_look(30.0 * look, score, n=(20, 180)), requests=n, share=share)


def judge_until(state: State, looks: Iterator[Look], count: int) -> Verdict:
    verdict = None
    for _, look in zip(range(count), looks, strict=False):
        state, verdict = judge(state, look)
        if verdict.action in {Action.ADVANCE, Action.PROMOTE, Action.ROLL_BACK}:
            break
    assert verdict is not None
    return verdict


@pytest.mark.parametrize("weights", [(10, 50, 100), (10, 100)], ids=["before a step", "before the promotion"])
def test_a_wrong_split_holds_whatever_the_evidence_and_says_why(weights: tuple[float, ...]) -> None:
    state = start_rollout(build_config(SCORE, weights=weights, min_duration=600))
    verdict = judge_until(state, list_looks(0.2), 60)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.SAMPLE_RATIO_MISMATCH)
    assert "the canary got 20.0 % of 12 000 requests instead of 10 %" in verdict.message
    assert "dspy_route_fallback_total: none of its requests went to stable" in verdict.message


def test_a_canary_whose_requests_went_to_stable_holds_with_the_number_of_them() -> None:
    state = start_rollout(build_config(SCORE, min_duration=600))
    looks = (replace(look, fallbacks=11.0) for look in list_looks(0.045))
    verdict = judge_until(state, looks, 60)
    assert verdict.reason is Reason.SAMPLE_RATIO_MISMATCH
    assert "dspy_route_fallback_total: 660 of its requests went to stable" in verdict.message


def test_requests_of_users_hold_too_after_ten_times_as_many() -> None:
    def count_until_held(*, is_sticky: bool) -> int:
        state = start_rollout(build_config(SCORE, min_duration=1e6, is_sticky=is_sticky))
        for count, look in enumerate(list_looks(0.2), 1):
            state, verdict = judge(state, look)
            if verdict.reason is Reason.SAMPLE_RATIO_MISMATCH:
                return count
        raise AssertionError

    alone, users = count_until_held(is_sticky=False), count_until_held(is_sticky=True)
    assert users == pytest.approx(10 * alone, abs=10)


@pytest.mark.parametrize("policy", [OnDeadline.THRESHOLD, OnDeadline.HOLD])
def test_at_the_deadline_a_wrong_split_still_holds(policy: OnDeadline) -> None:
    state = start_rollout(build_config(SCORE, deadline=300, on_deadline=policy))
    verdict = judge_until(state, list_looks(0.3), 40)
    assert (verdict.action, verdict.reason) == (Action.HOLD, Reason.SAMPLE_RATIO_MISMATCH)


def test_a_wrong_split_asks_no_person_for_approval() -> None:
    state = start_rollout(build_config(SCORE, approval=Approval.MANUAL))
    verdict = judge_until(state, list_looks(0.3), 40)
    assert (verdict.reason, verdict.gate_open) == (Reason.SAMPLE_RATIO_MISMATCH, False)


def test_a_bad_canary_is_rolled_back_in_spite_of_a_wrong_split() -> None:
    verdict = judge_until(start_rollout(build_config(SCORE)), list_looks(0.3, score=0.2), 40)
    assert verdict.reason is Reason.EVIDENCE_OF_REGRESSION
