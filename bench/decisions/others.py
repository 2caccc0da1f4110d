"""Beyond scores that are independent: error rates, and users who say the same several times."""

import math
from dataclasses import dataclass

import numpy as np
from bench.decisions.engine import Dispersion, Index
from bench.decisions.grid import find_median, run_rules
from bench.decisions.laws import THUMBS, Floats, Sums, build_generator, build_reference, fill
from bench.decisions.rivals import OURS, Ours
from numpy.random import Generator

from dspy_operator.rollout.judging import MetricConfig, MetricType, Reference

LOOKS = 100
ERRORS = MetricConfig("errors", MetricType.ERROR_RATE, margin=0.01)
BASE = 0.01


@dataclass(frozen=True)
class ErrorRate:
    """1 % errors of stable, `points` more of the canary, limit one point; 50 + 450 requests a look, 100 looks.

    Requests are the canary's, until half of all runs ended so (None: fewer did).
    """

    points: float
    rolled_back: float
    promoted: float
    requests_to_roll_back: float | None
    requests_to_promote: float | None


POINTS = (0.0, 0.004, 0.01, 0.05, 0.2)


def measure_errors(points: float, runs: int) -> ErrorRate:
    """The share of good requests falls by `points`."""
    rng = build_generator(f"errors {points}")

    def draw(n: int, share: float) -> Sums:
        good = rng.binomial(n, share, runs).astype(np.float64)
        return Sums(np.full(runs, float(n)), good, good)

    looks = ((draw(50, 1 - BASE - points), draw(450, 1 - BASE)) for _ in range(LOOKS))
    rule = Ours(runs, Reference(1 - BASE, BASE * (1 - BASE)), metric=ERRORS)
    ends = run_rules({OURS: rule}, runs, looks)[OURS]
    promoted = np.where(ends.is_promoted, ends.promoted.astype(np.float64), np.inf)
    middle = float(np.median(promoted)) * 50
    return ErrorRate(
        points,
        float(ends.is_back.mean()),
        float(ends.is_promoted.mean()),
        find_median(ends, 50),
        middle if math.isfinite(middle) else None,
    )


@dataclass(frozen=True)
class Clusters:
    """Each user gives `size` equal thumbs, 10/90, 100 looks: rolled back with m̂ and without."""

    size: int
    drop: float
    with_dispersion: float
    without: float
    mean_dispersion: float


class NoDispersion(Dispersion):
    """m̂ = 1 whatever comes."""

    def get_factor(self, at: Index) -> Floats:
        """One for every run."""
        return np.ones(len(at))


def draw_users(rng: Generator, factor: float, n: int, size: int, runs: int) -> Sums:
    """`n` samples that are `size` times the thumb of n / size users."""
    users = THUMBS.draw(rng, factor, fill(runs, n // size))
    return Sums(size * users.n, size * users.total, size * users.squares)


def measure_clusters(size: int, drop: float, runs: int) -> Clusters:
    """The judge's answer on evidence, and what it would be without its remedy."""
    rng, reference = build_generator(f"clusters {size} {drop}"), build_reference(THUMBS)
    rules = {"with": Ours(runs, reference), "without": Ours(runs, reference)}
    rules["without"].judge.dispersion = NoDispersion(runs)
    looks = (
        (draw_users(rng, 1 - drop, 20, size, runs), draw_users(rng, 1.0, 180, size, runs))
        for _ in range(LOOKS)
    )
    ends = run_rules({**rules}, runs, looks)
    return Clusters(
        size,
        drop,
        float(ends["with"].is_back.mean()),
        float(ends["without"].is_back.mean()),
        float(rules["with"].judge.get_factor().mean()),
    )
