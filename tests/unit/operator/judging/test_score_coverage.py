"""Scores that come for one arm more often than for the other: told, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from tests.unit.operator.judging.rollouts import (
    SCORE,
    build_config,
    build_score_look,
    judge_all,
    start_rollout,
)

from dspy_operator.rollout.judging import Action, Look, Verdict, enter_step, judge
from dspy_operator.rollout.judging.sample_ratio import is_coverage_alarm

RUNS = 200


def list_looks(count: int, scored: tuple[float, float], answers: tuple[float, float]) -> list[Look]:
    """Looks with that many scores and answers of (canary, stable) each."""
    looks = (build_score_look(30.0 * k, 0.8, n=scored) for k in range(1, count + 1))
    return [replace(look, successes=answers, share=0.1) for look in looks]


def get_coverage(verdict: Verdict) -> str:
    return verdict.metrics[0].coverage


def test_a_canary_that_is_scored_half_as_often_is_told_and_goes_on() -> None:
    _, verdict = judge_all(start_rollout(build_config(SCORE)), list_looks(10, (10, 180), (20, 180)))
    assert get_coverage(verdict) == (
        "5.3 % of 1 900 scores are the canary's, but 10.0 % of 2 000 answers: "
        "one revision's answers are scored more often than the other's"
    )
    assert get_coverage(verdict) in verdict.metrics[0].message
    assert verdict.action is Action.ADVANCE


def test_both_arms_scored_alike_are_no_news_at_any_part() -> None:
    _, verdict = judge_all(start_rollout(build_config(SCORE)), list_looks(200, (1, 9), (20, 180)))
    assert get_coverage(verdict) == ""


def test_looks_without_answers_say_nothing_of_their_scores() -> None:
    _, verdict = judge_all(start_rollout(build_config(SCORE)), list_looks(50, (90, 10), (0, 0)))
    assert get_coverage(verdict) == ""


def test_a_step_begins_without_what_was_counted_before() -> None:
    state, _ = judge_all(start_rollout(build_config(SCORE)), list_looks(10, (10, 180), (20, 180)))
    look = build_score_look(430, 0.8, n=(50, 50), successes=(50, 50), share=0.5)
    after, verdict = judge(enter_step(state, 2, 400), look)
    assert (after.successes, after.metrics[0].scored) == ((50, 50), (50, 50))
    assert get_coverage(verdict) == ""


def test_users_need_ten_times_the_scores() -> None:
    alone = is_coverage_alarm((50, 900), (100, 900), is_sticky=False)
    users = is_coverage_alarm((50, 900), (100, 900), is_sticky=True)
    assert (alone, users) == (True, False)
    assert is_coverage_alarm((500, 9000), (1000, 9000), is_sticky=True)


def list_late(
    random: Random, looks: int, per_look: int, lag: int
) -> Iterator[tuple[float, float, float, float]]:
    """(scores of canary, stable, answers of canary, stable) so far; a score comes `lag` looks after its answer."""
    canary = [sum(random.random() < 0.1 for _ in range(per_look)) for _ in range(looks)]
    for now in range(1, looks + 1):
        past = max(0, now - lag)
        scored, answered = sum(canary[:past]), sum(canary[:now])
        yield scored, past * per_look - scored, answered, now * per_look - answered


def test_scores_that_come_late_raise_no_false_alarm_with_little_traffic_or_much() -> None:
    random, alarms = Random(20), 0
    for run in range(RUNS):
        per_look, lag = ((2, 10), (20, 10), (200, 1), (200, 40))[run % 4]
        for scored, rest, answered, others in list_late(random, 100, per_look, lag):
            if is_coverage_alarm((scored, rest), (answered, others), is_sticky=False):
                alarms += 1
                break
    assert alarms <= RUNS // 100


def test_samples_of_one_user_that_come_together_are_told() -> None:
    random, looks = Random(21), []
    for k in range(1, 60):
        canary, stable = (10.0 * sum(random.random() < 0.8 for _ in range(users)) for users in (4, 36))
        looks.append(build_score_look(30.0 * k, canary / 40, stable / 360, n=(40, 360)))
    _, verdict = judge_all(start_rollout(build_config(SCORE, min_duration=1e6)), looks)
    assert verdict.metrics[0].dispersion > 3
    assert "samples that come together are alike" in verdict.metrics[0].message
    _, calm = judge_all(
        start_rollout(build_config(SCORE, min_duration=1e6)), list_looks(60, (20, 180), (20, 180))
    )
    assert "alike" not in calm.metrics[0].message
