"""Families of scores in [0, 1], each with a mean near 0.8, made worse by a given relative drop.

Every draw comes from a seeded generator; a look's arm is reduced to n, the sum and the sum of squares.
"""

import math
from collections.abc import Callable
from random import Random

from dspy_operator.rollout.judging import Counts, Reference

Law = Callable[[Random, float], float]
"""(generator, factor on the mean) -> one score."""

FIVE_POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FIVE_LIMITS = (0.05, 0.10, 0.20, 0.45, 1.0)
JUDGE_A, JUDGE_B = 4.888889, 1.222222


def draw_thumb(random: Random, factor: float) -> float:
    return 1.0 if random.random() < 0.8 * factor else 0.0


def draw_five_point(random: Random, factor: float) -> float:
    u = random.random()
    value = next(point for point, limit in zip(FIVE_POINTS, FIVE_LIMITS, strict=True) if u < limit)
    return value if factor == 1 or random.random() < factor else 0.0


def draw_skewed(random: Random, factor: float) -> float:
    return 0.98 if random.random() >= 0.03 and (factor == 1 or random.random() < factor) else 0.0


def draw_judged(random: Random, factor: float) -> float:
    return factor * random.betavariate(JUDGE_A, JUDGE_B)


LAWS: dict[str, Law] = {
    "thumbs": draw_thumb,
    "five-point": draw_five_point,
    "skewed": draw_skewed,
    "judge": draw_judged,
}


def draw_arm(random: Random, law: Law, factor: float, n: int) -> Counts:
    values = [law(random, factor) for _ in range(n)]
    return Counts(float(n), math.fsum(values), math.fsum(value * value for value in values))


def get_moments(law: Law, factor: float) -> tuple[float, float]:
    """Mean and variance of the law, from 20,000 draws with a fixed seed."""
    arm = draw_arm(Random(0), law, factor, 20_000)
    mean = arm.sum / arm.n
    return mean, (arm.sumsq or 0.0) / arm.n - mean**2


def build_reference(law: Law) -> Reference:
    mean, variance = get_moments(law, 1.0)
    return Reference(mean, variance)
