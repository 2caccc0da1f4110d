"""The sequential test for many runs at once, equal to the operator's own within 1e-9 (a test holds it there).

Only the arithmetic is written again, on arrays; hypotheses, bets and constants are the operator's.
"""

from dataclasses import dataclass, field

import numpy as np
from bench.decisions.laws import Bools, Floats, Ints, Sums, build_sums
from numpy.typing import NDArray

from dspy_operator.rollout.judging import MetricConfig, MetricType, Reference, latency
from dspy_operator.rollout.judging.dispersion import BLOCK, LARGEST, PRIOR
from dspy_operator.rollout.judging.engine import (
    BELOW_ONE,
    LEAST_BASELINE,
    LEAST_BOUND,
    LOOK_CAP,
    Null,
)
from dspy_operator.rollout.judging.measuring import WAITING_ENTRY, WAITS, get_nulls
from dspy_operator.rollout.judging.moments import LEAST_VARIANCE

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Before:
    """Estimates before the look, of shape (runs,)."""

    canary: Floats
    stable: Floats
    canary_variance: Floats
    stable_variance: Floats


def get_mean(sums: Sums) -> Floats:
    return np.clip(sums.total / sums.n, 0.0, 1.0)


def get_variance(sums: Sums) -> Floats:
    return np.maximum(sums.squares / sums.n - np.square(sums.total / sums.n), LEAST_VARIANCE)


def get_spread(sums: Sums, mean: Floats) -> Floats:
    return np.maximum(0.0, sums.squares - 2 * mean * sums.total + sums.n * np.square(mean))


def psi(u: Floats) -> Floats:
    u = np.minimum(u, BELOW_ONE)
    return -np.log1p(-u) - u


def get_gains(null: Null, before: Before, canary: Sums, stable: Sums, dispersion: Floats) -> Floats:
    """What one look adds to ln E of each component: shape (components, runs)."""
    weight = null.ratio * canary.n / stable.n
    lead = weight * stable.total - canary.total - null.margin * canary.n
    rolls_back = null.sign > 0
    bound_c = np.maximum(1 - before.canary if rolls_back else before.canary, LEAST_BOUND)
    bound_s = np.maximum(before.stable if rolls_back else 1 - before.stable, LEAST_BOUND)
    spread_c = get_spread(canary, before.canary) / np.square(bound_c)
    spread_s = get_spread(stable, before.stable) / np.square(bound_s)
    scale = np.maximum(before.stable, LEAST_BASELINE) if null.is_relative else np.ones_like(weight)
    noise = before.canary_variance + null.ratio * weight * before.stable_variance
    reach = np.maximum(bound_c, weight * bound_s)
    gaps, taus = (np.array(column)[:, None] for column in zip(*null.components, strict=True))
    delta = gaps * scale
    bet = delta / (noise + (reach + taus * before.canary) * delta)
    penalty = spread_c * psi(bet * bound_c) + spread_s * psi(bet * weight * bound_s)
    gains: Floats = np.minimum((null.sign * bet * lead - penalty) / dispersion, LOOK_CAP)
    return gains


def get_ln_mean_exp(cells: Floats) -> Floats:
    """Ln of the mean of exp over the first axis."""
    highest = cells.max(axis=0)
    return np.asarray(highest + np.log(np.exp(cells - highest).mean(axis=0)), dtype=np.float64)


@dataclass
class Dispersion:
    """m̂ of every run: partial block, last whole one (nan: none) and the sums of z²."""

    runs: int

    def __post_init__(self) -> None:
        self.canary, self.stable = build_sums(self.runs), build_sums(self.runs)
        self.difference = np.full(self.runs, np.nan)
        self.variance = np.zeros(self.runs)
        self.squares, self.count = np.zeros(self.runs), np.zeros(self.runs)

    def get_factor(self, at: Index) -> Floats:
        """m̂ of the runs `at`."""
        return np.maximum(1.0, (PRIOR + self.squares[at]) / (PRIOR + self.count[at]))

    def forget_block(self, at: Index) -> None:
        """At a step start."""
        clear(self.canary, at)
        clear(self.stable, at)
        self.difference[at] = np.nan

    def add(self, at: Index, before: Before, canary: Sums, stable: Sums, ratio: float) -> None:
        """One consumed look of the runs `at`."""
        accumulate(self.canary, at, canary)
        accumulate(self.stable, at, stable)
        full = self.canary.n[at] >= BLOCK
        if not full.any():
            return
        runs = at[full]
        c, s = self.canary.at(runs), self.stable.at(runs)
        difference = c.total / c.n - ratio * s.total / s.n
        variance = before.canary_variance[full] / c.n + ratio**2 * before.stable_variance[full] / s.n
        known = ~np.isnan(self.difference[runs])
        old = runs[known]
        squares = np.square(difference[known] - self.difference[old]) / (variance[known] + self.variance[old])
        self.squares[old] += np.minimum(squares, LARGEST)
        self.count[old] += 1
        self.difference[runs], self.variance[runs] = difference, variance
        clear(self.canary, runs)
        clear(self.stable, runs)


