import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_server.paired import FLIPS, compare, get_p

SEED = "ab" * 32


def enumerate_p(differences: Sequence[float]) -> float:
    """The exact p: all 2^n ways to sign the differences, one by one."""
    found = math.fsum(differences) - 1e-9
    signed = itertools.product((-1, 1), repeat=len(differences))
    reached = [sum(s * d for s, d in zip(signs, differences, strict=True)) >= found for signs in signed]
    return sum(reached) / len(reached)


def get_bounds(exact: float) -> tuple[float, float]:
    """Five standard errors of 9,999 draws around the exact p, and the one that counts for itself."""
    error = 5 * math.sqrt(exact * (1 - exact) / FLIPS) + 1 / FLIPS
    return exact - error, exact + error


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from((-1.0, -0.5, -0.25, 0.0, 0.0, 0.25, 0.5, 1.0)), min_size=1, max_size=11),
    st.integers(0, 2**256 - 1),
)
def test_p_is_that_of_all_possible_flips(differences: list[float], seed: int) -> None:
    low, high = get_bounds(enumerate_p(differences))
    assert low <= get_p(differences, seed=f"{seed:064x}") <= high


def test_p_of_scores_of_any_size_is_that_of_all_possible_flips() -> None:
    rng = random.Random(8)
    differences = [rng.uniform(-0.3, 0.7) for _ in range(12)]
    exact = enumerate_p(differences)
    assert 0.01 < exact < 0.5
    low, high = get_bounds(exact)
    assert low <= get_p(differences, seed=SEED) <= high


def test_p_of_thumbs_is_the_sign_test() -> None:
    losses, wins = 14, 6
    exact = sum(math.comb(20, k) for k in range(losses, 21)) / 2**20
    low, high = get_bounds(exact)
    assert low <= get_p([1.0] * losses + [-1.0] * wins + [0.0] * 180, seed=SEED) <= high


def test_nothing_but_losses_has_the_smallest_p_and_no_difference_the_largest() -> None:
    assert get_p([1.0] * 60, seed=SEED) == 1 / (1 + FLIPS)
    assert get_p([0.0] * 60, seed=SEED) == 1.0


def test_the_same_set_gives_the_same_p_in_any_order_and_another_set_another() -> None:
    differences = [1.0, -1.0, 0.5, 0.5, 1.0, 1.0, 0.25]
    shuffled = sorted(differences, key=lambda value: (abs(value), -value))
    assert get_p(differences, seed=SEED) == get_p(shuffled, seed=SEED)
    assert len({get_p(differences, seed=f"{n:064x}") for n in range(20)}) > 1


def test_a_drop_is_relative_to_stable_and_over_the_same_examples() -> None:
    found = compare([1.0, 0.0, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0], seed=SEED)
    assert (found.canary, found.stable, found.drop) == (0.625, 1.0, 0.375)


def test_a_stable_program_that_scores_nothing_has_nothing_to_lose() -> None:
    assert compare([0.0, 0.0], [0.0, 0.0], seed=SEED).drop == 0.0
    assert compare([1.0, 0.0], [0.0, 0.0], seed=SEED).drop == 0.0


@pytest.mark.parametrize(("canary", "stable"), [([], []), ([1.0], [1.0, 1.0])])
def test_scores_that_are_no_pairs_are_refused(canary: list[float], stable: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs|zip"):
        compare(canary, stable, seed=SEED)


def test_of_equal_programs_no_more_fail_than_the_confidence_allows() -> None:
    """100 thumbs, 4 % discordant each way: at 95 % about 2 % of sets fail, because thumbs are coarse."""
    rng = random.Random(11)
    failed = 0
    for number in range(300):
        draws = [rng.random() for _ in range(100)]
        differences = [1.0 if draw < 0.04 else -1.0 if draw > 0.96 else 0.0 for draw in draws]
        drop = sum(differences) / 80
        failed += drop > 0.02 and get_p(differences, seed=f"{number:064x}") <= 0.05
    assert failed / 300 <= 0.05
