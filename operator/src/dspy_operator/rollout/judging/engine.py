"""The sequential test: how much one look's two arms earn against a null hypothesis.

Pure arithmetic of docs/concepts "How a canary is judged"; `measuring` keeps the sums, `rules` reads the
e-values.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dspy_operator.rollout.judging.config import MetricConfig
from dspy_operator.rollout.judging.moments import NO_MOMENTS, Moments

LOOK_CAP = 2.0
"""The most that one look may add to a component: one corrupt look must not decide."""

LEAST_BOUND = 0.02
LEAST_BASELINE = 0.05
BELOW_ONE = 1.0 - 1e-12

Component = tuple[float, float]
"""(gap, tau): the drop beyond the null that the bet is tuned to; tau 0 heeds the variance only."""


@dataclass(frozen=True, slots=True)
class Null:
    """A null hypothesis and the bets against it.

    `sign` +1: canary ≥ ratio · stable - margin (rejecting it rolls back); -1: canary ≤ that (rejecting it may
    promote). `is_relative`: gaps are parts of stable's mean, else points.
    """

    sign: int
    ratio: float
    margin: float
    is_relative: bool
    components: tuple[Component, ...]


def build_rollback_null(metric: MetricConfig) -> Null:
    """Test R of a score, an error rate or a ratio."""
    low = metric.lower
    furthest = max(metric.upper, 2 * metric.margin)
    components = (
        (furthest - low, 0.0),
        (furthest - low, 1.0),
        (furthest + 0.1 - low, 1.0),
        (furthest + 0.3 - low, 1.0),
    )
    if metric.is_relative:
        return Null(1, max(1 - low, 0.0), 0.0, is_relative=True, components=components)
    return Null(1, 1.0, low, is_relative=False, components=components)


def build_promote_null(metric: MetricConfig) -> Null:
    """Test P of a score, an error rate or a ratio."""
    between = metric.upper - metric.lower
    components = (((between, 0.0),) if between > 0 else ()) + ((metric.upper, 0.0),)
    if metric.is_relative:
        return Null(-1, max(1 - metric.upper, 0.0), 0.0, is_relative=True, components=components)
    return Null(-1, 1.0, metric.upper, is_relative=False, components=components)


def build_bake_null(metric: MetricConfig) -> Null:
    """Test R after 100 %, against a frozen mean: only a drop beyond the upper margin counts."""
    high = metric.upper
    components = ((high, 0.0), (high, 1.0), (high + 0.1, 1.0), (high + 0.3, 1.0))
    if metric.is_relative:
        return Null(1, max(1 - high, 0.0), 0.0, is_relative=True, components=components)
    return Null(1, 1.0, high, is_relative=False, components=components)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Means and variances of both arms before the look."""

    canary: float
    stable: float
    canary_variance: float
    stable_variance: float


def build_estimates(canary: Moments, stable: Moments) -> Estimates:
    """What the running sums say."""
    return Estimates(canary.mean, stable.mean, canary.variance, stable.variance)


def list_gains(
    null: Null, before: Estimates, canary: Moments, stable: Moments, dispersion: float
) -> list[float]:
    """What one look adds to ln E of each component; both arms must have samples."""
    weight = null.ratio * canary.n / stable.n
    lead = weight * stable.total - canary.total - null.margin * canary.n
    return _list_capped(null, before, _Increment(canary, stable, weight, lead), dispersion)


def list_bake_gains(
    null: Null, before: Estimates, canary: Moments, reference: float, dispersion: float
) -> list[float]:
    """The same against a frozen mean of stable."""
    lead = null.ratio * canary.n * reference - canary.total - null.margin * canary.n
    return _list_capped(null, before, _Increment(canary, NO_MOMENTS, 0.0, lead), dispersion)


@dataclass(frozen=True, slots=True)
class _Increment:
    """One look: `weight` scales stable's samples to the canary's, `lead`: how far they are ahead of the null."""

    canary: Moments
    stable: Moments
    weight: float
    lead: float


def _list_capped(null: Null, before: Estimates, look: _Increment, dispersion: float) -> list[float]:
    rolls_back = null.sign > 0
    bound_c = max(1 - before.canary if rolls_back else before.canary, LEAST_BOUND)
    bound_s = max(before.stable if rolls_back else 1 - before.stable, LEAST_BOUND)
    spread_c = get_spread(look.canary, before.canary) / bound_c**2
    spread_s = get_spread(look.stable, before.stable) / bound_s**2
    scale = max(before.stable, LEAST_BASELINE) if null.is_relative else 1.0
    noise = before.canary_variance + null.ratio * look.weight * before.stable_variance
    reach = max(bound_c, look.weight * bound_s)
    gains = []
    for gap, tau in null.components:
        bet = get_bet(gap * scale, noise, reach + tau * before.canary)
        penalty = spread_c * psi(bet * bound_c) + spread_s * psi(bet * look.weight * bound_s)
        gains.append(min((null.sign * bet * look.lead - penalty) / dispersion, LOOK_CAP))
    return gains


def get_bet(delta: float, noise: float, reach: float) -> float:
    """How much to stake (lambda) on a true difference of `delta`.

    `noise` > 0 is the variance of one canary sample and its part of stable, `reach` at least each arm's
    greatest deviation: so the bet times either deviation stays below 1.
    """
    return delta / (noise + reach * delta)


def get_spread(sums: Moments, mean: float) -> float:
    """Σ(x - mean)² of the samples, at least 0."""
    return max(0.0, sums.squares - 2 * mean * sums.total + sums.n * mean**2)


def psi(u: float) -> float:
    """-ln(1-u) - u, for 0 ≤ u < 1."""
    u = min(u, BELOW_ONE)
    return -math.log1p(-u) - u


def get_ln_mean_exp(rows: Iterable[Sequence[float]], missing: int = 0) -> float:
    """Ln of the mean of exp over all cells, `missing` more cells counting 1; 0 for no cell at all."""
    cells = [cell for row in rows for cell in row]
    count = len(cells) + missing
    if count == 0:
        return 0.0
    highest = max([*cells, 0.0] if missing else cells)
    total = sum(math.exp(cell - highest) for cell in cells)
    if missing:
        total += missing * math.exp(-highest)
    return highest + math.log(total / count)