class Carry:
    """Increments that wait for the other arm's samples, at most eleven entries a run."""

    SLOTS = 12

    def __init__(self, runs: int) -> None:
        self.t = np.full((self.SLOTS, runs), -np.inf)
        self.sums = np.zeros((2, 3, self.SLOTS, runs))
        self.last = np.zeros(runs, dtype=np.intp)
        self.is_empty = True

    def join(self, t: float, canary: Sums, stable: Sums) -> tuple[Index, Sums, Sums]:
        """The runs whose look is consumed now, and their increments with what had waited."""
        everyone = np.arange(len(canary.n))
        both = (canary.n > 0) & (stable.n > 0)
        if self.is_empty and both.all():
            return everyone, canary, stable
        self.t[t - self.t >= WAITS] = -np.inf
        alive = np.isfinite(self.t)
        arms = np.array([[x.n, x.total, x.squares] for x in (canary, stable)])
        joined = arms + np.where(alive, self.sums, 0.0).sum(axis=2)
        consumed = (joined[0, 0] > 0) & (joined[1, 0] > 0)
        self._keep(t, np.flatnonzero(~consumed & ((canary.n > 0) | (stable.n > 0))), arms)
        self.t[:, consumed] = -np.inf
        self.is_empty = not np.isfinite(self.t).any()
        index = np.flatnonzero(consumed)
        return index, Sums(*joined[0][:, index]), Sums(*joined[1][:, index])

    def forget(self, at: Index) -> None:
        """At a step start."""
        self.t[:, at] = -np.inf

    def _keep(self, t: float, runs: Index, arms: Floats) -> None:
        fresh = runs[t - self.t[self.last[runs], runs] >= WAITING_ENTRY]
        self.last[fresh] = (self.last[fresh] + 1) % self.SLOTS
        self.t[self.last[fresh], fresh] = t
        self.sums[:, :, self.last[fresh], fresh] = 0.0
        self.sums[:, :, self.last[runs], runs] += arms[:, :, runs]


