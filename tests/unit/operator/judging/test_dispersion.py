"""Over-dispersion: clustered scores slow the evidence, a constant drop does not."""

import pytest

from dspy_operator.rollout.judging.dispersion import (
    NO_DISPERSION,
    Dispersion,
    build_dispersion,
    build_step_dispersion,
)
from dspy_operator.rollout.judging.engine import Estimates
from dspy_operator.rollout.judging.moments import Moments

BEFORE = Estimates(0.8, 0.8, 0.16, 0.16)
RATIO = 0.98


def build_after(means: list[float], n: float = 20, stable_mean: float = 0.8) -> Dispersion:
    dispersion = NO_DISPERSION
    for mean in means:
        canary, stable = (
            Moments(n, n * mean, n * mean),
            Moments(9 * n, 9 * n * stable_mean, 9 * n * stable_mean),
        )
        dispersion = build_dispersion(dispersion, BEFORE, canary, stable, RATIO)
    return dispersion


def test_a_constant_drop_is_no_dispersion() -> None:
    assert build_after([0.4] * 50).factor == 1


def test_jumping_means_are() -> None:
    assert build_after([0.2, 1.0] * 10).factor > 1.5


def test_the_first_block_has_nothing_to_be_compared_with() -> None:
    first = build_after([0.0])
    assert (first.count, first.factor) == (0, 1)
    assert first.previous is not None


def test_one_jump_counts_at_most_sixteen() -> None:
    assert build_after([0.0, 1.0]).squares == 16
    assert build_after([0.0, 1.0]).factor == pytest.approx(21 / 6)


def test_looks_are_summed_into_blocks_of_twenty_canary_samples() -> None:
    partial = build_after([0.8, 0.8, 0.8], n=6)
    assert (partial.canary.n, partial.previous) == (18, None)
    whole = build_after([0.8, 0.8, 0.8, 0.8], n=6)
    assert whole.canary.n == 0
    assert whole.previous is not None


def test_a_step_start_forgets_the_last_block_but_not_what_was_learnt() -> None:
    old = build_after([0.2, 1.0, 0.2])
    grown = build_dispersion(old, BEFORE, Moments(5, 4, 4), Moments(45, 36, 36), RATIO)
    fresh = build_step_dispersion(grown)
    assert (fresh.squares, fresh.count) == (old.squares, old.count)
    assert (fresh.canary.n, fresh.stable.n, fresh.previous) == (0, 0, None)


def test_in_the_bake_the_canary_alone_is_compared() -> None:
    dispersion = NO_DISPERSION
    for mean in (0.2, 1.0):
        dispersion = build_dispersion(dispersion, BEFORE, Moments(20, 20 * mean, 20 * mean), Moments(), 1.0)
    assert dispersion.squares == 16
