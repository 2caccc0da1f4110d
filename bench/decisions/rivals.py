"""Decision rules side by side on the same looks of many runs: the literal ones, classical tests, and this judge.

A rule takes a look and says in which runs it rolls back and in which it promotes; it never forgets and never stops.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from bench.decisions.engine import Judge
from bench.decisions.laws import Bools, Floats, Sums, build_sums

from dspy_operator.rollout.judging import MetricConfig, MetricType, Reference

MARGIN = 0.05
SCORE = MetricConfig("score", MetricType.SCORE, margin=MARGIN)
ALPHA = 0.05
FIRES = -math.log(ALPHA)
INTERVAL = 30.0
Z_95 = 1.6448536
Z_99 = 2.3263479

OURS = "this judge"
STEPPED = "this judge, told of the step"
ARGO = "failureLimit 3"

Answers = tuple[Bools, Bools]
"""(rolls back, promotes) of each run."""


class Rule(Protocol):
    """One decision rule over all runs."""

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """Its answers after this look; both arms have samples."""
        ...


def get_drop(canary: Sums, stable: Sums) -> Floats:
    """1 - ratio of the means; 0 where stable has no score above 0."""
    ours, theirs = canary.total / canary.n, stable.total / stable.n
    return np.where(theirs > 0, 1 - ours / np.maximum(theirs, 1e-300), 0.0)


def is_failed(canary: Sums, stable: Sums) -> Bools:
    """The measurement that every literal rule makes of one look."""
    return get_drop(canary, stable) > MARGIN


def never(answer: Bools) -> Bools:
    return np.zeros_like(answer)


class Pooled:
    """All samples so far, summed over looks as counters are."""

    def __init__(self, runs: int) -> None:
        self.canary, self.stable = build_sums(runs), build_sums(runs)

    def add(self, canary: Sums, stable: Sums) -> None:
        """One more look."""
        self.canary, self.stable = self.canary + canary, self.stable + stable

    def get_distance(self, ratio: float) -> tuple[Floats, Floats]:
        """(ratio x stable's mean - canary's, its variance), with a floor for samples that are all alike."""
        c, s = self.canary, self.stable
        means = c.total / c.n, s.total / s.n
        variances = c.squares / c.n - means[0] ** 2, s.squares / s.n - means[1] ** 2
        variance = np.maximum(variances[0], 1e-4) / c.n + ratio**2 * np.maximum(variances[1], 1e-4) / s.n
        return ratio * means[1] - means[0], variance


class Literal(Pooled):
    """More than 5 % below on all samples so far, from `least` canary samples on."""

    def __init__(self, runs: int, least: int = 0) -> None:
        super().__init__(runs)
        self.least = least

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """It never promotes: that is its deadline's business."""
        self.add(canary, stable)
        back = is_failed(self.canary, self.stable) & (self.canary.n >= self.least)
        return back, never(back)


class LastLook:
    """More than 5 % below on the last look alone."""

    def __init__(self, runs: int) -> None:
        del runs

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """Every look for itself."""
        back = is_failed(canary, stable)
        return back, never(back)


class Failures:
    """Failed looks in all: more than Argo Rollouts' `failureLimit`, or as many as Flagger's `threshold`."""

    def __init__(self, runs: int, least: int) -> None:
        self.count, self.least = np.zeros(runs), least

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """Failures are counted and never forgiven."""
        self.count += is_failed(canary, stable)
        back = self.count >= self.least
        return back, never(back)


class InARow:
    """As many failed looks in a row."""

    def __init__(self, runs: int, least: int = 3) -> None:
        self.count, self.least = np.zeros(runs), least

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """A look that passes starts the count again."""
        self.count = np.where(is_failed(canary, stable), self.count + 1, 0)
        back = self.count >= self.least
        return back, never(back)


class MannWhitney:
    """Kayenta's classifier each ten looks, on all looks' means so far.

    98 % confidence that the canary's looks lie lower by more than a quarter of the difference (its tolerance
    0.25; the difference of the means stands for the Hodges-Lehmann one). Normal approximation, ties corrected.
    """

    EVERY, LONGEST, TOLERANCE = 10, 200, 0.25

    def __init__(self, runs: int) -> None:
        self.means: list[tuple[Floats, Floats]] = []
        self.looks = 0
        self.back = np.zeros(runs, dtype=np.bool_)

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """The last verdict stands between two analyses; after 200 looks the series is no longer kept."""
        self.looks += 1
        if self.looks <= self.LONGEST:
            self.means.append((canary.total / canary.n, stable.total / stable.n))
            if self.looks % self.EVERY == 0:
                ours, theirs = (np.array(arm).T for arm in zip(*self.means, strict=True))
                shift = self.TOLERANCE * np.abs(ours.mean(axis=1) - theirs.mean(axis=1))
                self.back = self.back | (get_rank_z(ours + shift[:, None], theirs) < -Z_99)
        return self.back, never(self.back)