@dataclass
class Judge:
    """One metric's test over `runs` rollouts: `rows` of test R, test P, the step's paired estimate.

    A look with no sample in either arm leaves a run as it is, so ended runs are given none.
    """

    runs: int
    metric: MetricConfig
    reference: Reference
    rows: int = 1
    everyone: Index = field(init=False)

    def __post_init__(self) -> None:
        self.everyone = np.arange(self.runs)
        self.nulls = get_nulls(self.metric)
        self.evidence = np.zeros((self.rows, len(self.nulls[0].components), self.runs))
        self.promote = np.zeros((len(self.nulls[1].components), self.runs))
        self.started: Ints = np.ones(self.runs, dtype=np.int64)
        self.canary = build_prior(self.runs, self.reference, self.reference.canary_weight)
        self.stable = build_prior(self.runs, self.reference, self.reference.stable_weight)
        self.dispersion, self.carry = Dispersion(self.runs), Carry(self.runs)
        self.step_n, self.paired = np.zeros(self.runs), np.zeros((2, self.runs))

    def take(self, t: float, canary: Sums, stable: Sums) -> None:
        """One look at `t` seconds."""
        at, c, s = self.carry.join(t, canary, stable)
        if len(at):
            self._consume(at, c, s)

    def enter_step(self, entered: Bools, step: int) -> None:
        """These runs are in `step` now: fresh P, one more row of R."""
        at = np.flatnonzero(entered)
        self.started[at] = np.maximum(self.started[at], step)
        self.promote[:, at] = 0.0
        self.step_n[at], self.paired[:, at] = 0.0, 0.0
        self.dispersion.forget_block(at)
        self.carry.forget(at)

    def get_ln_e_rollback(self) -> Floats:
        """Ln E_R of each run; rows that have not started count 1."""
        return get_ln_mean_exp(self.evidence.reshape(-1, self.runs))

    def get_ln_e_promote(self) -> Floats:
        """Ln E_P of each run, of its step."""
        return get_ln_mean_exp(self.promote)

    def get_factor(self) -> Floats:
        """m̂ of each run."""
        return self.dispersion.get_factor(self.everyone)

    def get_drop(self) -> Floats:
        """The step's paired estimate; nan before its first samples and where stable's scores are all 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            drop = 1 - self.paired[0] / self.paired[1]
        return np.where(self.paired[1] > 0, drop, np.nan)

    def _consume(self, at: Index, c: Sums, s: Sums) -> None:
        canary, stable = self.canary.at(at), self.stable.at(at)
        before = Before(get_mean(canary), get_mean(stable), get_variance(canary), get_variance(stable))
        factor = self.dispersion.get_factor(at)
        null_r, null_p = self.nulls
        is_started = np.arange(self.rows)[:, None, None] < self.started[at]
        self.evidence[:, :, at] += np.where(is_started, get_gains(null_r, before, c, s, factor), 0.0)
        self.promote[:, at] += get_gains(null_p, before, c, s, factor)
        accumulate(self.canary, at, c)
        accumulate(self.stable, at, s)
        self.dispersion.add(at, before, c, s, null_r.ratio)
        self.step_n[at] += c.n
        self.paired[:, at] += np.array([c.total * s.n, s.total * c.n]) / (c.n + s.n)


class LatencyJudge:
    """p95 over many runs, one row: the relative test is `Judge`'s, the absolute one reads the canary alone."""

    def __init__(self, runs: int, margin: float) -> None:
        metric = MetricConfig("latency", MetricType.LATENCY_P95, margin=margin)
        self.relative = Judge(runs, metric, Reference(latency.FAST_MEAN, latency.FAST_VARIANCE))
        self.rollback = np.zeros((len(latency.SLOW_SHARES_TO_ROLL_BACK), runs))
        self.promote = np.zeros((len(latency.SLOW_SHARES_TO_PROMOTE), runs))

    def take(self, t: float, n: tuple[Floats, Floats], slow: tuple[Floats, Floats]) -> None:
        """Requests and slow ones of (canary, stable), both arms with requests in every run."""
        factor = self.relative.get_factor()
        for cells, null, shares in (
            (self.rollback, latency.SLOW_SHARE, latency.SLOW_SHARES_TO_ROLL_BACK),
            (self.promote, latency.SLOW_SHARE_TO_REFUSE, latency.SLOW_SHARES_TO_PROMOTE),
        ):
            q = np.array(shares)[:, None]
            gains = slow[0] * np.log(q / null) + (n[0] - slow[0]) * np.log((1 - q) / (1 - null))
            np.add(cells, np.minimum(gains / factor, LOOK_CAP), out=cells)
        good = [count - bad for count, bad in zip(n, slow, strict=True)]
        self.relative.take(t, Sums(n[0], good[0], good[0]), Sums(n[1], good[1], good[1]))

    def get_ln_e_rollback(self) -> Floats:
        """Both tests must fire: the lesser."""
        return np.minimum(self.relative.get_ln_e_rollback(), get_ln_mean_exp(self.rollback))

    def get_ln_e_promote(self) -> Floats:
        """Either suffices: the mean."""
        both = np.array([self.relative.get_ln_e_promote(), get_ln_mean_exp(self.promote)])
        return get_ln_mean_exp(both)


def build_prior(runs: int, reference: Reference, weight: float) -> Sums:
    """The sums that `weight` earlier samples like the reference would have left."""
    mean, squares = reference.mean, reference.variance + reference.mean**2
    return Sums(*(np.full(runs, weight * value) for value in (1.0, mean, squares)))


def accumulate(sums: Sums, at: Index, more: Sums) -> None:
    for old, new in ((sums.n, more.n), (sums.total, more.total), (sums.squares, more.squares)):
        old[at] += new


def clear(sums: Sums, at: Index) -> None:
    for values in (sums.n, sums.total, sums.squares):
        values[at] = 0.0
