"""The benchmark's rollouts are the operator's, its rivals are what they are named after, its goals can be missed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench.decisions.__main__ import main
from bench.decisions.goals import Goal, list_goals
from bench.decisions.grid import get_wald
from bench.decisions.laws import LAWS, SEED, THUMBS, Floats, Sums, build_generator, build_reference, fill
from bench.decisions.results import Results, measure
from bench.decisions.rivals import Failures, InARow, Literal, PooledSequence, TTest, get_rank_z
from bench.decisions.rollouts import Course, Trial, run_course
from bench.decisions.scenarios import measure_replay, measure_split

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    RolloutConfig,
    State,
    StepConfig,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.sample_ratio import (
    LN_ALARM,
    NO_RATIO_EVIDENCE,
    build_ratio_evidence,
    get_ratio_ln_e,
)

SCORE = MetricConfig("score", MetricType.SCORE, margin=0.05)
FAILED, PASSED = 0.7, 0.8


def build_look(mean: float, stable: float = 0.8) -> tuple[Sums, Sums]:
    """One run: 20 canary and 180 stable thumbs of these means."""
    arms = []
    for n, share in ((20.0, mean), (180.0, stable)):
        arms.append(Sums(np.array([n]), np.array([n * share]), np.array([n * share])))
    return arms[0], arms[1]


def get_counts(sums: Sums, run: int) -> Counts:
    return Counts(float(sums.n[run]), float(sums.total[run]), float(sums.squares[run]))


@pytest.mark.parametrize("law", list(LAWS))
def test_a_draw_has_the_moments_that_its_law_states(law: str) -> None:
    sums = LAWS[law].draw(build_generator(f"moments {law}"), 0.9, fill(2000, 100))
    mean, variance = LAWS[law].get_moments(0.9)
    assert sums.total.sum() / sums.n.sum() == pytest.approx(mean, abs=0.005)
    assert sums.squares.sum() / sums.n.sum() - mean**2 == pytest.approx(variance, abs=0.005)


def test_runs_may_have_samples_of_different_number() -> None:
    for law in LAWS.values():
        sums = law.draw(build_generator("sizes"), np.array([1.0, 0.5, 0.0]), np.array([0, 7, 9]))
        assert list(sums.n) == [0, 7, 9]
        assert sums.total[0] == sums.total[2] == 0 < sums.total[1] <= 7


@pytest.mark.parametrize("drop", [0.0, 0.02, 0.1])
def test_a_whole_rollout_ends_as_the_operators_judge_ends_it(drop: float) -> None:
    runs, course = 40, Course("thumbs", (drop, drop), 300)
    steps = (StepConfig(10, min_samples=100, deadline=1e9), StepConfig(50, deadline=450.0), StepConfig(100))
    config = RolloutConfig(steps=steps, metrics=(SCORE,))
    states: list[State] = [start(config, {"score": build_reference(THUMBS)}, 0)] * runs
    ended: dict[int, Action] = {}
    looks = 0

    def watch(trial: Trial, canary: Sums, stable: Sums) -> None:
        nonlocal looks
        looks += 1
        for run in (run for run in range(runs) if run not in ended):
            arms = (get_counts(canary, run), get_counts(stable, run))
            states[run], verdict = judge(states[run], Look(t=30.0 * looks, metrics={"score": arms}))
            if verdict.action is Action.ADVANCE:
                states[run] = enter_step(states[run], 2, 30.0 * looks)
            elif verdict.action is not Action.HOLD:
                ended[run] = verdict.action
            assert (run in ended) is not bool(trial.running[run])
            assert states[run].step == trial.step[run]

    outcome = run_course(course, runs, watch)
    assert len(ended) == runs
    assert outcome.rolled_back * runs == list(ended.values()).count(Action.ROLL_BACK)
    assert outcome.promoted * runs == list(ended.values()).count(Action.PROMOTE)


def test_a_failure_limit_is_passed_by_one_more_failure() -> None:
    rule = Failures(1, least=4)
    answers = [
        rule.take(*build_look(mean))[0][0] for mean in (FAILED, PASSED, FAILED, FAILED, PASSED, FAILED)
    ]
    assert answers == [False] * 5 + [True]


def test_three_in_a_row_forgets_after_a_look_that_passes() -> None:
    rule = InARow(1)
    means = (FAILED, FAILED, PASSED, FAILED, FAILED, FAILED)
    assert [rule.take(*build_look(mean))[0][0] for mean in means] == [False] * 5 + [True]


def test_the_literal_rule_reads_all_samples_so_far() -> None:
    rule = Literal(1, least=60)
    assert [rule.take(*build_look(mean))[0][0] for mean in (0.5, 0.8, 0.8, 0.9, 0.9)] == [
        False, False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("rule", [TTest(1), PooledSequence(1)])
def test_classical_tests_end_on_the_side_of_the_truth(rule: TTest | PooledSequence) -> None:
    fresh = type(rule)(1)
    worse = [rule.take(*build_look(0.6)) for _ in range(100)][-1]
    equal = [fresh.take(*build_look(0.8)) for _ in range(100)][-1]
    assert [bool(answer[0]) for answer in worse] == [True, False]
    assert [bool(answer[0]) for answer in equal] == [False, True]


def test_the_rank_test_counts_pairs_and_corrects_ties() -> None:
    ours: Floats = np.array([[1.0, 2.0, 2.0], [5.0, 6.0, 7.0]])
    theirs: Floats = np.array([[2.0, 3.0, 4.0], [1.0, 2.0, 3.0]])
    # U by hand: 1.0 and 9 of 9 pairs, mean 4.5; variance 9/12 · (7 - Σ(t³-t)/30), one tie of three.
    expected = [(1.0 - 4.5) / (0.75 * (7 - 24 / 30)) ** 0.5, (9 - 4.5) / (0.75 * 7) ** 0.5]
    assert get_rank_z(ours, theirs) == pytest.approx(expected)


def test_walds_bound_is_the_published_one_for_thumbs() -> None:
    assert get_wald(THUMBS, 0.02, 1 / 9) is None
    assert get_wald(THUMBS, 0.2, 1 / 9) == pytest.approx(63, abs=1)


def test_a_wrong_split_is_alarmed_when_the_operator_alarms() -> None:
    rng, evidence, looks = build_generator("split 0.2"), NO_RATIO_EVIDENCE, 0
    while get_ratio_ln_e(evidence) < LN_ALARM:
        canary = float(rng.binomial(200, 0.2, 1)[0])
        evidence, looks = (
            build_ratio_evidence(evidence, canary, 200 - canary, 0.1, is_sticky=False),
            looks + 1,
        )
    assert measure_split(0.2, runs=1, looks=20).median_requests == 200 * looks


def test_a_judge_that_is_killed_at_random_looks_says_the_same() -> None:
    assert measure_replay(16) == 1.0


def test_a_goal_may_be_a_most_or_a_least() -> None:
    assert Goal("few", 0.05, 0.05).is_reached
    assert not Goal("few", 0.05, 0.051).is_reached
    assert Goal("many", 100, 101, is_most=False).is_reached
    assert not Goal("many", 100, 99, is_most=False).is_reached


@pytest.fixture(scope="module")
def results() -> Results:
    return measure(runs=4, processes=1, looks=20)


def test_the_goals_notice_a_judge_that_rolls_everybody_back(results: Results) -> None:
    missed = {goal.name for goal in list_goals(results) if not goal.is_reached}
    spoilt = replace(results, cells=[replace(cell, rolled_back=1.0) for cell in results.cells])
    worse = {goal.name for goal in list_goals(spoilt) if not goal.is_reached}
    assert {"rolled back at 0 %, worst cell", "rolled back at -2 %, worst cell"} <= worse - missed


def test_the_benchmark_writes_figures_and_plots_and_fails_on_a_missed_goal(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Four runs cannot show what needs two thousand.
    monkeypatch.setattr("bench.decisions.__main__.measure", lambda *_: results)
    status = main(["--runs", "4", "--looks", "20", "--processes", "1", "--out", str(tmp_path)])
    document = json.loads((tmp_path / "decisions.json").read_text())
    missed = [goal["name"] for goal in document["goals"] if not goal["is_reached"]]
    assert (status, document["seed"], document["runs"]) == (1, SEED, 4)
    printed = capsys.readouterr().out
    assert missed
    assert printed.count("MISSED") == len(missed)
    assert all(f"{law}, {split}" in printed for law in LAWS for split in ("10/90", "50/50"))
    for plot in ("detection.svg", "false-rollbacks.svg"):
        assert (tmp_path / plot).read_text().startswith("<?xml")
