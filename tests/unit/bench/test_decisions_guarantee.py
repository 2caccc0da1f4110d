"""What the sequential test promises, over many simulated runs; the arrays are equal to the operator's judge."""

import numpy as np
import pytest
from bench.decisions.engine import Judge
from bench.decisions.grid import draw_looks, run_rules
from bench.decisions.laws import (
    LAWS,
    THUMBS,
    Bools,
    Floats,
    Sums,
    build_generator,
    build_reference,
    build_sums,
)
from bench.decisions.rivals import FIRES, OURS, SCORE, Ours

from dspy_operator.rollout.judging import Reference

RUNS = 100_000
LAW_NAMES = pytest.mark.parametrize("law", ["thumbs", "five-point", "skewed"])
PRIORS = pytest.mark.parametrize(
    "prior", [Reference(0.8, 0.16), Reference(0.3, 0.01), Reference(1.0, 0.0)], ids=["near", "low", "perfect"]
)


def run_few_samples(name: str, law: str, prior: Reference, factor: float) -> Judge:
    """Up to five looks of 0 to 5 canary samples beside 9 of stable."""
    rng, judge = build_generator(f"guarantee {name} {law} {prior}"), Judge(RUNS, SCORE, prior)
    for look in range(1, 6):
        canary = LAWS[law].draw(rng, factor, rng.integers(0, 6, RUNS))
        judge.take(30.0 * look, canary, LAWS[law].draw(rng, 1.0, np.full(RUNS, 9)))
    return judge


def is_at_most_one(ln_e: Floats) -> bool:
    e = np.exp(ln_e)
    return bool(e.mean() <= 1 + 4 * e.std() / np.sqrt(len(e)))


@LAW_NAMES
@PRIORS
def test_the_mean_of_rollback_evidence_at_its_boundary_is_at_most_one(law: str, prior: Reference) -> None:
    assert is_at_most_one(run_few_samples("R", law, prior, 0.98).get_ln_e_rollback())


@LAW_NAMES
@PRIORS
def test_the_mean_of_promotion_evidence_at_its_boundary_is_at_most_one(law: str, prior: Reference) -> None:
    assert is_at_most_one(run_few_samples("P", law, prior, 0.92).get_ln_e_promote())


@LAW_NAMES
def test_evidence_beyond_the_boundary_is_more_than_one(law: str) -> None:
    prior = build_reference(LAWS[law])
    assert not is_at_most_one(run_few_samples("beyond", law, prior, 0.7).get_ln_e_rollback())
    assert not is_at_most_one(run_few_samples("beyond", law, prior, 1.0).get_ln_e_promote())


def get_ln_e_of_looks(canary: Floats, stable: Floats, size: int) -> Floats:
    """Ln E_R of the same samples, in looks of `size` canary and 9 x `size` stable ones."""
    judge = Judge(len(canary), SCORE, Reference(0.8, 0.16))
    for number, first in enumerate(range(0, canary.shape[1], size), start=1):
        c = canary[:, first : first + size].sum(axis=1)
        s = stable[:, 9 * first : 9 * (first + size)].sum(axis=1)
        n = np.full(len(canary), float(size))
        judge.take(30.0 * number, Sums(n, c, c), Sums(9 * n, s, s))
    return judge.get_ln_e_rollback()


@pytest.mark.parametrize("size", [1, 5])
def test_looks_of_one_five_or_twenty_samples_give_nearly_the_same_evidence(size: int) -> None:
    rng, runs = build_generator("cadence"), 400
    canary = (rng.random((runs, 300)) < 0.8).astype(np.float64)
    stable = (rng.random((runs, 2700)) < 0.8).astype(np.float64)
    fine, coarse = (get_ln_e_of_looks(canary, stable, look) for look in (size, 20))
    assert np.abs(fine - coarse).mean() <= 0.1


@pytest.mark.parametrize("law", list(LAWS))
def test_a_worse_canary_is_rolled_back_more_often(law: str) -> None:
    shares = []
    for drop in (0.0, 0.02, 0.05, 0.10, 0.20):
        rng, rule = build_generator(f"rises {law} {drop}"), Ours(300, build_reference(LAWS[law]))
        looks = draw_looks(rng, LAWS[law], 1 - drop, (20, 20), 300, 40)
        shares.append(float(run_rules({OURS: rule}, 300, looks)[OURS].is_back.mean()))
    assert shares == sorted(shares)
    assert shares[0] <= 0.01
    assert shares[-1] >= 0.95


def test_a_good_canary_survives_thousands_of_looks() -> None:
    rule = Ours(300, build_reference(THUMBS))
    looks = draw_looks(build_generator("survives"), THUMBS, 1.0, (20, 180), 300, 2000)
    assert (run_rules({OURS: rule}, 300, looks)[OURS].back < 2001).mean() <= 0.01


def test_missed_looks_and_lost_counters_make_no_more_false_alarms() -> None:
    """-2 %: three looks in ten are missed and join the next; one in ten loses an arm's samples to a reset."""
    runs, looks = 400, 60
    rng, rule = build_generator("missed"), Ours(runs, build_reference(THUMBS))
    waiting, back = (build_sums(runs), build_sums(runs)), np.zeros(runs, dtype=np.bool_)
    for look in range(1, looks + 1):
        arms = THUMBS.draw(rng, 0.98, np.full(runs, 20)), THUMBS.draw(rng, 1.0, np.full(runs, 180))
        arms = mask(arms[0], rng.random(runs) > 0.1), mask(arms[1], rng.random(runs) > 0.1)
        waiting = waiting[0] + arms[0], waiting[1] + arms[1]
        seen = rng.random(runs) > 0.3
        rule.judge.take(30.0 * look, mask(waiting[0], seen), mask(waiting[1], seen))
        waiting = mask(waiting[0], ~seen), mask(waiting[1], ~seen)
        back |= rule.judge.get_ln_e_rollback() >= FIRES
    assert 0 < rule.judge.step_n.min() < looks * 20
    assert back.mean() <= 0.05


def mask(sums: Sums, kept: Bools) -> Sums:
    return Sums(sums.n * kept, sums.total * kept, sums.squares * kept)
