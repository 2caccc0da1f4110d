"""The judge against a second, plain writing-down of its formulas: the same numbers within 1e-9, whatever comes."""

from dataclasses import replace
from random import Random

import pytest
from tests.unit.operator.judging.by_the_book import Arm, Book, CostBook
from tests.unit.operator.judging.rollouts import COST, ERRORS, LATENCY, RATIO, SCORE, build_config

from dspy_operator.rollout.judging import (
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Reference,
    State,
    Verdict,
    enter_bake,
    enter_step,
    judge,
    start,
)

EXACT = 1e-9


def draw_metric(random: Random, metric: MetricConfig) -> MetricConfig:
    """Margins and tolerances as users choose them, none and all of the margin too."""
    margin = random.choice([0.01, 0.05, 0.2, 0.6])
    return replace(metric, margin=margin, tolerance=random.choice([None, 0.0, margin, margin / 3]))


def draw_arm(random: Random, metric: MetricConfig, n: int, mean: float) -> Arm:
    values = [float(random.random() < mean) for _ in range(n)]
    if metric.type is MetricType.SCORE and random.random() < 0.5:
        values = [value * random.choice([0.25, 0.5, 1.0]) for value in values]
    return float(n), sum(values), sum(value * value for value in values)


def build_counts(metric: MetricConfig, arm: Arm) -> Counts:
    n, total, squares = arm
    return Counts(n, total, squares) if metric.type is MetricType.SCORE else Counts(n, bad=n - total)


def assert_same(verdict: Verdict, book: Book, where: str) -> None:
    (metric,) = verdict.metrics
    assert metric.dispersion == pytest.approx(book.m, abs=EXACT), where
    assert metric.ln_e_rollback == pytest.approx(book.ln_e_rollback, abs=EXACT, rel=EXACT), where
    assert metric.ln_e_promote == pytest.approx(book.ln_e_promote, abs=EXACT, rel=EXACT), where
    if metric.drop is not None:
        assert metric.drop == pytest.approx(book.drop, abs=EXACT), where


def run(seed: int, metric: MetricConfig, *, with_bake: bool) -> int:
    """A rollout with two steps and perhaps a bake, looked at by both; how many looks agreed."""
    random = Random(seed)
    metric = draw_metric(random, metric)
    mean = random.choice([0.02, 0.3, 0.8, 0.99])
    prior = Reference(random.choice([mean, 0.5]), random.choice([0.0, 0.04, 0.25]))
    config = build_config(metric, weights=(10, 50, 100), bake=3600 if with_bake else 0)
    state = start(config, {metric.name: prior}, 0)
    book = Book(metric, prior.mean, prior.variance, config.row_count)
    factor = random.choice([1.0, 0.9, 0.5])
    for step in (1, 2):
        if step == 2:
            state = enter_step(state, 2, state.clock.last)
            book.enter(2)
        for _ in range(random.randint(2, 9)):
            canary = draw_arm(random, metric, random.randint(1, 60), mean * factor)
            stable = draw_arm(random, metric, random.randint(1, 300), mean)
            book.look(canary, stable)
            state, verdict = judge(state, build_look(state, metric, canary, stable))
            assert_same(verdict, book, f"seed {seed}, step {step}")
    looks = book.compared
    if with_bake:
        bake(random, state, book, mean * factor)
    return looks


def build_look(state: State, metric: MetricConfig, canary: Arm, stable: Arm) -> Look:
    arms = (build_counts(metric, canary), build_counts(metric, stable))
    return Look(t=state.clock.last + 30, metrics={metric.name: arms})


def bake(random: Random, state: State, book: Book, mean: float) -> None:
    metric = book.metric
    state = enter_bake(state, state.clock.last)
    book.enter_bake()
    for _ in range(random.randint(2, 9)):
        canary = draw_arm(random, metric, random.randint(1, 60), mean)
        book.look_in_bake(canary)
        state, verdict = judge(state, build_look(state, metric, canary, (0.0, 0.0, 0.0)))
        assert_same(verdict, book, "bake")


@pytest.mark.parametrize("metric", [SCORE, ERRORS, RATIO, LATENCY], ids=lambda metric: metric.name)
def test_every_look_of_a_rollout_earns_what_the_formulas_say(metric: MetricConfig) -> None:
    blocks = [run(seed, metric, with_bake=False) for seed in range(60)]
    assert sum(blocks) > 60, "over-dispersion was compared"


@pytest.mark.parametrize("metric", [SCORE, ERRORS, RATIO], ids=lambda metric: metric.name)
def test_every_look_of_a_bake_earns_what_the_formulas_say(metric: MetricConfig) -> None:
    assert sum(run(seed, metric, with_bake=True) for seed in range(60)) > 60


def test_a_latency_adds_nothing_in_the_bake() -> None:
    config = build_config(LATENCY, bake=3600)
    state = enter_bake(start(config, {"latency": Reference()}, 0), 10)
    look = Look(t=40, metrics={"latency": (Counts(50, bad=50), Counts())})
    after, verdict = judge(state, look)
    assert after.metrics == state.metrics
    assert verdict.ln_e_rollback == 0


@pytest.mark.parametrize("seed", range(10))
def test_every_block_of_costs_earns_what_the_formulas_say(seed: int) -> None:
    random = Random(seed)
    config = build_config(SCORE, COST, weights=(10, 50, 100))
    state = start(config, {}, 0)
    book = CostBook(COST.margin, rows=2)
    for k in range(1, 21):
        canary = Counts(20, 20 * random.choice([0.01, 0.0129, 0.0131, 0.02]))
        state, verdict = judge(state, Look(t=30.0 * k, metrics={"cost": (canary, Counts(180, 1.8))}))
        book.block(is_dearer=canary.sum > 20 * 0.013)
        cost = verdict.metrics[1]
        rollback = book.get_ln_e(book.dearer, book.cheaper, rows=2)
        promote = book.get_ln_e(book.cheaper, book.dearer, rows=1)
        assert cost.ln_e_rollback == pytest.approx(rollback, abs=EXACT)
        assert cost.ln_e_promote == pytest.approx(promote, abs=EXACT)
