"""The guarantee itself, by simulation with fixed seeds: under the null the mean of E is at most 1."""

import math
from collections.abc import Callable
from random import Random
from statistics import fmean, stdev

import pytest
from tests.unit.operator.judging.rollouts import SCORE, build_config

from dspy_operator.rollout.judging import Action, Counts, Look, Reference, judge, start
from dspy_operator.rollout.judging.measuring import build_measured, build_metric_start, build_metric_step
from dspy_operator.rollout.judging.readings import get_ln_e_promote, get_ln_e_rollback

RUNS = 900
CONFIG = build_config(SCORE)

Law = Callable[[Random, float], float]


def draw_thumb(random: Random, factor: float) -> float:
    return float(random.random() < 0.8 * factor)


def draw_graded(random: Random, factor: float) -> float:
    return factor * random.choice([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def draw_skewed(random: Random, factor: float) -> float:
    return 0.98 if random.random() < 0.97 * factor else 0.0


LAWS = pytest.mark.parametrize("law", [draw_thumb, draw_graded, draw_skewed])
PRIORS = pytest.mark.parametrize("prior", [Reference(0.8, 0.16), Reference(0.3, 0.01), Reference(1.0, 0.0)])


def draw_counts(random: Random, law: Law, factor: float, n: int) -> Counts:
    values = [law(random, factor) for _ in range(n)]
    return Counts(n, sum(values), sum(value * value for value in values))


def list_final_e(seed: int, law: Law, prior: Reference, factor: float) -> tuple[list[float], list[float]]:
    """E_R and E_P after up to 4 looks of few samples, in independent runs."""
    random = Random(seed)
    rollback, promote = [], []
    for _ in range(RUNS):
        memory = build_metric_step(SCORE, build_metric_start(SCORE, prior), 1)
        for k in range(random.randint(1, 4)):
            arms = (draw_counts(random, law, factor, random.randint(1, 5)), draw_counts(random, law, 1.0, 9))
            memory = build_measured(SCORE, memory, 30.0 * k, arms)
        rollback.append(math.exp(get_ln_e_rollback(CONFIG, SCORE, memory)))
        promote.append(math.exp(get_ln_e_promote(memory)))
    return rollback, promote


def is_at_most_one(values: list[float]) -> bool:
    return fmean(values) <= 1 + 4 * stdev(values) / math.sqrt(len(values))


@LAWS
@PRIORS
def test_the_mean_of_rollback_evidence_is_at_most_one_at_its_boundary(law: Law, prior: Reference) -> None:
    rollback, _ = list_final_e(11, law, prior, 0.98)
    assert is_at_most_one(rollback)


@LAWS
@PRIORS
def test_the_mean_of_promotion_evidence_is_at_most_one_at_its_boundary(law: Law, prior: Reference) -> None:
    _, promote = list_final_e(12, law, prior, 0.92)
    assert is_at_most_one(promote)


def test_evidence_against_a_canary_that_is_worse_than_the_null_grows() -> None:
    rollback, promote = list_final_e(13, draw_thumb, Reference(0.8, 0.16), 0.3)
    assert not is_at_most_one(rollback)
    assert is_at_most_one(promote)


def run_looks(seed: int, factor: float, looks: int) -> Action:
    random = Random(seed)
    state = start(build_config(SCORE, weights=(50, 100)), {"score": Reference(0.8, 0.16)}, 0)
    for k in range(1, looks + 1):
        arms = (draw_counts(random, draw_thumb, factor, 20), draw_counts(random, draw_thumb, 1.0, 60))
        state, verdict = judge(state, Look(t=30.0 * k, metrics={"score": arms}))
        if verdict.action is not Action.HOLD:
            return verdict.action
    return Action.HOLD


def test_good_canaries_survive_and_bad_ones_do_not() -> None:
    good = [run_looks(seed, 1.0, 60) for seed in range(25)]
    bad = [run_looks(seed, 0.8, 60) for seed in range(25)]
    assert good.count(Action.ROLL_BACK) == 0
    assert good.count(Action.PROMOTE) >= 21
    assert bad.count(Action.ROLL_BACK) >= 24
    assert bad.count(Action.PROMOTE) == 0


def test_finer_looks_of_the_same_data_give_nearly_the_same_evidence() -> None:
    differences = []
    for seed in range(20):
        random = Random(seed)
        canary = [draw_thumb(random, 0.95) for _ in range(300)]
        stable = [draw_thumb(random, 1.0) for _ in range(2700)]
        fine, coarse = (get_split_ln_e(canary, stable, size) for size in (5, 20))
        differences.append(abs(fine - coarse))
    assert fmean(differences) <= 0.1


def get_split_ln_e(canary: list[float], stable: list[float], size: int) -> float:
    memory = build_metric_step(SCORE, build_metric_start(SCORE, Reference(0.8, 0.16)), 1)
    for k in range(0, len(canary), size):
        c, s = sum(canary[k : k + size]), sum(stable[9 * k : 9 * (k + size)])
        memory = build_measured(SCORE, memory, 30.0 * k, (Counts(size, c, c), Counts(9 * size, s, s)))
    return get_ln_e_rollback(CONFIG, SCORE, memory)
