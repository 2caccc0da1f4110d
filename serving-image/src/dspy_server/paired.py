"""Is the canary worse than stable on the same examples: the drop of the mean and a sign-flip test of the differences.

Pure. One look at one set; what is measured while traffic flows is judged by the operator.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FLIPS: Final = 9_999
_TOLERANCE: Final = 1e-9
"""Sums of the same numbers in another order differ by less; scores are in [0, 1]."""


@dataclass(frozen=True)
class Comparison:
    """What a set says of the canary against stable.

    Attributes:
        canary, stable: mean scores over the same examples.
        drop: 1 - canary / stable; 0 if stable has nothing to lose.
        p: how often a difference like this or worse comes about if both are equally good.
    """

    canary: float
    stable: float
    drop: float
    p: float


def compare(canary: Sequence[float], stable: Sequence[float], *, seed: str) -> Comparison:
    """Compare the scores (in [0, 1]) of the same examples, in the same order; `seed` is 64 hex.

    Raises:
        ValueError: no pairs, or not as many of one as of the other.
    """
    differences = [mine - other for mine, other in zip(stable, canary, strict=True)]
    if not differences:
        raise ValueError("no pairs")
    total = math.fsum(stable)
    drop = math.fsum(differences) / total if total > 0 else 0.0
    count = len(differences)
    return Comparison(math.fsum(canary) / count, total / count, drop, get_p(differences, seed=seed))


def get_p(differences: Sequence[float], *, seed: str) -> float:
    """One-sided p of a sign-flip permutation test: is the mean of `differences` above 0?

    Differences of one size are flipped together: how many of them change sign is a number of random bits. So the
    cost grows with the number of different sizes, and the order of the examples does not matter.
    """
    sizes = sorted(Counter(abs(value) for value in differences if value != 0).items())
    found = math.fsum(differences) - _TOLERANCE
    rng = random.Random(int(seed, 16))  # noqa: S311 - anybody must get the same flips
    reached = sum(
        math.fsum(size * (2 * _count_heads(rng, count) - count) for size, count in sizes) >= found
        for _ in range(FLIPS)
    )
    return (1 + reached) / (1 + FLIPS)


def _count_heads(rng: random.Random, coins: int) -> int:
    return rng.getrandbits(coins).bit_count()