def get_rank_z(ours: Floats, theirs: Floats) -> Floats:
    """Standardised Mann-Whitney U of each row, negative where `ours` lie lower."""
    m, n = ours.shape[1], theirs.shape[1]
    both = np.concatenate([ours, theirs], axis=1)
    order = np.argsort(both, axis=1)
    ordered = np.round(np.take_along_axis(both, order, axis=1), 9)
    places = np.arange(m + n)
    begins = np.concatenate([np.ones((len(both), 1), dtype=np.bool_), np.diff(ordered, axis=1) > 0], axis=1)
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    ends = np.concatenate([begins[:, 1:], np.ones((len(both), 1), dtype=np.bool_)], axis=1)
    last = np.minimum.accumulate(np.where(ends, places, m + n)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.where(order < m, (first + last) / 2 + 1, 0.0).sum(axis=1)
    ties = (np.square(last - first + 1) - 1).sum(axis=1)
    variance = m * n / 12 * ((m + n + 1) - ties / ((m + n) * (m + n - 1)))
    return np.asarray((ranks - m * (m + n + 1) / 2) / np.sqrt(np.maximum(variance, 1e-12)))


class TTest(Pooled):
    """Welch's t at every look as if it were the only one, at 5 %: is the drop more than 5 %? is it less?"""

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """Both one-sided answers."""
        self.add(canary, stable)
        distance, variance = self.get_distance(1 - MARGIN)
        z = distance / np.sqrt(variance)
        return z > Z_95, z < -Z_95


class PooledSequence(Pooled):
    """Asymptotic confidence sequence (Waudby-Smith et al. 2024) of the difference of the pooled means.

    One-sided at 5 % against "drop at most 2 %" and "at least 8 %", tightest near 400 canary samples.
    """

    TIGHTEST = 400
    RHO_2 = (2 * FIRES + math.log(2 * FIRES + 1)) / TIGHTEST

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """Valid at any time for one mean; not where the split and the mean change together."""
        self.add(canary, stable)
        return self.is_above(1 - 0.02, 1), self.is_above(1 - 0.08, -1)

    def is_above(self, ratio: float, sign: int) -> Bools:
        """Whether sign x (ratio x stable - canary) is above 0 with confidence."""
        n = self.canary.n
        distance, variance = self.get_distance(ratio)
        mixed = n * (n * variance) * self.RHO_2 + 1
        width = np.sqrt(2 * mixed / (n**2 * self.RHO_2) * np.log1p(np.sqrt(mixed) / (2 * ALPHA)))
        return np.asarray(sign * distance > width)


class Ours:
    """The operator's judge by evidence alone: no minimum of samples, no duration, no deadline."""

    def __init__(self, runs: int, reference: Reference, rows: int = 1, metric: MetricConfig = SCORE) -> None:
        self.judge, self.looks = Judge(runs, metric, reference, rows), 0

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """E_R and E_P against 1/alpha."""
        self.looks += 1
        self.judge.take(INTERVAL * self.looks, canary, stable)
        return self.judge.get_ln_e_rollback() >= FIRES, self.judge.get_ln_e_promote() >= FIRES


class Stepped(Ours):
    """The same in a rollout of two steps, of which the second begins after `looks_before` looks.

    As in the operator nothing is promoted in the first, and the second starts with fresh evidence for it.
    """

    def __init__(self, runs: int, reference: Reference, looks_before: int) -> None:
        super().__init__(runs, reference, rows=2)
        self.looks_before = looks_before

    def take(self, canary: Sums, stable: Sums) -> Answers:
        """The first look of the second step finds a fresh P and a second row of R."""
        if self.looks == self.looks_before:
            self.judge.enter_step(np.ones(self.judge.runs, dtype=np.bool_), 2)
        back, promoted = super().take(canary, stable)
        return back, promoted if self.looks > self.looks_before else never(promoted)


RIVALS: dict[str, Callable[[int], Rule]] = {
    "literal, all samples": Literal,
    "literal, minSamples 100": lambda runs: Literal(runs, 100),
    "literal, last look": LastLook,
    "3 in a row": InARow,
    ARGO: lambda runs: Failures(runs, 4),
    "Flagger threshold 10": lambda runs: Failures(runs, 10),
    "Mann-Whitney": MannWhitney,
    "t-test": TTest,
    "pooled sequence": PooledSequence,
}


def build_rules(runs: int, reference: Reference) -> dict[str, Rule]:
    """Every rule, fresh."""
    rules: dict[str, Rule] = {name: build(runs) for name, build in RIVALS.items()}
    rules[OURS] = Ours(runs, reference)
    rules[f"{OURS}, 2 rows"] = Ours(runs, reference, rows=2)
    return rules
