"""Forecasts and sentences."""

import math
from dataclasses import replace

import pytest
from tests.unit.operator.judging.rollouts import (
    ERRORS,
    LATENCY,
    SCORE,
    build_config,
    build_score_look,
    judge_all,
    list_score_looks,
    start_rollout,
)

from dspy_operator.rollout.judging import Counts, Look, judge
from dspy_operator.rollout.judging.plan import Arms, find_samples_to_promote, find_samples_to_roll_back
from dspy_operator.rollout.judging.wording import get_duration

THUMBS = Arms(stable_mean=0.8, canary_variance=0.16, stable_variance=0.16, share=0.5)
CONFIG = build_config(SCORE)


def test_promoting_thumbs_at_half_the_traffic_takes_the_published_samples() -> None:
    assert find_samples_to_promote(CONFIG, SCORE, THUMBS) == pytest.approx(638, abs=1)


def test_promoting_five_point_scores_takes_fewer() -> None:
    arms = replace(THUMBS, canary_variance=0.07875, stable_variance=0.07875)
    assert find_samples_to_promote(CONFIG, SCORE, arms) == pytest.approx(314, abs=1)


@pytest.mark.parametrize(("others", "share"), [(0, 0.1), (2, 0.5)])
def test_rolling_back_is_forecast_at_twice_the_margin_by_the_published_formula(
    others: int, share: float
) -> None:
    config = build_config(SCORE, *[replace(ERRORS, name=f"errors-{k}") for k in range(others)])
    distance = 0.98 * 0.8 - 0.9 * 0.8
    noise = 0.16 + distance * 0.8 + 0.98**2 * share / (1 - share) * 0.16
    expected = (math.log(20) + math.log(4 * 2 * (1 + others))) * 2 * noise / distance**2
    arms = replace(THUMBS, share=share)
    assert find_samples_to_roll_back(config, SCORE, arms) == pytest.approx(expected)
    assert find_samples_to_roll_back(config, SCORE, arms, 0.1) == pytest.approx(expected)


def test_samples_needed_adds_two_looks_to_the_forecast() -> None:
    state = start_rollout(build_config(SCORE, weights=(50, 100)))
    state, verdict = judge(state, build_score_look(30, 0.8, n=(60, 60), share=0.5))
    memory = state.metrics[0]
    arms = Arms(memory.stable.mean, memory.canary.variance, memory.stable.variance, share=0.5)
    forecast = find_samples_to_promote(state.config, SCORE, arms, verdict.metrics[0].drop or 0.0)
    assert forecast is not None
    assert verdict.metrics[0].samples_needed == math.ceil(forecast + 2 * 60)


def test_a_canary_at_the_upper_margin_is_never_promoted() -> None:
    assert find_samples_to_promote(CONFIG, SCORE, THUMBS, drop=0.08) is None


def test_a_canary_within_the_lower_margin_is_never_rolled_back() -> None:
    assert find_samples_to_roll_back(CONFIG, SCORE, THUMBS, drop=0.02) is None
    assert find_samples_to_roll_back(CONFIG, SCORE, THUMBS, drop=0.03) is not None


def test_a_larger_drop_takes_fewer_samples() -> None:
    needed = [find_samples_to_roll_back(CONFIG, SCORE, THUMBS, drop) for drop in (0.05, 0.1, 0.2, 0.5)]
    numbers = [number for number in needed if number is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 4


def test_an_equal_error_rate_is_promoted_sooner_than_an_almost_failing_one() -> None:
    arms = Arms(0.99, 0.0099, 0.0099, share=0.1)
    equal = find_samples_to_promote(CONFIG, ERRORS, arms)
    worse = find_samples_to_promote(CONFIG, ERRORS, arms, drop=0.01)
    assert equal is not None
    assert worse is not None
    assert equal < worse


def test_samples_needed_is_the_gates_number_before_the_last_step_and_a_forecast_in_it() -> None:
    _, first = judge_all(start_rollout(CONFIG), list_score_looks(2, canary=0.8))
    assert first.metrics[0].samples_needed == 50
    last = start_rollout(build_config(SCORE, weights=(50, 100)))
    _, verdict = judge(last, build_score_look(30, 0.8, n=(60, 60), share=0.5))
    assert verdict.metrics[0].samples_needed is not None
    assert 200 < verdict.metrics[0].samples_needed < 2000


def test_samples_needed_is_unknown_between_good_and_bad() -> None:
    state = start_rollout(build_config(SCORE, weights=(50, 100), deadline=1))
    _, verdict = judge(state, Look(t=30))
    assert verdict.metrics[0].samples_needed is None


def test_a_message_says_what_was_measured_and_why_it_waits() -> None:
    _, verdict = judge_all(start_rollout(CONFIG), list_score_looks(2, canary=0.75))
    assert verdict.message == "score -6.2 % on 40 of 50 samples; waiting for more samples of score"
    assert verdict.metrics[0].drop_text == "6.2%"


def test_a_message_names_errors_in_points_and_latency_by_its_limit() -> None:
    config = build_config(ERRORS, LATENCY)
    look = Look(
        t=30,
        metrics={
            "errors": (Counts(50, bad=1), Counts(450, bad=0)),
            "latency": (Counts(50, bad=4), Counts(450, bad=18)),
        },
    )
    _, verdict = judge(start_rollout(config), look)
    assert verdict.metrics[0].message == "errors +2.0 points to 2.0 % on 50 of 50 requests"
    assert verdict.metrics[1].message == "latency 8.0 % slower than 1.2 s (stable 4.0 %) on 50 of 50 requests"
    assert verdict.metrics[0].drop_text == "2.0 points"


def test_no_message_shows_a_negative_zero() -> None:
    _, verdict = judge(start_rollout(CONFIG), build_score_look(30, 0.8))
    assert "score +0.0 %" in verdict.message


@pytest.mark.parametrize(("seconds", "text"), [(45, "45s"), (720, "12m"), (12_000, "3h20m"), (86_400, "24h")])
def test_durations_read_like_the_specs(seconds: float, text: str) -> None:
    assert get_duration(seconds) == text
